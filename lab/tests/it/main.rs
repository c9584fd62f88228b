//! The lab's tests, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test asks about the variants that it is about")]

mod backtest;
mod plan;
