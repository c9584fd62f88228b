//! Kayenta's rule, as its users know it: the `mann-whitney` judge and the backtest's yardstick.
//!
//! A two-sided 98 % confidence interval for the shift between two samples by the Mann-Whitney test; `High` if all of it is
//! above a quarter of the estimated shift, `Low` if all of it is below minus that (Spinnaker's Kayenta, NetflixACAJudge-v1.0
//! at a69573b, with the tolerances and defaults of its source). It is reproduced with its weaknesses, because whoever
//! compares wants to know what *it* would have said:
//!
//! - The root of a step function is searched to an absolute 10⁻⁴. Metrics in small units (ratios) lose their interval.
//! - With one value on either side the test can't be made and the result is `Error`, which counts as nothing at all.
//! - Points don't know how many requests they stand for, and repeated looks are not paid for.
//!
//! One thing is not reproduced. Where both samples are constant and differ, Kayenta adds random noise of 10⁻⁵ of their
//! values, so that its answer depends on luck in the last digits. Here the interval and the estimate are the difference
//! itself, which is what the noise comes to on average.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::special::normal_quantile;

/// The part of the estimated shift that is tolerated.
const TOLERANCE: f64 = 0.25;
/// Each tail of the confidence interval.
const TAIL: f64 = 0.01;
/// How close the root is searched for.
const ROOT_TOLERANCE: f64 = 1e-4;

/// Which way is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Up.
    Increase,
    /// Down.
    Decrease,
    /// Both.
    #[default]
    Either,
}

/// What becomes of values that are NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingData {
    /// They are left out, and a metric without values has no data.
    #[default]
    Remove,
    /// They are zeros, and a metric without values passes.
    Replace,
}

/// By which number an effect must be large to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectSize {
    /// The canary's mean over the stable's; unknown if either is zero, and then it is not asked for.
    #[default]
    MeanRatio,
    /// How probable it is that a value of the canary is above one of the stable, ties by half (Vargha and Delaney 2000).
    CommonLanguage,
}

/// The settings of one metric. `None` among the bounds: 1 for a mean ratio, 0.5 for the common language effect.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MannWhitneySettings {
    /// Which way is bad.
    pub direction: Direction,
    /// What becomes of NaN.
    pub missing: MissingData,
    /// By what an effect is measured.
    pub effect: EffectSize,
    /// Up to this effect a `High` is let pass.
    pub allowed_increase: Option<f64>,
    /// Down to this one a `Low` is.
    pub allowed_decrease: Option<f64>,
    /// From this effect on a `High` is critical.
    pub critical_increase: Option<f64>,
    /// From this one down a `Low` is.
    pub critical_decrease: Option<f64>,
    /// Whether the metric alone can fail the canary.
    pub critical: bool,
    /// Whether missing data count as a failure.
    pub must_have_data: bool,
    /// Values beyond these interquartile ranges from the quartiles (and beyond the first and 99th percentile) are left
    /// out; `None`: all are kept. Kayenta's own default is 3 where it is asked to.
    pub outlier_factor: Option<f64>,
}

/// What is said of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// No difference that counts.
    Pass,
    /// Too high.
    High,
    /// Too low.
    Low,
    /// Nothing to compare.
    NoData,
    /// Nothing to compare where something must be.
    NoDataFails,
    /// The test can't be made. Kayenta neither scores it nor fails for it.
    Error,
}

/// The shift from stable to canary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shift {
    /// The lower end of the confidence interval.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
    /// The Hodges-Lehmann estimate.
    pub estimate: f64,
}

/// A metric's label and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitneyResult {
    /// The label.
    pub label: Label,
    /// Whether the canary fails for it alone.
    pub critical: bool,
    /// The shift; `None`: it was not asked for, or can't be had.
    pub shift: Option<Shift>,
    /// The effect; `None`: likewise.
    pub effect: Option<f64>,
}

