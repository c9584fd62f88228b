//! Arguments that several commands share.

use anyhow::bail;
use bellwether_registry::point::MoveContext;
use bellwether_registry::{ModelName, VersionReference};
use clap::Args;

use crate::clock::{Clock, SystemClock};

/// The version that a command is about.
#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    pub(super) name: ModelName,
    /// The version: a number, `latest`, or @ and an alias.
    // The id `version` belongs to the flag `--version`, which every command has.
    #[arg(id = "model-version", value_name = "VERSION", default_value = "latest")]
    pub(super) version: VersionReference,
}

/// The author, reason and precondition of a pointer's move.
#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// Name of the person or program that makes the move.
    #[arg(long, env = "BELLWETHER_BY", value_name = "WHO")]
    pub(super) by: String,
    /// Reason for the move.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(super) why: String,
    /// Refuse if the number of the pointer's last move is not this one (see `model history`; 0: never set).
    #[arg(long, value_name = "MOVE")]
    pub(super) expect: Option<u64>,
}

impl MoveArgs {
    /// Returns the context of a move at the present time.
    ///
    /// # Errors
    /// `--by` is empty.
    pub(super) fn context(self) -> anyhow::Result<MoveContext> {
        if self.by.trim().is_empty() {
            bail!("--by is empty; name the person or program that makes the move");
        }
        Ok(MoveContext { by: self.by, why: self.why, at: SystemClock.now(), effect: None, expected: self.expect })
    }
}
