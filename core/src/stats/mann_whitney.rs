//! Kayenta's comparison of two samples, for the `mann-whitney` judge and for backtests.
//!
//! A two-sided 98 % confidence interval for the shift between two samples is computed from the Mann-Whitney test. The
//! label is `High` if all of it is above a quarter of the estimated shift, and `Low` if all of it is below minus that
//! (Spinnaker's Kayenta, NetflixACAJudge-v1.0 at a69573b, with the tolerances and defaults of its source). Its
//! weaknesses are reproduced as well, so that a comparison shows Kayenta's real verdict:
//!
//! - The root of a step function is searched to an absolute 10⁻⁴, so metrics in small units (ratios) lose their
//!   interval.
//! - With one value on either side there is no test, and the result is `Error`, which does not count in the score.
//! - A value has no weight by its number of requests, and repeated looks are not corrected for.
//!
//! One property is not reproduced. If both samples are constant and differ, Kayenta adds random noise of 10⁻⁵ of their
//! values, which makes the last digits of its result random. Here the interval and the estimate are the difference
//! itself, the expectation of Kayenta's result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::special::normal_quantile;

/// The tolerated part of the estimated shift.
const TOLERANCE: f64 = 0.25;
/// The error probability of each tail of the confidence interval.
const TAIL: f64 = 0.01;
/// The absolute tolerance of the root search.
const ROOT_TOLERANCE: f64 = 1e-4;

/// The direction of change that is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// An increase is bad.
    Increase,
    /// A decrease is bad.
    Decrease,
    /// Any change is bad.
    #[default]
    Either,
}

/// The treatment of NaN values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingData {
    /// NaN values are left out, and a metric without values has no data.
    #[default]
    Remove,
    /// NaN values count as zero, and a metric without values passes.
    Replace,
}

/// The measure of an effect's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectSize {
    /// The canary's mean divided by the stable's. If either mean is zero it is unknown, and the bounds don't apply.
    #[default]
    MeanRatio,
    /// The probability that a value of the canary is above one of the stable, with ties counted half (Vargha and
    /// Delaney 2000).
    CommonLanguage,
}

/// The settings of one metric. A bound of `None` means no effect: 1 for a mean ratio, 0.5 for the common language
/// effect.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MannWhitneySettings {
    /// The direction of change that is bad.
    pub direction: Direction,
    /// The treatment of NaN values.
    pub missing: MissingData,
    /// The measure of the effect's size, which the four bounds below refer to.
    pub effect: EffectSize,
    /// The smallest effect for which the metric can be labelled `High`.
    pub allowed_increase: Option<f64>,
    /// The largest effect for which the metric can be labelled `Low`.
    pub allowed_decrease: Option<f64>,
    /// The smallest effect for which a `High` of a critical metric fails the canary.
    pub critical_increase: Option<f64>,
    /// The largest effect for which a `Low` of a critical metric fails the canary.
    pub critical_decrease: Option<f64>,
    /// Whether the metric alone can fail the canary.
    pub critical: bool,
    /// Whether missing data count as a failure.
    pub must_have_data: bool,
    /// The number of interquartile ranges from the quartiles beyond which a value is left out as an outlier, provided
    /// that it is also beyond the first or 99th percentile; `None` keeps all values. Kayenta's own default is 3 if it
    /// is asked to remove outliers.
    pub outlier_factor: Option<f64>,
}

/// The classification of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// The samples do not differ relevantly.
    Pass,
    /// The canary's values are too high.
    High,
    /// The canary's values are too low.
    Low,
    /// An arm has no data.
    NoData,
    /// An arm has no data although the settings require them.
    NoDataFails,
    /// There are too few values for the test. Kayenta neither scores the metric nor fails the canary.
    Error,
}

/// The estimated shift of the values from stable to canary, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shift {
    /// The lower end of the 98 % confidence interval.
    pub lower: f64,
    /// The upper end of the 98 % confidence interval.
    pub upper: f64,
    /// The Hodges-Lehmann estimate.
    pub estimate: f64,
}

/// A metric's label and the numbers that it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitneyResult {
    /// The metric's classification.
    pub label: Label,
    /// Whether the canary fails because of this metric alone.
    pub critical: bool,
    /// The estimated shift; `None` if the label did not need it or there is no test.
    pub shift: Option<Shift>,
    /// The effect, in the measure of the settings; `None` if the label did not need it or it is unknown.
    pub effect: Option<f64>,
}

