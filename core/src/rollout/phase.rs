//! Where a rollout can be, what can happen to it there, and where it goes then.
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
    Preflight,
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
        Phase::Preflight,
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

    /// What the phase is like.
    pub const fn traits(self) -> PhaseTraits {
        match self {
            Phase::Preflight => row("preflight", Share::None, PhaseLimit::Ready, "the preflight"),
            Phase::Preparing => row("preparing", Share::None, PhaseLimit::Ready, "the canary's pods"),
            Phase::Growing => row("growing", Share::Kept, PhaseLimit::Ready, "the canary's pods"),
            Phase::Stepping => row("stepping", Share::Step, PhaseLimit::Ready, "the gateway to accept the weight"),
            Phase::Promoting => {
                row("promoting", Share::Kept, PhaseLimit::Promote, "the workload's pods with the new version")
            }
            Phase::Returning => {
                row("returning", Share::Leaving, PhaseLimit::Promote, "the traffic to return to the workload")
            }
            Phase::Cleaning => row("cleaning", Share::None, PhaseLimit::Promote, "the canary to disappear"),
            Phase::Guarding => row("guarding", Share::None, PhaseLimit::None, "the guard's time"),
            Phase::Restoring => {
                row("restoring", Share::Kept, PhaseLimit::Promote, "the workload's pods with the old version")
            }
            Phase::Draining => {
                row("draining", Share::Leaving, PhaseLimit::Promote, "the traffic to return to the workload")
            }
            Phase::Removing => row("removing", Share::None, PhaseLimit::Promote, "the canary to disappear"),
            Phase::Ended => row("ended", Share::None, PhaseLimit::None, "nothing"),
        }
    }

    /// Whether the canary is, or may be, in the traffic.
    pub fn has_canary_traffic(self) -> bool {
        self.traits().share != Share::None
    }

    /// Whether the canary and the stable are counted side by side.
    pub fn compares(self) -> bool {
        matches!(self, Phase::Growing | Phase::Stepping | Phase::Promoting | Phase::Returning)
    }

    /// Whether the next thing that happens if all goes well gives the version more traffic, or promotes it.
    pub fn rises(self) -> bool {
        matches!(self, Phase::Preparing | Phase::Growing | Phase::Stepping)
    }

    /// Whether it only takes away what is ours.
    pub fn cleans_up(self) -> bool {
        matches!(self, Phase::Returning | Phase::Cleaning | Phase::Draining | Phase::Removing)
    }

    /// Whether nothing is decided yet about the version.
    pub fn is_before_promotion(self) -> bool {
        matches!(self, Phase::Preflight | Phase::Preparing | Phase::Growing | Phase::Stepping)
    }
}

/// What a phase is like: a row of the table above.
#[derive(Debug, Clone, Copy)]
pub struct PhaseTraits {
    /// Its name.
    pub name: &'static str,
    /// The canary's share of the traffic.
    pub share: Share,
    /// Which of the policy's times bounds it, apart from the time in which it judges.
    pub limit: PhaseLimit,
    /// What it waits for, in words.
    pub waiting_for: &'static str,
}

const fn row(name: &'static str, share: Share, limit: PhaseLimit, waiting_for: &'static str) -> PhaseTraits {
    PhaseTraits { name, share, limit, waiting_for }
}

/// The canary's share of the traffic in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// None, and none is left from before.
    None,
    /// What it had before.
    Kept,
    /// The step's.
    Step,
    /// None is asked for, and some may be left.
    Leaving,
}

/// Which of the policy's times bounds a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseLimit {
    /// None: it judges, or is over.
    None,
    /// `ready-within`.
    Ready,
    /// `promote-within`.
    Promote,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traits().name)
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
    /// The step's minimum time is over and every check passes, or a person says so; there is a further step.
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
    /// Somebody wants the old version back: a person aborts, or the stable's own images are asked for.
    Recalled,
    /// The stable has another template now, and somebody says that this is the one to start from.
    Rebased,
    /// What was done to the canary or its share has been undone by somebody, and is done again.
    Reverted,
}

impl Trigger {
    /// Whether it leads to more traffic for the version, or to its promotion.
    pub fn rises(self) -> bool {
        matches!(self, Trigger::CanaryReady | Trigger::StepPassed | Trigger::LastStepPassed)
    }

