//! Where the daemon keeps its memory: what any journal shares, and the one for a single machine.
//!
//! The journal of production is Kafka's (`adapters::kafka`). This one is a file, for one process on one machine, behind
//! the same port; both pass the same tests (`tests/support/journal_suite.rs`), so the daemon can't tell them apart.
//!
//! What every journal promises, and the daemon builds on:
//!
//! * `open` fences: what another handle of the partition commits afterwards is refused.
//! * `commit` writes everything or nothing, and in the order of the batch.
//! * After `JournalError::Unknown` the handle is spent. The intake sends `Wake::Assigned` for the partition again, once
//!   whatever was read and not committed has been taken back; until then records of that partition are stale. So a
//!   daemon handles "the partition is mine" and "it may have gone wrong, start over" in the same place.

pub mod embedded;
pub mod partition;

pub use partition::partition_of;
