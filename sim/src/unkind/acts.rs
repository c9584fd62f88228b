//! The acts of the engine on the cluster, and their outcomes.

use std::collections::BTreeMap;

use bellwether_core::ids::Weight;
use bellwether_core::input::effect::{Act, ClusterAct, Effect};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::input::status::{Preflight, PreflightIssue};

use super::absence::Party;
use super::agenda::Happening;
use super::deployment::Deployment;
use super::world::World;

/// The uid of the stable's Deployment.
pub(super) const STABLE: &str = "uid-web";
/// The uid of the canary's Deployment.
const CANARY: &str = "uid-web-canary";

/// Returns the outcome of a system that does not answer.
fn unavailable() -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Unavailable, message: "connection refused".to_owned() })
}

impl World {
    /// Performs an effect and returns its outcome.
    pub(super) fn perform(&mut self, effect: &Effect) -> Outcome {
        match &effect.act {
            Act::Cluster(_) if self.absences.is_away(Party::Api, self.now) => unavailable(),
            Act::Cluster(act) => self.perform_on_cluster(act),
            Act::Metrics(_) if self.absences.is_away(Party::Prometheus, self.now) => unavailable(),
            Act::Metrics(probe) => Outcome::Probed {
                problems: Vec::new(),
                calibrations: self.calibrate(&probe.learn),
                queries: BTreeMap::new(),
            },
            Act::Registry(_) | Act::People(_) => Outcome::Done,
        }
    }

    fn perform_on_cluster(&mut self, act: &ClusterAct) -> Outcome {
        match act {
            ClusterAct::Preflight { .. } => {
                let recreates = self.setting.rollover.recreates;
                let issues = recreates.then_some(PreflightIssue::Recreate).into_iter().collect();
                return Outcome::Preflight(Box::new(Preflight { status: self.status(), issues }));
            }
            ClusterAct::ApplyCanary { replicas, .. } => {
                let canary = self.canary.get_or_insert_with(|| Deployment::new(CANARY, 1, *replicas));
                canary.set_version(1);
                canary.set_replicas(*replicas);
                if self.gateway.written.is_none() {
                    self.write_weight(Some(Weight::ZERO));
                }
            }
            ClusterAct::SetWeight { weight, .. } => {
                if self.gateway.written.is_some_and(|written| written != *weight) {
                    self.write_weight(Some(*weight));
                }
            }
            ClusterAct::Promote { .. } => {
                if self.stable.set_version(1) {
                    self.stable.template_by = None;
                }
            }
            ClusterAct::Restore { template, .. } => {
                let digests = self.setting.digests;
                let Some(version) = self.versions.iter().position(|version| version.template(digests) == *template)
                else {
                    let message = format!("template {template} is unknown");
                    return Outcome::Failed(Failure { kind: FailureKind::Refused, message });
                };
                self.stable.set_version(version);
            }
            ClusterAct::RemoveCanary { .. } => {
                if self.gateway.written.is_some() {
                    self.write_weight(None);
                }
                self.canary = None;
            }
        }
        self.reconcile();
        Outcome::Done
    }

    /// Writes the canary's weight into the route.
    fn write_weight(&mut self, weight: Option<Weight>) {
        let follows = self.gateway.write(weight, self.now);
        let text = weight.map_or_else(|| "none".to_owned(), |weight| weight.to_string());
        self.tell_story(|_| format!("the route has weight {text}"));
        if let Some(delay) = follows {
            self.agenda.plan(self.now + delay, Happening::Program(weight.unwrap_or(Weight::ZERO)));
        }
        for delay in self.gateway.status_delays() {
            self.agenda.plan(self.now + delay, Happening::Watch);
        }
    }
}
