//! The evaluation of gates: turns the observations of a run into the result of each gate.
//!
//! Each kind of gate has a module that measures its metrics. [`evaluate`] compares the measurements with the limits,
//! judges all limits of a suite together, and writes one sentence for each result.

mod cases;
mod calibration;
mod consistency;
mod performance;
mod quality;
mod safety;
mod tools;
mod failing;
mod sentence;

use std::collections::BTreeMap;

use bellwether_core::measure::metric::Unit;
use bellwether_core::stats::paired::mcnemar;

use crate::dataset::{Case, Dataset};
use crate::evidence::{Measured, SampleEvidence, TwoSidedEvidence};
use crate::metric::{Aggregation, GateMetricKind, Worse};
use crate::observation::{GateArm, MissingAnswer, ModelAnswer, Observation};
use crate::report::{DatasetSummary, GateResult, ReportedClaim};
use crate::rule::{Hypothesis, Ruling, Verdict, judge};
use crate::suite::{Comparison, Gate, GateLimit, GateMode, OnInconclusive, Suite};
use cases::{ByCase, by_case, mean, one_if, per_case};
use failing::FailingCases;

/// The recorded run of one gate.
#[derive(Debug, Clone)]
pub struct Recorded<'a> {
    /// The gate's settings and limits.
    pub gate: &'a Gate,
    /// The gate's cases.
    pub dataset: &'a Dataset,
    /// The observations of both arms, in any order.
    pub observations: &'a [Observation],
    /// Whether the stable version was asked as well; without it comparisons are skipped.
    pub paired: bool,
    /// The reason why the gate could not be run at all, which makes its verdict `error`.
    pub refused: Option<String>,
}

impl Recorded<'_> {
    /// Returns the number of cases that the run did not ask of an arm, or not as often as the gate requires.
    pub fn not_asked(&self) -> usize {
        let arms: &[GateArm] = if self.paired { &[GateArm::Candidate, GateArm::Stable] } else { &[GateArm::Candidate] };
        let asked: Vec<ByCase<'_>> =
            arms.iter().map(|arm| by_case(self.observations, *arm, self.gate.repeats)).collect();
        let is_asked = |case: &&Case| asked.iter().all(|arm| arm.contains_key(case.id.as_str()));
        self.dataset.cases.iter().filter(|case| !is_asked(case)).count()
    }
}

/// A limit with its measurements, before it is judged.
struct PendingClaim<'a> {
    limit: &'a GateLimit,
    /// The hypothesis to judge; `None` if the limit is a comparison and there is no stable version.
    hypothesis: Option<Hypothesis>,
    /// The stable version's own estimate.
    stable: Option<f64>,
    /// The p-value of McNemar's test, for a share with a margin.
    p: Option<f64>,
    /// The cases on the bad side of the limit.
    failing: FailingCases,
}

/// Evaluates all gates of a suite. Returns one result for each recorded gate, in the same order.
///
/// The limits of all enforcing gates share `alpha`, including those of gates that can't be judged yet: a later
/// continuation of the run may judge them. Each other gate is judged by itself and uses up none of it.
pub fn evaluate(suite: &Suite, recorded: &[Recorded<'_>]) -> Vec<GateResult> {
    let pending: Vec<Vec<PendingClaim<'_>>> = recorded.iter().map(|gate| pending_claims(suite, gate)).collect();
    let decides = |index: usize| recorded[index].gate.mode == GateMode::Enforce;
    let hypotheses_of =
        |claims: &[PendingClaim<'_>]| claims.iter().filter_map(|claim| claim.hypothesis.clone()).collect::<Vec<_>>();
    let shared: Vec<Hypothesis> =
        (0..recorded.len()).filter(|index| decides(*index)).flat_map(|index| hypotheses_of(&pending[index])).collect();
    let mut shared_rulings = judge(&shared, suite.alpha, suite.beta).into_iter();
    let mut results = Vec::new();
    for (index, claims) in pending.into_iter().enumerate() {
        let own = hypotheses_of(&claims);
        let rulings: Vec<Ruling> = if decides(index) {
            shared_rulings.by_ref().take(own.len()).collect()
        } else {
            judge(&own, suite.alpha, suite.beta)
        };
        results.push(result(suite, &recorded[index], claims, rulings));
    }
    results
}

fn pending_claims<'a>(suite: &Suite, recorded: &Recorded<'a>) -> Vec<PendingClaim<'a>> {
    let arm = |arm| by_case(recorded.observations, arm, recorded.gate.repeats);
    let (candidate, stable) = (arm(GateArm::Candidate), arm(GateArm::Stable));
    let measure = |arm: &ByCase<'_>, limit: &GateLimit| {
        measure(suite, recorded.gate, limit.metric.name, &recorded.dataset.cases, arm)
    };
    recorded
        .gate
        .limits
        .iter()
        .map(|limit| {
            let candidate = measure(&candidate, limit);
            let stable = recorded.paired.then(|| measure(&stable, limit));
            pending_claim(suite, recorded, limit, &candidate, stable.as_ref())
        })
        .collect()
}

