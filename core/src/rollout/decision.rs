//! What a rollout did next, and why: the record that people read and that a replay must give again, byte by byte.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{RolloutId, Weight, Workload};
use crate::rollout::phase::{Phase, Trigger};
use crate::rollout::reason::Reason;
use crate::time::Timestamp;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
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

impl Kind {
    /// What moving on `trigger` amounts to.
    pub fn of(trigger: Trigger) -> Kind {
        match trigger {
            Trigger::Accepted | Trigger::Guardable => Kind::Start,
            Trigger::CanaryReady | Trigger::StepPassed => Kind::Advance,
            Trigger::LastStepPassed => Kind::Promote,
            Trigger::Regressed | Trigger::CanaryFailed | Trigger::StableFailed | Trigger::Overdue => Kind::RollBack,
            Trigger::Refused => Kind::Refuse,
            Trigger::Superseded | Trigger::Rebased => Kind::Supersede,
            Trigger::Recalled => Kind::Abort,
            Trigger::GaveUp | Trigger::WorkloadGone => Kind::GiveUp,
            Trigger::StableReady | Trigger::Emptied | Trigger::CanaryGone | Trigger::Undone => Kind::Proceed,
            Trigger::GuardPassed => Kind::Finish,
        }
    }
}

impl Kind {
    /// Its name, for people and for labels.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Advance => "advance",
            Kind::Hold => "hold",
            Kind::Resume => "resume",
            Kind::Promote => "promote",
            Kind::RollBack => "roll back",
            Kind::Abort => "abort",
            Kind::Approve => "approve",
            Kind::Warn => "warn",
            Kind::Retry => "retry",
            Kind::GiveUp => "give up",
            Kind::Supersede => "supersede",
            Kind::Refuse => "refuse",
            Kind::Proceed => "proceed",
            Kind::Finish => "finish",
        }
    }
}

impl fmt::Display for Kind {
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
    /// Which rollout.
    pub rollout: RolloutId,
    /// Of which workload.
    pub workload: Workload,
    /// Its place among the rollout's decisions, from 0.
    pub n: u32,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: Kind,
    /// The rollout was here …
    pub from: Phase,
    /// … and is here now.
    pub to: Phase,
    /// Which step, from 0.
    pub step: usize,
    /// The canary's share that is asked for from now on.
    pub weight: Weight,
    /// How it ended, if this ends it.
    pub ending: Option<Ending>,
    /// Nothing was written: the policy only observes.
    pub observed_only: bool,
    /// Why, as data.
    pub reason: Reason,
    /// Why, in words.
    pub why: String,
}
