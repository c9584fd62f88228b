//! A deterministic model of a cluster: Deployments, their pods, a route and a registry of models, changed by the
//! effects of the engine.
//!
//! The demo and the simulator use it. It is deliberately simpler than a real cluster: a pod template is a set of
//! images, a pod becomes ready a fixed time after it was requested, and the tag of an image may say that it can't be
//! pulled or never becomes ready. The tests of the Kubernetes adapter perform the same acts on a real API server.

use std::collections::BTreeMap;

use bellwether_core::ids::{EffectId, Images, RolloutId, TemplateHash, Weight, Workload, digest};
use bellwether_core::input::command::Author;
use bellwether_core::input::effect::{Act, ClusterAct, Effect};
use bellwether_core::input::event::{FailureKind, Outcome};
use bellwether_core::input::status::{
    Acceptance, DeploymentStatus, PodProblem, Preflight, PreflightIssue, Release, RouteStatus, WorkloadStatus,
};
use bellwether_core::time::{Span, Timestamp};

mod failure;
mod registry;

use failure::failed;
pub use registry::ModelRegistry;

/// A model of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Model {
    workloads: BTreeMap<Workload, Deployed>,
    /// The registry of the models that belong to the images.
    pub models: ModelRegistry,
    /// The ids of the effects that changed something, in order.
    pub changes: Vec<EffectId>,
    /// The message with which the gateway refuses every route that names a canary; `None` if it accepts them.
    pub gateway_refuses: Option<String>,
}

/// One workload of the model.
#[derive(Debug, Clone)]
struct Deployed {
    stable: Set,
    canary: Option<Set>,
    baseline: Option<Set>,
    /// The canary's weight in the route; `None` if the route does not name the canary.
    routed: Option<Weight>,
    /// The other field manager that changed the route last.
    route_by: Option<String>,
    /// The order of a person that gave all traffic to the stable.
    released: Option<Release>,
    /// The preflight issues that the model reports.
    issues: Vec<PreflightIssue>,
    /// All templates that the workload has had, by hash.
    templates: BTreeMap<TemplateHash, Images>,
}

/// A Deployment of the model.
#[derive(Debug, Clone)]
struct Set {
    uid: String,
    images: Images,
    replicas: u32,
    generation: i64,
    /// The number of pods from before the last change, which stay available until the new ones are.
    kept: u32,
    /// The time of the last change.
    changed: Timestamp,
    /// The time from a change until the new pods are available.
    ready_after: Span,
    /// The other field manager that changed the template last.
    template_by: Option<String>,
    /// The other field manager that changed the replicas last.
    replicas_by: Option<String>,
}

/// Returns the hash of a template, which consists of its images only.
pub fn template_of(images: &Images) -> TemplateHash {
    let parts: Vec<&str> = images.iter().flat_map(|(container, image)| [container.as_str(), image.as_str()]).collect();
    TemplateHash(digest(&parts)[..16].to_owned())
}

/// A part of an image's tag with which the image can't be pulled.
pub const NO_PULL: &str = "nopull";
/// A part of an image's tag with which pods find no node.
pub const NO_NODE: &str = "nonode";
/// A part of an image's tag with which pods never become ready.
pub const NEVER_READY: &str = "neverready";
/// A part of an image's tag with which pods become ready as a canary, but never as the stable.
pub const NEVER_TAKEN: &str = "nevertaken";

impl Set {
    fn has_tag(&self, word: &str) -> bool {
        self.images.values().any(|image| image.contains(word))
    }

    /// Returns whether pods with these images can become ready.
    fn can_run(&self) -> bool {
        let can_run_here = !self.has_tag(NEVER_TAKEN) || self.uid.ends_with("-canary");
        !self.has_tag(NO_PULL) && !self.has_tag(NO_NODE) && !self.has_tag(NEVER_READY) && can_run_here
    }

    /// Returns the number of available pods.
    fn available(&self, now: Timestamp) -> u32 {
        let is_due = now >= self.ready_after.after(self.changed);
        if is_due && self.can_run() { self.replicas } else { self.kept.min(self.replicas) }
    }

    fn change(&mut self, images: Images, replicas: u32, now: Timestamp, kept: u32) {
        self.images = images;
        self.replicas = replicas;
        self.generation += 1;
        self.kept = kept;
        self.changed = now;
    }