fn pending_claim<'a>(
    suite: &Suite,
    recorded: &Recorded<'_>,
    limit: &'a GateLimit,
    candidate: &Measured,
    stable: Option<&Measured>,
) -> PendingClaim<'a> {
    let (aggregation, worse) = (limit.metric.aggregation, limit.metric.worse);
    let (at_most, value) = match limit.comparison {
        Comparison::Max(value) | Comparison::MaxRatio(value) => (true, value),
        Comparison::Min(min) => (false, min),
        Comparison::Margin(margin) if worse == Worse::More => (true, margin),
        Comparison::Margin(margin) => (false, -margin),
    };
    let alone = |measured: &Measured| TwoSidedEvidence::of_arm(measured, aggregation, at_most, suite.seed);
    let evidence = match limit.comparison {
        Comparison::Max(_) | Comparison::Min(_) => Some(alone(candidate)),
        Comparison::Margin(_) | Comparison::MaxRatio(_) => stable
            .and_then(|stable| TwoSidedEvidence::of_comparison(candidate, stable, aggregation, at_most, suite.seed)),
    };
    let stable_estimate = stable.and_then(|stable| alone(stable).for_fail.estimate());
    let paired_share = matches!(limit.comparison, Comparison::Margin(_)) && aggregation == Aggregation::Share;
    let p = evidence.as_ref().filter(|_| paired_share).and_then(|evidence| mcnemar_p(&evidence.for_fail, worse));
    let hypothesis = evidence.map(|evidence| Hypothesis {
        enough: evidence.for_pass.n() >= recorded.gate.min_cases,
        complete: recorded.not_asked() == 0 && failure(suite, recorded).is_none(),
        at_most,
        limit: value,
        rule: limit.rule,
        none: limit.none,
        evidence,
    });
    let failing = failing::failing(limit, candidate, stable);
    PendingClaim { limit, hypothesis, stable: stable_estimate, p, failing }
}

/// Returns the one-sided p-value of McNemar's exact test on differences of yes and no: the probability that at least so
/// many of the differing cases speak against the candidate if both arms are alike. `None` if a difference is not whole.
fn mcnemar_p(differences: &SampleEvidence, worse: Worse) -> Option<f64> {
    let SampleEvidence::Score { values, .. } = differences else { return None };
    if values.iter().any(|value| value.fract() != 0.0) {
        return None;
    }
    let count = |sign: f64| values.iter().filter(|value| **value * sign > 0.5).count() as u64;
    let (more, less) = (count(1.0), count(-1.0));
    Some(if worse == Worse::More { mcnemar(more, less) } else { mcnemar(less, more) }.one_is_more)
}

fn measure(suite: &Suite, gate: &Gate, metric: &str, cases: &[Case], arm: &ByCase<'_>) -> Measured {
    match gate.kind {
        GateMetricKind::Consistency => consistency::measure(gate, metric, arm),
        GateMetricKind::Quality => quality::measure(gate, arm),
        GateMetricKind::Safety => safety::measure(metric, cases, arm),
        GateMetricKind::Performance => performance::measure(metric, arm, suite),
        GateMetricKind::Calibration => calibration::measure(metric, arm),
        GateMetricKind::Tools => tools::measure(gate, metric, arm),
        GateMetricKind::Imported => {
            per_case(arm, |answers| mean(answers.iter().map(|answer| answer.right.map(one_if))).map(libm::floor))
        }
    }
}

/// Counts the candidate's answers that lack something to read, by reason: the missing ones, and those that count for
/// something all the same.
fn count_lacking(observations: &[Observation]) -> BTreeMap<MissingAnswer, usize> {
    let mut lacking = BTreeMap::new();
    let candidates = observations.iter().filter(|observation| observation.key.arm == GateArm::Candidate);
    for reason in candidates.filter_map(Observation::lacking) {
        *lacking.entry(reason).or_default() += 1;
    }
    lacking
}

/// Sums the candidate's failed attempts by kind.
fn count_failed_attempts(observations: &[Observation]) -> BTreeMap<MissingAnswer, usize> {
    let mut failed = BTreeMap::new();
    let candidates = observations.iter().filter(|observation| observation.key.arm == GateArm::Candidate);
    for (reason, count) in candidates.flat_map(|observation| &observation.failed) {
        *failed.entry(*reason).or_default() += *count as usize;
    }
    failed
}

/// Counts the missing answers of an arm by reason.
fn count_missing(observations: &[Observation], arm: GateArm) -> BTreeMap<MissingAnswer, usize> {
    let mut missing = BTreeMap::new();
    for observation in observations.iter().filter(|observation| observation.key.arm == arm) {
        if let ModelAnswer::Missing { why, .. } = &observation.answer {
            *missing.entry(*why).or_default() += 1;
        }
    }
    missing
}

