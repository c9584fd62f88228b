//! Before a rollout: what a policy can find at present, and how soon.
//!
//! A policy is written once, and the traffic decides what it is worth. Ten requests a second at 5 % are one error an hour;
//! no judge finds double of that in five minutes, and whoever knows it beforehand raises the weight. So the policy's own judges
//! are run ahead of the rollout, on blocks like those that the present traffic would give, with dice whose seed is fixed:
//! the same question gets the same answer. The judges are the product's ([`State`](bellwether_core::judge::sequential::SequentialState),
//! the same), so there is no formula here that could be wrong about them.
//!
//! It takes the traffic to stay as it is, and a fault to be there from the first request. Times are of traffic that is counted;
//! the decision comes a poll's lag later.
//!
//! To read it, follow the modules in the order below.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use bellwether_core::ids::Weight;
use bellwether_core::judge::check::Check;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::sequential::{SequentialRule, allowed};
use bellwether_core::measure::metric::{Limit, Metric, MetricKind};
use bellwether_core::policy::{Policy, Step};
use bellwether_core::time::Span;

mod traffic;
mod evidence;
mod looks;
mod say;

use evidence::{Asked, DAY, Leg, Way};
pub use looks::Looks;
use traffic::Split;
pub use traffic::{BadPresent, Clusters, Present};

/// So many times the present share.
const TIMES: [f64; 4] = [1.5, 2.0, 5.0, 10.0];

/// The weights that are proposed, in percent.
const WEIGHTS: [u16; 10] = [1, 2, 5, 10, 15, 20, 25, 30, 40, 50];

/// What a policy can find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolloutForecast {
    /// The policy's name.
    pub policy: String,
    /// How long its steps take at least.
    pub takes: Span,
    /// Each check, once.
    pub checks: Vec<CheckPlan>,
}

/// What one check can find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckPlan {
    /// The check.
    pub check: String,
    /// Its traffic.
    pub present: Option<Present>,
    /// The present version would not pass it.
    pub broken_now: bool,
    /// What it finds at each step by itself.
    pub steps: Vec<StepPlan>,
    /// What it finds in the whole rollout.
    pub rollout: RolloutPlan,
}

/// What one check can find at one step, from that step's beginning on and knowing nothing from before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepPlan {
    /// Which step, from 1.
    pub step: usize,
    /// The canary's share of the traffic.
    pub weight: Weight,
    /// The step's least time.
    pub lasts: Span,
    /// What the canary might be like, and what becomes of it.
    pub faults: Vec<(Fault, Detection)>,
}

/// What is found of one check's faults from the first step to the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum RolloutPlan {
    /// By the sequential judge, which carries its evidence on.
    Evidence {
        /// The part that is rolled back before the end, and the median time of all.
        faults: Vec<(Fault, f64, Option<Span>)>,
        /// The proof that the last step asks for; `None`: it asks for none.
        proof: Option<ProofPlan>,
    },
    /// By a judge of windows, which begins anew at each step.
    Looks {
        /// The part of the versions like the present one that is rolled back.
        healthy: f64,
        /// The part of the others.
        faults: Vec<(Fault, f64)>,
    },
    /// Nothing can be said of it; why.
    Unsaid(String),
}

/// A canary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// Its share of bad requests.
    pub share: f64,
    /// So many times the present one; `None`: twice the limit.
    pub times: Option<f64>,
}

/// What becomes of a fault at a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "kebab-case")]
pub enum Detection {
    /// The policy allows it: it is within the limit, and within the margin or the floor.
    Allowed,
    /// Within the step's least time.
    Within {
        /// The median.
        after: Span,
    },
    /// Later than that.
    Later {
        /// The median; `None`: more than a day.
        after: Option<Span>,
        /// The smallest of the usual weights at which it would be within; `None`: none up to 50 %.
        weight: Option<Weight>,
    },
    /// By looks at windows: in a part of the steps.
    Looks(Looks),
}

/// How long it takes to show that a version like the present one is not worse than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProofPlan {
    /// The median, from the first step's beginning; `None`: more than a day.
    pub after: Option<Span>,
    /// Whether that is within the steps' least times.
    pub within: bool,
    /// The smallest of the usual weights of the last step at which it would be; `None`: none up to 50 %, or not needed.
    pub weight: Option<Weight>,
}