    fn status(&self, now: Timestamp) -> DeploymentStatus {
        let available = self.available(now);
        let done = available == self.replicas && self.can_run() && now >= self.ready_after.after(self.changed);
        let template = template_of(&self.images);
        let unscheduled = self.has_tag(NO_NODE).then(|| PodProblem {
            object: "pod-0".to_owned(),
            reason: "Unschedulable".to_owned(),
            pods: self.replicas,
            message: "0/26 nodes are available: 26 Insufficient cpu".to_owned(),
        });
        let problem = (self.has_tag(NO_PULL) && now >= self.ready_after.after(self.changed)).then(|| PodProblem {
            object: "pod-0".to_owned(),
            reason: "ImagePullBackOff".to_owned(),
            pods: self.replicas,
            message: format!("Back-off pulling image {:?}", self.images.values().next().map_or("", String::as_str)),
        });
        DeploymentStatus {
            uid: self.uid.clone(),
            pod_hash: Some(template.0.clone()),
            template,
            images: self.images.clone(),
            generation: self.generation,
            observed_generation: self.generation,
            replicas: self.replicas,
            total: if done { self.replicas } else { self.replicas + 1 },
            updated: if done { self.replicas } else { 0 },
            ready: available,
            available,
            restarts: 0,
            pods_since: None,
            paused: false,
            problem: problem.or(unscheduled),
            template_by: self.template_by.clone(),
            replicas_by: self.replicas_by.clone(),
        }
    }
}

impl Model {
    /// Adds a workload with available pods. Pods of later changes become available `ready_after` the change.
    pub fn deploy(&mut self, workload: Workload, images: Images, replicas: u32, ready_after: Span) {
        let uid = format!("uid-{}", workload.name);
        let templates = BTreeMap::from([(template_of(&images), images.clone())]);
        let stable = Set {
            uid,
            images,
            replicas,
            generation: 1,
            kept: replicas,
            changed: Timestamp::MIN,
            ready_after,
            template_by: None,
            replicas_by: None,
        };
        self.workloads.insert(
            workload,
            Deployed {
                stable,
                canary: None,
                baseline: None,
                routed: None,
                route_by: None,
                released: None,
                issues: Vec::new(),
                templates,
            },
        );
    }

