//! The decisions of Bellwether, and nothing else.
//!
//! An [`engine::Engine`] is told what happened ([`event::Event`]) and when, and answers with what it decided, why, and
//! what is to be done about it. It does no I/O, reads no clock and throws no dice but [`dice`], whose seeds are
//! fixed: the same inputs give the same bytes out, on any machine. The daemon, the demo, the simulator and the replayer all
//! drive this one engine.
//!
//! To read it, follow the modules in the order below: each uses only those before it.

pub mod time;
pub mod ids;
pub mod command;
pub mod sighting;
pub mod report;
pub mod dice;
pub mod stats;
pub mod metric;
pub mod block;
pub mod window;
mod counts;
pub mod learnt;
pub mod watch;
pub mod calendar;
pub mod policy;
pub mod event;
pub mod effect;
pub mod outlier;
pub mod verdict;
pub mod judge;
pub mod sequential;
pub mod reward;
pub mod reason;
pub mod phase;
pub mod decision;
pub mod watching;
pub mod rollout;
pub mod message;
pub mod engine;
pub mod record;
pub mod view;
pub mod show;
pub mod model;
pub mod plan;
pub mod rivals;
pub mod backtest;
