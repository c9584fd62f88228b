//! Workload status: the observed state of a workload in the cluster, as an adapter reads it, and the findings of a
//! preflight.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Images, RolloutId, TemplateHash, Weight};
use crate::input::command::Author;
use crate::time::Timestamp;

/// The highest number of rules of an HTTPRoute, from the Gateway API's CRD.
pub const MAX_RULES: usize = 16;
/// The highest number of matches of an HTTPRoute over all rules, from the Gateway API's CRD.
pub const MAX_MATCHES: usize = 128;
/// The remedy for an object that selects by the label whose value is different in the canary's pods. With a second label in
/// its Service's selector, that one's value can be the different one.
const SAME_LABEL: &str =
    "select on a label that both have, or add a second label of the pods to the Service's selector";

/// The observed state of a workload, its canary, its baseline and its route. The adapter sends it whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// The workload's own Deployment; `None` if there is no Deployment of its name.
    pub stable: Option<DeploymentStatus>,
    /// The Deployment `NAME-canary`; `None` if it does not exist or was not created by Bellwether.
    pub canary: Option<DeploymentStatus>,
    /// The Deployment `NAME-baseline`; `None` if it does not exist or was not created by Bellwether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<DeploymentStatus>,
    /// The canary's place in the route; `None` if no route refers to the canary's Service, or traffic is split by the
    /// numbers of pods.
    pub route: Option<RouteStatus>,
    /// The last field manager other than Bellwether that wrote the rules of that route.
    #[serde(default)]
    pub route_by: Option<String>,
    /// The order of a person that gave all traffic to the stable without a daemon; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Release>,
}

/// A person's order that all traffic goes to the stable, given by `bellwether release` and noted on the canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The rollout that the canary belongs to.
    pub rollout: RolloutId,
    /// The person and their reason.
    pub author: Author,
}

impl WorkloadStatus {
    /// The status of a workload that does not exist.
    pub const ABSENT: WorkloadStatus =
        WorkloadStatus { stable: None, canary: None, baseline: None, route: None, route_by: None, released: None };

    /// Returns whether the canary, the baseline and the canary's place in the route are gone.
    pub fn has_no_rollout_objects(&self) -> bool {
        self.canary.is_none() && self.baseline.is_none() && self.route.is_none()
    }

    /// Whether a status of the same workload differs in the number and the state of its pods alone, and neither has objects of
    /// a rollout.
    pub fn differs_in_pods_alone(&self, other: &WorkloadStatus) -> bool {
        let mut alike = other.clone();
        if let (Some(known), Some(other)) = (&self.stable, &mut alike.stable) {
            other.take_pods_of(known);
        }
        self.has_no_rollout_objects() && alike == *self && self != other
    }

    /// Returns the message with which a gateway refuses the route that names the canary; `None` if none does.
    pub fn route_refusal(&self) -> Option<&str> {
        match &self.route.as_ref()?.accepted {
            Acceptance::Refused(message) => Some(message),
            Acceptance::Accepted | Acceptance::Unknown => None,
        }
    }
}

/// The canary's place in the route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The canary's lowest weight over all rules that Bellwether splits.
    pub weight: Weight,
    /// The gateway's answer about the present generation of the route.
    pub accepted: Acceptance,
}

impl RouteStatus {
    /// Returns whether the gateway has accepted the present generation of the route.
    pub fn is_accepted(&self) -> bool {
        self.accepted == Acceptance::Accepted
    }
}

/// The answer of gateways about the present generation of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acceptance {
    /// Every gateway that reports about the route has accepted it.
    Accepted,
    /// A gateway has refused it, with this message.
    Refused(String),
    /// No gateway reports about this generation. Some meshes never report.
    Unknown,
}

impl Acceptance {
    /// Returns the answer of two gateways together: a refusal before an unknown answer before acceptance.
    pub fn and(self, other: Acceptance) -> Acceptance {
        match (self, other) {
            (refused @ Acceptance::Refused(_), _) | (_, refused @ Acceptance::Refused(_)) => refused,
            (Acceptance::Unknown, _) | (_, Acceptance::Unknown) => Acceptance::Unknown,
            (Acceptance::Accepted, Acceptance::Accepted) => Acceptance::Accepted,
        }
    }
}

