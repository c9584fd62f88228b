//! What is seen of a workload in the cluster: plain facts, as an adapter reads them. Whether they are good news is
//! decided elsewhere in the core.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Images, TemplateHash, Weight};

/// One look at a workload, its canary and its route. Sent whenever something in it has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// The workload's own Deployment; `None`: there is none by that name.
    pub stable: Option<DeploymentStatus>,
    /// The Deployment `NAME-canary`, if it is there and ours.
    pub canary: Option<DeploymentStatus>,
    /// The Deployment `NAME-baseline`, if it is there and ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<DeploymentStatus>,
    /// The share that the route gives the canary's Service, where a router does the splitting and our reference is
    /// in it; `None`: no reference of ours.
    pub routed: Option<RouteStatus>,
    /// Whoever wrote the rules of that route last, ourselves left out: a field manager.
    #[serde(default)]
    pub route_by: Option<String>,
}

impl WorkloadStatus {
    /// What is seen of a workload that is not there.
    pub const NOTHING: WorkloadStatus =
        WorkloadStatus { stable: None, canary: None, baseline: None, routed: None, route_by: None };

    /// Canary, baseline and our place in the route are gone.
    pub fn has_nothing_of_ours(&self) -> bool {
        self.canary.is_none() && self.baseline.is_none() && self.routed.is_none()
    }
}

/// What the route says of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The lowest weight of the canary in any of the rules that we split.
    pub weight: Weight,
    /// The gateway has accepted this generation of the route (`Accepted` and `ResolvedRefs` are true for it).
    pub accepted: bool,
}

/// One Deployment as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// The Deployment's uid. Another uid under the same name is another workload.
    pub uid: String,
    /// The hash of its pod template, as the API server stores it.
    pub template: TemplateHash,
    /// The `pod-template-hash` of the ReplicaSet that has this template, once there is one.
    pub pod_hash: Option<String>,
    /// Image by container.
    pub images: Images,
    /// `spec` changed as often as this …
    pub generation: i64,
    /// … and the controller has seen this change of it. Status is about the older one until both agree.
    pub observed_generation: i64,
    /// Replicas asked for.
    pub replicas: u32,
    /// Replicas there are, of any template.
    pub total: u32,
    /// Replicas with the present template.
    pub updated: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// Replicas that have been ready for `minReadySeconds`.
    pub available: u32,
    /// `spec.paused`.
    pub paused: bool,
    /// What keeps a pod of the present template from starting, in the pod's or the API's own words.
    pub trouble: Option<PodProblem>,
    /// Whoever wrote its pod template last, ourselves left out: a field manager.
    #[serde(default)]
    pub template_by: Option<String>,
    /// Whoever wrote its size last, ourselves left out.
    #[serde(default)]
    pub replicas_by: Option<String>,
}

impl DeploymentStatus {
    /// Rolled out: the status is about this generation, and every replica has this template and is available.
    pub fn is_settled(&self) -> bool {
        self.observed_generation >= self.generation
            && self.updated == self.replicas
            && self.total == self.replicas
            && self.available == self.replicas
    }

    /// At least `replicas` are available, of this generation and this template alone.
    pub fn has_available(&self, replicas: u32) -> bool {
        self.replicas >= replicas && self.is_settled()
    }
}

/// Why a pod does not run, or why the controller can't make one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodProblem {
    /// The pod, or the ReplicaSet where no pod could be made.
    pub object: String,
    /// One word: `ImagePullBackOff`, `CrashLoopBackOff`, `Unschedulable`, `FailedCreate`.
    pub reason: String,
    /// The message that goes with it.
    pub message: String,
}

impl fmt::Display for PodProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, reason, message } = self;
        write!(f, "{object} {reason}: {message}")
    }
}

/// One look at everything that decides whether a canary can be made at all: taken once, before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// The workload as it stands.
    pub status: WorkloadStatus,
    /// What stands in the way of a canary, or is worth saying aloud.
    pub issues: Vec<PreflightIssue>,
}

