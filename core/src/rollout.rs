//! One attempt to move a workload from its stable to a new version.
//!
//! A rollout is level-triggered. It takes a fact in (a status, a block, an outcome, a verb) and then asks itself, from everything
//! that it knows, whether a [`Trigger`](phase::Trigger) has fired that the table in [`phase`] has a row for. If so, it enters the
//! next phase and asks again. A lost or repeated fact therefore costs time, never correctness.
//!
//! Each phase has a short list of acts, done one after the other. Each act is committed before it is performed, and repeated
//! until the world has confirmed it. The phase's exit condition is asked after its last act.
//!
//! Read the modules in the order below. The first ones are plain values; [`state`] has the rollout itself, and each of the others
//! is one part of its behaviour, up to [`drive`], which puts them together.

pub mod phase;
pub mod reward;
pub mod answers;
pub mod reason;
pub mod ending;
pub mod cause;
pub mod pods;
pub mod restarts;
pub mod decision;
pub mod in_flight;
pub mod current;
pub mod availability;
pub mod analysis;
pub mod split;
pub mod state;
pub mod timers;
mod preflight;
mod absence;
mod failing;
mod returning;
mod observed;
mod acts;
mod external;
mod analyzing;
mod holding;
mod triggers;
mod drive;
pub mod commands;
pub mod message;

pub use in_flight::InFlight;
pub use preflight::requested_change;
pub use state::{
    Basis, CanaryState, HistoryEntry, LastGood, Measurements, Orders, PointerChange, QuarantineEntry, Rollout,
    RolloutContext, StepOutput, Task,
};
