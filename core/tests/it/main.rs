//! Tests of the core by its public interface, in one binary so that it links only once.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test asks about the variants that it is about")]

mod ab_test;
mod absence;
mod answers;
mod baseline;
mod blame;
mod drifts;
mod evidence;
mod external_changes;
mod forgetting;
mod images;
mod lifecycle;
mod models;
mod notifications;
mod proofs;
mod pod_conditions;
mod ranks;
mod returning;
mod sequential;
mod strata;
mod suites;
mod transitions;
mod vectors;
mod verbs;
mod waiting;
