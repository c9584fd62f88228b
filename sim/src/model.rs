//! A cluster made of plain values: what Deployments, their pods and a route do with the effects that the engine asks for.
//!
//! The demo and the simulator live in it. It is deterministic, and simpler than the real one on purpose: a template is its
//! images, a pod becomes ready a set time after it was asked for, and an image may say of itself that it can't be pulled
//! or never becomes ready. The real adapter's tests check the same acts against a real API server.

use std::collections::BTreeMap;

use bellwether_core::ids::{EffectId, Images, TemplateHash, Weight, Workload, digest};
use bellwether_core::input::effect::{Act, Effect};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::input::status::{
    DeploymentStatus, PodProblem, Preflight, PreflightIssue, RouteStatus, WorkloadStatus,
};
use bellwether_core::time::{Span, Timestamp};

mod registry;

pub use registry::ModelRegistry;

/// A cluster made of plain values.
#[derive(Debug, Clone, Default)]
pub struct Model {
    workloads: BTreeMap<Workload, Deployed>,
    /// The registry of the models that go with the images.
    pub models: ModelRegistry,
    /// Effects that changed something, in order, with the workload and whether they were performed before.
    pub changes: Vec<EffectId>,
}

/// One workload of the model.
#[derive(Debug, Clone)]
struct Deployed {
    stable: Set,
    canary: Option<Set>,
    baseline: Option<Set>,
    routed: Option<Weight>,
    route_by: Option<String>,
    issues: Vec<PreflightIssue>,
    templates: BTreeMap<TemplateHash, Images>,
}

/// A Deployment of the model.
#[derive(Debug, Clone)]
struct Set {
    uid: String,
    images: Images,
    replicas: u32,
    generation: i64,
    /// Pods that are ready whatever happens: those of before the last change.
    kept: u32,
    changed: Timestamp,
    ready_after: Span,
    template_by: Option<String>,
    replicas_by: Option<String>,
}

/// The hash of a template that is nothing but its images.
pub fn template_of(images: &Images) -> TemplateHash {
    let parts: Vec<&str> = images.iter().flat_map(|(container, image)| [container.as_str(), image.as_str()]).collect();
    TemplateHash(digest(&parts)[..16].to_owned())
}

/// An image whose tag contains this can't be pulled.
pub const NO_PULL: &str = "nopull";
/// An image whose tag contains this never becomes ready.
pub const NEVER_READY: &str = "neverready";
/// An image whose tag contains this becomes ready as a canary, and never as the workload itself.
pub const NEVER_TAKEN: &str = "nevertaken";

impl Set {
    fn says(&self, word: &str) -> bool {
        self.images.values().any(|image| image.contains(word))
    }

    fn runs(&self) -> bool {
        let taken = !self.says(NEVER_TAKEN) || self.uid.ends_with("-canary");
        !self.says(NO_PULL) && !self.says(NEVER_READY) && taken
    }

    fn available(&self, now: Timestamp) -> u32 {
        let in_time = now >= self.ready_after.after(self.changed);
        let runs = self.runs();
        if in_time && runs { self.replicas } else { self.kept.min(self.replicas) }
    }

    fn change(&mut self, images: Images, replicas: u32, now: Timestamp, kept: u32) {
        self.images = images;
        self.replicas = replicas;
        self.generation += 1;
        self.kept = kept;
        self.changed = now;
    }

