//! Everything that needs no service, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli;
mod tidy;