    /// Changes the stable's images as another field manager.
    pub fn set_images(&mut self, workload: &Workload, images: Images, now: Timestamp) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            let kept = deployed.stable.available(now);
            let replicas = deployed.stable.replicas;
            deployed.templates.insert(template_of(&images), images.clone());
            deployed.stable.change(images, replicas, now, kept);
            deployed.stable.template_by = Some("kubectl-edit".to_owned());
        }
    }

    /// Changes the stable's replicas as the field manager `by`.
    pub fn scale(&mut self, workload: &Workload, replicas: u32, by: &str, now: Timestamp) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            let (kept, images) = (deployed.stable.available(now), deployed.stable.images.clone());
            deployed.stable.change(images, replicas, now, kept);
            deployed.stable.replicas_by = Some(by.to_owned());
        }
    }

    /// Changes the canary's images as another field manager.
    pub fn edit_canary(&mut self, workload: &Workload, images: Images, now: Timestamp) {
        if let Some(canary) = self.workloads.get_mut(workload).and_then(|deployed| deployed.canary.as_mut()) {
            let (kept, replicas) = (canary.available(now), canary.replicas);
            canary.change(images, replicas, now, kept);
            canary.template_by = Some("kubectl-edit".to_owned());
        }
    }

    /// Deletes the canary's Deployment; the route still names it.
    pub fn delete_canary(&mut self, workload: &Workload) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.canary = None;
        }
    }

    /// Deletes the baseline's Deployment. Returns whether there was one.
    pub fn delete_baseline(&mut self, workload: &Workload) -> bool {
        self.workloads.get_mut(workload).is_some_and(|deployed| deployed.baseline.take().is_some())
    }

    /// Changes the canary's weight in the route as another field manager; `None` removes the canary from the route.
    pub fn edit_route(&mut self, workload: &Workload, weight: Option<Weight>) {
        if let Some(deployed) = self.workloads.get_mut(workload).filter(|deployed| deployed.routed.is_some()) {
            deployed.routed = weight;
            deployed.route_by = Some("kubectl-patch".to_owned());
        }
    }

    /// Gives all traffic to the stable, as `bellwether release` does for a canary of this rollout.
    pub fn release(&mut self, workload: &Workload, rollout: RolloutId, author: Author) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.routed = deployed.routed.map(|_| Weight::ZERO);
            deployed.released = Some(Release { rollout, author });
        }
    }

    /// Makes all pods of the stable unavailable, until [`Model::mend_stable`] or for a week.
    pub fn break_stable(&mut self, workload: &Workload, now: Timestamp) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.stable.kept = 0;
            deployed.stable.changed = now;
            deployed.stable.ready_after = Span::from_secs(7 * 86_400);
        }
    }

    /// Makes all pods of the canary unready; they become ready again after this time.
    pub fn break_canary(&mut self, workload: &Workload, ready_after: Span, now: Timestamp) {
        if let Some(canary) = self.workloads.get_mut(workload).and_then(|deployed| deployed.canary.as_mut()) {
            (canary.kept, canary.changed, canary.ready_after) = (0, now, ready_after);
        }
    }

    /// Lets the stable's pods become available again, `ready_after` its last change.
    pub fn mend_stable(&mut self, workload: &Workload, ready_after: Span) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.stable.ready_after = ready_after;
        }
    }

    /// Sets the preflight issues that the workload has from now on.
    pub fn obstruct(&mut self, workload: &Workload, issues: Vec<PreflightIssue>) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.issues = issues;
        }
    }

    /// Deletes the workload with its canary and baseline.
    pub fn delete(&mut self, workload: &Workload) {
        self.workloads.remove(workload);
    }

    /// Returns the workloads in ascending order.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.keys()
    }

    /// Returns the canary's real share of the traffic, from 0 to 1: the weight of the route, or without a route the
    /// share of the available pods.
    pub fn share(&self, workload: &Workload, now: Timestamp) -> f64 {
        let Some(deployed) = self.workloads.get(workload) else { return 0.0 };
        let Some(canary) = &deployed.canary else { return 0.0 };
        match deployed.routed {
            Some(weight) => weight.as_share(),
            None => {
                let pods = |set: &Set| f64::from(set.available(now));
                let other = pods(&deployed.stable) + deployed.baseline.as_ref().map_or(0.0, pods);
                let all = pods(canary) + other;
                if all == 0.0 { 0.0 } else { pods(canary) / all }
            }
        }
    }

    fn acceptance(&self) -> Acceptance {
        self.gateway_refuses.clone().map_or(Acceptance::Accepted, Acceptance::Refused)
    }

    /// Returns the workload's status.
    pub fn status(&self, workload: &Workload, now: Timestamp) -> WorkloadStatus {
        let Some(deployed) = self.workloads.get(workload) else {
            return WorkloadStatus::ABSENT;
        };
        WorkloadStatus {
            stable: Some(deployed.stable.status(now)),
            canary: deployed.canary.as_ref().map(|canary| canary.status(now)),
            baseline: deployed.baseline.as_ref().map(|baseline| baseline.status(now)),
            route: deployed.routed.map(|weight| RouteStatus { weight, accepted: self.acceptance() }),
            route_by: deployed.route_by.clone(),
            released: deployed.released.clone(),
        }
    }

    /// Performs an effect and returns its outcome. A change that is already in place is not made again.
    pub fn perform(&mut self, effect: &Effect, now: Timestamp) -> Outcome {
        match &effect.act {
            Act::Cluster(act) => self.perform_on_cluster(effect, act, now),
            Act::Metrics(_) => {
                Outcome::Probed { problems: Vec::new(), calibrations: Vec::new(), queries: BTreeMap::new() }
            }
            Act::Registry(act) => self.models.perform(&effect.id, act),
            Act::People(_) => Outcome::Done,
        }
    }

    fn perform_on_cluster(&mut self, effect: &Effect, act: &ClusterAct, now: Timestamp) -> Outcome {
        let preflight = self.status(&effect.workload, now);
        let Some(deployed) = self.workloads.get_mut(&effect.workload) else {
            // Removing the canary of a deleted workload, and its traffic, succeeds.
            return match act {
                ClusterAct::RemoveCanary { .. } | ClusterAct::SetWeight { weight: Weight::ZERO, .. } => Outcome::Done,
                ClusterAct::Preflight { .. }
                | ClusterAct::ApplyCanary { .. }
                | ClusterAct::SetWeight { .. }
                | ClusterAct::Promote { .. }
                | ClusterAct::Restore { .. } => failed(FailureKind::Gone, format!("there is no {}", effect.workload)),
            };
        };
        let changed = match act {
            ClusterAct::Preflight { .. } => {
                return Outcome::Preflight(Box::new(Preflight { status: preflight, issues: deployed.issues.clone() }));
            }
            ClusterAct::ApplyCanary { images, replicas, traffic, baseline, .. } => {
                let fresh = *baseline && deployed.apply_baseline(*replicas, now);
                deployed.apply_canary(images, *replicas, traffic.splits_by_weight(), now) || fresh
            }
            ClusterAct::SetWeight { weight, traffic } => {
                let by_weight = traffic.splits_by_weight();
                if by_weight && deployed.routed.is_none() && *weight > Weight::ZERO {
                    return failed(FailureKind::Conflict, "no route sends traffic to the canary".to_owned());
                }
                by_weight && deployed.routed.is_some() && deployed.routed.replace(*weight) != Some(*weight)
            }
            ClusterAct::Promote { images, from, .. } => {
                let mut all = deployed.stable.images.clone();
                all.extend(images.clone());
                if all != deployed.stable.images && template_of(&deployed.stable.images) != *from {
                    let message = "the pod template has been changed meanwhile".to_owned();
                    return failed(FailureKind::Conflict, message);
                }
                deployed.change_stable(all, now)
            }
            ClusterAct::Restore { template, .. } => match deployed.templates.get(template).cloned() {
                Some(images) => deployed.change_stable(images, now),
                None => return failed(FailureKind::Refused, format!("template {template} is unknown")),
            },
            ClusterAct::RemoveCanary { .. } => {
                let baseline = deployed.baseline.take().is_some();
                let existed = deployed.canary.take().is_some() || deployed.routed.is_some() || baseline;
                deployed.routed = None;
                deployed.route_by = None;
                deployed.released = None;
                existed
            }
        };
        if changed {
            self.changes.push(effect.id.clone());
        }
        Outcome::Done
    }
}