/// A fact that makes a canary impossible, unsafe or misleading. Which of these refuse and which only warn depends on
/// what is to be done, and is decided in [`PreflightIssue::refuses`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "obstacle", rename_all = "kebab-case")]
pub enum PreflightIssue {
    /// A volume that only one node can mount: the canary's pods would hang.
    ReadWriteOnceVolume {
        /// The PersistentVolumeClaim.
        claim: String,
    },
    /// A port of the node: a second pod on the same node would hang.
    HostPort {
        /// The port.
        port: u32,
    },
    /// The Deployment is paused, so that a promotion would never roll out.
    Paused,
    /// A Deployment or Service has the canary's name and is not ours.
    NameTaken {
        /// `Deployment` or `Service`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// No Service selects the workload's pods.
    NoService,
    /// No rule of any HTTPRoute in the namespace sends traffic to the workload's Service.
    NoRoute {
        /// The Service (or Services) that the workload's pods are behind.
        service: String,
    },
    /// The route that the policy names is not there, or has no such rule.
    RouteMissing {
        /// The route that the policy names.
        route: String,
    },
    /// A NetworkPolicy selects the stable pods by the label that the canary's have changed.
    NetworkPolicyMisses {
        /// The NetworkPolicy.
        name: String,
    },
    /// A ServiceMonitor or PodMonitor would not scrape the canary.
    MonitorMisses {
        /// The monitor, with its kind.
        name: String,
    },
    /// The pod template is written by a GitOps tool, which would undo a promotion.
    OwnedByGitOps {
        /// The tool's field manager, such as `argocd-controller`.
        manager: String,
    },
    /// A HorizontalPodAutoscaler counts the canary's pods too, where traffic is split by replicas.
    AutoscalerCountsCanary {
        /// The autoscaler.
        name: String,
    },
    /// The fresh baseline's pods are the workload's own to its autoscaler.
    AutoscalerCountsBaseline {
        /// The autoscaler.
        name: String,
    },
}

impl PreflightIssue {
    /// Whether this is a refusal (`true`) or only a warning.
    pub fn refuses(&self) -> bool {
        match self {
            PreflightIssue::ReadWriteOnceVolume { .. }
            | PreflightIssue::HostPort { .. }
            | PreflightIssue::Paused
            | PreflightIssue::NameTaken { .. }
            | PreflightIssue::NoService
            | PreflightIssue::NoRoute { .. }
            | PreflightIssue::RouteMissing { .. }
            | PreflightIssue::NetworkPolicyMisses { .. }
            | PreflightIssue::MonitorMisses { .. }
            | PreflightIssue::OwnedByGitOps { .. } => true,
            PreflightIssue::AutoscalerCountsCanary { .. } | PreflightIssue::AutoscalerCountsBaseline { .. } => false,
        }
    }
}

impl fmt::Display for PreflightIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PreflightIssue::ReadWriteOnceVolume { claim } => write!(
                f,
                "volume claim {claim} is ReadWriteOnce, so a second pod can't mount it; use ReadWriteMany or a volume per pod"
            ),
            PreflightIssue::HostPort { port } => write!(
                f,
                "host port {port} can be taken once per node, so the canary's pods may never start; use a Service instead"
            ),
            PreflightIssue::Paused => f.write_str("the Deployment is paused; run `kubectl rollout resume` first"),
            PreflightIssue::NameTaken { kind, name } => {
                write!(f, "{kind} {name} exists and is not Bellwether's; rename or remove it")
            }
            PreflightIssue::NoService => {
                f.write_str("no Service selects the workload's pods, so no traffic can be split")
            }
            PreflightIssue::NoRoute { service } => write!(
                f,
                "no HTTPRoute in the namespace sends traffic to Service {service}; add one, or set traffic = \"replicas\" in the policy"
            ),
            PreflightIssue::RouteMissing { route } => {
                write!(f, "the policy names HTTPRoute {route}, which does not send traffic to the workload's Service")
            }
            PreflightIssue::NetworkPolicyMisses { name } => {
                write!(f, "NetworkPolicy {name} would not select the canary's pods; select on a label that both have")
            }
            PreflightIssue::MonitorMisses { name } => {
                write!(f, "{name} would not scrape the canary's pods; select on a label that both have")
            }
            PreflightIssue::OwnedByGitOps { manager } => write!(
                f,
                "the pod template belongs to {manager}, which would undo the promotion; let it ignore the image (Argo CD: ignoreDifferences) or use the guard (service.deployed) or mode = \"observe\""
            ),
            PreflightIssue::AutoscalerCountsCanary { name } => {
                write!(f, "HorizontalPodAutoscaler {name} counts the canary's pods as the workload's own")
            }
            PreflightIssue::AutoscalerCountsBaseline { name } => {
                write!(f, "HorizontalPodAutoscaler {name} counts the fresh baseline's pods as the workload's own")
            }
        }
    }
}
