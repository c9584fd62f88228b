//! The state machine of a rollout: its phases, the triggers, and the table of transitions.
//!
//! A rollout changes its phase only by [`next`]. Rules such as "the canary's traffic is removed before its pods" and
//! "the old template is restored before the traffic returns" are lines of this table. A test writes
//! `docs/state-machine.md` from it, so every changed transition shows up in review.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The cluster is checked before anything is written.
    Preflight,
    /// The canary is created for the first step; it has no traffic.
    Preparing,
    /// The canary is scaled up for the next step; it keeps the weight of the previous step, and is judged.
    Growing,
    /// The canary has the step's weight, and is judged.
    Stepping,
    /// The canary's traffic was taken back because too few of its pods are ready; it waits for them.
    Withdrawn,
    /// The stable Deployment is patched to the new version; the canary keeps its traffic.
    Promoting,
    /// The canary's traffic returns to the stable, which has the new version.
    Returning,
    /// The canary is removed after a promotion.
    Cleaning,
    /// The promoted version is judged by the guard.
    Guarding,
    /// The stable Deployment gets its old template back.
    Restoring,
    /// The canary's traffic returns to the stable, which has the old version.
    Draining,
    /// The canary is removed after a failure.
    Removing,
    /// The rollout is over.
    Ended,
}

impl Phase {
    /// All phases: first those of a successful rollout in their order, then those of a failed one.
    pub const ALL: [Phase; 13] = [
        Phase::Preflight,
        Phase::Preparing,
        Phase::Growing,
        Phase::Stepping,
        Phase::Withdrawn,
        Phase::Promoting,
        Phase::Returning,
        Phase::Cleaning,
        Phase::Guarding,
        Phase::Restoring,
        Phase::Draining,
        Phase::Removing,
        Phase::Ended,
    ];

    /// Returns the properties of the phase.
    pub const fn traits(self) -> PhaseTraits {
        match self {
            Phase::Preflight => row("preflight", Share::None, PhaseLimit::Ready, "the preflight"),
            Phase::Preparing => row("preparing", Share::None, PhaseLimit::Ready, "the canary's pods"),
            Phase::Growing => row("growing", Share::Kept, PhaseLimit::Ready, "the canary's pods"),
            Phase::Stepping => row("stepping", Share::Step, PhaseLimit::Ready, "the gateway to accept the weight"),
            Phase::Withdrawn => row("withdrawn", Share::Leaving, PhaseLimit::Ready, "the canary's pods"),
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

    /// Returns whether the canary may have traffic in this phase.
    pub fn has_canary_traffic(self) -> bool {
        self.traits().share != Share::None
    }

    /// Returns whether the canary is compared with the stable in this phase.
    pub fn compares(self) -> bool {
        matches!(self, Phase::Growing | Phase::Stepping | Phase::Promoting | Phase::Returning)
    }

    /// Returns whether the phase is followed, if all goes well, by more traffic for the new version or by its
    /// promotion.
    pub fn rises(self) -> bool {
        matches!(self, Phase::Preparing | Phase::Growing | Phase::Stepping | Phase::Withdrawn)
    }

    /// Returns whether the phase only removes the canary's traffic or objects.
    pub fn cleans_up(self) -> bool {
        matches!(self, Phase::Returning | Phase::Cleaning | Phase::Draining | Phase::Removing)
    }

    /// Returns whether the phase ends when the pods that its acts ask for are available.
    pub fn waits_for_pods(self) -> bool {
        matches!(self, Phase::Preparing | Phase::Growing | Phase::Withdrawn | Phase::Promoting | Phase::Restoring)
    }

    /// Returns whether the phase lies before the promotion, in a rollout that has not failed.
    pub fn is_before_promotion(self) -> bool {
        matches!(self, Phase::Preflight | Phase::Preparing | Phase::Growing | Phase::Stepping | Phase::Withdrawn)
    }
}

/// The properties of a phase, a row of the table in [`Phase::traits`].
#[derive(Debug, Clone, Copy)]
pub struct PhaseTraits {
    /// The phase's name, in lower case.
    pub name: &'static str,
    /// The canary's share of the traffic.
    pub share: Share,
    /// The policy's deadline for the phase, not counting the time in which it judges.
    pub limit: PhaseLimit,
    /// The condition that the phase waits for, as a noun phrase for messages.
    pub waiting_for: &'static str,
}

/// Returns a row of the table.
const fn row(name: &'static str, share: Share, limit: PhaseLimit, waiting_for: &'static str) -> PhaseTraits {
    PhaseTraits { name, share, limit, waiting_for }
}

/// The canary's share of the traffic in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The canary has no traffic.
    None,
    /// The canary keeps the weight of the previous phase.
    Kept,
    /// The canary has the step's weight.
    Step,
    /// The weight is set to 0, and some traffic may be left.
    Leaving,
}

/// The policy's deadline for a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseLimit {
    /// No deadline, because the phase judges or is the last one.
    None,
    /// The policy's `ready-within`.
    Ready,
    /// The policy's `promote-within`.
    Promote,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traits().name)
    }
}

