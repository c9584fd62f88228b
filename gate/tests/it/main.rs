//! Everything that the gates promise, by their public face. One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod draws;
mod imports;
mod input;
mod lab;
mod reports;
mod scorers;
mod vectors;
mod verdicts;
