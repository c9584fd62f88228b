//! The shell of the behavioural gates: it asks, waits, retries, pays and writes down; what the answers mean is decided in
//! `bellwether-gate`, which does none of that.
//!
//! A run is resumable. Each answer is written to a ledger as soon as it is scored, and a run that finds a ledger of its own
//! (the same suite, datasets, target and subject) asks for what is missing in it and nothing else. That is also why a run
//! that ended can't be repeated until it passes: the same run gives the same report.

pub mod ask;
pub mod budget;
pub mod client;
pub mod ledger;
pub mod load;
pub mod run;
pub mod wire;
