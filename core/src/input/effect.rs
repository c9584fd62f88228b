//! Effects: the acts on the outside world that the engine asks for. An effect is complete; the executor decides nothing and
//! needs no policy.
//!
//! Every effect is committed to the journal before it is performed. All attempts at it carry the same id, and it is
//! idempotent: performing it twice changes the world once.

use serde::{Deserialize, Serialize};

use super::notification::{Notification, Sink};
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

/// An act, by its executor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "executor", rename_all = "kebab-case")]
pub enum Act {
    /// An act on the cluster.
    Cluster(ClusterAct),
    /// A trial run of the queries against the metrics store.
    Metrics(Probe),
    /// An act on the registry of models.
    Registry(RegistryAct),
    /// A notification of people through one sink.
    People(Notify),
}

/// The acts on the cluster, with their arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum ClusterAct {
    /// Check the workload and the cluster for obstacles to a canary. Writes nothing.
    Preflight {
        /// The way in which traffic would be split.
        traffic: Traffic,
        /// Whether the canary would have a fresh baseline beside it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        baseline: bool,
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
}

/// A run of every query of a rollout, which reports their problems and learns calibrations from the stable's past. Writes
/// nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probe {
    /// The metrics whose queries are tried.
    pub metrics: Vec<ProbeTarget>,
    /// The stable, which has series already.
    pub stable: ArmKey,
    /// The criteria to calibrate.
    #[serde(default)]
    pub learn: Vec<Criterion>,
}

/// An act on the registry for the model that belongs to the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegistryAct {
    /// The registry's environment whose pointer the act concerns.
    pub environment: String,
    /// The model and version as the request names them, written `name@version`.
    pub model: String,
    /// The act on the model.
    pub what: ModelAct,
}

/// The parts that a rollout brings together with a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BroughtParts {
    /// The changed images, by container.
    pub images: Images,
    /// The digest of the prompt, `sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The digest of the definitions of the tools, `sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
}

/// A notification for one sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notify {
    /// The sink.
    pub sink: Sink,
    /// The notification.
    pub notification: Box<Notification>,
    /// The receipt of an earlier notification about the rollout, with which the sink finds its thread; `None` if the sink gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

impl From<ClusterAct> for Act {
    fn from(act: ClusterAct) -> Act {
        Act::Cluster(act)
    }
}

impl Act {
    /// Returns the act's name in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Act::Cluster(ClusterAct::Preflight { .. }) => "preflight",
            Act::Cluster(ClusterAct::ApplyCanary { .. }) => "apply-canary",
            Act::Cluster(ClusterAct::SetWeight { .. }) => "set-weight",
            Act::Cluster(ClusterAct::Promote { .. }) => "promote",
            Act::Cluster(ClusterAct::Restore { .. }) => "restore",
            Act::Cluster(ClusterAct::RemoveCanary { .. }) => "remove-canary",
            Act::Metrics(_) => "probe",
            Act::Registry(RegistryAct { what: ModelAct::Verify { .. }, .. }) => "verify-model",
            Act::Registry(RegistryAct { what: ModelAct::Point, .. }) => "point-model",
            Act::Registry(RegistryAct { what: ModelAct::Return { .. }, .. }) => "return-model",
            Act::People(_) => "notify",
        }
    }

    /// Returns whether the act takes traffic away from a version or restores the one before. Such an act waits for no other
    /// workload's acts.
    pub fn is_urgent(&self) -> bool {
        match self {
            Act::Cluster(ClusterAct::SetWeight { weight, .. }) => *weight == Weight::ZERO,
            Act::Cluster(ClusterAct::Restore { .. }) => true,
            Act::Cluster(_) | Act::Metrics(_) | Act::Registry(_) | Act::People(_) => false,
        }
    }

    /// Returns whether the act changes the cluster or the registry. Such an act is not performed in observe-only mode.
    pub fn writes(&self) -> bool {
        match self {
            Act::Cluster(ClusterAct::Preflight { .. })
            | Act::Registry(RegistryAct { what: ModelAct::Verify { .. }, .. })
            | Act::Metrics(_)
            | Act::People(_) => false,
            Act::Cluster(_) | Act::Registry(_) => true,
        }
    }
}

/// The acts on a model in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelAct {
    /// Verify that the model is registered and fulfils its environment's requirements. Writes nothing.
    Verify {
        /// The parts that the rollout brings with the model. The registry's reports must be about them, too.
        with: BroughtParts,
    },
    /// Make the model the environment's current version.
    Point,
    /// Make the earlier model the current one again, unless the pointer was changed by another party in the meantime.
    Return {
        /// The model that was current before; `None` if there was none.
        before: Option<String>,
    },
}
