//! What can go wrong, in words that name the thing, its value, and what to do about it.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::name::{ModelName, Version};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A word that the registry does not take.
    #[error("{value:?} is no {what}: {why}")]
    Invalid {
        /// What it should have been.
        what: &'static str,
        /// What it is.
        value: String,
        /// What is wrong with it, and what to write.
        why: String,
    },
    /// The options contradict themselves.
    #[error("registry.{key}: {why}")]
    Options {
        /// Which of them.
        key: &'static str,
        /// What is wrong, and what to write.
        why: String,
    },
    /// The version is taken, by this one.
    #[error(
        "{name} {version} is registered already, by {by} at {at} with {checksum}; a version never changes, so register \
         another one", name = .0.name, version = .0.version, by = .0.created_by, at = .0.created_at, checksum = .0.checksum
    )]
    Exists(Box<Manifest>),
    /// There is no such thing.
    #[error("there is no {what}{instead}")]
    Absent {
        /// What is not there.
        what: String,
        /// What is there instead, or nothing.
        instead: String,
    },
    /// A file of the caller's can't be used.
    #[error("{path}: {why}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The bytes are not those that were promised.
    #[error("{what} is {got} and should be {expected}; {remedy}")]
    Checksum {
        /// Of what.
        what: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        got: Digest,
        /// What to do.
        remedy: &'static str,
    },
    /// Something in the store is not what was written there.
    #[error("{key} is damaged: {why}; restore it from a copy of the store")]
    Damaged {
        /// Which object.
        key: String,
        /// In which way.
        why: String,
    },
    /// An upload was taken for abandoned.
    #[error(
        "the upload of {name} {version} was collected as abandoned while it went on; register it again, and collect later"
    )]
    Collected {
        /// Of which model.
        name: ModelName,
        /// Which version.
        version: Version,
    },
    /// A report that can't be attached.
    #[error("the report can't be attached to {name} {version}: {why}")]
    Report {
        /// Of which model.
        name: ModelName,
        /// Which version.
        version: Version,
        /// Why not.
        why: String,
    },
    /// A version that is not signed as it should be.
    #[error("{name} {version} is not signed: {why}")]
    Signature {
        /// Of which model.
        name: ModelName,
        /// Which version.
        version: Version,
        /// What is wrong.
        why: String,
    },
    /// A version that may not become current.
    #[error("{name} {version} may not become current in {environment}: {}", reasons.join("; "))]
    Refused {
        /// Of which model.
        name: ModelName,
        /// Which version.
        version: Version,
        /// Where.
        environment: String,
        /// Every reason.
        reasons: Vec<String>,
    },
    /// The pointer is not where the caller believed it to be.
    #[error(
        "{line} has been moved: it stands at move {found}, and {expected} was expected; look at its history and ask again"
    )]
    Moved {
        /// Which pointer.
        line: String,
        /// Where it should have been.
        expected: u64,
        /// Where it is.
        found: u64,
    },
    /// An effect's id came twice with different wishes.
    #[error(
        "the effect {effect} has set {line} to {was}, and now asks for {asked}; an effect has one id and one outcome"
    )]
    Effect {
        /// The effect's id.
        effect: String,
        /// Which pointer.
        line: String,
        /// What it did.
        was: String,
        /// What it asks for now.
        asked: String,
    },
    /// Others were faster each time.
    #[error("{line} was moved by others at each of {attempts} attempts; nothing was changed, try again")]
    Contended {
        /// Which pointer.
        line: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The store says no, or nothing.
    #[error("{place}: {doing}: {source}")]
    Store {
        /// Which store.
        place: String,
        /// What was asked of it.
        doing: String,
        /// What it said.
        source: Box<object_store::Error>,
    },
    /// The system has no randomness to give.
    #[error("no random number can be had from the system: {0}")]
    Random(getrandom::Error),
    /// A thread of ours has died.
    #[error("work on {what} was cut off")]
    CutOff {
        /// What was worked on.
        what: String,
    },
    /// Something of ours can't be written as JSON.
    #[error("can't be written as JSON: {0}")]
    Json(serde_json::Error),
}

impl Error {
    /// A file that can't be read or written.
    pub(crate) fn file(path: impl Into<PathBuf>, why: impl std::fmt::Display) -> Error {
        Error::File { path: path.into(), why: why.to_string() }
    }

    /// Something in the store that is not what was written.
    pub(crate) fn damaged(key: &object_store::path::Path, why: impl std::fmt::Display) -> Error {
        Error::Damaged { key: key.to_string(), why: why.to_string() }
    }
}
