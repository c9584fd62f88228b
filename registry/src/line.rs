//! A pointer as the line of its moves.
//!
//! Moves 1, 2, 3 … are objects of their own, and each is created once. The highest is the pointer's position; the others
//! are its history. Two callers who move a pointer at the same time try to create the same number: one succeeds, and the
//! other reads the line again. So a store need not be able to replace an object, and no move is ever lost.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::name::{SuiteName, Version};
use crate::registry::Registry;
use crate::{keys, seal};

/// Waits between attempts to read a move that is known to exist but can't be read yet.
const READ_DELAYS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// The location of a pointer's moves.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Prefix of the moves' keys.
    pub(crate) prefix: Path,
    /// Description of the pointer for messages, as in `the current chat in production`.
    pub(crate) title: String,
}

/// The kind of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// An environment's pointer was moved to a version that passed its gates.
    Promote,
    /// An environment's pointer was moved back to a version where it had been.
    Restore,
    /// An alias was pointed to a version.
    Set,
    /// The pointer was moved to no version.
    Remove,
    /// A version was yanked.
    Yank,
}

/// A report by which a version passed a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveEvidence {
    /// Name of the suite that passed.
    pub suite: SuiteName,
    /// Digest of the report's bytes; [`Registry::report`] returns them.
    pub report: Digest,
}

/// One move of a pointer. It is written once and never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PointerMove {
    /// Number of the move in its line, counted from 1.
    pub number: u64,
    /// The kind of the move.
    pub action: Action,
    /// The version that the pointer names since this move; `None`: it names no version.
    pub version: Option<Version>,
    /// Digest of that version's files.
    pub checksum: Option<Digest>,
    /// The version to which a restoration without an explicit version goes back from here.
    pub before: Option<Version>,
    /// Name that the person or program gave that made the move; it is not authenticated.
    pub by: String,
    /// Reason that was given for the move; may be empty.
    pub why: String,
    /// Time of the move, by the caller's clock.
    pub at: Timestamp,
    /// The reports by which the version passed the required gates.
    pub reports: Vec<MoveEvidence>,
    /// Random id of the attempt: 32 hexadecimal digits. A writer whose answer was lost recognizes its own move by it.
    pub attempt: String,
    /// The last 64 effects that moved the pointer, each with the number of its move.
    pub effects: BTreeMap<String, u64>,
}

impl Registry {
    /// Reads the pointer's last move, which is its position; `None` if it was never set.
    pub(crate) async fn last_move(&self, line: &Line) -> Result<Option<PointerMove>> {
        match self.move_numbers(line).await?.into_iter().max() {
            None => Ok(None),
            Some(number) => self.read_move(line, number).await.map(Some),
        }
    }

    /// Reads all moves, the newest first.
    pub(crate) async fn moves(&self, line: &Line) -> Result<Vec<PointerMove>> {
        let mut numbers = self.move_numbers(line).await?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        stream::iter(numbers).map(|number| self.read_move(line, number)).buffered(16).try_collect().await
    }

    async fn move_numbers(&self, line: &Line) -> Result<Vec<u64>> {
        let objects = self.store.list(&line.prefix).await?;
        Ok(objects.iter().filter_map(|object| keys::number_of(&object.location)).collect())
    }

    /// Reads a move that is known to exist.
    pub(crate) async fn read_move(&self, line: &Line, number: u64) -> Result<PointerMove> {
        let key = keys::pointer_move(&line.prefix, number);
        let bytes = self.read_existing(&key).await?;
        let read: PointerMove = seal::read(&key, &bytes)?;
        if read.number != number {
            return Err(RegistryError::damaged(&key, format!("it is move {}", read.number)));
        }
        Ok(read)
    }

    /// Reads an object that is known to exist. Moves are never removed, but a store may list a new object, or report its
    /// key as taken, a moment before the object can be read.
    async fn read_existing(&self, key: &Path) -> Result<Bytes> {
        for delay in READ_DELAYS {
            if let Some(bytes) = self.store.read(key).await? {
                return Ok(bytes);
            }
            tokio::time::sleep(delay).await;
        }
        self.store.read(key).await?.ok_or_else(|| RegistryError::damaged(key, "it is not there any more"))
    }
}
