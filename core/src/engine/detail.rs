//! The details of a rollout for a page about it: its steps, the pods, the times that it waits for, and the numbers of its checks at
//! their last look. They are numbers where a [`RolloutView`](super::view::RolloutView) has texts, so that they can be drawn.

use crate::engine::WorkloadState;
use crate::ids::Weight;
use crate::input::status::{Acceptance, DeploymentStatus};
use crate::judge::evidence::Evidence;
use crate::judge::sequential::odds;
use crate::measure::metric::{Limit, Unit};
use crate::measure::window::Measure;
use crate::rollout::{Rollout, Task};
use crate::time::{Span, Timestamp};

/// The most checks of a rollout whose numbers are given.
const MOST_CHECKS: usize = 16;

/// The details of one rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutDetail {
    /// The steps of its policy, in order; none for a guard of another tool's deployment.
    pub steps: Vec<PlannedStep>,
    /// The length of the guard; `None` without one.
    pub guard: Option<Span>,
    /// The Deployments that it concerns, as they were last observed.
    pub arms: Vec<ArmPods>,
    /// The canary's share that is asked for, from 0 to 1.
    pub asked: f64,
    /// The canary's share in the route, from 0 to 1; `None` if no route names it.
    pub routed: Option<f64>,
    /// The answer of the gateways about the route that names the canary; `None` without such a route.
    pub route: Option<String>,
    /// The times that it waits for, each with its meaning as a phrase.
    pub deadlines: Vec<(Timestamp, &'static str)>,
    /// The numbers of the newest look; `None` before the first block.
    pub look: Option<RolloutLook>,
}

/// A step as the policy plans it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStep {
    /// The canary's share of the traffic.
    pub weight: Weight,
    /// The least time for which it is judged.
    pub min_time: Span,
}

/// The pods of one Deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmPods {
    /// The arm: `stable`, `canary` or `baseline`.
    pub arm: &'static str,
    /// Pods requested.
    pub wanted: u32,
    /// Pods of the present template.
    pub updated: u32,
    /// Pods of an older template.
    pub outdated: u32,
    /// Pods ready.
    pub ready: u32,
    /// Pods that have been ready for `minReadySeconds`.
    pub available: u32,
    /// Restarts of the present template's containers.
    pub restarts: u32,
    /// The problem that keeps a pod from running; `None` if none is known.
    pub problem: Option<String>,
}

/// The numbers of a rollout at the end of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutLook {
    /// The end of the block.
    pub at: Timestamp,
    /// The canary's share of the counted requests, from 0 to 1; `None` if none were counted.
    pub seen: Option<f64>,
    /// The numbers of the checks, in the policy's order.
    pub checks: Vec<CheckNumbers>,
}

/// The numbers of one check at its last look.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckNumbers {
    /// The check's name.
    pub check: String,
    /// The name of the measured value, such as `latency above 250 ms`.
    pub measured: String,
    /// The unit of the values and of the limit.
    pub unit: Unit,
    /// The limit.
    pub limit: Limit,
    /// The value of the judged arm; `None` if nothing was counted.
    pub subject: Option<ArmValue>,
    /// The stable's value beside it; `None` if there is none.
    pub stable: Option<ArmValue>,
    /// The evidence against the version; `None` for a judge that weighs none.
    pub against: Option<Weighed>,
    /// The evidence for the version; `None` if the step asks for no proof.
    pub toward: Option<Weighed>,
    /// The looks over the limit in a row, and those that are a regression.
    pub breaches: (u32, u32),
}

/// The value of one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArmValue {
    /// The value.
    pub value: f64,
    /// The lower and upper end of its 95 % confidence interval, valid at every look; `None` for a judge without one.
    pub between: Option<(f64, f64)>,
    /// The requests or pods that it is taken from; 0 for a value that is not counted.
    pub n: u64,
}

/// Evidence beside the evidence that decides. Both are natural logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighed {
    /// The evidence so far.
    pub ln_e: f64,
    /// The evidence that decides; above 0.
    pub boundary: f64,
}

