//! Everything that the core promises, by its public face. One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test asks about the variants that it is about")]

mod ab;
mod baseline;
mod drifts;
mod evidence;
mod hand;
mod lifecycle;
mod middle;
mod models;
mod notifications;
mod ranks;
mod sequential;
mod suites;
mod transitions;
mod vectors;
