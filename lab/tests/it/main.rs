//! The tests of the lab, in one binary.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test matches only the variants that it expects")]

mod backtest;
mod plan;