/// Returns the reason why a gate's verdict is `error`: it could not be run, too many answers of an arm are missing, or no
/// call of a tool was seen.
/// `None` if the gate can be judged.
fn failure(suite: &Suite, recorded: &Recorded<'_>) -> Option<String> {
    if let Some(refused) = &recorded.refused {
        return Some(refused.clone());
    }
    let arms = [(GateArm::Candidate, "the target"), (GateArm::Stable, "the stable")];
    let unseen =
        |(arm, name)| tools::unseen(recorded, arm, name).filter(|_| recorded.gate.kind == GateMetricKind::Tools);
    let too_many_missing = |(arm, name)| {
        let asked = recorded.observations.iter().filter(|observation| observation.key.arm == arm).count();
        let mut missing = count_missing(recorded.observations, arm);
        // For a performance gate a timeout is a measurement: the request took at least that long. So is an outage if the
        // gate limits failed attempts, unless it is all that the server shows.
        if recorded.gate.kind == GateMetricKind::Performance {
            missing.remove(&MissingAnswer::Timeout);
            let answers_some = missing.values().sum::<usize>() < asked;
            let measures_outages = recorded.gate.measures("failed-attempts") && answers_some;
            missing.retain(|why, _| !(measures_outages && why.is_outage()));
        }
        let count: usize = missing.values().sum();
        let too_many = count as f64 > suite.max_missing * asked as f64;
        too_many.then(|| {
            let reasons: Vec<String> = missing.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            let example = recorded.observations.iter().find_map(|observation| match &observation.answer {
                ModelAnswer::Missing { why, detail, .. } if observation.key.arm == arm && missing.contains_key(why) => {
                    Some(detail.as_str())
                }
                ModelAnswer::Missing { .. } | ModelAnswer::Scored(_) => None,
            });
            format!(
                "{count} of {asked} answers of {name} are missing ({}); at most {} may be missing: {}",
                reasons.join(", "),
                Unit::Percent.show(suite.max_missing),
                example.unwrap_or_default()
            )
        })
    };
    arms.into_iter().find_map(too_many_missing).or_else(|| arms.into_iter().find_map(unseen))
}

/// Builds the result of a gate from its claims and the rulings on their hypotheses, which are in the same order.
fn result(suite: &Suite, recorded: &Recorded<'_>, pending: Vec<PendingClaim<'_>>, rulings: Vec<Ruling>) -> GateResult {
    let gate = recorded.gate;
    let mut rulings = rulings.into_iter();
    let claims: Vec<ReportedClaim> = pending
        .into_iter()
        .map(|claim| match claim.hypothesis {
            Some(hypothesis) => {
                let ruling = rulings.next().unwrap_or(Ruling {
                    verdict: Verdict::Inconclusive,
                    bound: None,
                    tail: 1.0,
                    from_above: true,
                });
                let judged =
                    sentence::judged_claim(recorded, claim.limit, &hypothesis, ruling, (claim.stable, claim.p));
                ReportedClaim { failing: claim.failing.named, failing_count: claim.failing.count, ..judged }
            }
            None => sentence::skipped_claim(claim.limit),
        })
        .collect();
    let failure = failure(suite, recorded);
    let verdict =
        if failure.is_some() { Verdict::Error } else { Verdict::of_all(claims.iter().map(|claim| claim.verdict)) };
    let candidate = by_case(recorded.observations, GateArm::Candidate, gate.repeats);
    GateResult {
        name: gate.name.clone(),
        kind: gate.kind,
        mode: gate.mode,
        counts: counted_verdict(recorded, verdict),
        sentence: sentence::gate_sentence(gate, verdict, failure.as_deref(), &claims),
        verdict,
        claims: if failure.is_some() { Vec::new() } else { claims },
        dataset: DatasetSummary::of(recorded.dataset),
        asked: recorded.observations.len(),
        not_asked: recorded.not_asked(),
        missing: count_lacking(recorded.observations),
        failed_attempts: count_failed_attempts(recorded.observations),
        breakdown: safety::breakdown(gate, &recorded.dataset.cases, &candidate, suite.beta),
        reliability: calibration::reliability(gate, &candidate, suite.seed),
    }
}

/// Returns the verdict that the gate contributes to its suite's. `on-inconclusive` is about cases that show too little, and
/// not about cases that were not asked.
fn counted_verdict(recorded: &Recorded<'_>, verdict: Verdict) -> Verdict {
    let gate = recorded.gate;
    match (gate.mode, verdict, gate.on_inconclusive) {
        (GateMode::Enforce, Verdict::Inconclusive, _) if recorded.not_asked() > 0 => Verdict::Inconclusive,
        (GateMode::Warn | GateMode::Shadow, ..) => Verdict::Skipped,
        (GateMode::Enforce, Verdict::Inconclusive, OnInconclusive::Fail) => Verdict::Fail,
        (GateMode::Enforce, Verdict::Inconclusive, OnInconclusive::Pass) => Verdict::Pass,
        (GateMode::Enforce, verdict, _) => verdict,
    }
}
