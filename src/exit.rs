//! The exit codes, which scripts and pipelines depend on: they never change their meaning.

/// Promoted (`status --wait`), or simply done.
pub const OK: u8 = 0;
/// Something went wrong, or a check found a problem.
pub const ERROR: u8 = 1;
/// The command line makes no sense (clap's own code).
pub const USAGE: u8 = 2;
/// The rollout was rolled back.
pub const ROLLED_BACK: u8 = 3;
/// A gate failed, a threshold of a load test or an expectation of a smoke test: what a rollback is to a rollout.
pub const FAILED: u8 = ROLLED_BACK;
/// The rollout was held past the timeout, or given up.
pub const HELD: u8 = 4;
/// Neither passed nor failed (`gate`, `load`): as undecided as a rollout on hold.
pub const INCONCLUSIVE: u8 = HELD;
