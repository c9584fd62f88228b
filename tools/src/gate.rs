//! The runner of behavioural gates: sends the requests, retries them, keeps the budget and writes the ledger.
//! `bellwether-gate` judges the answers and does no I/O.
//!
//! A run can be resumed. Each answer is written to a ledger as soon as it is scored. A run that finds the ledger of the
//! same run (the same suite, datasets, target and subject) sends only the requests that have no answer yet. For the
//! same reason a finished run can't be repeated until it passes: the same run gives the same report.

pub mod ask;
pub mod budget;
pub mod client;
pub mod ledger;
pub mod load;
pub mod models;
pub mod probe;
pub mod run;
pub mod traces;
pub mod wire;
