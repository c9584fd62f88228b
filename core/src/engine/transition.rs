//! The result of one input for one workload.

use std::sync::Arc;

use crate::ids::{EventId, Scope, Workload};
use crate::input::command::Freeze;
use crate::input::effect::Effect;
use crate::input::event::Input;
use crate::policy::Policy;
use crate::rollout::Rollout;
use crate::rollout::decision::Decision;
use crate::rollout::reason::Reason;
use crate::time::Timestamp;

/// The engine's answer to an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The input changed the workload's state, which has to be journaled.
    Changed,
    /// The input changed nothing.
    Ignored,
    /// The input is an event that was processed before.
    Duplicate,
    /// The input asks for something impossible, and its sender has to correct it.
    Rejected,
}

/// The result of one input for one workload.
#[derive(Debug, Clone)]
#[must_use = "a transition that is not committed is lost"]
pub struct Transition {
    /// The workload; `None` if the input is about the whole partition.
    pub workload: Option<Workload>,
    /// The input, for the journal.
    pub input: Input,
    /// The engine's answer.
    pub disposition: Disposition,
    /// The explanation of the answer.
    pub reason: Reason,
    /// The decisions, in order.
    pub decisions: Vec<Decision>,
    /// The effects to perform once the transition is committed, in order.
    pub effects: Vec<Effect>,
    /// The last states of rollouts that ended and are no part of the workload's state any more, in order: one that the next one
    /// replaced, and those that ended before they began.
    pub passed: Vec<Rollout>,
    /// The event to remember as processed, and the time until which it is remembered.
    pub seen: Option<(EventId, Timestamp)>,
    /// The freeze to keep; with `None`, the freeze to forget.
    pub freeze: Option<(Scope, Option<Freeze>)>,
    /// The policy that was looked up for the event, which a replay needs.
    pub policy: Option<Arc<Policy>>,
    /// The message of a panic, which is a defect of this program: nothing of the step holds, and the workload is isolated.
    pub defect: Option<String>,
}

impl Transition {
    /// Returns a transition about the whole partition, without decisions.
    pub(super) fn of_partition(input: Input, disposition: Disposition, reason: Reason) -> Transition {
        Transition {
            workload: None,
            input,
            disposition,
            reason,
            decisions: Vec::new(),
            effects: Vec::new(),
            passed: Vec::new(),
            seen: None,
            freeze: None,
            policy: None,
            defect: None,
        }
    }

    /// Returns a transition of a workload that the input doesn't change.
    pub(super) fn unchanged(workload: Workload, input: Input, disposition: Disposition, reason: Reason) -> Transition {
        Transition { workload: Some(workload), ..Transition::of_partition(input, disposition, reason) }
    }
}
