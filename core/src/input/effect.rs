//! Effects: the acts on the outside world that the engine asks for. An effect is complete; the executor decides nothing and
//! needs no policy.
//!
//! Every effect is committed to the journal before it is performed. All attempts at it carry the same id, and it is
//! idempotent: performing it twice changes the world once.

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, Images, RolloutId, TemplateHash, Weight, Workload};
use crate::measure::calibration::Criterion;
use crate::measure::watch::{ArmKey, ProbeTarget};
use crate::policy::Traffic;

/// One act on the outside world, with its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The effect's id, the same at every attempt.
    pub id: EffectId,
    /// The rollout that asks for the effect.
    pub rollout: RolloutId,
    /// The workload that the effect is for.
    pub workload: Workload,
    /// The act to perform.
    pub act: Act,
}

/// The kinds of acts, with their arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Check the workload and the cluster for obstacles to a canary. Writes nothing.
    Preflight {
        /// The way in which traffic would be split.
        traffic: Traffic,
        /// Whether the canary would have a fresh baseline beside it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        baseline: bool,
    },
    /// Run every query of the rollout once and report its problems, and learn the calibrations from the stable's past.
    /// Writes nothing.
    Probe {
        /// The metrics whose queries are tried.
        metrics: Vec<ProbeTarget>,
        /// The stable, which has series already.
        stable: ArmKey,
        /// The criteria to calibrate.
        #[serde(default)]
        learn: Vec<Criterion>,
    },
    /// Create the canary's Deployment (and, with a router, its Service and its backend in the route at weight 0), or update
    /// an existing one to this size and these images.
    ApplyCanary {
        /// The uid of the stable Deployment that the canary is cloned from.
        stable_uid: String,
        /// The canary's images that differ from the stable's, by container.
        images: Images,
        /// The number of the canary's pods.
        replicas: u32,
        /// The way in which traffic is split.
        traffic: Traffic,
        /// Whether to create a baseline as well: as many fresh pods of the stable, in the stable's share of the traffic.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        baseline: bool,
    },
    /// Give the canary this share of the traffic.
    SetWeight {
        /// The canary's share of the traffic.
        weight: Weight,
        /// The way in which traffic is split.
        traffic: Traffic,
    },
    /// Patch the stable Deployment to the new images.
    Promote {
        /// The uid that the Deployment must have.
        stable_uid: String,
        /// The template that the Deployment must have, unless it has the new images already.
        from: TemplateHash,
        /// The new images, by container.
        images: Images,
    },
    /// Restore an earlier pod template of the stable Deployment.
    Restore {
        /// The uid that the Deployment must have.
        stable_uid: String,
        /// The template to restore; its content is in the journal.
        template: TemplateHash,
    },
    /// Remove the canary from the route and restore the rules' original weights, then delete the canary's Service and
    /// Deployment and the baseline's Deployment. Objects that do not exist count as removed.
    RemoveCanary {
        /// The way in which traffic was split.
        traffic: Traffic,
    },
    /// Act on the registry for the model that belongs to the images.
    Model {
        /// The registry's environment whose pointer the act concerns.
        environment: String,
        /// The model and version as the request names them, written `name@version`.
        model: String,
        /// The act on the model.
        what: ModelAct,
    },
    /// Send a message to people.
    Notify {
        /// The message to send.
        message: Message,
    },
    /// Put a Kubernetes Event on the workload.
    Note {
        /// Whether the Event's type is `Warning` instead of `Normal`.
        warning: bool,
        /// The Event's reason, one CamelCase word.
        reason: String,
        /// The Event's note, one sentence of at most 1 kB.
        note: String,
    },
}

impl Act {
    /// Returns the act's name in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Act::Preflight { .. } => "preflight",
            Act::Probe { .. } => "probe",
            Act::ApplyCanary { .. } => "apply-canary",
            Act::SetWeight { .. } => "set-weight",
            Act::Promote { .. } => "promote",
            Act::Restore { .. } => "restore",
            Act::RemoveCanary { .. } => "remove-canary",
            Act::Model { what: ModelAct::Verify, .. } => "verify-model",
            Act::Model { what: ModelAct::Point, .. } => "point-model",
            Act::Model { what: ModelAct::Return { .. }, .. } => "return-model",
            Act::Notify { .. } => "notify",
            Act::Note { .. } => "note",
        }
    }

    /// Returns whether the act changes the cluster or the registry. Such an act is not performed in observe-only mode.
    pub fn writes(&self) -> bool {
        match self {
            Act::Preflight { .. }
            | Act::Probe { .. }
            | Act::Model { what: ModelAct::Verify, .. }
            | Act::Notify { .. } => false,
            Act::ApplyCanary { .. }
            | Act::SetWeight { .. }
            | Act::Promote { .. }
            | Act::Restore { .. }
            | Act::RemoveCanary { .. }
            | Act::Model { what: ModelAct::Point | ModelAct::Return { .. }, .. }
            | Act::Note { .. } => true,
        }
    }
}

/// The acts on a model in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelAct {
    /// Verify that the model is registered and fulfils its environment's requirements. Writes nothing.
    Verify,
    /// Make the model the environment's current version.
    Point,
    /// Make the earlier model the current one again, unless the pointer was changed by another party in the meantime.
    Return {
        /// The model that was current before; `None` if there was none.
        before: Option<String>,
    },
}

/// A message to people, as finished text. The sink only formats it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The message's kind, which a sink shows as its colour.
    pub mood: Mood,
    /// The title, one line that is clear by itself, as a phone may show nothing else.
    pub title: String,
    /// The reason, in one sentence.
    pub why: String,
    /// The current state and the next event, in one sentence.
    pub now: String,
    /// The command to run next; `None` if there is nothing to do.
    pub command: Option<String>,
    /// The footer: the rollout and the policy.
    pub footer: String,
}

/// The kind of a message, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    /// The news is good, such as a promotion.
    Good,
    /// A person has to act, such as on a hold.
    Asking,
    /// The news is bad, such as a rollback.
    Bad,
    /// The evidence is missing, as in a hold of a blind check.
    Blind,
}
