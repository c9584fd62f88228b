//! Everything that the gates promise, by their public face. One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test asks about the variants that it is about")]

mod draws;
mod imports;
mod input;
mod lab;
mod reports;
mod schema;
mod scorers;
mod vectors;
mod verdicts;
