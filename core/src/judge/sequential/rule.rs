//! The settings of the sequential judge in a policy, and the tests that follow from them.

use serde::{Deserialize, Serialize};

use crate::judge::rule::{RawSettings, SettingProblem, Target};
use crate::measure::metric::{Limit, MetricKind, Unit};
use crate::stats::BadTest;
use crate::stats::mixture::Onset;
use crate::stats::odds_grid::OddsGrid;
use crate::stats::slo::{Ceiling, LimitGrid};
use crate::stats::standardized::Standardized;
use crate::stats::two_sample::non_inferior::NonInferior;
use crate::stats::two_sample::{Effects, Null};

/// The default of `margin`, the allowed ratio of the shares.
const MARGIN: f64 = 1.25;
/// The default of `floor`, the allowed difference of the shares, for ratios.
const FLOOR: f64 = 0.001;
/// The default of `floor` for histograms, as a part of the share that the quantile allows. The share of slow requests is far
/// out in the tail of the response times, where a version that is slower by a few percent has half as many again.
const FLOOR_OF_ALLOWED: f64 = 0.1;

/// The judge's settings for one check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SequentialRule {
    /// The allowed ratio of the canary's share to the stable's; at least 1.
    pub margin: f64,
    /// The allowed difference between the canary's share and the stable's, as a share from 0 to 1.
    pub floor: f64,
    /// The allowed number of requests that are bad and would not be at the stable's share, at least 1; `None` if the policy
    /// sets no such budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<f64>,
    /// Whether a version passes by keeping either the limit or the comparison; otherwise it must keep both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub either: bool,
    /// The error rate of all checks that can roll a rollout back, together; between 0 and 0.5.
    pub alpha: f64,
    /// The number of checks of the steps that share `alpha`.
    pub checks: u32,
    /// The number of checks of the guard that share `alpha`.
    pub of_guard: u32,
    /// The error rate of a proof, between 0 and 0.5.
    pub beta: f64,
}

impl SequentialRule {
    /// Returns this check's part of `alpha`.
    pub fn level(self) -> f64 {
        self.alpha / f64::from(self.checks.saturating_add(self.of_guard).max(1))
    }

    /// Returns whether a version that is equal to the stable can be shown to be good enough.
    pub fn is_provable(self) -> bool {
        self.either || self.margin > 1.0 || self.floor > 0.0
    }

    /// Checks that tests exist for these settings and for the highest allowed share `allowed`.
    ///
    /// # Errors
    /// A [`BadTest`] that names the number for which no test exists.
    pub fn check(self, allowed: f64) -> Result<(), BadTest> {
        SequentialTests::new(self, allowed, Onset::First).map(|_| ())
    }

    /// Reads the settings of a check. The error rates are the policy's and follow later.
    ///
    /// # Errors
    /// The metric doesn't count good and bad requests, or no test exists for a number.
    pub(super) fn from_settings(raw: &RawSettings, target: Target<'_>) -> Result<SequentialRule, Vec<SettingProblem>> {
        let Target { limit, metric, quantile } = target;
        if !matches!(metric.kind, MetricKind::Ratio | MetricKind::Histogram) {
            let remedy = "the sequential judge counts requests, good ones and bad ones; for this metric set judge = \"threshold\"";
            return Err(vec![("judge", remedy.to_owned())]);
        }
        if metric.kind == MetricKind::Histogram && matches!(limit, Limit::Min(_)) {
            return Err(vec![(
                "min",
                "the sequential judge counts the requests above a limit; write `max`".to_owned(),
            )]);
        }
        let margin = raw.margin.unwrap_or(MARGIN);
        let default = if metric.kind == MetricKind::Histogram { FLOOR_OF_ALLOWED * (1.0 - quantile) } else { FLOOR };
        let floor = raw.floor.as_ref().map_or(Ok(default), |floor| Unit::Percent.read(floor));
        let floor = floor.map_err(|message| vec![("floor", message)])?;
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

    /// Returns `alpha` and the number of checks that share it, as the end of a sentence.
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

/// Returns the highest share of bad requests that a check allows: the limit itself if bad requests are counted, one minus the
/// limit if good ones are, and one minus the quantile for a histogram.
pub fn allowed(limit: Limit, kind: MetricKind, quantile: f64) -> f64 {
    match (limit, kind) {
        (_, MetricKind::Histogram) => 1.0 - quantile,
        (Limit::Max(max), _) => max,
        (Limit::Min(min), _) => 1.0 - min,
    }
}

/// The share of bad requests that a cold process may have, unless the check allows more.
pub(super) const COLD_LIMIT: f64 = 0.5;

/// The tests of one check.
pub(crate) struct SequentialTests {
    /// The test of the claim that the share is above `margin` times the stable's.
    pub(crate) worse: OddsGrid,
    /// The test of the claim that the share is above the stable's by more than `floor`.
    pub(crate) further: Effects,
    /// The test of the claim that the share is above the limit.
    pub(crate) above: LimitGrid,
    /// The test of the claim that the share of cold processes is above theirs.
    pub(crate) cold: LimitGrid,
    /// The test of the claim that the share is below `margin` times the stable's, or above it by less than `floor`.
    pub(crate) not_inferior: NonInferior,
    /// The same by strata, at the canary's mix of requests.
    pub(crate) standardized: Standardized,
    /// The test of the claim that the share is below the limit.
    pub(crate) below: Ceiling,
}

impl SequentialTests {
    /// Creates the tests for a rule, the highest allowed share and the planned blocks.
    ///
    /// # Errors
    /// A [`BadTest`] that names the number for which no test exists.
    pub(crate) fn new(rule: SequentialRule, allowed: f64, onset: Onset) -> Result<SequentialTests, BadTest> {
        Ok(SequentialTests {
            worse: OddsGrid::worse(rule.margin, onset)?,
            further: Effects::worse(Null::Difference(rule.floor), onset)?,
            above: LimitGrid::above(allowed, onset)?,
            cold: LimitGrid::above(allowed.max(COLD_LIMIT), onset)?,
            not_inferior: NonInferior::new(rule.margin, rule.floor)?,
            standardized: Standardized::new(rule.margin, rule.floor)?,
            below: Ceiling::new(allowed)?,
        })
    }
}
