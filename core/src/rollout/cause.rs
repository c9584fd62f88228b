//! The causes that decide what follows from a hold or an end. [`Reason`]s explain them to people and decide nothing.

use serde::{Deserialize, Serialize};

use super::ending::Ending;
use super::phase::Trigger;
use super::reason::Reason;
use crate::policy::Policy;
use crate::time::{Span, Timestamp};

/// The cause of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum HoldCause {
    /// A deployed version can't be guarded: no last good template is known.
    NoLastGood,
    /// The stable's pod template was changed by another field manager.
    TemplateEdited,
    /// The stable has no available pod, and the canary has.
    StableBroken,
    /// The template to restore can't run.
    RestoreFailed,
    /// The workload was scaled by a person.
    Scaled,
    /// An object of the rollout was changed again after it was reverted as often as allowed.
    RevertedTooOften,
    /// A person paused the rollout.
    Paused,
    /// A freeze is in force.
    Frozen {
        /// The frozen cluster, namespace or workload.
        scope: String,
        /// The end of the freeze; `None` if it has none.
        until: Option<Timestamp>,
    },
    /// The phase takes longer than the policy allows and has no other way out.
    Slow,
    /// Checks can't be measured.
    Blind,
    /// Checks have too little evidence.
    Insufficient,
    /// The canary gets far more traffic than was asked for.
    ShareOff,
    /// A required suite has not passed.
    Suite {
        /// The suite's name.
        name: String,
    },
    /// An approval is missing.
    Approval {
        /// The approval's name in the policy.
        name: String,
    },
    /// The change window is closed.
    Window {
        /// The next opening.
        opens: Timestamp,
    },
}

/// The step that a person can take to end a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy<'a> {
    /// None: the hold ends when its cause is gone.
    Wait,
    /// The verb `resume`.
    Resume,
    /// The verb `resume`, which starts the rollout again from the workload's new template.
    Rebase,
    /// The verb `approve` with this name.
    Approve(&'a str),
    /// The verb `unfreeze` with this scope.
    Unfreeze(&'a str),
    /// The verb `promote --full`.
    PromoteFull,
    /// None, except for the verb `promote`, which ignores the change window.
    AwaitWindow,
}

impl HoldCause {
    /// Returns the time after which the hold is given up. `None`: never, because it ends by itself or because giving up
    /// would send traffic to a version without pods.
    pub fn patience(&self, policy: &Policy) -> Option<Span> {
        match self {
            HoldCause::Window { .. } | HoldCause::Frozen { until: Some(_), .. } | HoldCause::StableBroken => None,
            HoldCause::Approval { name } => {
                policy.approvals.iter().find(|approval| approval.name == *name).map(|approval| approval.patience)
            }
            HoldCause::NoLastGood
            | HoldCause::TemplateEdited
            | HoldCause::RestoreFailed
            | HoldCause::Scaled
            | HoldCause::RevertedTooOften
            | HoldCause::Paused
            | HoldCause::Frozen { until: None, .. }
            | HoldCause::Slow
            | HoldCause::Blind
            | HoldCause::Insufficient
            | HoldCause::ShareOff
            | HoldCause::Suite { .. } => Some(policy.max_hold),
        }
    }

    /// Returns the time at which the cause ends by itself; `None` if it does not.
    pub fn ends(&self) -> Option<Timestamp> {
        match self {
            HoldCause::Window { opens } => Some(*opens),
            HoldCause::Frozen { until, .. } => *until,
            HoldCause::NoLastGood
            | HoldCause::TemplateEdited
            | HoldCause::StableBroken
            | HoldCause::RestoreFailed
            | HoldCause::Scaled
            | HoldCause::RevertedTooOften
            | HoldCause::Paused
            | HoldCause::Slow
            | HoldCause::Blind
            | HoldCause::Insufficient
            | HoldCause::ShareOff
            | HoldCause::Suite { .. }
            | HoldCause::Approval { .. } => None,
        }
    }

    /// Returns the step that a person can take to end the hold.
    pub fn remedy(&self) -> Remedy<'_> {
        match self {
            HoldCause::Paused | HoldCause::Scaled | HoldCause::RevertedTooOften => Remedy::Resume,
            HoldCause::TemplateEdited => Remedy::Rebase,
            HoldCause::Approval { name } | HoldCause::Suite { name } => Remedy::Approve(name),
            HoldCause::Frozen { scope, .. } => Remedy::Unfreeze(scope),
            HoldCause::StableBroken => Remedy::PromoteFull,
            HoldCause::Window { .. } => Remedy::AwaitWindow,
            HoldCause::NoLastGood
            | HoldCause::RestoreFailed
            | HoldCause::Slow
            | HoldCause::Blind
            | HoldCause::Insufficient
            | HoldCause::ShareOff => Remedy::Wait,
        }
    }

    /// Returns whether each such hold is told to people, and not only the rollout's first.
    pub fn is_always_told(&self) -> bool {
        matches!(self, HoldCause::Approval { .. } | HoldCause::Suite { .. })
    }

    /// Whether a hold of this cause continues a hold of `before`, so that its patience goes on.
    fn continues(&self, before: &HoldCause) -> bool {
        let lacks_evidence =
            |cause: &HoldCause| matches!(cause, HoldCause::Blind | HoldCause::Insufficient | HoldCause::ShareOff);
        match (before, self) {
            (HoldCause::Approval { name: before }, HoldCause::Approval { name: after })
            | (HoldCause::Suite { name: before }, HoldCause::Suite { name: after }) => before == after,
            (before, after) if lacks_evidence(before) && lacks_evidence(after) => true,
            (before, after) => std::mem::discriminant(before) == std::mem::discriminant(after),
        }
    }
}

