//! A place for `demo`, which another part of the program brings.

use clap::Args;

use super::Common;

/// What `demo` takes.
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Not here yet.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "the command that comes here waits")]
pub async fn run(_args: DemoArgs, _common: &Common) -> anyhow::Result<u8> {
    anyhow::bail!("`demo` is not in this build")
}
