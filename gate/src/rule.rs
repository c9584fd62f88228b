//! From bounds to verdicts, with error rates for the suite as a whole.
//!
//! A suite passes only if *all* that it asks for is shown. If one thing is not so, the suite passes wrongly only when that one
//! is shown wrongly, so each may be shown at the full `beta` and nothing needs to be divided (Berger 1982: the
//! intersection-union test).
//!
//! A suite fails as soon as *any* of its claims fails, and with ten claims at 5 % every third good version would. So `alpha` is
//! shared by Holm's procedure (1979): the clearest failure must hold at `alpha / m`, the next at `alpha / (m - 1)`, and so
//! on. Holm's and not weights, because nobody can say in advance which of the gates matters how much more, and because it
//! never asks for more than equal shares would. Each bound that is reported is at the level at which it was held against its
//! limit, so that a reader sees the verdict in the number.
//!
//! Two kinds of claims are outside of these promises, because somebody has asked for something else: a plain threshold, and
//! `none`, which one single case refutes.

use crate::evidence::{Evidence, Sides};
use crate::suite::RuleKind;

/// What came of a claim, a gate or a suite.
pub use bellwether_core::input::report::SuiteResult as Verdict;

/// A claim: something is at most, or at least, so much.
#[derive(Debug, Clone)]
pub struct Question {
    /// What it rests on.
    pub sides: Sides,
    /// At most; otherwise at least.
    pub at_most: bool,
    /// So much.
    pub limit: f64,
    /// By a bound, or by the plain number.
    pub rule: RuleKind,
    /// One hit refutes it.
    pub none: bool,
    /// There are as many cases as the gate asks for.
    pub enough: bool,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ruling {
    /// Pass, fail or inconclusive.
    pub verdict: Verdict,
    /// The bound that was held against the limit; `None`: the plain number was, or there is none.
    pub bound: Option<f64>,
    /// The error that the bound has at most.
    pub tail: f64,
    /// The bound is from above; otherwise from below.
    pub from_above: bool,
}

/// Answers claims that are made together.
pub fn judge(questions: &[Question], alpha: f64, beta: f64) -> Vec<Ruling> {
    let refuted = holm(questions, alpha);
    questions.iter().zip(refuted).map(|(question, refuted)| one(question, refuted, beta)).collect()
}

fn one(question: &Question, refuted: Option<f64>, beta: f64) -> Ruling {
    let Question { sides, rule, enough, .. } = question;
    if *rule == RuleKind::Threshold {
        let verdict = match sides.for_pass.estimate() {
            _ if refuted_by_one(question) => Verdict::Fail,
            Some(_) if !enough => Verdict::Inconclusive,
            Some(estimate) if within(question, estimate) => Verdict::Pass,
            Some(_) => Verdict::Fail,
            None => Verdict::Inconclusive,
        };
        return Ruling { verdict, bound: None, tail: 1.0, from_above: question.at_most };
    }
    if let Some(tail) = refuted {
        return Ruling {
            verdict: Verdict::Fail,
            bound: finite(against(question, tail)),
            tail,
            from_above: !question.at_most,
        };
    }
    let bound = if question.at_most { sides.for_pass.upper(beta) } else { sides.for_pass.lower(beta) };
    let verdict = match refuted_by_one(question) {
        true => Verdict::Fail,
        false if *enough && within(question, bound) => Verdict::Pass,
        false => Verdict::Inconclusive,
    };
    Ruling { verdict, bound: finite(bound), tail: beta, from_above: question.at_most }
}

/// The level at which each claim is refuted.
fn holm(questions: &[Question], alpha: f64) -> Vec<Option<f64>> {
    let mut refuted = vec![None; questions.len()];
    let mut left = questions.iter().filter(|question| question.rule == RuleKind::Bound).count();
    // Every claim that is refuted makes the next ones easier to refute, also those that were not before.
    loop {
        let tail = alpha / left.max(1) as f64;
        let next = questions.iter().enumerate().find(|(at, question)| {
            let open = refuted[*at].is_none() && question.rule == RuleKind::Bound;
            open && question.sides.for_fail.n() > 0 && !within(question, against(question, tail))
        });
        let Some((at, _)) = next else { return refuted };
        refuted[at] = Some(tail);
        left -= 1;
    }
}

/// The bound that speaks against a claim.
fn against(question: &Question, tail: f64) -> f64 {
    let evidence = &question.sides.for_fail;
    if question.at_most { evidence.lower(tail) } else { evidence.upper(tail) }
}

fn within(question: &Question, value: f64) -> bool {
    if question.at_most { value <= question.limit } else { value >= question.limit }
}

fn refuted_by_one(question: &Question) -> bool {
    question.none && matches!(question.sides.for_fail, Evidence::Share { hits, .. } if hits > 0)
}

fn finite(bound: f64) -> Option<f64> {
    bound.is_finite().then_some(bound)
}