/// The observed state of one Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// The Deployment's uid. A Deployment of the same name with another uid is another workload.
    pub uid: String,
    /// The hash of its pod template, as the API server stores it.
    pub template: TemplateHash,
    /// The `pod-template-hash` of the ReplicaSet with this template; `None` if there is none yet.
    pub pod_hash: Option<String>,
    /// The images of the pod template, by container.
    pub images: Images,
    /// The generation of the Deployment's `spec`.
    pub generation: i64,
    /// The generation of `spec` that the status fields are about. It is lower than `generation` until the controller
    /// has seen the newest change.
    pub observed_generation: i64,
    /// The number of requested pods (`spec.replicas`).
    pub replicas: u32,
    /// The number of existing pods, of any template.
    pub total: u32,
    /// The number of pods of the present template.
    pub updated: u32,
    /// The number of ready pods.
    pub ready: u32,
    /// The number of pods that have been ready for `minReadySeconds`.
    pub available: u32,
    /// The number of restarts of the containers of the present template's pods.
    #[serde(default)]
    pub restarts: u32,
    /// The mean of the times at which the present template's pods started; `None` if there are none, or it is not known.
    #[serde(default)]
    pub pods_since: Option<Timestamp>,
    /// Whether the Deployment is paused (`spec.paused`).
    pub paused: bool,
    /// A problem that keeps a pod of the present template from running; `None` if none is known.
    pub problem: Option<PodProblem>,
    /// The last field manager other than Bellwether that wrote the pod template.
    #[serde(default)]
    pub template_by: Option<String>,
    /// The last field manager other than Bellwether that wrote the number of replicas.
    #[serde(default)]
    pub replicas_by: Option<String>,
}

impl DeploymentStatus {
    /// Takes the number of pods over from another status of the Deployment, with everything that changes with it.
    fn take_pods_of(&mut self, other: &DeploymentStatus) {
        let DeploymentStatus { uid, template, pod_hash, images, paused, template_by, .. } = self.clone();
        *self = DeploymentStatus { uid, template, pod_hash, images, paused, template_by, ..other.clone() };
    }

    /// Returns whether the Deployment is rolled out: the status is about the present generation, and exactly the
    /// requested number of pods exists, each with the present template and available.
    pub fn is_settled(&self) -> bool {
        self.observed_generation >= self.generation
            && self.updated == self.replicas
            && self.total == self.replicas
            && self.available == self.replicas
    }

    /// Returns whether the Deployment is rolled out except for `missing` pods of the present template that are not available.
    pub fn is_settled_but(&self, missing: u32) -> bool {
        self.observed_generation >= self.generation
            && self.updated + missing >= self.replicas
            && self.total == self.updated
            && self.available + missing >= self.replicas
    }

    /// Returns whether the Deployment is rolled out with at least `replicas` pods.
    pub fn has_available(&self, replicas: u32) -> bool {
        self.replicas >= replicas && self.is_settled()
    }
}

/// The problem that keeps a pod from running, or the controller from creating it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodProblem {
    /// The name of the pod, or of the ReplicaSet or Deployment whose controller can't create pods.
    pub object: String,
    /// The reason as one word, such as `ImagePullBackOff`, `CrashLoopBackOff`, `Unschedulable` or `FailedCreate`.
    pub reason: String,
    /// The message of the pod or of the API server.
    pub message: String,
    /// The number of pods of the present template with a problem of this reason, or of those that are missing.
    #[serde(default = "one")]
    pub pods: u32,
}

fn one() -> u32 {
    1
}

impl fmt::Display for PodProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, reason, message, .. } = self;
        if message.is_empty() { write!(f, "{object} {reason}") } else { write!(f, "{object} {reason}: {message}") }
    }
}

/// The findings of a preflight: the state of the cluster that decides whether a canary can be created. It is read once,
/// before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// The workload status.
    pub status: WorkloadStatus,
    /// The preflight issues, which refuse the rollout or warn.
    pub issues: Vec<PreflightIssue>,
}