impl Weighed {
    /// Returns the part of the way to the boundary: 0 for no evidence, 1 at the boundary.
    pub fn part(self) -> f64 {
        let part = self.ln_e / self.boundary;
        if part.is_finite() { part } else { 0.0 }
    }

    /// Returns the evidence and the boundary as people read them, as odds to one.
    pub fn odds(self) -> (String, String) {
        (odds(self.ln_e), odds(self.boundary))
    }
}

/// Returns the details of a workload's rollout; `None` if it has none.
pub fn detail(state: &WorkloadState) -> Option<RolloutDetail> {
    let rollout = state.rollout.as_ref()?;
    let is_roll = matches!(rollout.task, Task::Roll { .. });
    let status = state.status.as_ref();
    let arms = status.map(|status| {
        let arms = [("stable", &status.stable), ("canary", &status.canary), ("baseline", &status.baseline)];
        arms.into_iter().filter_map(|(arm, deployment)| Some(pods(arm, deployment.as_ref()?))).collect()
    });
    let route = status.and_then(|status| status.route.as_ref());
    let steps = rollout.policy.steps.iter().filter(|_| is_roll);
    let steps = steps.map(|step| PlannedStep { weight: step.weight, min_time: step.min_time });
    Some(RolloutDetail {
        steps: steps.collect(),
        guard: rollout.policy.guard.as_ref().map(|guard| guard.length),
        arms: arms.unwrap_or_default(),
        asked: rollout.canary.weight.as_share(),
        routed: route.map(|route| route.weight.as_share()),
        route: route.map(|route| match &route.accepted {
            Acceptance::Accepted => "accepted by the gateway".to_owned(),
            Acceptance::Refused(message) => format!("refused by the gateway: {message}"),
            Acceptance::Unknown => "no gateway has reported about it".to_owned(),
        }),
        deadlines: rollout.deadlines(),
        look: look(rollout),
    })
}

fn pods(arm: &'static str, deployment: &DeploymentStatus) -> ArmPods {
    ArmPods {
        arm,
        wanted: deployment.replicas,
        updated: deployment.updated,
        outdated: deployment.total.saturating_sub(deployment.updated),
        ready: deployment.ready,
        available: deployment.available,
        restarts: deployment.restarts,
        problem: deployment.problem.as_ref().map(ToString::to_string),
    }
}

fn look(rollout: &Rollout) -> Option<RolloutLook> {
    let analysis = rollout.measured.analysis.as_ref();
    Some(RolloutLook {
        at: rollout.measured.last_block?,
        seen: analysis.and_then(|analysis| analysis.share()).map(|(share, _)| share),
        checks: analysis.iter().flat_map(|analysis| analysis.evidence()).take(MOST_CHECKS).map(numbers).collect(),
    })
}

fn numbers(evidence: &Evidence) -> CheckNumbers {
    let weighed = evidence.finding.sequential();
    let value = |measure: &Measure| ArmValue {
        value: measure.value,
        between: weighed.and_then(|finding| finding.between(measure)).map(|interval| (interval.lower, interval.upper)),
        n: measure.n,
    };
    let is_counted = |measure: &&Measure| measure.n > 0 || !evidence.kind.counts_requests();
    let limit = match (weighed, evidence.limit) {
        (Some(finding), Limit::Max(_)) => Limit::Max(finding.limit_share(evidence)),
        (Some(finding), Limit::Min(_)) => Limit::Min(finding.limit_share(evidence)),
        (None, limit) => limit,
    };
    CheckNumbers {
        check: evidence.check.clone(),
        measured: evidence.measured_name(),
        unit: if weighed.is_some() { Unit::Percent } else { evidence.unit },
        limit,
        subject: evidence.subject.as_ref().filter(is_counted).map(value),
        stable: evidence.stable.as_ref().filter(is_counted).map(value),
        against: weighed.map(|finding| beside(finding.alarm_beside_level())),
        toward: weighed.and_then(|finding| finding.proof_beside_level()).map(beside),
        breaches: (evidence.breaches, evidence.breaches_needed),
    }
}

fn beside((ln_e, boundary): (f64, f64)) -> Weighed {
    Weighed { ln_e, boundary }
}
