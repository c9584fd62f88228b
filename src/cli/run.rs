//! A place for `run`, which another part of the program brings.

use clap::Args;

use super::Common;

/// What `run` takes.
#[derive(Debug, Args)]
pub struct RunArgs {}

/// Not here yet.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "the command that comes here waits")]
pub async fn run(_args: RunArgs, _common: &Common) -> anyhow::Result<u8> {
    anyhow::bail!("`run` is not in this build")
}
