//! Decisions: the audit entries of a rollout. A replay must reproduce them byte by byte.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cause::EndCause;
use super::ending::Ending;
use super::phase::{Phase, Trigger};
use super::reason::Reason;
use crate::ids::{RolloutId, Weight, Workload};
use crate::time::Timestamp;

/// The kind of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    /// The rollout begins.
    Start,
    /// The rollout advances by one stop.
    Advance,
    /// The rollout is held.
    Hold,
    /// Takes the canary's traffic back until enough of its pods are ready.
    Withdraw,
    /// A hold is over.
    Resume,
    /// The new version is promoted.
    Promote,
    /// The rollout is rolled back.
    RollBack,
    /// A person aborts the rollout, or the stable's images were requested again.
    Abort,
    /// A person gives an approval.
    Approve,
    /// A person requests the last rollout's change again.
    Retry,
    /// The rollout is given up: the traffic returns to the stable, and the version is not quarantined.
    GiveUp,
    /// A newer request replaces the rollout.
    Supersede,
    /// The request can't be carried out, or the workload runs the requested images already.
    Refuse,
    /// A check that only warns has regressed, or no policy covers the workload any more.
    Warn,
    /// An earlier decision is carried out: a promotion, a rollback or a revert reaches its next phase.
    Proceed,
    /// The rollout ends.
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
            Trigger::CanaryUnready => DecisionKind::Withdraw,
            Trigger::Refused => DecisionKind::Refuse,
            Trigger::Superseded | Trigger::Rebased => DecisionKind::Supersede,
            Trigger::Recalled => DecisionKind::Abort,
            Trigger::GaveUp | Trigger::WorkloadGone => DecisionKind::GiveUp,
            Trigger::StableReady | Trigger::Emptied | Trigger::CanaryGone | Trigger::Reverted => DecisionKind::Proceed,
            Trigger::GuardPassed => DecisionKind::Finish,
        };
        let tells_the_ending =
            matches!(kind, DecisionKind::Refuse | DecisionKind::GiveUp | DecisionKind::Supersede | DecisionKind::Abort);
        if to == Phase::Ended && !tells_the_ending { DecisionKind::Finish } else { kind }
    }

    /// Returns the kind's name, for messages and for the labels of metrics.
    pub fn name(self) -> &'static str {
        match self {
            DecisionKind::Start => "start",
            DecisionKind::Advance => "advance",
            DecisionKind::Hold => "hold",
            DecisionKind::Withdraw => "withdraw",
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

/// One decision of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// The rollout's id.
    pub rollout: RolloutId,
    /// The rollout's workload.
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
