//! From recorded answers to findings: what each kind of gate measures, and one sentence for each.

mod calibration;
mod consistency;
mod performance;
mod quality;
mod safety;
mod say;
mod tools;

use std::collections::BTreeMap;

use bellwether_core::stats::paired::mcnemar;

use crate::dataset::{Case, Dataset};
use crate::evidence::{Evidence, Measured, Sides};
use crate::metric::{Kind, Shape, Worse};
use crate::observation::{Answer, Arm, Missing, Observation};
use crate::report::{Claim, GateReport, Kept};
use crate::rule::{Question, Ruling, Verdict, judge};
use crate::suite::{Against, Gate, Limit, Mode, OnInconclusive, Price, RuleKind, Suite};

/// What was recorded for one gate.
#[derive(Debug, Clone)]
pub struct Recorded<'a> {
    /// The rules.
    pub gate: &'a Gate,
    /// The cases.
    pub dataset: &'a Dataset,
    /// The answers, of both arms.
    pub observations: &'a [Observation],
    /// There is a stable version that was asked, too.
    pub paired: bool,
    /// Why the gate could not be run at all.
    pub refused: Option<String>,
}

/// The answers of one arm, by case; only of cases that were asked as often as the gate wants. A case that the budget did not
/// reach has nothing wrong with it: it was not asked.
type ByCase<'a> = BTreeMap<&'a str, Vec<&'a Observation>>;

/// A claim on its way to a verdict.
struct Pending<'a> {
    limit: &'a Limit,
    /// `None`: there is nothing to hold it against.
    question: Option<Question>,
    stable: Option<f64>,
    p: Option<f64>,
}

/// Judges all gates of a suite. Those that decide share `alpha`; the others are judged each by itself and take nothing from it.
pub fn evaluate(suite: &Suite, recorded: &[Recorded<'_>]) -> Vec<GateReport> {
    let pending: Vec<Vec<Pending<'_>>> = recorded.iter().map(|gate| claims(suite, gate)).collect();
    let deciding = |at: usize| recorded[at].gate.mode == Mode::Enforce && failure(suite, &recorded[at]).is_none();
    let together = (0..recorded.len()).filter(|at| deciding(*at)).flat_map(|at| pending[at].iter());
    let questions: Vec<Question> = together.filter_map(|claim| claim.question.clone()).collect();
    let mut rulings = judge(&questions, suite.alpha, suite.beta).into_iter();
    let mut reports = Vec::new();
    for (at, claims) in pending.into_iter().enumerate() {
        let asked = claims.iter().filter(|claim| claim.question.is_some()).count();
        let own: Vec<Ruling> = if deciding(at) {
            rulings.by_ref().take(asked).collect()
        } else {
            let alone: Vec<Question> = claims.iter().filter_map(|claim| claim.question.clone()).collect();
            judge(&alone, suite.alpha, suite.beta)
        };
        reports.push(report(suite, &recorded[at], claims, own));
    }
    reports
}

fn by_case<'a>(recorded: &Recorded<'a>, arm: Arm) -> ByCase<'a> {
    let mut cases: ByCase<'a> = BTreeMap::new();
    for observation in recorded.observations.iter().filter(|observation| observation.key.arm == arm) {
        cases.entry(&observation.key.case).or_default().push(observation);
    }
    cases.retain(|_, answers| answers.len() >= recorded.gate.repeats as usize);
    cases
}

fn claims<'a>(suite: &Suite, recorded: &Recorded<'a>) -> Vec<Pending<'a>> {
    let candidate = by_case(recorded, Arm::Candidate);
    let stable = by_case(recorded, Arm::Stable);
    let measure = |arm: &ByCase<'_>, limit: &Limit| {
        measure(recorded.gate, limit.metric.name, &recorded.dataset.cases, arm, suite.price)
    };
    recorded
        .gate
        .limits
        .iter()
        .map(|limit| {
            let ours = measure(&candidate, limit);
            let theirs = recorded.paired.then(|| measure(&stable, limit));
            pending(suite, recorded.gate, limit, &ours, theirs.as_ref())
        })
        .collect()
}

