//! Everything that needs no service, in one binary.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

#[path = "../support/agent.rs"]
mod agent;
#[path = "../support/broker_script.rs"]
mod broker_script;
#[path = "../support/journal_suite.rs"]
mod journal_suite;

mod cli;
mod daemon;
mod events;
mod faults;
mod gate;
mod image;
mod journal;
mod kafka;
mod load;
mod pipeline;
mod recipes;
mod script;
mod smoke;
mod tidy;
