//! A place for `replay`, which another part of the program brings.

use clap::Args;

use super::Common;

/// What `replay` takes.
#[derive(Debug, Args)]
pub struct ReplayArgs {}

/// Not here yet.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "the command that comes here waits")]
pub async fn run(_args: ReplayArgs, _common: &Common) -> anyhow::Result<u8> {
    anyhow::bail!("`replay` is not in this build")
}
