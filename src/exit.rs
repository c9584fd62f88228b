//! The exit codes of the command line. Scripts and pipelines depend on them, so their meanings never change.

/// The command succeeded; with `status --wait`, the rollout was promoted.
pub const OK: u8 = 0;
/// The command failed, or a check found a problem.
pub const ERROR: u8 = 1;
/// The command line is invalid; clap exits with this code.
pub const USAGE: u8 = 2;
/// The rollout was rolled back (`status`).
pub const ROLLED_BACK: u8 = 3;
/// The gate, a threshold of the load test or an expectation of the smoke test failed.
pub const FAILED: u8 = ROLLED_BACK;
/// The rollout was given up or aborted, or had not ended at the timeout of `status --wait`.
pub const HELD: u8 = 4;
/// The gate or the load test was inconclusive.
pub const INCONCLUSIVE: u8 = HELD;
