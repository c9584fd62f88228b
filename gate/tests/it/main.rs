//! Tests of the crate's public interface, in one binary so that it is linked only once.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test matches only the variants that it checks")]

mod disturbed_rates;
mod error_rates;
mod fixtures;
mod imports;
mod invalid_input;
mod plan;
mod refusals;
mod reports;
mod schema;
mod scorers;
mod starter;
mod vectors;
mod verdicts;