/// Classifies one metric by Kayenta's rule (NetflixACAJudge-v1.0).
///
/// `stable` and `canary` have one value per point in time, in the metric's unit and in any order; NaN means missing.
pub fn judge(stable: &[f64], canary: &[f64], settings: &MannWhitneySettings) -> MannWhitneyResult {
    let (stable, canary) = (cleaned(stable, settings), cleaned(canary, settings));
    let plain = |label, critical| MannWhitneyResult { label, critical, shift: None, effect: None };
    if stable.is_empty() || canary.is_empty() {
        return match settings.missing {
            MissingData::Replace => plain(Label::Pass, false),
            MissingData::Remove if settings.must_have_data && !settings.critical => plain(Label::NoDataFails, false),
            MissingData::Remove => plain(Label::NoData, settings.critical),
        };
    }
    let sorted = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    // Samples are also equal if all values of both are the same number; their lengths may then differ.
    let are_constant_and_equal = constant(&stable).is_some() && constant(&stable) == constant(&canary);
    if are_constant_and_equal || sorted(&stable) == sorted(&canary) {
        return plain(Label::Pass, false);
    }
    let Some(shift) = shift(&canary, &stable) else { return plain(Label::Error, false) };
    let effect = match settings.effect {
        EffectSize::MeanRatio => mean_ratio(&stable, &canary),
        EffectSize::CommonLanguage => Some(common_language(&stable, &canary)),
    };
    let label = label(shift, effect, settings);
    let bound = |bound: Option<f64>| bound.unwrap_or(settings.effect.no_effect());
    let critical = settings.critical
        && match label {
            Label::High => effect.is_none_or(|effect| effect >= bound(settings.critical_increase)),
            Label::Low => effect.is_none_or(|effect| effect <= bound(settings.critical_decrease)),
            Label::Pass | Label::NoData | Label::NoDataFails | Label::Error => false,
        };
    MannWhitneyResult { label, critical, shift: Some(shift), effect }
}

fn label(shift: Shift, effect: Option<f64>, settings: &MannWhitneySettings) -> Label {
    let tolerated = TOLERANCE * shift.estimate.abs();
    let bound = |bound: Option<f64>| bound.unwrap_or(settings.effect.no_effect());
    let large = effect.is_none_or(|effect| effect >= bound(settings.allowed_increase));
    let small = effect.is_none_or(|effect| effect <= bound(settings.allowed_decrease));
    if settings.direction != Direction::Decrease && shift.lower > tolerated && large {
        Label::High
    } else if settings.direction != Direction::Increase && shift.upper < -tolerated && small {
        Label::Low
    } else {
        Label::Pass
    }
}

impl EffectSize {
    /// Returns the value of this measure if there is no effect.
    fn no_effect(self) -> f64 {
        match self {
            EffectSize::MeanRatio => 1.0,
            EffectSize::CommonLanguage => 0.5,
        }
    }
}

fn cleaned(values: &[f64], settings: &MannWhitneySettings) -> Vec<f64> {
    let kept: Vec<f64> = match settings.missing {
        MissingData::Remove => values.iter().copied().filter(|value| !value.is_nan()).collect(),
        MissingData::Replace => values.iter().map(|value| if value.is_nan() { 0.0 } else { *value }).collect(),
    };
    let (Some(factor), false) = (settings.outlier_factor, kept.is_empty()) else { return kept };
    let mut sorted = kept.clone();
    sorted.sort_by(f64::total_cmp);
    let (q1, q3) = (percentile(&sorted, 0.25), percentile(&sorted, 0.75));
    let low = percentile(&sorted, 0.01).min(q1 - factor * (q3 - q1));
    let high = percentile(&sorted, 0.99).max(q3 + factor * (q3 - q1));
    kept.into_iter().filter(|value| (low..=high).contains(value)).collect()
}

/// Returns a percentile by linear interpolation between the order statistics (Hyndman and Fan 1996, type 7).
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len().saturating_sub(1)) as f64;
    let at = |index: usize| sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(libm::floor(place) as usize), at(libm::floor(place) as usize + 1));
    low + (high - low) * (place - libm::floor(place))
}