    fn arm(&self, now: Timestamp) -> DeploymentStatus {
        let available = self.available(now);
        let done = available == self.replicas && self.runs() && now >= self.ready_after.after(self.changed);
        let template = template_of(&self.images);
        let problem = (self.says(NO_PULL) && now >= self.ready_after.after(self.changed)).then(|| PodProblem {
            object: "pod-0".to_owned(),
            reason: "ImagePullBackOff".to_owned(),
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
            paused: false,
            problem,
            template_by: self.template_by.clone(),
            replicas_by: self.replicas_by.clone(),
        }
    }
}

impl Model {
    /// Puts a workload in, available at once.
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
                issues: Vec::new(),
                templates,
            },
        );
    }

    /// Somebody changes the workload's images by hand.
    pub fn set_images(&mut self, workload: &Workload, images: Images, now: Timestamp) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            let kept = deployed.stable.available(now);
            let replicas = deployed.stable.replicas;
            deployed.templates.insert(template_of(&images), images.clone());
            deployed.stable.change(images, replicas, now, kept);
            deployed.stable.template_by = Some("kubectl-edit".to_owned());
        }
    }

    /// Somebody scales the workload; `by` is their field manager.
    pub fn scale(&mut self, workload: &Workload, replicas: u32, by: &str, now: Timestamp) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            let (kept, images) = (deployed.stable.available(now), deployed.stable.images.clone());
            deployed.stable.change(images, replicas, now, kept);
            deployed.stable.replicas_by = Some(by.to_owned());
        }
    }

    /// Somebody writes another image into our canary.
    pub fn edit_canary(&mut self, workload: &Workload, images: Images, now: Timestamp) {
        if let Some(canary) = self.workloads.get_mut(workload).and_then(|deployed| deployed.canary.as_mut()) {
            let (kept, replicas) = (canary.available(now), canary.replicas);
            canary.change(images, replicas, now, kept);
            canary.template_by = Some("kubectl-edit".to_owned());
        }
    }

    /// Somebody deletes our canary's Deployment; the route goes on naming it.
    pub fn delete_canary(&mut self, workload: &Workload) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.canary = None;
        }
    }

    /// Somebody deletes the fresh baseline, if there is one.
    pub fn delete_baseline(&mut self, workload: &Workload) -> bool {
        self.workloads.get_mut(workload).is_some_and(|deployed| deployed.baseline.take().is_some())
    }

    /// Somebody writes another share into the route, or takes our reference out of it.
    pub fn edit_route(&mut self, workload: &Workload, weight: Option<Weight>) {
        if let Some(deployed) = self.workloads.get_mut(workload).filter(|deployed| deployed.routed.is_some()) {
            deployed.routed = weight;
            deployed.route_by = Some("kubectl-patch".to_owned());
        }
    }

    /// All pods of the workload itself die, for as long as nobody changes it.
    pub fn break_stable(&mut self, workload: &Workload, now: Timestamp) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.stable.kept = 0;
            deployed.stable.changed = now;
            deployed.stable.ready_after = Span::from_secs(7 * 86_400);
        }
    }

    /// They come back.
    pub fn mend_stable(&mut self, workload: &Workload, ready_after: Span) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.stable.ready_after = ready_after;
        }
    }

    /// What stands in the way of a canary, from now on.
    pub fn obstruct(&mut self, workload: &Workload, issues: Vec<PreflightIssue>) {
        if let Some(deployed) = self.workloads.get_mut(workload) {
            deployed.issues = issues;
        }
    }

    /// Somebody deletes the workload; its canary goes with it.
    pub fn delete(&mut self, workload: &Workload) {
        self.workloads.remove(workload);
    }

    /// The workloads, in order.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.keys()
    }

    /// The canary's share of the traffic, as it really is.
    pub fn share(&self, workload: &Workload, now: Timestamp) -> f64 {
        let Some(deployed) = self.workloads.get(workload) else { return 0.0 };
        let Some(canary) = &deployed.canary else { return 0.0 };
        match deployed.routed {
            Some(weight) => weight.as_share(),
            None => {
                let pods = |set: &Set| f64::from(set.available(now));
                let (c, s) = (pods(canary), pods(&deployed.stable) + deployed.baseline.as_ref().map_or(0.0, pods));
                if c + s == 0.0 { 0.0 } else { c / (c + s) }
            }
        }
    }

    /// The workload as it stands.
    pub fn status(&self, workload: &Workload, now: Timestamp) -> WorkloadStatus {
        let Some(deployed) = self.workloads.get(workload) else {
            return WorkloadStatus::ABSENT;
        };
        WorkloadStatus {
            stable: Some(deployed.stable.arm(now)),
            canary: deployed.canary.as_ref().map(|canary| canary.arm(now)),
            baseline: deployed.baseline.as_ref().map(|baseline| baseline.arm(now)),
            route: deployed.routed.map(|weight| RouteStatus { weight, accepted: true }),
            route_by: deployed.route_by.clone(),
        }
    }

    /// Does what `effect` asks, once: what is so already is not done again.
    pub fn perform(&mut self, effect: &Effect, now: Timestamp) -> Outcome {
        if let Act::Model { environment, model, what } = &effect.act {
            return self.models.perform(&effect.id, environment, model, what);
        }
        let preflight = self.status(&effect.workload, now);
        let Some(deployed) = self.workloads.get_mut(&effect.workload) else {
            // What is gone needs no clearing away.
            return match effect.act {
                Act::RemoveCanary { .. } | Act::Notify { .. } => Outcome::Done,
                Act::Preflight { .. }
                | Act::Probe { .. }
                | Act::ApplyCanary { .. }
                | Act::SetWeight { .. }
                | Act::Promote { .. }
                | Act::Restore { .. }
                | Act::Model { .. }
                | Act::Note { .. } => failed(FailureKind::Gone, format!("there is no {}", effect.workload)),
            };
        };
        let changed = match &effect.act {
            Act::Preflight { .. } => {
                return Outcome::Preflight(Box::new(Preflight { status: preflight, issues: deployed.issues.clone() }));
            }
            Act::Probe { .. } => {
                return Outcome::Probed { problems: Vec::new(), calibrations: Vec::new(), queries: BTreeMap::new() };
            }
            Act::Model { .. } | Act::Notify { .. } | Act::Note { .. } => false,
            Act::ApplyCanary { images, replicas, traffic, baseline, .. } => {
                let fresh = *baseline && deployed.apply_baseline(*replicas, now);
                deployed.apply_canary(images, *replicas, *traffic != bellwether_core::policy::Traffic::Replicas, now)
                    || fresh
            }
            Act::SetWeight { weight, traffic } => {
                let by_weight = *traffic != bellwether_core::policy::Traffic::Replicas;
                if by_weight && deployed.routed.is_none() && *weight > Weight::ZERO {
                    return failed(FailureKind::Conflict, "no route sends traffic to the canary".to_owned());
                }
                by_weight && deployed.routed.is_some() && deployed.routed.replace(*weight) != Some(*weight)
            }
            Act::Promote { images, from, .. } => {
                let mut all = deployed.stable.images.clone();
                all.extend(images.clone());
                if all != deployed.stable.images && template_of(&deployed.stable.images) != *from {
                    let message = "somebody has changed the pod template meanwhile".to_owned();
                    return failed(FailureKind::Conflict, message);
                }
                deployed.change_stable(all, now)
            }
            Act::Restore { template, .. } => match deployed.templates.get(template).cloned() {
                Some(images) => deployed.change_stable(images, now),
                None => return failed(FailureKind::Refused, format!("nobody knows template {template}")),
            },
            Act::RemoveCanary { .. } => {
                let baseline = deployed.baseline.take().is_some();
                let was = deployed.canary.take().is_some() || deployed.routed.is_some() || baseline;
                deployed.routed = None;
                deployed.route_by = None;
                was
            }
        };
        if changed {
            self.changes.push(effect.id.clone());
        }
        Outcome::Done
    }
}

impl Deployed {
    fn apply_canary(&mut self, images: &Images, replicas: u32, by_weight: bool, now: Timestamp) -> bool {
        let mut all = self.stable.images.clone();
        all.extend(images.clone());
        self.templates.insert(template_of(&all), all.clone());
        let joined = by_weight && self.routed.is_none();
        if by_weight {
            self.routed.get_or_insert(Weight::ZERO);
        }
        let uid = format!("{}-canary", self.stable.uid);
        apply(&mut self.canary, uid, all, replicas, self.stable.ready_after, now) || joined
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

/// Makes a Deployment of ours, or brings the one that is there to this size and these images; whether that changed anything.
fn apply(set: &mut Option<Set>, uid: String, images: Images, replicas: u32, ready_after: Span, now: Timestamp) -> bool {
    match set {
        Some(there) if there.images == images && there.replicas == replicas => return false,
        Some(there) => {
            let kept = there.available(now);
            there.change(images, replicas, now, kept);
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

fn failed(kind: FailureKind, message: String) -> Outcome {
    Outcome::Failed(Failure { kind, message })
}
