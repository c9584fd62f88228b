//! Everything that can be asked of the world. An effect leaves nothing to decide: whoever performs it needs no policy.
//!
//! Every effect is committed to the journal before it is performed, carries an id that its repetition carries too, and
//! must be written so that performing it twice changes the world once.

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, Images, RolloutId, TemplateHash, Weight, Workload};
use crate::measure::calibration::Criterion;
use crate::measure::watch::{ArmKey, ProbeTarget};
use crate::policy::Traffic;

/// One act on the world, with its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The same at every attempt.
    pub id: EffectId,
    /// For which rollout.
    pub rollout: RolloutId,
    /// On which workload.
    pub workload: Workload,
    /// What to do.
    pub act: Act,
}

/// What can be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Look at the workload and at all that may stand in a canary's way. Writes nothing.
    Preflight {
        /// How traffic would be split.
        traffic: Traffic,
        /// Whether there is to be a fresh baseline.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        baseline: bool,
    },
    /// Run every query of the rollout once and say what is wrong with them, and learn from the past how the stable's
    /// errors cluster. Writes nothing.
    Probe {
        /// The metrics whose queries are tried.
        metrics: Vec<ProbeTarget>,
        /// The stable, whose series are there already.
        stable: ArmKey,
        /// Of what it is learnt.
        #[serde(default)]
        learn: Vec<Criterion>,
    },
    /// Make the canary's Deployment (and, with a router, its Service and its place in the route at weight 0), or
    /// bring those that are there to this size and these images.
    ApplyCanary {
        /// The stable Deployment that it is a clone of.
        stable_uid: String,
        /// The images that differ from the stable's.
        images: Images,
        /// How many pods.
        replicas: u32,
        /// How traffic is split.
        traffic: Traffic,
        /// And beside it, in the stable's own traffic, as many fresh pods of the stable.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        baseline: bool,
    },
    /// Give the canary this share of the traffic.
    SetWeight {
        /// The share.
        weight: Weight,
        /// How traffic is split.
        traffic: Traffic,
    },
    /// Patch the stable Deployment to the new images.
    Promote {
        /// Only if the Deployment is this one …
        stable_uid: String,
        /// … and its template is this one (or has the images already).
        from: TemplateHash,
        /// The images.
        images: Images,
    },
    /// Put a pod template back that the Deployment had before.
    Restore {
        /// Only if the Deployment is this one.
        stable_uid: String,
        /// Which template; its content is in the journal.
        template: TemplateHash,
    },
    /// Take the canary out of the route and give the rules their original weights, then remove the canary's Service
    /// and Deployment, and that of a fresh baseline. What is not there is removed already.
    RemoveCanary {
        /// How traffic was split.
        traffic: Traffic,
    },
    /// Something with the model that goes with the images, in the registry.
    Model {
        /// The environment whose current model it is about.
        environment: String,
        /// Which model and version, as the request names them.
        model: String,
        /// What.
        what: ModelAct,
    },
    /// Tell people.
    Notify {
        /// What.
        message: Message,
    },
    /// Put a Kubernetes Event on the workload.
    Note {
        /// `Warning` instead of `Normal`.
        warning: bool,
        /// One CamelCase word.
        reason: String,
        /// One sentence, at most 1 kB.
        note: String,
    },
}

impl Act {
    /// The act's name in metrics and logs.
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

    /// Whether it changes the cluster; in observe-only mode such an act is not performed.
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

/// What can be done about a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelAct {
    /// Look whether it is registered, and has passed what its environment asks for. Writes nothing.
    Verify,
    /// Make it the environment's current one.
    Point,
    /// Make the one current again that was, unless somebody has moved on meanwhile.
    Return {
        /// Which; `None`: there was none.
        before: Option<String>,
    },
}

/// What people are told, already in words; the sink only lays it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// How it looks at first sight.
    pub mood: Mood,
    /// One line that stands alone: the phone shows only this.
    pub title: String,
    /// The reason, in one sentence.
    pub why: String,
    /// Where things stand now, and what happens next.
    pub now: String,
    /// The next command, where there is something to do.
    pub command: Option<String>,
    /// Rollout, policy: the small print.
    pub footer: String,
}

/// The colour of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    /// Promoted.
    Good,
    /// Held: somebody should look.
    Asking,
    /// Rolled back.
    Bad,
    /// Cannot see.
    Blind,
}
