//! The claims of a report and the sentences of its results: the estimate, the bound, the limit and the verdict.

use bellwether_core::measure::metric::Unit;

use super::Recorded;
use crate::evidence::SampleEvidence;
use crate::metric::Aggregation;
use crate::report::ReportedClaim;
use crate::rule::{Hypothesis, Ruling, Verdict};
use crate::suite::{Comparison, Gate, GateLimit, RuleKind};

/// Returns the claim of a limit that was judged.
pub(super) fn judged_claim(
    recorded: &Recorded<'_>,
    limit: &GateLimit,
    hypothesis: &Hypothesis,
    ruling: Ruling,
    (stable, p): (Option<f64>, Option<f64>),
) -> ReportedClaim {
    let evidence =
        if ruling.verdict == Verdict::Fail { &hypothesis.evidence.for_fail } else { &hypothesis.evidence.for_pass };
    let hits = match evidence {
        SampleEvidence::Share { hits, .. } => Some(*hits),
        SampleEvidence::Score { .. }
        | SampleEvidence::Times { .. }
        | SampleEvidence::TimesRatio { .. }
        | SampleEvidence::Resampled { .. } => None,
    };
    let is_comparison = matches!(limit.comparison, Comparison::Margin(_) | Comparison::MaxRatio(_));
    let mut claim = ReportedClaim {
        metric: limit.metric.name.to_owned(),
        paired: is_comparison,
        verdict: ruling.verdict,
        estimate: evidence.estimate().filter(|estimate| estimate.is_finite()),
        bound: ruling.bound,
        bound_from_above: ruling.from_above,
        confidence: (limit.rule == RuleKind::Bound).then_some(1.0 - ruling.tail),
        at_most: hypothesis.at_most,
        limit: hypothesis.limit,
        n: evidence.n(),
        hits,
        stable: stable.filter(|stable| stable.is_finite()),
        p,
        failing: Vec::new(),
        failing_count: 0,
        sentence: String::new(),
    };
    claim.sentence = format!(
        "{}{}{}: {}",
        estimate_words(limit, &claim),
        bound_words(limit, &claim),
        limit_words(limit, &claim),
        verdict_words(recorded, limit, &claim)
    );
    claim
}

/// Returns the claim of a comparison that was skipped because there is no stable version.
pub(super) fn skipped_claim(limit: &GateLimit) -> ReportedClaim {
    let value = match limit.comparison {
        Comparison::Max(value) | Comparison::Min(value) | Comparison::Margin(value) | Comparison::MaxRatio(value) => {
            value
        }
    };
    ReportedClaim {
        metric: limit.metric.name.to_owned(),
        paired: true,
        verdict: Verdict::Skipped,
        estimate: None,
        bound: None,
        bound_from_above: true,
        confidence: None,
        at_most: true,
        limit: value,
        n: 0,
        hits: None,
        stable: None,
        p: None,
        failing: Vec::new(),
        failing_count: 0,
        sentence: format!("{}: there is no stable version to compare with (--stable): skipped", limit.metric.words),
    }
}

/// Returns a value with its unit; a quotient as a factor.
fn show(limit: &GateLimit, value: f64) -> String {
    match limit.comparison {
        Comparison::MaxRatio(_) => format!("{}x", Unit::Number.show(value)),
        Comparison::Max(_) | Comparison::Min(_) | Comparison::Margin(_) => limit.metric.unit.show(value),
    }
}

