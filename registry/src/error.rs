//! The errors of the registry. Each message names the thing, its value and the remedy.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::invalid::InvalidValue;
use crate::manifest::{FoundRisk, Manifest};
use crate::name::{ModelName, Version};
use crate::withdraw::Withdrawal;

/// The result type of this crate's functions.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// Maximum number of findings in a message.
const MAX_LISTED: usize = 5;

/// The reason why an operation of the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A value of the caller that the registry does not accept.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// An option that is wrong, or contradicts another one.
    #[error("registry.{key}: {reason}")]
    Options {
        /// The option's key in `[registry]`.
        key: &'static str,
        /// The fault and the remedy.
        reason: String,
    },
    /// The version is already registered, with this manifest.
    #[error(
        "{name} {version} is registered already, by {by} at {at} with {checksum}; a version never changes, so register \
         another one", name = .0.name, version = .0.version, by = .0.created_by, at = .0.created_at, checksum = .0.checksum
    )]
    Exists(Box<Manifest>),
    /// The requested thing does not exist.
    #[error("there is no {thing}{hint}")]
    Absent {
        /// Description of the missing thing, as in `model chat in s3://models`.
        thing: String,
        /// The alternatives or the remedy, with its leading punctuation; may be empty.
        hint: String,
    },
    /// A local file can't be used.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file's local path.
        path: PathBuf,
        /// The fault and the remedy.
        reason: String,
    },
    /// Bytes do not have the expected digest.
    #[error("{subject} is {got} and should be {expected}; {remedy}")]
    Checksum {
        /// Description of the bytes: a model or one of its files.
        subject: String,
        /// The expected digest.
        expected: Digest,
        /// The digest of the bytes that were read.
        got: Digest,
        /// The consequence and the remedy.
        remedy: &'static str,
    },
    /// An object in the store differs from the one that was written.
    #[error("{key} is damaged: {reason}; restore it from a copy of the store")]
    Damaged {
        /// The object's key.
        key: String,
        /// The difference that was found.
        reason: String,
    },
    /// A collector took an upload for abandoned while it was still running.
    #[error(
        "the upload of {name} {version} was collected as abandoned while it was running; register the version again, and \
         collect with a greater age"
    )]
    Collected {
        /// The model's name.
        name: ModelName,
        /// The version that was being registered.
        version: Version,
    },
    /// The version is yanked or deleted.
    #[error("{name} {version} is withdrawn: {withdrawal}; {}", remedy(.withdrawal))]
    Withdrawn {
        /// The model's name.
        name: ModelName,
        /// The version that is withdrawn.
        version: Version,
        /// The way in which it is withdrawn.
        withdrawal: Box<Withdrawal>,
    },
    /// The version may not be deleted.
    #[error("{name} {version} can't be deleted: {reason}")]
    Undeletable {
        /// The model's name.
        name: ModelName,
        /// The version that was to be deleted.
        version: Version,
        /// The obstacle and the remedy.
        reason: String,
    },
    /// A report can't be attached to the version.
    #[error("the report can't be attached to {name} {version}: {reason}")]
    Report {
        /// The model's name.
        name: ModelName,
        /// The version that the report was to be attached to.
        version: Version,
        /// The fault and the remedy.
        reason: String,
    },
    /// The ledger of a run of gates can't be kept with the version.
    #[error("the ledger of a run on {name} {version} can't be kept: {reason}")]
    Ledger {
        /// The model's name.
        name: ModelName,
        /// The version that the run tested.
        version: Version,
        /// The fault and the remedy.
        reason: String,
    },
    /// A version has no valid signature.
    #[error("{name} {version} has no valid signature: {reason}")]
    Signature {
        /// The model's name.
        name: ModelName,
        /// The version whose signature was checked.
        version: Version,
        /// The fault and the remedy.
        reason: String,
    },
    /// A version may not become current because required suites have not passed.
    #[error("{name} {version} may not become current in {environment}: {}", reasons.join("; "))]
    Refused {
        /// The model's name.
        name: ModelName,
        /// The version that was to be promoted.
        version: Version,
        /// The environment's name.
        environment: String,
        /// One reason for each required suite that has not passed.
        reasons: Vec<String>,
    },
    /// A pointer is not at the move that the caller expected.
    #[error(
        "{pointer} has been moved: it stands at move {found}, and {expected} was expected; look at its history and try \
         again"
    )]
    Moved {
        /// Description of the pointer, as in `the current chat in production`.
        pointer: String,
        /// The expected number of the last move; 0: the pointer was never set.
        expected: u64,
        /// The actual number of the last move; 0: the pointer was never set.
        found: u64,
    },
    /// An effect's id was used before with a different request.
    #[error(
        "the effect {effect} has already moved {pointer} to {was}, and now asks for {asked}; use one effect id for one \
         request only"
    )]
    Effect {
        /// The effect's id.
        effect: String,
        /// Description of the pointer.
        pointer: String,
        /// Description of the move that the effect made.
        was: String,
        /// Description of the move that the effect asks for now.
        asked: String,
    },
    /// Other writers moved the pointer at each attempt.
    #[error("{pointer} was moved by others at each of {attempts} attempts; nothing was changed, try again")]
    Contended {
        /// Description of the pointer.
        pointer: String,
        /// Number of attempts made.
        attempts: u32,
    },
    /// Files have risks that were not accepted.
    #[error(
        "{}; nothing was registered: mend the files, or accept a kind of risk with --accept, which the manifest records",
        listed(.0)
    )]
    Risky(Vec<FoundRisk>),
    /// The store does not create an object only if it is missing, or does not say whether it does.
    #[error(
        "{place} is not fit for a registry: {reason}; writers would replace each other's versions, so upgrade the store or \
         use one with conditional writes"
    )]
    Unconditional {
        /// The store's URL or directory.
        place: String,
        /// The store's behaviour.
        reason: &'static str,
    },
    /// The store answered each attempt at a creation by a conflict with another one.
    #[error(
        "{place}: creating {key}: the store answered {attempts} times that another creation of it is under way; nothing was \
         changed by this one, try again"
    )]
    Busy {
        /// The store's URL or directory.
        place: String,
        /// The object's key.
        key: String,
        /// Number of attempts made.
        attempts: u32,
    },
    /// A request to the store failed, or was not answered.
    #[error("{place}: {operation}: {source}")]
    Store {
        /// The store's URL or directory.
        place: String,
        /// The failed operation, as in `reading models/chat/1.0.0.json`.
        operation: String,
        /// The store client's error.
        source: Box<object_store::Error>,
    },
    /// The operating system provides no random numbers.
    #[error("the system provides no random numbers: {0}")]
    Random(getrandom::Error),
    /// A background task of this crate panicked or was cancelled.
    #[error("{task} was interrupted: its thread ended early; try again")]
    Interrupted {
        /// Description of the task, as in `reading a file`.
        task: String,
    },
    /// A value can't be written as JSON.
    #[error("can't be written as JSON: {0}")]
    Json(serde_json::Error),
}