/// A rollout that stays in its phase and asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hold {
    /// The beginning of the hold.
    pub since: Timestamp,
    /// The cause, which decides how it ends.
    pub cause: HoldCause,
    /// The explanation for people.
    pub reason: Reason,
    /// The time of the hold in which the cluster could not be seen. It doesn't count against the patience.
    #[serde(default)]
    pub unseen: Span,
}

impl Hold {
    /// Returns whether a hold with this cause and reason continues this one. A new report of a required suite is a new
    /// hold, since people have to hear of it.
    pub fn is_continued_by(&self, cause: &HoldCause, reason: &Reason) -> bool {
        let same_report = !matches!(cause, HoldCause::Suite { .. }) || self.reason == *reason;
        cause.continues(&self.cause) && same_report
    }

    /// Takes over the explanation of a cause that continues the hold, if it names a failure that the hold does not name: a phase
    /// that waited for an answer may later lack a permission.
    pub fn explain(&mut self, reason: Reason) {
        if let Reason::Failing { message, .. } = &reason
            && !matches!(&self.reason, Reason::Failing { message: known, .. } if known == message)
        {
            self.reason = reason;
        }
    }

    /// Returns the time at which the hold is given up; `None`: never.
    pub fn expires(&self, policy: &Policy) -> Option<Timestamp> {
        self.cause.patience(policy).map(|patience| self.unseen.after(patience.after(self.since)))
    }

    /// Returns the sentence about how the hold ends.
    pub fn outlook(&self, policy: &Policy) -> String {
        let continues = match self.cause.remedy() {
            Remedy::AwaitWindow => "It goes on by itself when the window opens",
            Remedy::Unfreeze(_) => "It goes on by itself when the freeze is over",
            Remedy::Resume if self.cause == HoldCause::Paused => "It goes on when a person resumes it",
            Remedy::Resume | Remedy::Rebase => "It goes on when that is taken back or accepted",
            Remedy::Approve(_) if matches!(self.cause, HoldCause::Suite { .. }) => {
                "It goes on when the suite has passed"
            }
            Remedy::Approve(_) => "It goes on when a person approves",
            Remedy::Wait | Remedy::PromoteFull => "It goes on by itself when the cause is gone",
        };
        match self.cause.patience(policy) {
            Some(patience) => format!("{continues}, and is given up after {patience} on hold."),
            None => format!("{continues}."),
        }
    }

