//! The registry in memory and in a directory, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/suite.rs"]
mod suite;

mod collecting;
mod damage;
mod dying;
mod refused;
mod reports;
mod signed;
mod stores;
mod unstable;
mod versions;
