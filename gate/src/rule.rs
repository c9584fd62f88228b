//! Rules: turns the bounds of a suite's hypotheses into verdicts, with error rates for the suite as a whole.
//!
//! A suite passes only if *all* of its hypotheses are shown to hold. If one of them is false, the suite passes wrongly
//! only if that one passes wrongly, so each is tested at the full `beta` without a correction (Berger 1982, the
//! intersection-union test).
//!
//! A suite fails if *any* of its hypotheses is refuted. With ten independent ones tested at 5 % each, a good version
//! could fail in 40 % of runs, so `alpha` is shared by Holm's procedure (1979): the clearest refutation must hold at
//! `alpha / m`, the next at `alpha / (m - 1)`, and so on. Holm's procedure needs no weights for the gates, and never
//! demands more than equal shares of `alpha` would. Each reported bound has the level at which it was compared with its
//! limit, so a reader can follow the verdict.
//!
//! A run that its budget ends early can be continued with a larger one. Looking at the first cases and again at all of
//! them would be two tests, each with its own chance of an error, so there is one: a hypothesis is judged when all of its
//! cases were asked. Until then it counts in `m`, so the hypotheses that are judged before it get no more of `alpha` than
//! they will have in the end, and Holm's procedure never takes a refutation back. Missing answers that are asked for again
//! cost nothing either: the evidence for failing took them as the best possible, and that for passing as the worst, so a
//! verdict that was reached without them is the verdict with them.
//!
//! Two settings are outside of these error rates: plain thresholds ([`RuleKind::Threshold`]), and `none`, with which a
//! single hit refutes the hypothesis.

use crate::evidence::{SampleEvidence, TwoSidedEvidence};
use crate::suite::RuleKind;

/// The verdict of a claim, a gate or a suite: pass, fail, inconclusive, error or skipped. This is the type in which the
/// core receives the results of suites, under the name that this crate uses for it.
pub use bellwether_core::input::report::SuiteResult as Verdict;

/// A statement that a value is at most, or at least, its limit, with the evidence to judge it by.
#[derive(Debug, Clone)]
pub struct Hypothesis {
    /// The evidence about the value.
    pub evidence: TwoSidedEvidence,
    /// Whether the statement is "at most"; otherwise it is "at least".
    pub at_most: bool,
    /// The limit in the unit of the value; of a comparison, of the difference or the quotient.
    pub limit: f64,
    /// Whether a bound or the plain estimate is compared with the limit.
    pub rule: RuleKind,
    /// Whether a single hit refutes the statement. Only for shares.
    pub none: bool,
    /// Whether there are as many cases as the gate requires; otherwise the statement can't pass.
    pub enough: bool,
    /// Whether the evidence is final: every case was asked. A statement is judged once, with all of its cases; before
    /// that it neither passes nor fails, but its share of `alpha` is reserved.
    pub complete: bool,
}

/// The verdict on a hypothesis, with the bound that it was read from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ruling {
    /// Pass, fail or inconclusive.
    pub verdict: Verdict,
    /// The bound that was compared with the limit; `None` if the plain estimate was compared, or the evidence supports
    /// no bound.
    pub bound: Option<f64>,
    /// The largest probability that the true value is beyond the bound; 1 for a plain threshold.
    pub tail: f64,
    /// Whether the bound is an upper bound; otherwise it is a lower bound.
    pub from_above: bool,
}

/// Judges the hypotheses of a suite together. Returns a ruling for each, in the same order.
pub fn judge(hypotheses: &[Hypothesis], alpha: f64, beta: f64) -> Vec<Ruling> {
    let refuted = refute(hypotheses, alpha);
    hypotheses.iter().zip(refuted).map(|(hypothesis, level)| rule_on(hypothesis, level, beta)).collect()
}

/// Returns whether the hypothesis passes, which depends on no other hypothesis of its suite.
pub(crate) fn passes(hypothesis: &Hypothesis, beta: f64) -> bool {
    rule_on(hypothesis, None, beta).verdict == Verdict::Pass
}

