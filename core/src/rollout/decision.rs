//! What a rollout did next, and why: the record that people read and that a replay must give again, byte by byte.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cause::EndCause;
use super::phase::{Phase, Trigger};
use super::reason::Reason;
use crate::ids::{RolloutId, Weight, Workload};
use crate::time::Timestamp;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    /// A rollout began.
    Start,
    /// It goes one stop further up.
    Advance,
    /// It stays where it is and asks.
    Hold,
    /// What held it is over.
    Resume,
    /// The new version is promoted.
    Promote,
    /// The old version comes back.
    RollBack,
    /// A person wants the old version back.
    Abort,
    /// A person opens a gate.
    Approve,
    /// A person asks once more.
    Retry,
    /// Nobody answered: the traffic goes to the stable, and nothing is said against the version.
    GiveUp,
    /// A newer request takes its place.
    Supersede,
    /// It can't be done, or need not be.
    Refuse,
    /// A check that only warns has regressed.
    Warn,
    /// An earlier decision is carried out further.
    Proceed,
    /// It is over.
    Finish,
}

impl DecisionKind {
    /// Returns the kind of the decision to enter `to` by `trigger`.
    pub fn of(trigger: Trigger, to: Phase) -> DecisionKind {
        let kind = match trigger {
            Trigger::Accepted | Trigger::Guardable => DecisionKind::Start,
            Trigger::CanaryReady | Trigger::StepPassed => DecisionKind::Advance,
            Trigger::LastStepPassed => DecisionKind::Promote,
            Trigger::Regressed | Trigger::CanaryFailed | Trigger::StableFailed | Trigger::Overdue => {
                DecisionKind::RollBack
            }
            Trigger::Refused => DecisionKind::Refuse,
            Trigger::Superseded | Trigger::Rebased => DecisionKind::Supersede,
            Trigger::Recalled => DecisionKind::Abort,
            Trigger::GaveUp | Trigger::WorkloadGone => DecisionKind::GiveUp,
            Trigger::StableReady | Trigger::Emptied | Trigger::CanaryGone | Trigger::Reverted => DecisionKind::Proceed,
            Trigger::GuardPassed => DecisionKind::Finish,
        };
        let says_how =
            matches!(kind, DecisionKind::Refuse | DecisionKind::GiveUp | DecisionKind::Supersede | DecisionKind::Abort);
        if to == Phase::Ended && !says_how { DecisionKind::Finish } else { kind }
    }

    /// Its name, for people and for labels.
    pub fn name(self) -> &'static str {
        match self {
            DecisionKind::Start => "start",
            DecisionKind::Advance => "advance",
            DecisionKind::Hold => "hold",
            DecisionKind::Resume => "resume",
            DecisionKind::Promote => "promote",
            DecisionKind::RollBack => "roll back",
            DecisionKind::Abort => "abort",
            DecisionKind::Approve => "approve",
            DecisionKind::Warn => "warn",
            DecisionKind::Retry => "retry",
            DecisionKind::GiveUp => "give up",
            DecisionKind::Supersede => "supersede",
            DecisionKind::Refuse => "refuse",
            DecisionKind::Proceed => "proceed",
            DecisionKind::Finish => "finish",
        }
    }
}

impl fmt::Display for DecisionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The new version serves.
    Promoted,
    /// The old version serves, because the new one was found wanting.
    RolledBack,
    /// The old version serves (or, after a promotion, the new one), because nothing could be decided.
    GivenUp,
    /// The old version serves, because a person wanted it back.
    Aborted,
    /// A newer request took its place.
    Superseded,
    /// It was never begun.
    Refused,
    /// There was nothing to do.
    Unchanged,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Promoted => "promoted",
            Ending::RolledBack => "rolled back",
            Ending::GivenUp => "given up",
            Ending::Aborted => "aborted",
            Ending::Superseded => "superseded",
            Ending::Refused => "refused",
            Ending::Unchanged => "unchanged",
        })
    }
}

/// One decision of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// The rollout.
    pub rollout: RolloutId,
    /// Its workload.
    pub workload: Workload,
    /// The number of the decision among those of the rollout, from 0.
    pub n: u32,
    /// The time of the decision.
    pub at: Timestamp,
    /// The kind of the decision.
    pub kind: DecisionKind,
    /// The phase before it.
    pub from: Phase,
    /// The phase after it.
    pub to: Phase,
    /// The step, from 0.
    pub step: usize,
    /// The canary's weight that is asked for from now on.
    pub weight: Weight,
    /// How the rollout ended; `None` unless this decision ends it.
    pub ending: Option<Ending>,
    /// The cause of the end; `None` unless this decision leads to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<EndCause>,
    /// Whether the policy only observes, so that nothing is written.
    pub observed_only: bool,
    /// The reason, as data.
    pub reason: Reason,
    /// The reason's sentence.
    pub why: String,
}
