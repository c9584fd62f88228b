//! The tests of the registry in memory and in a local directory, as one binary.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod collecting;
mod conditional;
mod damage;
mod downloading;
mod failing_writes;
mod interleaved;
mod place;
mod refused;
mod reports;
mod scanned;
mod signed;
mod stepped;
mod stores;
mod unstable;
mod versions;

use bellwether_testkit::registry_suite as suite;