/// Returns the ruling on one hypothesis, which was refuted at `refuted_at` if that is not `None`.
fn rule_on(hypothesis: &Hypothesis, refuted_at: Option<f64>, beta: f64) -> Ruling {
    let Hypothesis { evidence, rule, enough, complete, .. } = hypothesis;
    if *rule == RuleKind::Threshold {
        let verdict = match evidence.for_pass.estimate() {
            _ if !complete => Verdict::Inconclusive,
            _ if has_forbidden_hit(hypothesis) => Verdict::Fail,
            Some(_) if !enough => Verdict::Inconclusive,
            Some(estimate) if within_limit(hypothesis, estimate) => Verdict::Pass,
            Some(_) => Verdict::Fail,
            None => Verdict::Inconclusive,
        };
        return Ruling { verdict, bound: None, tail: 1.0, from_above: hypothesis.at_most };
    }
    if let Some(tail) = refuted_at {
        return Ruling {
            verdict: Verdict::Fail,
            bound: finite(refuting_bound(hypothesis, tail)),
            tail,
            from_above: !hypothesis.at_most,
        };
    }
    let bound = if hypothesis.at_most { evidence.for_pass.upper(beta) } else { evidence.for_pass.lower(beta) };
    let verdict = match has_forbidden_hit(hypothesis) {
        _ if !complete => Verdict::Inconclusive,
        true => Verdict::Fail,
        false if *enough && within_limit(hypothesis, bound) => Verdict::Pass,
        false => Verdict::Inconclusive,
    };
    Ruling { verdict, bound: finite(bound), tail: beta, from_above: hypothesis.at_most }
}

/// Refutes hypotheses by Holm's procedure. Returns for each the level at which it was refuted; `None` if it was not.
fn refute(hypotheses: &[Hypothesis], alpha: f64) -> Vec<Option<f64>> {
    let mut refuted = vec![None; hypotheses.len()];
    let mut left = hypotheses.iter().filter(|hypothesis| hypothesis.rule == RuleKind::Bound).count();
    // Each refutation raises the level for the rest, so hypotheses that resisted before are tried again.
    loop {
        let tail = alpha / left.max(1) as f64;
        let next = hypotheses.iter().enumerate().find(|(index, hypothesis)| {
            let open = refuted[*index].is_none() && hypothesis.complete && hypothesis.rule == RuleKind::Bound;
            open && hypothesis.evidence.for_fail.n() > 0 && !within_limit(hypothesis, refuting_bound(hypothesis, tail))
        });
        let Some((index, _)) = next else { return refuted };
        refuted[index] = Some(tail);
        left -= 1;
    }
}

/// Returns the bound that refutes the hypothesis if it is beyond the limit.
fn refuting_bound(hypothesis: &Hypothesis, tail: f64) -> f64 {
    let evidence = &hypothesis.evidence.for_fail;
    if hypothesis.at_most { evidence.lower(tail) } else { evidence.upper(tail) }
}

fn within_limit(hypothesis: &Hypothesis, value: f64) -> bool {
    if hypothesis.at_most { value <= hypothesis.limit } else { value >= hypothesis.limit }
}

/// Returns whether the hypothesis allows no hit and there is one.
fn has_forbidden_hit(hypothesis: &Hypothesis) -> bool {
    let is_hit = match &hypothesis.evidence.for_fail {
        SampleEvidence::Share { hits, .. } => *hits > 0,
        SampleEvidence::Score { values, .. } => values.iter().any(|value| *value > 0.0),
        SampleEvidence::Times { .. } | SampleEvidence::TimesRatio { .. } | SampleEvidence::Resampled { .. } => false,
    };
    hypothesis.none && is_hit
}

fn finite(bound: f64) -> Option<f64> {
    bound.is_finite().then_some(bound)
}
