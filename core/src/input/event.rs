//! Everything that can happen to a rollout. What comes from Kafka, what is seen in the cluster, what was counted, and
//! what became of an effect all arrive through this one type, and nothing else can change an engine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, EventId, Images, Workload};
use crate::input::command::Command;
use crate::input::report::SuiteReport;
use crate::input::status::{Preflight, WorkloadStatus};
use crate::measure::block::Block;
use crate::measure::calibration::Calibration;
use crate::time::Timestamp;

/// An event, and the instant at which the engine was told of it. A journal of these gives the same decisions again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// When the engine was told.
    pub at: Timestamp,
    /// What it was told.
    pub event: Event,
}

/// What the engine can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Somebody asks for a new version to be rolled out.
    Requested {
        /// Which event this is.
        id: EventId,
        /// When its producer says it happened.
        time: Option<Timestamp>,
        /// What is asked for.
        request: Request,
    },
    /// Somebody else has already deployed: guard what is there.
    Deployed {
        /// Which event this is.
        id: EventId,
        /// When its producer says it happened.
        time: Option<Timestamp>,
        /// The workload that was changed.
        workload: Workload,
        /// The artifact that the event names (a package URL), for people.
        artifact: Option<String>,
    },
    /// A person, or a pipeline in their name, steps in.
    Commanded {
        /// Which event this is; its source is who.
        id: EventId,
        /// When its producer says it happened.
        time: Option<Timestamp>,
        /// What is told.
        command: Command,
    },
    /// A suite was run on something that a rollout may bring in.
    Tested {
        /// Which event this is.
        id: EventId,
        /// For which workload.
        workload: Workload,
        /// What came of it.
        report: SuiteReport,
    },
    /// Something in the cluster has changed.
    Observed {
        /// Whose.
        workload: Workload,
        /// How it stands now.
        status: Box<WorkloadStatus>,
    },
    /// One block of counts, or the reason why there is none.
    Measured {
        /// Whose.
        workload: Workload,
        /// The counts.
        block: Block,
    },
    /// An effect was carried out, or was not.
    Performed {
        /// Whose.
        workload: Workload,
        /// Which effect.
        effect: EffectId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Time has passed, and nothing else.
    Tick,
}

impl Event {
    /// Returns the workload that the event is about; `None` if it is about several or none.
    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Event::Requested { request, .. } => Some(&request.workload),
            Event::Deployed { workload, .. }
            | Event::Tested { workload, .. }
            | Event::Observed { workload, .. }
            | Event::Measured { workload, .. }
            | Event::Performed { workload, .. } => Some(workload),
            Event::Commanded { command, .. } => command.scope.workload(),
            Event::Tick => None,
        }
    }
}

/// The content of a rollout request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    /// What to move.
    pub workload: Workload,
    /// The new image by container. Containers that are not named keep theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: Images,
    /// The new image of the one container that runs this repository now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Refuse unless these are the images that run now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_current: Option<Images>,
    /// Use this policy, if it matches the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The model that goes with the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of an effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Carried out, now or at an earlier attempt.
    Done,
    /// Looked.
    Preflight(Box<Preflight>),
    /// The queries were tried.
    Probed {
        /// What is wrong with them; empty: nothing.
        problems: Vec<String>,
        /// What the past has taught.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calibrations: Vec<Calibration>,
        /// What was asked of the metrics store for each metric: for whoever wants to ask it again.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        queries: BTreeMap<String, Vec<String>>,
    },
    /// The environment's current model is the one that was asked for.
    Pointed {
        /// The one before; `None`: there was none.
        before: Option<String>,
    },
    /// Not carried out.
    Failed(Failure),
}

/// Why an effect was not carried out, and whether another attempt makes sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind of failure.
    pub kind: FailureKind,
    /// In the words of whoever refused; never with a secret in it.
    pub message: String,
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Nobody answered, or somebody was busy: the same again, later.
    Unavailable,
    /// The object had changed meanwhile: look, then the same again.
    Conflict,
    /// A verb that the service account lacks. Somebody may grant it.
    Forbidden,
    /// Refused for what it is (validation, admission, quota): the same again gets the same answer.
    Refused,
    /// The object is gone, or another one has its name.
    Gone,
    /// A newer owner of this partition has written already: this process is no longer the one to act.
    Fenced,
}

impl FailureKind {
    /// Returns the kind's name in logs.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::Unavailable => "unavailable",
            FailureKind::Conflict => "conflict",
            FailureKind::Forbidden => "forbidden",
            FailureKind::Refused => "refused",
            FailureKind::Gone => "gone",
            FailureKind::Fenced => "fenced",
        }
    }
}