impl RolloutForecast {
    /// The plan for `policy` while each check's requests come as `present` says, by the checks' names, and are read every
    /// `block`.
    pub fn new(policy: &Policy, present: &BTreeMap<String, Present>, block: Span) -> RolloutForecast {
        let mut seen = BTreeSet::new();
        let checks = policy.steps.iter().flat_map(|step| &step.checks).filter(|check| seen.insert(&check.name));
        let planner = |check| Planner { policy, check, block };
        let checks = checks.map(|check| planner(check).plan(present.get(&check.name).copied())).collect();
        RolloutForecast { policy: policy.name.clone(), takes: policy.planned(false), checks }
    }
}

/// Plans one check.
#[derive(Clone, Copy)]
struct Planner<'a> {
    policy: &'a Policy,
    check: &'a Check,
    block: Span,
}

impl Planner<'_> {
    fn plan(self, present: Option<Present>) -> CheckPlan {
        let unsaid = |why: String| CheckPlan {
            check: self.check.name.clone(),
            present,
            broken_now: false,
            steps: Vec::new(),
            rollout: RolloutPlan::Unsaid(why),
        };
        let Some(metric) = self.policy.metrics.get(&self.check.metric) else {
            return unsaid(format!("there is no metric {}", self.check.metric));
        };
        let counts = metric.kind.counts_requests()
            && !(metric.kind == MetricKind::Histogram && matches!(self.check.limit, Limit::Min(_)));
        match present {
            _ if !counts => unsaid(format!("{} counts no requests that are good or bad", metric.kind)),
            None => unsaid("nothing is known of its requests".to_owned()),
            Some(present) => self.of_requests(metric, present),
        }
    }

    fn of_requests(self, metric: &Metric, present: Present) -> CheckPlan {
        let most = allowed(self.check.limit, metric.kind, self.check.quantile);
        let faults = faults(present.share, most);
        let steps = self.policy.steps.iter().enumerate().filter(|(_, step)| self.is_at(step));
        let steps: Vec<StepPlan> = steps
            .map(|(index, step)| {
                let found = |fault: &Fault| (*fault, self.found(metric, present, step, *fault));
                let faults = faults.iter().map(found).collect();
                StepPlan { step: index + 1, weight: step.weight, lasts: step.min_time, faults }
            })
            .collect();
        let rollout = match self.check.judge.sequential() {
            Some(rule) => self.by_evidence(self.asked(metric), rule, present, &faults),
            None => self.by_looks(metric, present, &steps),
        };
        CheckPlan {
            check: self.check.name.clone(),
            present: Some(present),
            broken_now: present.share > most,
            steps,
            rollout,
        }
    }

    fn is_at(self, step: &Step) -> bool {
        step.checks.iter().any(|check| check.name == self.check.name)
    }

    fn asked<'a>(&'a self, metric: &'a Metric) -> Asked<'a> {
        Asked { check: self.check, metric, proof: Proof::NoAlarm }
    }

    fn found(self, metric: &Metric, present: Present, step: &Step, fault: Fault) -> Detection {
        let Some(rule) = self.check.judge.sequential() else {
            let split = Split { present, weight: step.weight.as_share(), canary: fault.share };
            return Detection::Looks(looks::looks(self.check, metric, split, self.block, step.min_time));
        };
        if is_allowed(rule, allowed(self.check.limit, metric.kind, self.check.quantile), present.share, fault.share) {
            return Detection::Allowed;
        }
        let after = |weight: Weight, horizon: Span| {
            let legs = [Leg { weight: weight.as_share(), lasts: DAY, looks: true }];
            self.way(self.asked(metric), present, fault.share, &legs).median_alarm(horizon)
        };
        match after(step.weight, DAY) {
            Some(time) if time <= step.min_time => Detection::Within { after: time },
            time => {
                let does = |weight: Weight| after(weight, step.min_time).is_some();
                Detection::Later { after: time, weight: least_weight(step.weight, does) }
            }
        }
    }

    fn by_evidence(self, asked: Asked<'_>, rule: SequentialRule, present: Present, faults: &[Fault]) -> RolloutPlan {
        let legs = self.legs(None);
        let most = allowed(self.check.limit, asked.metric.kind, self.check.quantile);
        let takes = self.policy.planned(false);
        let not_allowed = faults.iter().filter(|fault| !is_allowed(rule, most, present.share, fault.share));
        let found = |fault: &Fault| {
            let (part, median) = self.way(asked, present, fault.share, &legs).alarms(takes);
            (*fault, part, median)
        };
        let last = self.policy.steps.last().filter(|step| self.is_at(step) && step.proof == Proof::NonInferior);
        RolloutPlan::Evidence {
            faults: not_allowed.map(found).collect(),
            proof: last.map(|last| self.proof(asked, present, last)),
        }
    }

    /// The last step's pause comes after its proof.
    fn proof(self, asked: Asked<'_>, present: Present, last: &Step) -> ProofPlan {
        let enough = Span::from_millis(self.policy.planned(false).as_millis().saturating_sub(last.pause.as_millis()));
        let before = Span::from_millis(enough.as_millis().saturating_sub(last.min_time.as_millis()));
        let after = |weight: Option<Weight>, horizon: Span| {
            let legs = self.legs(weight);
            self.way(asked, present, present.share, &legs).median_proof(before, horizon)
        };
        let time = after(None, DAY);
        let within = time.is_some_and(|time| time <= enough);
        let does = |weight: Weight| after(Some(weight), enough).is_some();
        let weight = if within { None } else { least_weight(last.weight, does) };
        ProofPlan { after: time, within, weight }
    }

    fn by_looks(self, metric: &Metric, present: Present, steps: &[StepPlan]) -> RolloutPlan {
        // A step is rolled back by itself, for windows begin anew at each.
        let any = |parts: &mut dyn Iterator<Item = f64>| 1.0 - parts.fold(1.0, |none, part| none * (1.0 - part));
        let healthy = |step: &StepPlan| {
            let split = Split { present, weight: step.weight.as_share(), canary: present.share };
            looks::looks(self.check, metric, split, self.block, step.lasts).rolled_back
        };
        let of_fault = |index: usize| {
            let of_step = |step: &StepPlan| match step.faults.get(index) {
                Some((_, Detection::Looks(looks))) => looks.rolled_back,
                Some(_) | None => 0.0,
            };
            any(&mut steps.iter().map(of_step))
        };
        let faults = steps.first().map_or(&[][..], |step| &step.faults);
        RolloutPlan::Looks {
            healthy: any(&mut steps.iter().map(healthy)),
            faults: faults.iter().enumerate().map(|(index, (fault, _))| (*fault, of_fault(index))).collect(),
        }
    }

    /// All steps, the last one with `weight` if there is one.
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

    fn way<'a>(self, asked: Asked<'a>, present: Present, canary: f64, legs: &'a [Leg]) -> Way<'a> {
        Way { asked, present, canary, legs, block: self.block, planned: self.policy.planned(false) }
    }
}