/// A fact about the cluster that makes a canary impossible, unsafe or misleading. [`PreflightIssue::refuses`] tells
/// which issues refuse a rollout and which only warn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "obstacle", rename_all = "kebab-case")]
pub enum PreflightIssue {
    /// A volume can be mounted by one node only, so the canary's pods might never start.
    ReadWriteOnceVolume {
        /// The name of the PersistentVolumeClaim.
        claim: String,
    },
    /// The pods use a port of their node, so a second pod on the same node would never start.
    HostPort {
        /// The number of the port.
        port: u32,
    },
    /// The Deployment is paused, so a promotion would never be rolled out.
    Paused,
    /// The Deployment's strategy is `Recreate`: a promotion would stop all pods before it starts new ones.
    Recreate,
    /// A Deployment or Service that was not created by Bellwether has the canary's name.
    NameTaken {
        /// The object's kind: `Deployment` or `Service`.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// No Service selects the workload's pods.
    NoService,
    /// No rule of any HTTPRoute in the namespace sends traffic to the workload's Service.
    NoRoute {
        /// The names of the Services that select the workload's pods.
        service: String,
    },
    /// The HTTPRoute that the policy names does not exist, or has no such rule for the workload's Service.
    RouteMissing {
        /// The HTTPRoute's name, with the rule if the policy names one.
        route: String,
    },
    /// A NetworkPolicy selects the stable's pods by a label whose value is different in the canary's pods.
    NetworkPolicyMisses {
        /// The name of the NetworkPolicy.
        name: String,
    },
    /// A policy of another controller selects the stable's pods by a label whose value is different in the canary's pods.
    PolicyMisses {
        /// The policy's kind and name.
        name: String,
    },
    /// A policy is attached to the stable's Service by name and not to the canary's.
    PolicyNotAttached {
        /// The policy's kind and name.
        name: String,
        /// The name of the stable's Service.
        service: String,
        /// The name of the canary's Service.
        canary: String,
    },
    /// Another Service selects the canary's pods as well as the stable's, so they get its traffic at any weight.
    ServiceSelectsCanary {
        /// The name of the Service.
        name: String,
        /// The label whose value differs on the canary's pods.
        label: String,
    },
    /// A ServiceMonitor or PodMonitor would not scrape the canary.
    MonitorMisses {
        /// The monitor's kind and name.
        name: String,
    },
    /// Another object controls the Deployment and would undo a promotion.
    Controlled {
        /// The kind and name of the controlling object.
        owner: String,
    },
    /// A route would have more rules or matches for a cohort than an HTTPRoute can have.
    TooManyRules {
        /// The route's name.
        route: String,
        /// The rules that it would have.
        rules: usize,
        /// The matches that they would have together.
        matches: usize,
    },
    /// A route of another namespace sends traffic to the workload's Service, and is not split.
    RouteElsewhere {
        /// The route's namespace and name.
        route: String,
        /// The name of the Service.
        service: String,
        /// The ReferenceGrant that admits this Service alone; `None` if the grants admit the canary's too.
        grant: Option<String>,
        /// Whether no route of the workload's namespace sends traffic to the Service.
        is_only: bool,
    },
    /// No gateway has accepted a route of the workload, so the canary may get no traffic by it.
    RouteNotAccepted {
        /// The route's name.
        route: String,
        /// The message with which a gateway refuses it; `None` if none has reported about its present generation.
        refusal: Option<String>,
    },
    /// A GitOps tool owns a route's rules and would undo every weight.
    RouteOwnedByGitOps {
        /// The route's name.
        route: String,
        /// The tool's field manager, such as `argocd-controller`.
        manager: String,
    },
    /// A GitOps tool owns the pod template and would undo a promotion.
    OwnedByGitOps {
        /// The tool's field manager, such as `argocd-controller`.
        manager: String,
    },
    /// Traffic is split by replicas, and a HorizontalPodAutoscaler counts the canary's pods as the workload's.
    AutoscalerCountsCanary {
        /// The name of the autoscaler.
        name: String,
    },
    /// A HorizontalPodAutoscaler counts the fresh baseline's pods as the workload's.
    AutoscalerCountsBaseline {
        /// The name of the autoscaler.
        name: String,
    },
}

impl PreflightIssue {
    /// Returns whether the issue refuses the rollout (`true`) or only warns.
    pub fn refuses(&self) -> bool {
        match self {
            PreflightIssue::ReadWriteOnceVolume { .. }
            | PreflightIssue::HostPort { .. }
            | PreflightIssue::Paused
            | PreflightIssue::Recreate
            | PreflightIssue::NameTaken { .. }
            | PreflightIssue::NoService
            | PreflightIssue::NoRoute { .. }
            | PreflightIssue::RouteMissing { .. }
            | PreflightIssue::NetworkPolicyMisses { .. }
            | PreflightIssue::PolicyMisses { .. }
            | PreflightIssue::PolicyNotAttached { .. }
            | PreflightIssue::Controlled { .. }
            | PreflightIssue::TooManyRules { .. }
            | PreflightIssue::MonitorMisses { .. }
            | PreflightIssue::OwnedByGitOps { .. } => true,
            PreflightIssue::RouteElsewhere { is_only, .. } => *is_only,
            PreflightIssue::RouteNotAccepted { refusal, .. } => refusal.is_some(),
            PreflightIssue::ServiceSelectsCanary { .. }
            | PreflightIssue::RouteOwnedByGitOps { .. }
            | PreflightIssue::AutoscalerCountsCanary { .. }
            | PreflightIssue::AutoscalerCountsBaseline { .. } => false,
        }
    }