// Each method returns whether it changed anything.
impl Deployed {
    fn apply_canary(&mut self, images: &Images, replicas: u32, by_weight: bool, now: Timestamp) -> bool {
        let mut all = self.stable.images.clone();
        all.extend(images.clone());
        self.templates.insert(template_of(&all), all.clone());
        let joins_route = by_weight && self.routed.is_none();
        if by_weight {
            self.routed.get_or_insert(Weight::ZERO);
        }
        let uid = format!("{}-canary", self.stable.uid);
        apply(&mut self.canary, uid, all, replicas, self.stable.ready_after, now) || joins_route
    }

    fn apply_baseline(&mut self, replicas: u32, now: Timestamp) -> bool {
        let (uid, images) = (format!("{}-baseline", self.stable.uid), self.stable.images.clone());
        apply(&mut self.baseline, uid, images, replicas, self.stable.ready_after, now)
    }

    fn change_stable(&mut self, images: Images, now: Timestamp) -> bool {
        if self.stable.images == images {
            return false;
        }
        let (kept, replicas) = (self.stable.available(now), self.stable.replicas);
        self.stable.change(images, replicas, now, kept);
        true
    }
}

/// Creates a Deployment, or changes the existing one to this size and these images. Returns whether that changed
/// anything.
fn apply(set: &mut Option<Set>, uid: String, images: Images, replicas: u32, ready_after: Span, now: Timestamp) -> bool {
    match set {
        Some(existing) if existing.images == images && existing.replicas == replicas => return false,
        Some(existing) => {
            let kept = existing.available(now);
            existing.change(images, replicas, now, kept);
        }
        None => {
            let (generation, kept, changed) = (1, 0, now);
            let (template_by, replicas_by) = (None, None);
            *set =
                Some(Set { uid, images, replicas, generation, kept, changed, ready_after, template_by, replicas_by });
        }
    }
    true
}