    /// All of them.
    pub const ALL: [Trigger; 20] = [
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
        Trigger::Recalled,
        Trigger::Rebased,
        Trigger::Reverted,
    ];
}

/// Where a trigger leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextPhase {
    /// To another phase.
    To(Phase),
    /// Nowhere: the rollout goes on with what it does, on purpose.
    Stay,
    /// It can't happen here; the engine never asks.
    Never,
}

impl fmt::Display for NextPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextPhase::To(phase) => write!(f, "{phase}"),
            NextPhase::Stay => f.write_str("stay"),
            NextPhase::Never => f.write_str("-"),
        }
    }
}

/// The table.
pub fn next(phase: Phase, trigger: Trigger) -> NextPhase {
    let found = moves(phase).iter().find(|(triggers, _)| triggers.contains(&trigger));
    found.map_or(NextPhase::Never, |(_, to)| *to)
}

/// What leads somewhere, or stays on purpose; what is not listed can't happen there. The written table shows every pair.
const fn moves(phase: Phase) -> &'static [(&'static [Trigger], NextPhase)] {
    use NextPhase::{Stay, To};
    use Trigger::*;
    match phase {
        Phase::Preflight => &[
            (&[Accepted], To(Phase::Preparing)),
            (&[Guardable], To(Phase::Guarding)),
            (&[Refused, Superseded, GaveUp, Recalled, WorkloadGone], To(Phase::Ended)),
        ],
        Phase::Preparing => &[
            (&[CanaryReady], To(Phase::Stepping)),
            // Only if a person says so.
            (&[LastStepPassed], To(Phase::Promoting)),
            // No traffic yet, so there is none to take back first.
            (
                &[CanaryFailed, Refused, Superseded, GaveUp, Overdue, Recalled, Rebased, WorkloadGone],
                To(Phase::Removing),
            ),
        ],
        Phase::Growing => &[
            (&[CanaryReady], To(Phase::Stepping)),
            // Only if a person says so.
            (&[LastStepPassed], To(Phase::Promoting)),
            (&[CanaryFailed, Refused, Superseded, Regressed, GaveUp, Overdue, Recalled, Rebased], To(Phase::Draining)),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Stepping => &[
            (&[StepPassed], To(Phase::Growing)),
            (&[LastStepPassed], To(Phase::Promoting)),
            (&[Reverted], To(Phase::Growing)),
            (&[CanaryFailed, Refused, Superseded, Regressed, GaveUp, Recalled, Rebased], To(Phase::Draining)),
            // The weight is asked for and not seen: held, and given up in time.
            (&[Overdue], Stay),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Promoting => &[
            (&[StableReady], To(Phase::Returning)),
            // The old template first: the canary keeps the traffic until the stable can take it.
            (&[Regressed, StableFailed, CanaryFailed, Refused, Overdue, Recalled], To(Phase::Restoring)),
            (&[Rebased], To(Phase::Draining)),
            // From here on a newer request waits, and a hold asks without giving up half-way.
            (&[Superseded, GaveUp], Stay),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Returning => &[
            (&[Emptied], To(Phase::Cleaning)),
            (&[Regressed, StableFailed, Recalled], To(Phase::Restoring)),
            (&[Superseded, GaveUp, Overdue, CanaryFailed, Refused], Stay),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Cleaning => &[
            (&[CanaryGone], To(Phase::Guarding)),
            (&[Superseded, GaveUp, Overdue, Refused, Recalled], Stay),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Guarding => &[
            (&[GuardPassed, GaveUp, Rebased, WorkloadGone], To(Phase::Ended)),
            (&[Regressed, StableFailed, Recalled], To(Phase::Restoring)),
            (&[Superseded], Stay),
        ],
        Phase::Restoring => &[
            (&[StableReady], To(Phase::Draining)),
            (&[Superseded, GaveUp, Overdue, StableFailed, CanaryFailed, Refused, Recalled], Stay),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Draining => &[
            (&[Emptied, WorkloadGone], To(Phase::Removing)),
            (&[Superseded, GaveUp, Overdue, CanaryFailed, Refused, Recalled], Stay),
        ],
        Phase::Removing => &[
            (&[CanaryGone], To(Phase::Ended)),
            (&[Superseded, GaveUp, Overdue, Refused, Recalled, WorkloadGone], Stay),
        ],
        Phase::Ended => &[],
    }
}
