//! Where a rollout can be, what can happen to it there, and where it goes then: one exhaustive match.
//!
//! A rollout moves only through [`next`]. That a canary is removed only after its traffic, or that the old template
//! comes back before the traffic does, is a line in this table and not a branch somewhere else. `docs/state-machine.md`
//! is written from it by a test, so a changed transition is a changed line that somebody reviews.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Looking at the workload, before anything is written.
    Gating,
    /// The canary is being made, for the first step; it has no traffic.
    Preparing,
    /// The canary grows for the next step; it keeps the traffic of the step before, and is judged.
    Growing,
    /// The canary has a step's traffic, and is judged.
    Stepping,
    /// The stable Deployment takes the new version; the canary keeps its traffic.
    Promoting,
    /// The traffic goes back to the stable, which has the new version.
    Returning,
    /// The canary is removed after a promotion.
    Cleaning,
    /// Promoted, and watched.
    Guarding,
    /// The stable Deployment takes its old template back.
    Restoring,
    /// The canary's traffic goes back to the stable.
    Draining,
    /// The canary is removed after a failure.
    Removing,
    /// Over.
    Ended,
}

impl Phase {
    /// All of them, in the order of a good rollout and then of a bad one.
    pub const ALL: [Phase; 12] = [
        Phase::Gating,
        Phase::Preparing,
        Phase::Growing,
        Phase::Stepping,
        Phase::Promoting,
        Phase::Returning,
        Phase::Cleaning,
        Phase::Guarding,
        Phase::Restoring,
        Phase::Draining,
        Phase::Removing,
        Phase::Ended,
    ];

    /// Whether the canary is, or may be, in the traffic.
    pub fn has_canary_traffic(self) -> bool {
        matches!(
            self,
            Phase::Growing | Phase::Stepping | Phase::Promoting | Phase::Returning | Phase::Restoring | Phase::Draining
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Gating => "gating",
            Phase::Preparing => "preparing",
            Phase::Growing => "growing",
            Phase::Stepping => "stepping",
            Phase::Promoting => "promoting",
            Phase::Returning => "returning",
            Phase::Cleaning => "cleaning",
            Phase::Guarding => "guarding",
            Phase::Restoring => "restoring",
            Phase::Draining => "draining",
            Phase::Removing => "removing",
            Phase::Ended => "ended",
        })
    }
}

/// What can happen to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The survey found nothing against a canary.
    Accepted,
    /// The survey found a version that somebody else deployed, and a last good one to go back to.
    Guardable,
    /// What was asked for can't be done, or is done already.
    Refused,
    /// A newer request for the workload has come.
    Superseded,
    /// The canary is available at the size that the step needs, and its metrics can be read.
    CanaryReady,
    /// The canary's own pods say that it can't run.
    CanaryFailed,
    /// The step's minimum time is over and every check passes; there is a further step.
    StepPassed,
    /// The same, at the last step.
    LastStepPassed,
    /// A check has regressed.
    Regressed,
    /// Held for as long as the policy allows.
    GaveUp,
    /// The phase has taken longer than the policy allows.
    Overdue,
    /// The stable Deployment is fully available with the template that this phase wants it to have.
    StableReady,
    /// The stable Deployment's own new pods say that they can't run.
    StableFailed,
    /// The canary has no traffic any more.
    Emptied,
    /// Nothing of the canary is left.
    CanaryGone,
    /// The guard's time is over and every check passes.
    GuardPassed,
    /// The workload is gone, or another one has its name.
    WorkloadGone,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Trigger; 17] = [
        Trigger::Accepted,
        Trigger::Guardable,
        Trigger::Refused,
        Trigger::Superseded,
        Trigger::CanaryReady,
        Trigger::CanaryFailed,
        Trigger::StepPassed,
        Trigger::LastStepPassed,
        Trigger::Regressed,
        Trigger::GaveUp,
        Trigger::Overdue,
        Trigger::StableReady,
        Trigger::StableFailed,
        Trigger::Emptied,
        Trigger::CanaryGone,
        Trigger::GuardPassed,
        Trigger::WorkloadGone,
    ];
}

/// Where a trigger leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// To another phase.
    To(Phase),
    /// Nowhere: the rollout goes on with what it does, on purpose.
    Stay,
    /// It can't happen here; the engine never asks.
    Never,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::To(phase) => write!(f, "{phase}"),
            Move::Stay => f.write_str("stay"),
            Move::Never => f.write_str("-"),
        }
    }
}