/// Judges one metric.
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
    // All values alike is a case of this: the samples may then differ in length.
    let alike = constant(&stable).is_some() && constant(&stable) == constant(&canary);
    if alike || sorted(&stable) == sorted(&canary) {
        return plain(Label::Pass, false);
    }
    let Some(shift) = shift(&canary, &stable) else { return plain(Label::Error, false) };
    let effect = match settings.effect {
        EffectSize::MeanRatio => mean_ratio(&stable, &canary),
        EffectSize::CommonLanguage => Some(common_language(&stable, &canary)),
    };
    let label = label(shift, effect, settings);
    let bound = |bound: Option<f64>| bound.unwrap_or(settings.effect.none());
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
    let bound = |bound: Option<f64>| bound.unwrap_or(settings.effect.none());
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
    /// What no effect looks like.
    fn none(self) -> f64 {
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

/// By linear interpolation between the order statistics (Hyndman and Fan 1996, type 7).
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

/// The sum of the ranks of `x` among `x` and `y`, equal values sharing their mean rank, and `Σ (t³ - t)` over the groups of
/// `t` equal values.
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

/// The standardised rank statistic of `x - mu` against `y`, with continuity and tie corrections; `None`: all values are
/// tied.
fn standardised(mu: f64, x: &[f64], y: &[f64]) -> Option<f64> {
    let (n, m) = (x.len() as f64, y.len() as f64);
    let shifted: Vec<f64> = x.iter().map(|value| value - mu).collect();
    let (ranks, ties) = rank_sum(&shifted, y);
    let over = ranks - n * (n + 1.0) / 2.0 - n * m / 2.0;
    let correction = if over == 0.0 { 0.0 } else { 0.5 * over.signum() };
    let sigma = (n * m / 12.0 * (n + m + 1.0 - ties / ((n + m) * (n + m - 1.0)))).sqrt();
    (sigma > 0.0).then(|| (over - correction) / sigma)
}

/// The confidence interval and the estimate of the shift from `y` to `x`; `None`: the test can't be made.
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

/// Brent's method (Brent 1973, "Algorithms for Minimization without Derivatives", §4). `b` is the best point so far, `c`
/// lies on the other side of the root, `a` is where `b` was before. The order of operations matters: on a step function a
/// root is wherever the search happens to stop.
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

/// The secant's or the inverse parabola's step, if it is a good one: well inside the bracket, and less than half the one
/// before.
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
    let good = p < 0.75 * width * q - (tolerance * q).abs() / 2.0 && p < (before * q / 2.0).abs();
    good.then(|| p / q)
}

/// A judged metric and the groups that it counts in.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouped {
    /// The groups' names.
    pub groups: Vec<String>,
    /// Its label.
    pub label: Label,
    /// Whether the canary fails for it alone, unless it passes.
    pub critical: bool,
}

/// The score of a canary, 0 to 100, to two decimals.
///
/// Each group scores the share of its metrics that pass; a group without a score counts as 100. Groups without a weight
/// share what the others leave. A critical metric that does not pass makes it 0, and so do missing data in half of the
/// metrics.
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
    fn two_different_constants_are_judged_without_dice() {
        let conclusion = judge(&[100.0; 5], &[110.0; 5], &MannWhitneySettings::default());
        assert_eq!(conclusion.label, Label::High);
        assert_eq!(conclusion.shift, Some(Shift { lower: 10.0, upper: 10.0, estimate: 10.0 }));
        assert_eq!(judge(&[0.0; 5], &[0.0; 7], &MannWhitneySettings::default()).label, Label::Pass);
    }

    /// It fails open, and whoever compares must see that it does.
    #[test]
    fn one_value_on_each_side_can_not_be_judged() {
        let conclusion =
            judge(&[1.0], &[100.0], &MannWhitneySettings { critical: true, ..MannWhitneySettings::default() });
        assert_eq!((conclusion.label, conclusion.critical), (Label::Error, false));
    }

    #[test]
    fn an_outlier_is_left_out_where_that_is_asked_for() {
        let mut values: Vec<f64> = (0..200).map(f64::from).collect();
        values.push(1e6);
        let settings = MannWhitneySettings { outlier_factor: Some(3.0), ..MannWhitneySettings::default() };
        assert_eq!(cleaned(&values, &settings).len(), 200);
        assert_eq!(cleaned(&values, &MannWhitneySettings::default()).len(), 201);
    }
}
