//! The tests of the registry in memory and in a local directory, as one binary.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod collecting;
mod conditional;
mod bom;
mod damage;
mod deleted;
mod downloading;
mod exported;
mod failing_writes;
mod interleaved;
mod place;
mod refused;
mod reports;
mod scanned;
mod shared;
mod signed;
mod stepped;
mod stores;
mod unstable;
mod versions;
mod withdrawn;

use bellwether_testkit::registry_suite as suite;
