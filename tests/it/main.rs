//! Everything that needs no service, in one binary.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod access;
mod article;
mod cli;
mod commands;
mod corpora;
mod daemon;
mod events;
mod faults;
mod gate;
mod image;
mod journal;
mod kafka;
mod load;
mod manifests;
mod named;
mod pipeline;
mod presets;
mod process;
mod proxies;
mod recipes;
mod reference;
mod schedules;
mod script;
mod site;
mod smoke;
mod tidy;
