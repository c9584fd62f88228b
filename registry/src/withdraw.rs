//! Withdrawn versions. A yanked version is not given out by a pointer any more; a deleted one has lost its files.
//!
//! A yank can be taken back: it is a line of moves, like a pointer, that names the version while it is yanked. A deletion is
//! final: its mark is created once, before the first file is removed. In both cases the manifest, the reports and the
//! history stay, so that the number of the version can't be registered again with other files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::advance::{MoveContext, MoveOutcome, MoveRequest};
use crate::error::{RegistryError, Result};
use crate::line::{Action, Line, PointerMove};
use crate::lookup::CONCURRENT_READS;
use crate::manifest::Manifest;
use crate::name::{ModelName, Version};
use crate::registry::Registry;
use crate::{keys, seal};

/// The mark of a deletion. It is written once and never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    /// The model's name.
    pub name: ModelName,
    /// The version that was deleted.
    pub version: Version,
    /// Name that the deleting person or program gave; it is not authenticated.
    pub by: String,
    /// Reason that was given; may be empty.
    pub why: String,
    /// Time of the deletion, by the caller's clock.
    pub at: Timestamp,
}

/// The state of a version that is not given out any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withdrawal {
    /// It is yanked, by this move.
    Yanked(Box<PointerMove>),
    /// Its files were deleted.
    Deleted(Deletion),
}

impl fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, by, at, why) = match self {
            Withdrawal::Yanked(yank) => ("yanked", &yank.by, yank.at, &yank.why),
            Withdrawal::Deleted(Deletion { by, at, why, .. }) => ("deleted", by, *at, why),
        };
        write!(f, "it was {state} by {by} at {at:.0}")?;
        if why.is_empty() { Ok(()) } else { write!(f, " ({why})") }
    }
}

fn yank_line(name: &ModelName, version: &Version) -> Line {
    Line { prefix: keys::yank(name, version), title: format!("the yank of {name} {version}") }
}

impl Registry {
    /// Returns whether and how a version is withdrawn; `None` if it is not. The version need not exist.
    ///
    /// # Errors
    /// A mark is damaged, or the store fails.
    pub async fn withdrawal(&self, name: &ModelName, version: &Version) -> Result<Option<Withdrawal>> {
        if let Some(deletion) = self.deletion(name, version).await? {
            return Ok(Some(Withdrawal::Deleted(deletion)));
        }
        let last = self.last_move(&yank_line(name, version)).await?;
        Ok(last.filter(|last| last.version.is_some()).map(|last| Withdrawal::Yanked(Box::new(last))))
    }

    /// Returns the withdrawn versions of a model.
    ///
    /// # Errors
    /// A mark is damaged, or the store fails.
    pub async fn withdrawals(&self, name: &ModelName) -> Result<BTreeMap<Version, Withdrawal>> {
        let yanks = self.store.names(&keys::yanks(name)).await?;
        let mut marked: BTreeSet<Version> = yanks.iter().filter_map(|version| version.parse().ok()).collect();
        let deletions = self.store.list(&keys::deletions(name)).await?;
        marked.extend(deletions.iter().filter_map(|object| keys::deleted_version_of(name, &object.location)));
        let read = |version: Version| async move {
            self.withdrawal(name, &version).await.map(|found| found.map(|found| (version, found)))
        };
        let found: Vec<Option<_>> = stream::iter(marked).map(read).buffered(CONCURRENT_READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads the mark of a deletion; `None` if the version was not deleted.
    pub(crate) async fn deletion(&self, name: &ModelName, version: &Version) -> Result<Option<Deletion>> {
        let key = keys::deletion(name, version);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        let deletion: Deletion = seal::read(&key, &bytes)?;
        if (&deletion.name, &deletion.version) != (name, version) {
            return Err(RegistryError::damaged(&key, "it belongs to another version"));
        }
        Ok(Some(deletion))
    }

    /// Creates the mark of a deletion. A mark that exists already stays as it is.
    pub(crate) async fn mark_deleted(&self, deletion: &Deletion) -> Result<()> {
        let key = keys::deletion(&deletion.name, &deletion.version);
        self.store.create(&key, seal::write(deletion)?).await.map(drop)
    }

    /// Refuses a version that is withdrawn, or with `yanked` only one that was deleted.
    ///
    /// # Errors
    /// The version is withdrawn, a mark is damaged, or the store fails.
    pub async fn check_given_out(&self, name: &ModelName, version: &Version, yanked: bool) -> Result<()> {
        match self.withdrawal(name, version).await? {
            None => Ok(()),
            Some(Withdrawal::Yanked(_)) if yanked => Ok(()),
            Some(withdrawal) => Err(RegistryError::withdrawn(name, version, withdrawal)),
        }
    }

    /// Yanks a version. It can then be downloaded only by its number and on request, and it becomes current nowhere.
    /// Pointers that name it already are not moved.
    ///
    /// # Errors
    /// There is no such version, it was deleted, the context's preconditions do not hold, or the store fails.
    pub async fn yank(&self, name: &ModelName, version: &Version, context: &MoveContext) -> Result<MoveOutcome> {
        let checksum = self.manifest_unless_deleted(name, version).await?.checksum;
        let (version, reports) = (version.clone(), Vec::new());
        let line = yank_line(name, &version);
        self.advance(&line, &MoveRequest::To { action: Action::Yank, version, checksum, reports }, context).await
    }

    /// Takes a yank back.
    ///
    /// # Errors
    /// There is no such version, it was never yanked, it was deleted, the context's preconditions do not hold, or the store
    /// fails.
    pub async fn unyank(&self, name: &ModelName, version: &Version, context: &MoveContext) -> Result<MoveOutcome> {
        self.manifest_unless_deleted(name, version).await?;
        let line = yank_line(name, version);
        if self.last_move(&line).await?.is_none() {
            let hint = "; it was never yanked".to_owned();
            return Err(RegistryError::Absent { thing: format!("yank of {name} {version}"), hint });
        }
        self.advance(&line, &MoveRequest::Clear, context).await
    }

    async fn manifest_unless_deleted(&self, name: &ModelName, version: &Version) -> Result<Manifest> {
        let manifest = self.manifest(name, version).await?;
        self.check_given_out(name, version, true).await.map(|()| manifest)
    }
}
