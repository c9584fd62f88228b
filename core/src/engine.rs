//! The engine: the workloads of one partition, with at most one rollout of each.
//!
//! [`Engine::step`] takes an input and returns a [`Transition`] for each workload that it concerns: decisions, effects, and the
//! engine's answer to the sender. Everything that is known of a workload is a [`WorkloadState`], which serializes to a snapshot. An
//! engine that is given the snapshot and the same inputs again makes the same decisions ([`record`] replays them).
//!
//! # Examples
//!
//! ```
//! use bellwether_core::engine::{Disposition, Engine};
//! use bellwether_core::input::event::Event;
//! use bellwether_core::input::status::WorkloadStatus;
//! use bellwether_core::time::{Span, Timestamp};
//!
//! // No policy covers the workload, so its status is ignored.
//! let mut engine = Engine::new("prod".to_owned(), Vec::new(), Span::from_secs(3600));
//! let workload = "prod/shop/Deployment/web".parse().unwrap();
//! let event = Event::Observed { workload, status: Box::new(WorkloadStatus::ABSENT) };
//! let transitions = engine.step(event, Timestamp::UNIX_EPOCH);
//! assert_eq!(transitions[0].disposition, Disposition::Ignored);
//! ```

mod transition;
mod workload;
mod partition;
mod commands;
mod forgetting;
pub mod view;
pub mod record;
pub mod show;
pub mod detail;

pub use partition::{Engine, panic_message};
pub use transition::{Disposition, Transition};
pub use workload::{Proposal, QueuedRequest, WorkloadState};
