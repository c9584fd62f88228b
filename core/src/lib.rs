//! The decisions of Bellwether, and nothing else.
//!
//! An [`engine::Engine`] takes inputs ([`input::event::Event`] and a time) and returns decisions, their reasons and the
//! effects that they ask for. It does no I/O, reads no clock and draws no random numbers except from [`dice`], whose seeds
//! are fixed: the same inputs give the same bytes on every machine. The daemon, the demo, the simulator and the replayer
//! drive this one engine.
//!
//! Read the modules in the order below: each uses only those before it.
//!
//! # Examples
//!
//! An engine that knows one policy and no workload ignores a tick:
//!
//! ```
//! use bellwether_core::engine::Engine;
//! use bellwether_core::input::event::Event;
//! use bellwether_core::time::{Span, Timestamp};
//!
//! let mut engine = Engine::new("prod".to_owned(), Vec::new(), Span::from_secs(3600));
//! let transitions = engine.step(Event::Tick, Timestamp::UNIX_EPOCH);
//! assert!(transitions.is_empty());
//! assert_eq!(engine.next_wakeup(), None);
//! ```

pub mod time;
pub mod ids;
pub mod dice;
pub mod stats;
pub mod measure;
pub mod judge;
pub mod policy;
pub mod input;
pub mod rollout;
pub mod engine;