impl RegistryError {
    /// Creates the error for a local file that can't be used.
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> RegistryError {
        RegistryError::File { path: path.into(), reason: reason.to_string() }
    }

    /// Creates the error for an object that differs from the one that was written.
    pub(crate) fn withdrawn(name: &ModelName, version: &Version, withdrawal: Withdrawal) -> RegistryError {
        RegistryError::Withdrawn { name: name.clone(), version: version.clone(), withdrawal: Box::new(withdrawal) }
    }

    pub(crate) fn damaged(key: &object_store::path::Path, reason: impl std::fmt::Display) -> RegistryError {
        RegistryError::Damaged { key: key.to_string(), reason: reason.to_string() }
    }
}

/// Joins the first findings, and says how many more there are.
fn listed(findings: &[FoundRisk]) -> String {
    let shown: Vec<String> = findings.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    let more = findings.len().saturating_sub(MAX_LISTED);
    if more == 0 { shown.join("; ") } else { format!("{}; and {more} more", shown.join("; ")) }
}

/// Returns the remedy for a withdrawn version.
fn remedy(withdrawal: &Withdrawal) -> &'static str {
    match withdrawal {
        Withdrawal::Yanked(_) => "use another version, or get this one by its number with --yanked",
        Withdrawal::Deleted(_) => "use another version",
    }
}