/// A fact that the table of transitions has a row for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The preflight found nothing that forbids the rollout.
    Accepted,
    /// The preflight found the version that another tool deployed, and a last good template is known.
    Guardable,
    /// The request can't be carried out, or the workload runs the requested images already.
    Refused,
    /// A newer version was requested for the workload.
    Superseded,
    /// The canary is available at the step's size, and its metrics can be read.
    CanaryReady,
    /// The canary's pods can't run.
    CanaryFailed,
    /// Fewer than half of the pods that the canary's traffic needs are ready.
    CanaryUnready,
    /// The step has passed, or a person advanced the rollout, and there is a next step.
    StepPassed,
    /// The last step has passed, or a person promoted the version.
    LastStepPassed,
    /// A check has regressed.
    Regressed,
    /// A hold has lasted as long as the policy allows, or the rollout can't be decided for another reason.
    GaveUp,
    /// The phase has lasted longer than its deadline.
    Overdue,
    /// The stable Deployment is available with the template that the phase gives it.
    StableReady,
    /// The stable Deployment's pods can't run with the new version.
    StableFailed,
    /// The canary has no traffic any more.
    Emptied,
    /// The canary, its baseline and its part of the route are gone.
    CanaryGone,
    /// Every check of the guard passes to its end.
    GuardPassed,
    /// The workload was deleted, or another one has its name.
    WorkloadGone,
    /// A person aborted or released the rollout, or the stable's images were requested again.
    Recalled,
    /// A person accepted the new pod template of the stable as the one to start from.
    Rebased,
    /// Another client changed the canary or its share, and the change is to be reverted.
    Reverted,
}

impl Trigger {
    /// Returns whether the trigger leads to more traffic for the new version, or to its promotion.
    pub fn rises(self) -> bool {
        matches!(self, Trigger::CanaryReady | Trigger::StepPassed | Trigger::LastStepPassed)
    }

    /// All triggers, in the order of the written table.
    pub const ALL: [Trigger; 21] = [
        Trigger::Accepted,
        Trigger::Guardable,
        Trigger::Refused,
        Trigger::Superseded,
        Trigger::CanaryReady,
        Trigger::CanaryFailed,
        Trigger::CanaryUnready,
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

/// The effect of a trigger in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextPhase {
    /// The rollout enters this phase.
    To(Phase),
    /// The rollout stays in its phase; the trigger is known and has no effect there.
    Stay,
    /// The trigger can't fire in this phase.
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

/// Returns the effect of `trigger` in `phase` by the table.
pub fn next(phase: Phase, trigger: Trigger) -> NextPhase {
    let found = transitions(phase).iter().find(|(triggers, _)| triggers.contains(&trigger));
    found.map_or(NextPhase::Never, |(_, to)| *to)
}

/// Returns the table's entries for `phase`. Triggers that are not listed can't fire there. `docs/state-machine.md`
/// shows every pair of a phase and a trigger.
const fn transitions(phase: Phase) -> &'static [(&'static [Trigger], NextPhase)] {
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
            // Only by a person's `promote --full`.
            (&[LastStepPassed], To(Phase::Promoting)),
            // The canary has no traffic that would have to return first.
            (
                &[CanaryFailed, Refused, Superseded, GaveUp, Overdue, Recalled, Rebased, WorkloadGone],
                To(Phase::Removing),
            ),
        ],
        Phase::Growing => &[
            (&[CanaryReady], To(Phase::Stepping)),
            (&[CanaryUnready], To(Phase::Withdrawn)),
            // Only by a person's `promote --full`.
            (&[LastStepPassed], To(Phase::Promoting)),
            (&[CanaryFailed, Refused, Superseded, Regressed, GaveUp, Overdue, Recalled, Rebased], To(Phase::Draining)),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Stepping => &[
            (&[StepPassed], To(Phase::Growing)),
            (&[LastStepPassed], To(Phase::Promoting)),
            (&[Reverted], To(Phase::Growing)),
            (&[CanaryUnready], To(Phase::Withdrawn)),
            (&[CanaryFailed, Refused, Superseded, Regressed, GaveUp, Recalled, Rebased], To(Phase::Draining)),
            // The route does not show the weight: the rollout is held, and given up when the hold expires.
            (&[Overdue], Stay),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Withdrawn => &[
            // Its size and its weight are asked for again.
            (&[CanaryReady], To(Phase::Growing)),
            (&[CanaryFailed, Refused, Superseded, GaveUp, Overdue, Recalled, Rebased], To(Phase::Draining)),
            (&[WorkloadGone], To(Phase::Removing)),
        ],
        Phase::Promoting => &[
            (&[StableReady], To(Phase::Returning)),
            // The canary keeps its traffic until the stable is available with the old template.
            (&[Regressed, StableFailed, CanaryFailed, Refused, Overdue, GaveUp, Recalled], To(Phase::Restoring)),
            (&[Rebased], To(Phase::Draining)),
            // From here on a newer request waits, because the promotion has begun.
            (&[Superseded], Stay),
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