fn pending<'a>(
    suite: &Suite,
    gate: &Gate,
    limit: &'a Limit,
    ours: &Measured,
    theirs: Option<&Measured>,
) -> Pending<'a> {
    let (shape, worse) = (limit.metric.shape, limit.metric.worse);
    let sides = |measured: &Measured| Sides::alone(measured, shape, worse, suite.seed);
    let compared = || theirs.and_then(|theirs| Sides::against(ours, theirs, shape, worse, suite.seed));
    let (sides_of, at_most, value) = match limit.against {
        Against::Max(max) => (Some(sides(ours)), true, max),
        Against::Min(min) => (Some(sides(ours)), false, min),
        Against::Margin(margin) if worse == Worse::More => (compared(), true, margin),
        Against::Margin(margin) => (compared(), false, -margin),
        Against::MaxRatio(ratio) => (compared(), true, ratio),
    };
    let stable = theirs.and_then(|theirs| sides(theirs).for_fail.estimate());
    let paired = matches!(limit.against, Against::Margin(_));
    let p = sides_of
        .as_ref()
        .filter(|_| paired && shape == Shape::Share)
        .and_then(|sides| discordant(&sides.for_fail, worse));
    let question = sides_of.map(|sides| Question {
        enough: sides.for_pass.n() >= gate.min_cases,
        at_most,
        limit: value,
        rule: limit.rule,
        none: limit.none,
        sides,
    });
    Pending { limit, question, stable, p }
}

/// McNemar's test on differences of yes and no: the chance of so many cases going against the candidate if the arms were alike.
fn discordant(evidence: &Evidence, worse: Worse) -> Option<f64> {
    let Evidence::Score { values, .. } = evidence else { return None };
    let count = |sign: f64| values.iter().filter(|value| **value * sign > 0.5).count() as u64;
    let (more, less) = (count(1.0), count(-1.0));
    Some(if worse == Worse::More { mcnemar(more, less) } else { mcnemar(less, more) }.one_is_more)
}

fn measure(gate: &Gate, metric: &str, cases: &[Case], arm: &ByCase<'_>, price: Option<Price>) -> Measured {
    match gate.kind {
        Kind::Consistency => consistency::measure(gate, metric, arm),
        Kind::Quality => quality::measure(gate, arm),
        Kind::Safety => safety::measure(metric, cases, arm),
        Kind::Performance => performance::measure(metric, arm, price),
        Kind::Calibration => calibration::measure(metric, arm),
        Kind::Tools => tools::measure(metric, arm),
        Kind::Imported => per_case(arm, |answers| {
            mean(answers.iter().map(|answer| answer.right.map(|right| f64::from(u8::from(right))))).map(libm::floor)
        }),
    }
}

/// One number for each case from its scored answers; `None` for a case of which one answer is missing.
fn per_case(arm: &ByCase<'_>, number: impl Fn(&[&crate::observation::Scored]) -> Option<f64>) -> Measured {
    let one = |answers: &Vec<&Observation>| {
        let scored: Option<Vec<_>> = answers.iter().map(|observation| observation.scored()).collect();
        scored.and_then(|scored| number(&scored))
    };
    Measured::PerCase(arm.iter().map(|(case, answers)| ((*case).to_owned(), one(answers))).collect())
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Option<Vec<f64>> = values.collect();
    values.filter(|values| !values.is_empty()).map(|values| values.iter().sum::<f64>() / values.len() as f64)
}

/// What was asked for and not had.
fn missing(observations: &[Observation], arm: Arm) -> BTreeMap<Missing, usize> {
    let mut missing = BTreeMap::new();
    for observation in observations.iter().filter(|observation| observation.key.arm == arm) {
        if let Answer::Missing { why, .. } = &observation.answer {
            *missing.entry(*why).or_default() += 1;
        }
    }
    missing
}