    /// Returns the next event of a held rollout, with its time.
    pub fn next(&self, policy: &Policy) -> String {
        match (self.cause.ends(), self.expires(policy)) {
            (Some(at), None) => format!("goes on at {at}"),
            (_, Some(at)) => format!("goes on when the cause is gone, and is given up at {at}"),
            (None, None) => "goes on when the cause is gone".to_owned(),
        }
    }
}

/// The party that an end is attributed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The new version: it is quarantined.
    Version,
    /// The cluster, the metrics or the policy: nothing was found against the version.
    Environment,
    /// A person's order.
    Person,
    /// A newer request.
    Superseded,
}

/// The cause of a rollout's end. It is decided once, before the end is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndCause {
    /// A check has regressed.
    Regressed,
    /// The canary's or the stable's pods can't run with the new version.
    PodsFailed,
    /// The new version's pods were not available in time.
    NotReady,
    /// The stable has won the A/B test.
    LostTest,
    /// Evidence was missing for longer than the policy's patience, and the policy rolls back then.
    EvidenceMissing,
    /// The request can't be carried out.
    Refused,
    /// The workload runs the requested images already.
    Unchanged,
    /// A person aborted the rollout.
    Aborted,
    /// The images of the stable were requested again.
    Recalled,
    /// A newer version was requested.
    Superseded,
    /// A person accepted a new pod template of the stable, and the rollout starts again from it.
    Rebased,
    /// Nothing could be decided: a hold expired, an A/B test was a draw, or the environment failed.
    Undecided,
    /// The workload does not exist.
    WorkloadMissing,
    /// The workload was deleted during the rollout.
    WorkloadGone,
    /// The version was promoted and passed its guard.
    Promoted,
}

impl EndCause {
    /// Returns how the rollout ends.
    pub fn ending(self) -> Ending {
        match self {
            EndCause::Regressed
            | EndCause::PodsFailed
            | EndCause::NotReady
            | EndCause::LostTest
            | EndCause::EvidenceMissing => Ending::RolledBack,
            EndCause::Refused | EndCause::WorkloadMissing => Ending::Refused,
            EndCause::Unchanged => Ending::Unchanged,
            EndCause::Aborted => Ending::Aborted,
            EndCause::Recalled | EndCause::Superseded | EndCause::Rebased => Ending::Superseded,
            EndCause::Undecided | EndCause::WorkloadGone => Ending::GivenUp,
            EndCause::Promoted => Ending::Promoted,
        }
    }

    /// Returns the party that the end is attributed to. `None`: no party, as after a promotion, or after an A/B test,
    /// which says that the other version is better and not that this one is bad.
    pub fn blame(self) -> Option<Blame> {
        match self {
            EndCause::Regressed | EndCause::PodsFailed | EndCause::NotReady => Some(Blame::Version),
            EndCause::EvidenceMissing
            | EndCause::Refused
            | EndCause::Undecided
            | EndCause::WorkloadMissing
            | EndCause::WorkloadGone => Some(Blame::Environment),
            EndCause::Aborted | EndCause::Rebased => Some(Blame::Person),
            EndCause::Recalled | EndCause::Superseded => Some(Blame::Superseded),
            EndCause::LostTest | EndCause::Unchanged | EndCause::Promoted => None,
        }
    }
}

/// A trigger that has fired, with its consequences and its explanation.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a trigger that is dropped moves nothing"]
pub struct Fired {
    /// The trigger, for the phase table.
    pub trigger: Trigger,
    /// The end that it decides; `None` if the rollout goes on.
    pub end: Option<EndCause>,
    /// The explanation for people.
    pub reason: Reason,
}

impl Fired {
    /// A trigger after which the rollout goes on.
    pub fn onward(trigger: Trigger, reason: Reason) -> Fired {
        Fired { trigger, end: None, reason }
    }

    /// A trigger that decides how the rollout ends.
    pub fn ending(trigger: Trigger, end: EndCause, reason: Reason) -> Fired {
        Fired { trigger, end: Some(end), reason }
    }
}

/// The decided end of a rollout, from the decision until it is carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Conclusion {
    /// The cause, which decides the ending and the blame.
    pub cause: EndCause,
    /// The explanation for people.
    pub reason: Reason,
    /// The time of the decision.
    pub at: Timestamp,
}
