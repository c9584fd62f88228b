//! The planner: runs the judges of a policy on simulated traffic.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{CheckQuery, DAY, Leg, Simulation};
use super::forecast::{CheckPlan, Detection, Fault, ProofPlan, RolloutForecast, RolloutPlan, StepPlan};
use super::looks::simulate_steps;
use super::traffic::{CheckTraffic, Split};
use bellwether_core::ids::Weight;
use bellwether_core::judge::check::Check;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::sequential::{SequentialRule, allowed};
use bellwether_core::measure::metric::{Limit, Metric, MetricKind};
use bellwether_core::policy::{Policy, Step};
use bellwether_core::time::Span;

/// The multiples of the current share of bad requests that are planned for.
const MULTIPLES: [f64; 4] = [1.5, 2.0, 5.0, 10.0];

/// The weights that may be proposed, in percent.
const WEIGHTS: [u16; 10] = [1, 2, 5, 10, 15, 20, 25, 30, 40, 50];

impl RolloutForecast {
    /// Plans a policy for the current traffic.
    ///
    /// `present` has the traffic of each check, by the check's name; a check without an entry gets no plan. `block` is
    /// the time between two readings of the counters.
    pub fn new(policy: &Policy, present: &BTreeMap<String, CheckTraffic>, block: Span) -> RolloutForecast {
        let mut planned = BTreeSet::new();
        let checks = policy.steps.iter().flat_map(|step| &step.checks).filter(|check| planned.insert(&check.name));
        let planner = |check| Planner { policy, check, block };
        let checks = checks.map(|check| planner(check).plan(present.get(&check.name).copied())).collect();
        RolloutForecast { policy: policy.name.clone(), takes: policy.planned(false), checks }
    }
}

/// The planner of one check.
#[derive(Clone, Copy)]
struct Planner<'a> {
    policy: &'a Policy,
    check: &'a Check,
    block: Span,
}