/// Why a gate measured nothing: it could not be run, or too much is missing.
fn failure(suite: &Suite, recorded: &Recorded<'_>) -> Option<String> {
    if let Some(refused) = &recorded.refused {
        return Some(refused.clone());
    }
    let arms = [(Arm::Candidate, "the target"), (Arm::Stable, "the stable")];
    arms.into_iter().find_map(|(arm, who)| {
        let asked = recorded.observations.iter().filter(|observation| observation.key.arm == arm).count();
        let mut missing = missing(recorded.observations, arm);
        // Of a performance gate a timeout is a measurement: it was at least so slow.
        if recorded.gate.kind == Kind::Performance {
            missing.remove(&Missing::Timeout);
        }
        let count: usize = missing.values().sum();
        let too_many = count as f64 > suite.max_missing * asked as f64;
        too_many.then(|| {
            let kinds: Vec<String> = missing.iter().map(|(why, count)| format!("{count} {why}")).collect();
            let words = recorded.observations.iter().find_map(|observation| match &observation.answer {
                Answer::Missing { why, detail, .. } if observation.key.arm == arm && missing.contains_key(why) => {
                    Some(detail.as_str())
                }
                Answer::Missing { .. } | Answer::Scored(_) => None,
            });
            format!(
                "{count} of {asked} answers of {who} are missing ({}), more than {} may: {}",
                kinds.join(", "),
                bellwether_core::measure::metric::Unit::Percent.show(suite.max_missing),
                words.unwrap_or_default()
            )
        })
    })
}

fn report(suite: &Suite, recorded: &Recorded<'_>, pending: Vec<Pending<'_>>, rulings: Vec<Ruling>) -> GateReport {
    let gate = recorded.gate;
    let mut rulings = rulings.into_iter();
    let claims: Vec<Claim> = pending
        .into_iter()
        .map(|pending| match pending.question {
            Some(question) => {
                let ruling = rulings.next().unwrap_or(Ruling {
                    verdict: Verdict::Inconclusive,
                    bound: None,
                    tail: 1.0,
                    from_above: true,
                });
                say::claim(gate, pending.limit, &question, ruling, pending.stable, pending.p)
            }
            None => say::skipped(pending.limit),
        })
        .collect();
    let failed = failure(suite, recorded);
    let verdict =
        if failed.is_some() { Verdict::Error } else { Verdict::of_all(claims.iter().map(|claim| claim.verdict)) };
    let candidate = by_case(recorded, Arm::Candidate);
    GateReport {
        name: gate.name.clone(),
        kind: gate.kind,
        mode: gate.mode,
        counts: counts(gate, verdict),
        sentence: say::sentence(gate, verdict, failed.as_deref(), &claims),
        verdict,
        claims: if failed.is_some() { Vec::new() } else { claims },
        dataset: Kept::of(recorded.dataset),
        asked: recorded.observations.len(),
        not_asked: recorded.dataset.cases.len().saturating_sub(candidate.len()),
        missing: missing(recorded.observations, Arm::Candidate),
        breakdown: safety::breakdown(gate, &recorded.dataset.cases, &candidate, suite.beta),
        reliability: calibration::reliability(gate, &candidate, suite.seed),
    }
}

/// What the gate's verdict is to the suite.
fn counts(gate: &Gate, verdict: Verdict) -> Verdict {
    match (gate.mode, verdict, gate.on_inconclusive) {
        (Mode::Warn | Mode::Shadow, ..) => Verdict::Skipped,
        (Mode::Enforce, Verdict::Inconclusive, OnInconclusive::Fail) => Verdict::Fail,
        (Mode::Enforce, Verdict::Inconclusive, OnInconclusive::Pass) => Verdict::Pass,
        (Mode::Enforce, verdict, _) => verdict,
    }
}

/// Whether a limit is a plain threshold: then it promises nothing, and the report says so.
fn promises_nothing(limit: &Limit) -> bool {
    limit.rule == RuleKind::Threshold
}
