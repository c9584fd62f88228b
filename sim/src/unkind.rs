//! An unkind world: one rollout from its request to its end in a cluster that behaves as real ones do.
//!
//! [`crate::simulator`] asserts the invariants of a daemon whose parts fail at any moment. This module asks another
//! question: are the decisions right? Each version is good or bad *by construction*, each row ([`Row`]) makes the world
//! unkind in one way, and the oracle ([`Outcome`]) holds the end of the rollout against the truth. A good version that is
//! rolled back was blamed for its world; a bad one that is promoted, or still has traffic at the end, harms its users.
//!
//! Time passes from event to event. Between two events every pod has constant rates of requests, so a rollout of an hour
//! costs as many steps as things happen in it. Requests are counted when the counters are read, by one draw for each pod.
//!
//! The world speaks with the engine as the daemon does: it tells what was observed, measured and performed, and wakes it
//! at the times that the engine names. The engine's surroundings may be away, late or wrong; the engine is never bent. Five
//! planted defects of those surroundings ([`Defect`]) test that the bars find them.
//!
//! `cargo bench -p bellwether-sim --bench unkind -- --runs 200` prints the table of all rows;
//! `--row NAME --seed S` prints the story of one rollout of a good version and of one of a bad one.

mod absence;
mod acts;
mod agenda;
mod autoscaler;
mod bars;
mod daemon;
mod defect;
mod deployment;
mod disturbance;
mod flow;
mod gateway;
mod lifecycle;
mod oracle;
mod pod;
mod policies;
mod row;
mod scrape;
mod setting;
mod status;
mod table;
mod version;
mod world;

pub use bars::Bar;
pub use defect::Defect;
pub use oracle::{End, Outcome};
pub use row::Row;
pub use table::Summary;
pub use version::Fault;

use world::World;

/// Runs one rollout of a good or a bad version in the world of a row.
pub fn run(row: Row, good: bool, seed: u64) -> Outcome {
    run_with(row, good, seed, None)
}

/// Runs one rollout as [`run`] does, by a daemon with a planted defect if one is given.
pub fn run_with(row: Row, good: bool, seed: u64, defect: Option<Defect>) -> Outcome {
    let mut world = World::new(row, good, seed, defect, false);
    world.run();
    world.outcome()
}

/// Runs one rollout as [`run`] does, and returns its story as well, one line for each thing that happened.
pub fn story(row: Row, good: bool, seed: u64) -> (Outcome, Vec<String>) {
    let mut world = World::new(row, good, seed, None, true);
    world.run();
    let lines = world.story();
    (world.outcome(), lines)
}