    /// Returns whether a policy accepts the issue: it is an owner that `owned_by` names.
    pub fn is_accepted(&self, owned_by: &[String]) -> bool {
        matches!(
            self,
            PreflightIssue::OwnedByGitOps { manager } | PreflightIssue::RouteOwnedByGitOps { manager, .. }
                if owned_by.contains(manager)
        )
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
            PreflightIssue::Recreate => f.write_str(
                "the Deployment's strategy is Recreate, so a promotion would stop every pod before it starts a new one; set spec.strategy.type to RollingUpdate",
            ),
            PreflightIssue::NameTaken { kind, name } => {
                write!(f, "{kind} {name} exists and is not Bellwether's; rename or remove it")
            }
            PreflightIssue::NoService => {
                f.write_str("no Service selects the workload's pods, so no traffic can be split; add one, or let another tool deploy and the guard watch it (service.deployed)")
            }
            PreflightIssue::NoRoute { service } => write!(
                f,
                "no HTTPRoute in the namespace sends traffic to Service {service}; add one, or set traffic = \"replicas\" in the policy"
            ),
            PreflightIssue::RouteMissing { route } => {
                write!(f, "the policy names HTTPRoute {route}, which does not send traffic to the workload's Service")
            }
            PreflightIssue::NetworkPolicyMisses { name } => {
                write!(f, "NetworkPolicy {name} would not select the canary's pods; {SAME_LABEL}")
            }
            PreflightIssue::PolicyMisses { name } => {
                write!(f, "{name} would not select the canary's pods; {SAME_LABEL}")
            }
            PreflightIssue::PolicyNotAttached { name, service, canary } => write!(
                f,
                "{name} is attached to Service {service} and would not apply to the canary's Service {canary}; attach such a policy to {canary} too"
            ),
            PreflightIssue::ServiceSelectsCanary { name, label } => write!(
                f,
                "Service {name} selects the canary's pods too, so they get its traffic at any weight; add the label {label} to its selector"
            ),
            PreflightIssue::MonitorMisses { name } => {
                write!(f, "{name} would not scrape the canary's pods; {SAME_LABEL}")
            }
            PreflightIssue::OwnedByGitOps { manager } => write!(
                f,
                "the pod template belongs to {manager}, which would undo the promotion; let it ignore the image (Argo CD: ignoreDifferences) and set owned-by = [\"{manager}\"] in the policy, or use the guard (service.deployed) or mode = \"observe\""
            ),
            PreflightIssue::RouteOwnedByGitOps { route, manager } => write!(
                f,
                "HTTPRoute {route} belongs to {manager}, which may undo every weight; let it ignore spec.rules (Argo CD: ignoreDifferences) and set owned-by = [\"{manager}\"] in the policy"
            ),
            PreflightIssue::Controlled { owner } => write!(
                f,
                "the Deployment is controlled by {owner}, which would undo the promotion; change the image there and use the guard (service.deployed), or mode = \"observe\""
            ),
            PreflightIssue::TooManyRules { route, rules, matches } => write!(
                f,
                "HTTPRoute {route} would have {rules} rules and {matches} matches with those of the cohort, and can have {MAX_RULES} and {MAX_MATCHES}; divide it into several HTTPRoutes, or name one of its rules as `route` in the policy"
            ),
            PreflightIssue::RouteElsewhere { route, service, grant, is_only } => {
                let effect = if *is_only { "only" } else { "also" };
                write!(f, "Service {service} {effect} gets traffic by HTTPRoute {route} of another namespace, which is not split; move the route, or set traffic = \"replicas\" in the policy")?;
                match grant {
                    Some(grant) => write!(f, " (ReferenceGrant {grant} admits Service {service} alone)"),
                    None => Ok(()),
                }
            }
            PreflightIssue::RouteNotAccepted { route, refusal: Some(message) } => {
                write!(f, "a gateway refuses HTTPRoute {route}, so the canary would get no traffic by it: {message}")
            }
            PreflightIssue::RouteNotAccepted { route, refusal: None } => write!(
                f,
                "no gateway has accepted HTTPRoute {route} as it is now; see its parentRefs and its status, unless the gateway never reports"
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