impl Planner<'_> {
    fn plan(self, present: Option<CheckTraffic>) -> CheckPlan {
        let unknown = |why: String| CheckPlan {
            check: self.check.name.clone(),
            present,
            broken_now: false,
            steps: Vec::new(),
            rollout: RolloutPlan::Unknown(why),
        };
        let Some(metric) = self.policy.metrics.get(&self.check.metric) else {
            return unknown(format!("there is no metric {}", self.check.metric));
        };
        let counts_requests = metric.kind.counts_requests()
            && !(metric.kind == MetricKind::Histogram && matches!(self.check.limit, Limit::Min(_)));
        match present {
            _ if !counts_requests => unknown(format!("{} counts no requests that are good or bad", metric.kind)),
            None => unknown("nothing is known of its requests".to_owned()),
            Some(present) => self.plan_requests(metric, present),
        }
    }

    fn plan_requests(self, metric: &Metric, present: CheckTraffic) -> CheckPlan {
        let most = allowed(self.check.limit, metric.kind, self.check.quantile);
        let faults = faults(present.share, most);
        let steps = self.policy.steps.iter().enumerate().filter(|(_, step)| self.is_at(step));
        let steps: Vec<StepPlan> = steps
            .map(|(index, step)| {
                let detect = |fault: &Fault| (*fault, self.detect(metric, present, step, *fault));
                let faults = faults.iter().map(detect).collect();
                StepPlan { step: index + 1, weight: step.weight, lasts: step.min_time, faults }
            })
            .collect();
        let rollout = match self.check.judge.sequential() {
            Some(rule) => self.plan_evidence(self.query(metric), rule, present, &faults),
            None => self.plan_looks(metric, present, &steps),
        };
        CheckPlan {
            check: self.check.name.clone(),
            present: Some(present),
            broken_now: present.share > most,
            steps,
            rollout,
        }
    }

    /// Returns whether the step has this check.
    fn is_at(self, step: &Step) -> bool {
        step.checks.iter().any(|check| check.name == self.check.name)
    }

    fn query<'a>(&'a self, metric: &'a Metric) -> CheckQuery<'a> {
        CheckQuery { check: self.check, metric, proof: Proof::NoAlarm }
    }

    /// Simulates the detection of a fault at one step.
    fn detect(self, metric: &Metric, present: CheckTraffic, step: &Step, fault: Fault) -> Detection {
        let Some(rule) = self.check.judge.sequential() else {
            let split = Split { present, weight: step.weight.as_share(), canary: fault.share };
            return Detection::Looks(simulate_steps(self.check, metric, split, self.block, step.min_time));
        };
        if is_allowed(rule, allowed(self.check.limit, metric.kind, self.check.quantile), present.share, fault.share) {
            return Detection::Allowed;
        }
        let after = |weight: Weight, horizon: Span| {
            let legs = [Leg { weight: weight.as_share(), lasts: DAY, looks: true }];
            self.simulation(self.query(metric), present, fault.share, &legs).median_alarm(horizon)
        };
        match after(step.weight, DAY) {
            Some(time) if time <= step.min_time => Detection::Within { after: time },
            time => {
                let suffices = |weight: Weight| after(weight, step.min_time).is_some();
                Detection::Later { after: time, weight: smallest_weight(step.weight, suffices) }
            }
        }
    }

    fn plan_evidence(
        self,
        query: CheckQuery<'_>,
        rule: SequentialRule,
        present: CheckTraffic,
        faults: &[Fault],
    ) -> RolloutPlan {
        let legs = self.legs(None);
        let most = allowed(self.check.limit, query.metric.kind, self.check.quantile);
        let takes = self.policy.planned(false);
        let not_allowed = faults.iter().filter(|fault| !is_allowed(rule, most, present.share, fault.share));
        let detect = |fault: &Fault| {
            let (share, median) = self.simulation(query, present, fault.share, &legs).alarms(takes);
            (*fault, share, median)
        };
        let last = self.policy.steps.last().filter(|step| self.is_at(step) && step.proof == Proof::NonInferior);
        RolloutPlan::Evidence {
            faults: not_allowed.map(detect).collect(),
            proof: last.map(|last| self.plan_proof(query, present, last)),
        }
    }

    /// Simulates the proof of the last step, which must come before that step's pause.
    fn plan_proof(self, query: CheckQuery<'_>, present: CheckTraffic, last: &Step) -> ProofPlan {
        let deadline = Span::from_millis(self.policy.planned(false).as_millis().saturating_sub(last.pause.as_millis()));
        let earliest = Span::from_millis(deadline.as_millis().saturating_sub(last.min_time.as_millis()));
        let after = |weight: Option<Weight>, horizon: Span| {
            let legs = self.legs(weight);
            self.simulation(query, present, present.share, &legs).median_proof(earliest, horizon)
        };
        let time = after(None, DAY);
        let within = time.is_some_and(|time| time <= deadline);
        let suffices = |weight: Weight| after(Some(weight), deadline).is_some();
        let weight = if within { None } else { smallest_weight(last.weight, suffices) };
        ProofPlan { after: time, within, weight }
    }

    fn plan_looks(self, metric: &Metric, present: CheckTraffic, steps: &[StepPlan]) -> RolloutPlan {
        // Windows start anew at each step, so the steps are independent.
        let any = |shares: &mut dyn Iterator<Item = f64>| 1.0 - shares.fold(1.0, |none, share| none * (1.0 - share));
        let healthy = |step: &StepPlan| {
            let split = Split { present, weight: step.weight.as_share(), canary: present.share };
            simulate_steps(self.check, metric, split, self.block, step.lasts).rolled_back
        };
        let faulty = |index: usize| {
            let rolled_back = |step: &StepPlan| match step.faults.get(index) {
                Some((_, Detection::Looks(looks))) => looks.rolled_back,
                Some(_) | None => 0.0,
            };
            any(&mut steps.iter().map(rolled_back))
        };
        let faults = steps.first().map_or(&[][..], |step| &step.faults);
        RolloutPlan::Looks {
            healthy: any(&mut steps.iter().map(healthy)),
            faults: faults.iter().enumerate().map(|(index, (fault, _))| (*fault, faulty(index))).collect(),
        }
    }

    /// Returns the legs of the rollout, one per step, with `weight` instead of the last step's weight if it is given.
    fn legs(self, weight: Option<Weight>) -> Vec<Leg> {
        let last = self.policy.steps.len().saturating_sub(1);
        let steps = self.policy.steps.iter().enumerate();
        steps
            .map(|(index, step)| Leg {
                weight: weight.filter(|_| index == last).unwrap_or(step.weight).as_share(),
                lasts: Span::from_millis(step.min_time.as_millis().saturating_add(step.pause.as_millis())),
                looks: self.is_at(step),
            })
            .collect()
    }

    fn simulation<'a>(
        self,
        query: CheckQuery<'a>,
        present: CheckTraffic,
        canary: f64,
        legs: &'a [Leg],
    ) -> Simulation<'a> {
        Simulation { query, present, canary, legs, block: self.block, planned: self.policy.planned(false) }
    }
}

/// Returns the faults that are planned for: multiples of the current share, and twice the allowed share (or the middle
/// between it and 1). Shares of 1 and above are left out.
fn faults(present: f64, allowed: f64) -> Vec<Fault> {
    let multiples = MULTIPLES.iter().filter(|_| present > 0.0).map(|times| (present * times, Some(*times)));
    let twice = (if 2.0 * allowed < 1.0 { 2.0 * allowed } else { 0.5 * (1.0 + allowed) }, None);
    let faults = multiples.chain([twice]).filter(|(share, _)| *share < 1.0);
    faults.map(|(share, times)| Fault { share, times }).collect()
}

/// Returns whether the sequential judge allows a canary with the share `canary`: neither of its claims is true of it. A limit
/// that the stable breaks too is no claim.
fn is_allowed(rule: SequentialRule, allowed: f64, stable: f64, canary: f64) -> bool {
    canary <= allowed.max(stable) && (canary <= rule.margin * stable || canary <= stable + rule.floor)
}

/// Returns the smallest of the usual weights above `weight` that suffices, by bisection. If a weight suffices, larger
/// ones up to 50 % must suffice too.
fn smallest_weight(weight: Weight, suffices: impl Fn(Weight) -> bool) -> Option<Weight> {
    let above: Vec<Weight> = WEIGHTS.map(Weight::percent).into_iter().filter(|usual| *usual > weight).collect();
    let (mut low, mut high) = (0, above.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match above.get(middle) {
            Some(usual) if !suffices(*usual) => low = middle + 1,
            Some(_) | None => high = middle,
        }
    }
    above.get(low).copied()
}
