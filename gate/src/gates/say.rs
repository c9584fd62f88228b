//! Findings in one sentence each: what was seen, the bound that was read, the limit, the verdict.

use bellwether_core::measure::metric::Unit;

use super::promises_nothing;
use crate::evidence::Evidence;
use crate::metric::Shape;
use crate::report::Claim;
use crate::rule::{Question, Ruling, Verdict};
use crate::suite::{Against, Gate, Limit};

/// A claim that was judged.
pub(super) fn claim(
    gate: &Gate,
    limit: &Limit,
    question: &Question,
    ruling: Ruling,
    stable: Option<f64>,
    p: Option<f64>,
) -> Claim {
    let evidence = if ruling.verdict == Verdict::Fail { &question.sides.for_fail } else { &question.sides.for_pass };
    let hits = match evidence {
        Evidence::Share { hits, .. } => Some(*hits),
        Evidence::Score { .. } | Evidence::Times { .. } | Evidence::TimesRatio { .. } | Evidence::Resampled { .. } => {
            None
        }
    };
    let paired = matches!(limit.against, Against::Margin(_) | Against::MaxRatio(_));
    let mut claim = Claim {
        metric: limit.metric.name.to_owned(),
        paired,
        verdict: ruling.verdict,
        estimate: evidence.estimate().filter(|estimate| estimate.is_finite()),
        bound: ruling.bound,
        bound_from_above: ruling.from_above,
        confidence: (!promises_nothing(limit)).then_some(1.0 - ruling.tail),
        at_most: question.at_most,
        limit: question.limit,
        n: evidence.n(),
        hits,
        stable: stable.filter(|stable| stable.is_finite()),
        p,
        sentence: String::new(),
    };
    claim.sentence =
        format!("{}{}{}: {}", seen(limit, &claim), bound(limit, &claim), limit_of(limit, &claim), why(gate, &claim));
    claim
}

/// A claim with nothing to hold it against.
pub(super) fn skipped(limit: &Limit) -> Claim {
    let value = match limit.against {
        Against::Max(value) | Against::Min(value) | Against::Margin(value) | Against::MaxRatio(value) => value,
    };
    Claim {
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
        sentence: format!("{}: there is no stable version to compare with (--stable): skipped", limit.metric.words),
    }
}

fn show(limit: &Limit, value: f64) -> String {
    match limit.against {
        Against::MaxRatio(_) => format!("{}x", Unit::Number.show(value)),
        Against::Max(_) | Against::Min(_) | Against::Margin(_) => limit.metric.unit.show(value),
    }
}

fn units(limit: &Limit, claim: &Claim) -> &'static str {
    match (limit.metric.shape, claim.n) {
        (Shape::Quantile(_), 1) => "request",
        (Shape::Quantile(_), _) => "requests",
        (_, 1) => "case",
        _ => "cases",
    }
}

fn seen(limit: &Limit, claim: &Claim) -> String {
    let words = limit.metric.words;
    let Some(estimate) = claim.estimate else { return format!("{words}: nothing to count") };
    let estimate = show(limit, estimate);
    let (n, units) = (claim.n, units(limit, claim));
    match (limit.against, claim.hits) {
        (Against::Max(_) | Against::Min(_), Some(hits)) => format!("{hits} of {n} {words}"),
        (Against::Max(_) | Against::Min(_), None) => format!("{words} {estimate} over {n} {units}"),
        (Against::Margin(_), _) => {
            let sign = if claim.estimate.is_some_and(|estimate| estimate > 0.0) { "+" } else { "" };
            format!("{} {sign}{estimate} against stable over {n} {units}", share_words(limit))
        }
        (Against::MaxRatio(_), _) => format!("{words} {estimate} stable's over {n} {units}"),
    }
}

/// "3 of 9 attacks succeeded" has no number in front when two shares are subtracted.
fn share_words(limit: &Limit) -> String {
    match limit.metric.shape {
        Shape::Share => format!("the share of {}", limit.metric.words),
        Shape::Score | Shape::Quantile(_) | Shape::Ratio => limit.metric.words.to_owned(),
    }
}

fn bound(limit: &Limit, claim: &Claim) -> String {
    let Some(confidence) = claim.confidence else { return ", by the plain number".to_owned() };
    let Some(bound) = claim.bound else { return ", with no bound yet".to_owned() };
    let side = if claim.bound_from_above { "at most" } else { "at least" };
    format!(", {side} {} with {} confidence", show(limit, bound), Unit::Percent.show(confidence))
}

fn limit_of(limit: &Limit, claim: &Claim) -> String {
    match limit.against {
        Against::Max(_) if limit.none => format!("; limit {}, and not one", show(limit, claim.limit)),
        Against::Max(_) => format!("; limit {}", show(limit, claim.limit)),
        Against::Min(_) => format!("; limit ≥ {}", show(limit, claim.limit)),
        Against::Margin(margin) => format!("; margin {}", show(limit, margin)),
        Against::MaxRatio(_) => format!("; limit {}", show(limit, claim.limit)),
    }
}

fn why(gate: &Gate, claim: &Claim) -> String {
    let few = claim.verdict == Verdict::Inconclusive && claim.n < gate.min_cases;
    if few { format!("inconclusive, {} cases are asked for", gate.min_cases) } else { claim.verdict.to_string() }
}

/// The gate's sentence: its first claim that has its verdict, and how many others there are.
pub(super) fn sentence(gate: &Gate, verdict: Verdict, failed: Option<&str>, claims: &[Claim]) -> String {
    if let Some(failed) = failed {
        return format!("{}: {failed}: {verdict}", gate.name);
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