/// What the canary might be like: multiples of the present share, and twice what the limit allows. Shares end at 1.
fn faults(present: f64, allowed: f64) -> Vec<Fault> {
    let multiples = TIMES.iter().filter(|_| present > 0.0).map(|times| (present * times, Some(*times)));
    let twice = (if 2.0 * allowed < 1.0 { 2.0 * allowed } else { 0.5 * (1.0 + allowed) }, None);
    let faults = multiples.chain([twice]).filter(|(share, _)| *share < 1.0);
    faults.map(|(share, times)| Fault { share, times }).collect()
}

/// Whether neither claim of the sequential judge is true of this canary.
fn is_allowed(rule: SequentialRule, allowed: f64, stable: f64, canary: f64) -> bool {
    canary <= allowed && (canary <= rule.margin * stable || canary <= stable + rule.floor)
}

/// The smallest of the usual weights above `weight` that does. Larger ones do too, up to a half.
fn least_weight(weight: Weight, does: impl Fn(Weight) -> bool) -> Option<Weight> {
    let above: Vec<Weight> = WEIGHTS.map(Weight::percent).into_iter().filter(|usual| *usual > weight).collect();
    let (mut low, mut high) = (0, above.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match above.get(middle) {
            Some(usual) if !does(*usual) => low = middle + 1,
            Some(_) | None => high = middle,
        }
    }
    above.get(low).copied()
}
