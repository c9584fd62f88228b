//! Events: everything that can change an engine. Requests and commands from Kafka, workload statuses, blocks of counts
//! and outcomes of effects are all variants of one type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, EventId, Images, Workload};
use crate::input::command::Command;
use crate::input::report::SuiteReport;
use crate::input::sight::Sight;
use crate::input::status::{Preflight, WorkloadStatus};
use crate::measure::block::Block;
use crate::measure::calibration::Calibration;
use crate::time::Timestamp;

/// An event with the time at which the engine received it. Replaying the same inputs gives the same decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The time at which the engine received the event.
    pub at: Timestamp,
    /// The sight of the workload's status at that time; `None` if its status has not been observed since the process
    /// took the partition over, or if the input is about no single workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sight: Option<Sight>,
    /// The received event.
    pub event: Event,
}

/// An event that can change an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A rollout of a new version is requested.
    Requested {
        /// The event's identity.
        id: EventId,
        /// The time that the producer gives to the event.
        time: Option<Timestamp>,
        /// The content of the request.
        request: Request,
    },
    /// Another tool has deployed a new version, which is to be guarded.
    Deployed {
        /// The event's identity.
        id: EventId,
        /// The time that the producer gives to the event.
        time: Option<Timestamp>,
        /// The workload that was changed.
        workload: Workload,
        /// The artifact that the event names, as a package URL, for people.
        artifact: Option<String>,
    },
    /// A person, or a pipeline on their behalf, sends a command.
    Commanded {
        /// The event's identity. Its source is the author of the command.
        id: EventId,
        /// The time that the producer gives to the event.
        time: Option<Timestamp>,
        /// The command, with its scope.
        command: Command,
    },
    /// A suite was run on a combination of images, model, prompt and tools that a rollout may deploy.
    Tested {
        /// The event's identity.
        id: EventId,
        /// The workload that the report is meant for.
        workload: Workload,
        /// The suite's report.
        report: SuiteReport,
    },
    /// A workload, its canary or its route has changed.
    Observed {
        /// The observed workload.
        workload: Workload,
        /// The new workload status.
        status: Box<WorkloadStatus>,
    },
    /// A block of counts was measured.
    Measured {
        /// The workload that was measured.
        workload: Workload,
        /// The block of counts.
        block: Block,
    },
    /// An attempt at an effect has ended.
    Performed {
        /// The workload of the effect.
        workload: Workload,
        /// The effect's id.
        effect: EffectId,
        /// The outcome of the attempt.
        outcome: Outcome,
    },
    /// No policy covers a workload any more, while its rollout goes on.
    Uncovered {
        /// The workload.
        workload: Workload,
    },
    /// Time has passed, without any other event.
    Tick,
}

impl Event {
    /// Returns the identity of an event that a person or a tool has sent; `None` for the daemon's own ones.
    pub fn id(&self) -> Option<&EventId> {
        match self {
            Event::Requested { id, .. }
            | Event::Deployed { id, .. }
            | Event::Commanded { id, .. }
            | Event::Tested { id, .. } => Some(id),
            Event::Observed { .. }
            | Event::Measured { .. }
            | Event::Performed { .. }
            | Event::Uncovered { .. }
            | Event::Tick => None,
        }
    }

    /// Returns the workload that the event is about; `None` if it is about several or none.
    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Event::Requested { request, .. } => Some(&request.workload),
            Event::Deployed { workload, .. }
            | Event::Tested { workload, .. }
            | Event::Observed { workload, .. }
            | Event::Measured { workload, .. }
            | Event::Performed { workload, .. }
            | Event::Uncovered { workload } => Some(workload),
            Event::Commanded { command, .. } => command.scope.workload(),
            Event::Tick => None,
        }
    }
}

/// The content of a rollout request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    /// The workload to change.
    pub workload: Workload,
    /// The new images by container. Other containers keep their images.
    #[serde(default, skip_serializing_if = "Images::is_empty")]
    pub images: Images,
    /// The new image of the containers that run one image of the same repository now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The images that the workload is expected to run now, by container; the request is refused if it runs others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_current: Option<Images>,
    /// The name of the policy to use, which must match the workload; `None` for the first one that matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The model to deploy with the images, `NAME@VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The digest of the prompt to deploy with the images, `sha256:…`; `None` if it is part of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The digest of the definitions of the tools, `sha256:…`; `None` if they are part of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// The requester's reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The trace that the rollout continues, as W3C's `traceparent`; taken from the event's attribute of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Request {
    /// Returns the references of all images that it names.
    pub fn all_images(&self) -> impl Iterator<Item = &String> {
        self.images.values().chain(&self.image)
    }
}

/// The outcome of one attempt at an effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The effect was carried out, by this attempt or an earlier one.
    Done,
    /// The preflight was done; its findings.
    Preflight(Box<Preflight>),
    /// The queries of the metrics were tried.
    Probed {
        /// The problems of the queries, as sentences; empty if there are none.
        problems: Vec<String>,
        /// The calibrations of the requested criteria.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calibrations: Vec<Calibration>,
        /// The PromQL queries that were sent, by metric, for people who want to repeat them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        queries: BTreeMap<String, Vec<String>>,
    },
    /// The environment's pointer names the requested model.
    Pointed {
        /// The model that was current before; `None` if there was none.
        before: Option<String>,
    },
    /// The notification was sent to a sink that shows one thread per rollout.
    Sent {
        /// The sink's receipt, with which it finds the thread again; at most [`MAX_RECEIPT_BYTES`] long.
        receipt: String,
    },
    /// The effect was not carried out.
    Failed(Failure),
}

/// The longest receipt of a sink, in bytes. A longer one is cut, and names no thread then.
pub const MAX_RECEIPT_BYTES: usize = 200;

/// The reason why an effect was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of the failure, which decides about another attempt.
    pub kind: FailureKind,
    /// The message of the API server or of another system that refused the effect. It contains no secrets.
    pub message: String,
}

/// The kind of a failure. It decides whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The system did not answer or was overloaded. The same attempt is repeated later.
    Unavailable,
    /// The object had changed in the meantime. It is read again, and the attempt is repeated.
    Conflict,
    /// The service account lacks a permission, which may still be granted.
    Forbidden,
    /// The content was refused by validation, admission or a quota. A repetition would be refused, too.
    Refused,
    /// The object was deleted, or another object has its name.
    Gone,
    /// A newer owner of the partition has already written to the object, so this process must not act any more.
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