fn constant(values: &[f64]) -> Option<f64> {
    let first = *values.first()?;
    values.iter().all(|value| *value == first).then_some(first)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn mean_ratio(stable: &[f64], canary: &[f64]) -> Option<f64> {
    let (stable, canary) = (mean(stable), mean(canary));
    (stable != 0.0 && canary != 0.0).then(|| canary / stable)
}

fn common_language(stable: &[f64], canary: &[f64]) -> f64 {
    let (n, m) = (stable.len() as f64, canary.len() as f64);
    let (ranks, _) = rank_sum(canary, stable);
    (2.0 * ranks - m * (m + 1.0)) / (2.0 * n * m)
}

/// Returns the sum of the ranks of `x` among `x` and `y`, where equal values share their mean rank, and `Σ (t³ - t)`
/// over the groups of `t` equal values.
fn rank_sum(x: &[f64], y: &[f64]) -> (f64, f64) {
    let mut all: Vec<(f64, bool)> = x.iter().map(|v| (*v, true)).chain(y.iter().map(|v| (*v, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut ties, mut before) = (0.0, 0.0, 0.0);
    for group in all.chunk_by(|a, b| a.0 == b.0) {
        let size = group.len() as f64;
        let of_x = group.iter().filter(|(_, is_x)| *is_x).count() as f64;
        ranks += of_x * (before + (size + 1.0) / 2.0);
        ties += size * size * size - size;
        before += size;
    }
    (ranks, ties)
}

/// Returns the standardised rank statistic of `x - mu` against `y`, with continuity and tie corrections; `None` if all
/// values are tied.
fn standardised(mu: f64, x: &[f64], y: &[f64]) -> Option<f64> {
    let (n, m) = (x.len() as f64, y.len() as f64);
    let shifted: Vec<f64> = x.iter().map(|value| value - mu).collect();
    let (ranks, ties) = rank_sum(&shifted, y);
    let over = ranks - n * (n + 1.0) / 2.0 - n * m / 2.0;
    let correction = if over == 0.0 { 0.0 } else { 0.5 * over.signum() };
    let sigma = (n * m / 12.0 * (n + m + 1.0 - ties / ((n + m) * (n + m - 1.0)))).sqrt();
    (sigma > 0.0).then(|| (over - correction) / sigma)
}

/// Returns the confidence interval and the estimate of the shift from `y` to `x`; `None` if there are too few values.
fn shift(x: &[f64], y: &[f64]) -> Option<Shift> {
    if let (Some(x_value), Some(y_value)) = (constant(x), constant(y)) {
        let difference = x_value - y_value;
        return (x.len() + y.len() > 2).then_some(Shift { lower: difference, upper: difference, estimate: difference });
    }
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bracket = (least(x) - most(y), most(x) - least(y));
    let quantile = -normal_quantile(TAIL);
    let at = |z: f64, mu: f64| Some(standardised(mu, x, y)? - z);
    let end = |z: f64| {
        let (low, high) = (at(z, bracket.0)?, at(z, bracket.1)?);
        if low <= 0.0 {
            Some(bracket.0)
        } else if high >= 0.0 {
            Some(bracket.1)
        } else {
            root(bracket, (low, high), |mu| at(z, mu))
        }
    };
    let ends = (at(0.0, bracket.0)?, at(0.0, bracket.1)?);
    Some(Shift { lower: end(quantile)?, upper: end(-quantile)?, estimate: root(bracket, ends, |mu| at(0.0, mu))? })
}

/// Finds a root by Brent's method (Brent 1973, "Algorithms for Minimization without Derivatives", §4).
///
/// `b` is the best point so far, `c` lies on the other side of the root, and `a` is the previous `b`. Keep the order of
/// the operations: for a step function the result is the point at which the search stops.
fn root(bracket: (f64, f64), values: (f64, f64), f: impl Fn(f64) -> Option<f64>) -> Option<f64> {
    let (mut a, mut b) = bracket;
    let (mut fa, mut fb) = values;
    if fa == 0.0 {
        return Some(a);
    }
    if fb == 0.0 {
        return Some(b);
    }
    let (mut c, mut fc) = (a, fa);
    for _ in 0..=1000 {
        let before = b - a;
        if fc.abs() < fb.abs() {
            (a, b, c) = (b, c, b);
            (fa, fb, fc) = (fb, fc, fb);
        }
        let tolerance = 2.0 * f64::EPSILON * b.abs() + ROOT_TOLERANCE / 2.0;
        let half = (c - b) / 2.0;
        if half.abs() <= tolerance || fb == 0.0 {
            return Some(b);
        }
        let may_interpolate = before.abs() >= tolerance && fa.abs() > fb.abs();
        let mut step = if may_interpolate { interpolated((a, b, c), (fa, fb, fc), before, tolerance) } else { None }
            .unwrap_or(half);
        if step.abs() < tolerance {
            step = if step > 0.0 { tolerance } else { -tolerance };
        }
        (a, fa) = (b, fb);
        b += step;
        fb = f(b)?;
        if (fb > 0.0 && fc > 0.0) || (fb < 0.0 && fc < 0.0) {
            (c, fc) = (a, fa);
        }
    }
    Some(b)
}

/// Returns the step of the secant or of the inverse parabola if it is well inside the bracket and less than half the
/// previous step.
fn interpolated((a, b, c): (f64, f64, f64), (fa, fb, fc): (f64, f64, f64), before: f64, tolerance: f64) -> Option<f64> {
    let width = c - b;
    let (p, q) = if a == c {
        let ratio = fb / fa;
        (width * ratio, 1.0 - ratio)
    } else {
        let (q, t1, t2) = (fa / fc, fb / fc, fb / fa);
        (t2 * (width * q * (q - t1) - (b - a) * (t1 - 1.0)), (q - 1.0) * (t1 - 1.0) * (t2 - 1.0))
    };
    let (p, q) = if p > 0.0 { (p, -q) } else { (-p, q) };
    let is_acceptable = p < 0.75 * width * q - (tolerance * q).abs() / 2.0 && p < (before * q / 2.0).abs();
    is_acceptable.then(|| p / q)
}

/// The label of a metric, with the groups in which it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouped {
    /// The names of the metric's groups.
    pub groups: Vec<String>,
    /// The metric's classification.
    pub label: Label,
    /// Whether the canary fails because of this metric alone unless it passes.
    pub critical: bool,
}

/// Returns the score of a canary by Kayenta's rule (NetflixACAJudge-v1.0), from 0 to 100, rounded to two decimals.
///
/// Each group scores the share of its metrics that pass; a group without scored metrics counts as 100. `weights` has
/// the groups' weights in percent; groups without a weight share the remainder to 100 equally. The score is 0 if a
/// critical metric does not pass, if half of the metrics or more have no data, and without metrics.
pub fn score(results: &[Grouped], weights: &BTreeMap<String, f64>) -> f64 {
    let missing = results.iter().filter(|result| result.label == Label::NoData).count();
    let failed = results.iter().any(|result| result.critical && result.label != Label::Pass);
    if failed || results.is_empty() || 2 * missing >= results.len() {
        return 0.0;
    }
    let mut groups: BTreeMap<&String, (u32, u32)> = BTreeMap::new();
    for result in results {
        for group in &result.groups {
            let (passed, scored) = groups.entry(group).or_default();
            *passed += u32::from(result.label == Label::Pass);
            *scored += u32::from(!matches!(result.label, Label::NoData | Label::Error));
        }
    }
    let unweighted = groups.keys().filter(|group| !weights.contains_key(**group)).count();
    let left = (100.0 - weights.values().sum::<f64>()) / (unweighted.max(1)) as f64;
    let of_group = |(group, (passed, scored)): (&&String, &(u32, u32))| {
        let score = if *scored == 0 { 100.0 } else { f64::from(*passed) / f64::from(*scored) * 100.0 };
        score * (weights.get(*group).copied().unwrap_or(left) / 100.0)
    };
    libm::round(groups.iter().map(of_group).sum::<f64>() * 100.0) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_constants_are_judged_by_their_difference() {
        let conclusion = judge(&[100.0; 5], &[110.0; 5], &MannWhitneySettings::default());
        assert_eq!(conclusion.label, Label::High);
        assert_eq!(conclusion.shift, Some(Shift { lower: 10.0, upper: 10.0, estimate: 10.0 }));
        assert_eq!(judge(&[0.0; 5], &[0.0; 7], &MannWhitneySettings::default()).label, Label::Pass);
    }

    /// Kayenta fails open in this case, which comparisons must show.
    #[test]
    fn one_value_per_side_gives_an_error_that_is_not_critical() {
        let conclusion =
            judge(&[1.0], &[100.0], &MannWhitneySettings { critical: true, ..MannWhitneySettings::default() });
        assert_eq!((conclusion.label, conclusion.critical), (Label::Error, false));
    }

    #[test]
    fn an_outlier_is_removed_only_if_the_settings_ask_for_it() {
        let mut values: Vec<f64> = (0..200).map(f64::from).collect();
        values.push(1e6);
        let settings = MannWhitneySettings { outlier_factor: Some(3.0), ..MannWhitneySettings::default() };
        assert_eq!(cleaned(&values, &settings).len(), 200);
        assert_eq!(cleaned(&values, &MannWhitneySettings::default()).len(), 201);
    }
}
