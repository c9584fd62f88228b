//! The journals: the rules that every journal keeps, and the embedded journal for a single machine.
//!
//! In production the journal is in Kafka (`adapters::kafka`). The embedded journal is a file, for one process on one
//! machine, behind the same port. Both pass the same tests (`testkit/src/journal_suite.rs`), so the daemon does not
//! depend on which of them it has.
//!
//! The daemon relies on these rules:
//!
//! * `open` fences: a later commit by an earlier handle of the partition is refused.
//! * `commit` writes the whole batch or nothing, in the order of the batch.
//! * After `JournalError::Unknown` the handle can't be used again. The intake rewinds the records that were read and not
//!   committed, and then sends `Wake::Assigned` for the partition once more; until then records of that partition are
//!   stale. So the daemon handles a new partition and a commit of unknown outcome in the same place.

pub mod embedded;
pub mod options;
pub mod partition;

pub use options::{JournalKind, Options};
pub use partition::partition_of;
