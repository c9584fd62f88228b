//! The tests that need no services.

#[path = "../support/journal_suite.rs"]
mod journal_suite;

mod events;
mod journal;
mod kafka;
