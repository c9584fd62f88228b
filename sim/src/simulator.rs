//! A seeded simulator of the daemon and its surroundings under faults, which asserts the design's invariants.
//!
//! A seed determines a random policy, versions, requests, commands and traffic for three workloads. The surroundings
//! fail:
//!
//! - The broker loses commits and answers, and fences producers.
//! - The API server reports conflicts, loses answers, fences writes, and has other field managers.
//! - Prometheus has gaps, and processes restart.
//! - The daemon dies between any two steps, or is suspended while another takes over, and later resumes with writes in
//!   flight.
//!
//! The invariants are asserted after every commit and every write. After an hour the faults end, and every rollout must
//! end within a day. A failed test prints its seed: `BELLWETHER_SEED=N` runs it again, and `BELLWETHER_SEEDS=N` sets
//! the number of seeds.
//!
//! The simulator itself is tested by six planted defects ([`Defect`]), each of which it must find.
//!
//! Read the modules in the order of their declarations.

mod defect;
mod workloads;
mod policies;
mod api;
mod counters;
mod journal;
#[expect(clippy::wildcard_enum_match_arm, reason = "an invariant concerns some variants only")]
mod oracle;
mod world;
mod cluster;
mod daemon;
mod measurements;
mod disturbances;
mod run;

pub use defect::Defect;
pub use journal::{JournalEntry, JournalStep, JournalWrites, SimulatedJournal};
pub use world::Simulator;
