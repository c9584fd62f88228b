//! Everything that the core promises, by its public face. One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test asks about the variants that it is about")]
#![expect(clippy::disallowed_methods, reason = "the simulator takes its seeds from the environment")]

mod ab;
mod backtest;
mod baseline;
#[path = "../support/broker.rs"]
mod broker;
mod counting;
#[path = "../support/dice.rs"]
mod dice;
mod drifts;
mod error_rates;
mod evidence;
mod hand;
mod lifecycle;
mod long_paths;
mod middle;
mod models;
mod plan;
mod ranks;
mod sequential;
mod sim;
#[path = "../support/simulation.rs"]
mod simulation;
mod story;
mod suites;
mod transitions;
mod vectors;