fn estimate_words(limit: &GateLimit, claim: &ReportedClaim) -> String {
    let words = limit.metric.words;
    let (n, noun) = (claim.n, if claim.n == 1 { "case" } else { "cases" });
    let Some(estimate) = claim.estimate else {
        return if n == 0 { format!("{words}: no values") } else { format!("{words}: not known over {n} {noun}") };
    };
    let shown = show(limit, estimate);
    match (limit.comparison, claim.hits) {
        (Comparison::Max(_) | Comparison::Min(_), Some(hits)) => format!("{hits} of {n} {words}"),
        (Comparison::Max(_) | Comparison::Min(_), None) if limit.metric.aggregation == Aggregation::Share => {
            format!("{shown} of {words}, over {n} {noun}")
        }
        (Comparison::Max(_) | Comparison::Min(_), None) => format!("{words} {shown} over {n} {noun}"),
        (Comparison::Margin(_), _) => {
            let sign = if estimate > 0.0 { "+" } else { "" };
            format!("{} {sign}{shown} against stable over {n} {noun}", quantity_words(limit))
        }
        (Comparison::MaxRatio(_), _) => format!("{words} {shown} stable's over {n} {noun}"),
    }
}

/// Returns the metric's words as the name of a quantity. The words of a share are written to follow a count, as in "3
/// of 9 attacks succeeded", and a difference of shares has no count.
fn quantity_words(limit: &GateLimit) -> String {
    match limit.metric.aggregation {
        Aggregation::Share => format!("the share of {}", limit.metric.words),
        Aggregation::Score | Aggregation::Quantile(_) | Aggregation::Ratio => limit.metric.words.to_owned(),
    }
}

fn bound_words(limit: &GateLimit, claim: &ReportedClaim) -> String {
    let Some(confidence) = claim.confidence else { return ", by the plain estimate".to_owned() };
    let Some(bound) = claim.bound else { return ", without a bound".to_owned() };
    let side = if claim.bound_from_above { "at most" } else { "at least" };
    format!(", {side} {} with {} confidence", show(limit, bound), Unit::Percent.show(confidence))
}

fn limit_words(limit: &GateLimit, claim: &ReportedClaim) -> String {
    match limit.comparison {
        Comparison::Max(_) if limit.none => format!("; limit {}, and none allowed", show(limit, claim.limit)),
        Comparison::Max(_) => format!("; limit {}", show(limit, claim.limit)),
        Comparison::Min(_) => format!("; limit ≥ {}", show(limit, claim.limit)),
        Comparison::Margin(margin) => format!("; margin {}", show(limit, margin)),
        Comparison::MaxRatio(_) => format!("; limit {}", show(limit, claim.limit)),
    }
}

fn verdict_words(recorded: &Recorded<'_>, limit: &GateLimit, claim: &ReportedClaim) -> String {
    let (cases, not_asked, required) = (recorded.dataset.cases.len(), recorded.not_asked(), recorded.gate.min_cases);
    match claim.verdict {
        Verdict::Inconclusive if not_asked > 0 => {
            format!("inconclusive, {not_asked} of {cases} cases were not asked; the verdict is read from all of them")
        }
        Verdict::Inconclusive if claim.n < required => format!("inconclusive, {required} cases are required"),
        Verdict::Inconclusive if limit.metric.aggregation == Aggregation::Ratio && claim.n > 0 && claim.estimate.is_none() => {
            "inconclusive, the tokens of missing answers are not known; set max-tokens in [target.sampling], which limits them"
                .to_owned()
        }
        Verdict::Pass | Verdict::Fail | Verdict::Inconclusive | Verdict::Error | Verdict::Skipped => {
            claim.verdict.to_string()
        }
    }
}

/// Returns the sentence of a gate: the reason for its failure, or the first claim that has the gate's verdict and the
/// number of further ones.
pub(super) fn gate_sentence(gate: &Gate, verdict: Verdict, failure: Option<&str>, claims: &[ReportedClaim]) -> String {
    if let Some(failure) = failure {
        return format!("{}: {failure}: {verdict}", gate.name);
    }
    let Some(first) = claims.iter().find(|claim| claim.verdict == verdict) else {
        return format!("{}: {verdict}", gate.name);
    };
    let others = claims.iter().filter(|claim| claim.verdict == verdict).count() - 1;
    let others = match others {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    format!("{}: {}{others}", gate.name, first.sentence)
}