/// The table.
pub fn next(phase: Phase, trigger: Trigger) -> Move {
    use Move::{Never, Stay, To};
    match phase {
        Phase::Gating => match trigger {
            Trigger::Accepted => To(Phase::Preparing),
            Trigger::Guardable => To(Phase::Guarding),
            Trigger::Refused | Trigger::Superseded | Trigger::Overdue | Trigger::GaveUp | Trigger::WorkloadGone => {
                To(Phase::Ended)
            }
            Trigger::CanaryReady
            | Trigger::CanaryFailed
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Regressed
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::Emptied
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Preparing => match trigger {
            Trigger::CanaryReady => To(Phase::Stepping),
            // No traffic yet, so there is none to take back first.
            Trigger::CanaryFailed
            | Trigger::Refused
            | Trigger::Superseded
            | Trigger::GaveUp
            | Trigger::Overdue
            | Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Regressed
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::Emptied
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Growing => match trigger {
            Trigger::CanaryReady => To(Phase::Stepping),
            Trigger::CanaryFailed
            | Trigger::Refused
            | Trigger::Superseded
            | Trigger::Regressed
            | Trigger::GaveUp
            | Trigger::Overdue => To(Phase::Draining),
            Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::Emptied
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Stepping => match trigger {
            Trigger::StepPassed => To(Phase::Growing),
            Trigger::LastStepPassed => To(Phase::Promoting),
            Trigger::CanaryFailed | Trigger::Refused | Trigger::Superseded | Trigger::Regressed | Trigger::GaveUp => {
                To(Phase::Draining)
            }
            // The weight is asked for and not seen: held, and given up in time.
            Trigger::Overdue => Stay,
            Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::CanaryReady
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::Emptied
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Promoting => match trigger {
            Trigger::StableReady => To(Phase::Returning),
            // The old template first: the canary keeps the traffic until the stable can take it.
            Trigger::Regressed
            | Trigger::StableFailed
            | Trigger::CanaryFailed
            | Trigger::Refused
            | Trigger::Overdue => To(Phase::Restoring),
            // From here on a newer request waits, and a hold asks without giving up half-way.
            Trigger::Superseded | Trigger::GaveUp => Stay,
            Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::CanaryReady
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Emptied
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Returning => match trigger {
            Trigger::Emptied => To(Phase::Cleaning),
            Trigger::Regressed | Trigger::StableFailed => To(Phase::Restoring),
            Trigger::Superseded | Trigger::GaveUp | Trigger::Overdue | Trigger::CanaryFailed | Trigger::Refused => Stay,
            Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::CanaryReady
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::StableReady
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Cleaning => match trigger {
            Trigger::CanaryGone => To(Phase::Guarding),
            Trigger::Superseded | Trigger::GaveUp | Trigger::Overdue | Trigger::Refused => Stay,
            Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::CanaryReady
            | Trigger::CanaryFailed
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Regressed
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::Emptied
            | Trigger::GuardPassed => Never,
        },
        Phase::Guarding => match trigger {
            Trigger::GuardPassed | Trigger::GaveUp | Trigger::WorkloadGone => To(Phase::Ended),
            Trigger::Regressed | Trigger::StableFailed => To(Phase::Restoring),
            Trigger::Superseded => Stay,
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::Refused
            | Trigger::CanaryReady
            | Trigger::CanaryFailed
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Overdue
            | Trigger::StableReady
            | Trigger::Emptied
            | Trigger::CanaryGone => Never,
        },
        Phase::Restoring => match trigger {
            Trigger::StableReady => To(Phase::Draining),
            Trigger::Superseded
            | Trigger::GaveUp
            | Trigger::Overdue
            | Trigger::StableFailed
            | Trigger::CanaryFailed
            | Trigger::Refused => Stay,
            Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::CanaryReady
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Regressed
            | Trigger::Emptied
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Draining => match trigger {
            Trigger::Emptied => To(Phase::Removing),
            Trigger::Superseded | Trigger::GaveUp | Trigger::Overdue | Trigger::CanaryFailed | Trigger::Refused => Stay,
            Trigger::WorkloadGone => To(Phase::Removing),
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::CanaryReady
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Regressed
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::CanaryGone
            | Trigger::GuardPassed => Never,
        },
        Phase::Removing => match trigger {
            Trigger::CanaryGone => To(Phase::Ended),
            Trigger::Superseded | Trigger::GaveUp | Trigger::Overdue | Trigger::Refused | Trigger::WorkloadGone => Stay,
            Trigger::Accepted
            | Trigger::Guardable
            | Trigger::CanaryReady
            | Trigger::CanaryFailed
            | Trigger::StepPassed
            | Trigger::LastStepPassed
            | Trigger::Regressed
            | Trigger::StableReady
            | Trigger::StableFailed
            | Trigger::Emptied
            | Trigger::GuardPassed => Never,
        },
        Phase::Ended => Never,
    }
}
