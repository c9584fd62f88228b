//! What a policy says of the sequential judge, and which tests that comes to.

use serde::{Deserialize, Serialize};

use crate::judge::rule::{Proof, RawSettings, SettingProblem, Target};
use crate::measure::metric::{Limit, MetricKind, RawLimit, Unit};
use crate::stats::BadTest;
use crate::stats::mixture::Onset;
use crate::stats::odds_grid::OddsGrid;
use crate::stats::slo::{Ceiling, LimitGrid};
use crate::stats::two_sample::{Effects, Null};

/// The allowed ratio of the shares without `margin`.
const MARGIN: f64 = 1.25;
/// The allowed difference of the shares without `floor`.
const FLOOR: &str = "0.1%";

/// The judge's settings for one check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SequentialRule {
    /// The canary's share may be so many times the stable's; at least 1.
    pub margin: f64,
    /// And it may be above the stable's by so much, as a share.
    pub floor: f64,
    /// So many requests may be bad that would not have been at the stable's share; `None`: nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<f64>,
    /// Whether a version is good enough if it keeps either the limit or the comparison; else it has to keep both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub either: bool,
    /// The error rate of all that may roll a rollout back.
    pub alpha: f64,
    /// So many checks share it: those of the steps …
    pub checks: u32,
    /// … and those of the guard.
    pub of_guard: u32,
    /// The error rate of a proof.
    pub beta: f64,
}

impl SequentialRule {
    /// This check's part of `alpha`.
    pub fn level(self) -> f64 {
        self.alpha / f64::from(self.checks.saturating_add(self.of_guard).max(1))
    }

    /// Whether there are tests with these settings, against a limit of so much.
    ///
    /// # Errors
    /// [`BadTest`]: which of the numbers is none.
    pub fn check(self, allowed: f64) -> Result<(), BadTest> {
        SequentialTests::new(self, allowed, Onset::First, Proof::NonInferior).map(|_| ())
    }

    /// Reads the settings of a check. The error rates are the policy's and follow later.
    ///
    /// # Errors
    /// The metric doesn't count good and bad requests, or a number makes no test.
    pub(super) fn from_settings(raw: &RawSettings, target: Target<'_>) -> Result<SequentialRule, Vec<SettingProblem>> {
        let Target { limit, metric, quantile } = target;
        if !matches!(metric.kind, MetricKind::Ratio | MetricKind::Histogram) {
            let remedy = "the sequential judge counts requests, good ones and bad ones; for this metric set judge = \"threshold\"";
            return Err(vec![("judge", remedy.to_owned())]);
        }
        if metric.kind == MetricKind::Histogram && matches!(limit, Limit::Min(_)) {
            return Err(vec![("min", "the sequential judge counts what is above a limit; write `max`".to_owned())]);
        }
        let margin = raw.margin.unwrap_or(MARGIN);
        let floor = raw.floor.clone().unwrap_or_else(|| RawLimit::Text(FLOOR.to_owned()));
        let floor = Unit::Percent.read(&floor).map_err(|message| vec![("floor", message)])?;
        let mut problems = Vec::new();
        if margin < 1.0 {
            let message = format!("a margin of {margin} asks for an improvement; it must be at least 1");
            problems.push(("margin", message));
        }
        if raw.harm.is_some_and(|harm| !(harm.is_finite() && harm >= 1.0)) {
            problems.push(("harm", "a number of requests that may be bad is needed, at least 1".to_owned()));
        }
        let either = raw.either.unwrap_or(false);
        let rule =
            SequentialRule { margin, floor, either, harm: raw.harm, alpha: 0.01, checks: 1, of_guard: 0, beta: 0.05 };
        if let Err(error) = rule.check(allowed(limit, metric.kind, quantile)) {
            problems.push(("judge", format!("the sequential judge has no test for this: {error}")));
        }
        if problems.is_empty() { Ok(rule) } else { Err(problems) }
    }

    /// What `alpha` covers, if it is more than this check.
    pub(crate) fn covers(self) -> String {
        let share = Unit::Percent.show(self.alpha);
        let checks = match self.checks {
            1 => "1 check".to_owned(),
            checks => format!("{checks} checks"),
        };
        match (self.checks, self.of_guard) {
            (0 | 1, 0) | (0, 1) => format!(" at {share}"),
            (_, 0) => format!(": {share} over {checks}"),
            (0, guard) => format!(": {share} over {guard} checks of the guard"),
            (_, guard) => format!(": {share} over {checks} and {guard} of the guard"),
        }
    }
}

/// The highest share of bad requests that a check allows: its limit, the other way round where the good ones are counted,
/// and for a quantile what may lie above it.
pub fn allowed(limit: Limit, kind: MetricKind, quantile: f64) -> f64 {
    match (limit, kind) {
        (_, MetricKind::Histogram) => 1.0 - quantile,
        (Limit::Max(max), _) => max,
        (Limit::Min(min), _) => 1.0 - min,
    }
}

/// A check's tests.
pub(crate) struct SequentialTests {
    pub(crate) worse: OddsGrid,
    pub(crate) further: Effects,
    pub(crate) above: LimitGrid,
    pub(crate) better: OddsGrid,
    /// Where a proof is asked for.
    pub(crate) below: Option<Ceiling>,
}

impl SequentialTests {
    /// # Errors
    /// [`BadTest`]: which of the numbers is none.
    pub(crate) fn new(
        rule: SequentialRule,
        allowed: f64,
        onset: Onset,
        proof: Proof,
    ) -> Result<SequentialTests, BadTest> {
        Ok(SequentialTests {
            worse: OddsGrid::worse(rule.margin, onset)?,
            further: Effects::worse(Null::Difference(rule.floor), onset)?,
            above: LimitGrid::above(allowed, onset)?,
            better: OddsGrid::better(rule.margin)?,
            below: (proof == Proof::NonInferior).then(|| Ceiling::new(allowed)).transpose()?,
        })
    }
}
