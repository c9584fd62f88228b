//! A place for `emit`, which another part of the program brings.

use clap::Args;

use super::Common;

/// What `emit` takes.
#[derive(Debug, Args)]
pub struct EmitArgs {}

/// Not here yet.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "the command that comes here waits")]
pub async fn run(_args: EmitArgs, _common: &Common) -> anyhow::Result<u8> {
    anyhow::bail!("`emit` is not in this build")
}
