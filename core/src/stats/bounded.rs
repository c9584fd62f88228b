//! Confidence bounds for the mean of scores between 0 and 1, from one look at independent cases.
//!
//! Scores are neither all 0 or 1, as Clopper and Pearson's interval requires, nor normal: most cases score 1 and a few
//! score 0, and if all observed cases score 1, a normal bound has no width. Gaffke's bound (2005) has no such defect.
//! It adds one unobserved case with the worst possible score, gives every case a random weight (exponential, scaled to
//! a sum of one), and takes the quantile of the weighted mean. For scores of 0 and 1 it equals Clopper and Pearson's
//! bound and holds at every `n`. For other scores its validity is conjectured, not proved; no exception is known
//! (Learned-Miller and Thomas 2020), and our tests search for one at the limit of each gate.
//!
//! The weighted mean is at most `t` if a sum of exponentials `Σ E_i (t - y_i)` is not negative. The tail of such a sum
//! is computed without random numbers by the saddlepoint approximation (Lugannani and Rice 1980, in the form of
//! Barndorff-Nielsen), which takes a few dozen divisions per case. For scores of 0 and 1 it overstates the tail by at
//! most 2 %, and where it understates the tail the bound moves by less than one in a hundred thousand; a test asserts
//! both.

use super::special::ln_normal_cdf;

/// Returns an upper confidence bound for the mean score (Gaffke 2005).
///
/// Each of `scores` is between 0 and 1. `tail` is the error probability, above 0 and below 1: the true mean exceeds the
/// result with a probability of at most `tail`. The result is between 0 and 1; without scores it is 1.
pub fn upper(scores: &[f64], tail: f64) -> f64 {
    let n = scores.len() as f64 + 1.0;
    let mean = (scores.iter().sum::<f64>() + 1.0) / n;
    let ln_goal = libm::log(tail);
    let (mut low, mut high) = (mean.min(1.0), 1.0);
    let mut t = 0.5 * (low + high);
    for _ in 0..60 {
        let (ln_tail, slope) = ln_tail(scores, t);
        if ln_tail > ln_goal {
            low = t
        } else {
            high = t
        }
        // The slope is that of the exponent, nearly that of `ln_tail`: almost Newton's method, with bisection if the
        // step would leave the bracket.
        let newton = t + (ln_tail - ln_goal) / slope;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - t).abs() < 1e-11 || high - low < 1e-11 {
            break;
        }
        t = next;
    }
    high.min(t + 1e-10)
}

/// Returns a lower confidence bound for the mean score, by [`upper`] of the mirrored scores.
///
/// Each of `scores` is between 0 and 1. `tail` is the error probability, above 0 and below 1: the true mean is below
/// the result with a probability of at most `tail`. The result is between 0 and 1; without scores it is 0.
pub fn lower(scores: &[f64], tail: f64) -> f64 {
    let mirrored: Vec<f64> = scores.iter().map(|score| 1.0 - score).collect();
    1.0 - upper(&mirrored, tail)
}

/// Returns `ln P(Σ w_i y_i >= t)` for the scores, one additional score of 1 and scaled exponential weights, where `t`
/// is above the mean; and the slope by which the exponent falls as `t` rises.
fn ln_tail(scores: &[f64], t: f64) -> (f64, f64) {
    let distances = || scores.iter().map(|score| score - t).chain([1.0 - t]);
    let Some(s) = saddlepoint(&distances, 1.0 / (1.0 - t)) else { return (f64::NEG_INFINITY, 0.0) };
    // `K(s) = -Σ ln(1 - a s)`, and its second derivative.
    let mut exponent = 0.0;
    let mut curvature = 0.0;
    for a in distances() {
        let rest = 1.0 - a * s;
        exponent += libm::log(rest);
        curvature += (a / rest) * (a / rest);
    }
    let root = (2.0 * exponent).max(0.0).sqrt();
    if root < 1e-6 {
        return (-core::f64::consts::LN_2, 0.0);
    }
    let slope = s * (scores.len() as f64 + 1.0);
    (ln_normal_cdf(-(root + libm::log(s * curvature.sqrt() / root) / root)), slope)
}

/// Returns the root between 0 and `end` of `Σ a / (1 - a s)`, which rises with `s`; `None` if `end` is not finite.
fn saddlepoint<I: Iterator<Item = f64>>(distances: &impl Fn() -> I, end: f64) -> Option<f64> {
    if !end.is_finite() {
        return None;
    }
    let (mut low, mut high) = (0.0, end);
    let mut s = 0.5 * end;
    // Newton's method, with bisection if the step would leave the bracket.
    for _ in 0..100 {
        let (mut value, mut slope) = (0.0, 0.0);
        for a in distances() {
            let part = a / (1.0 - a * s);
            value += part;
            slope += part * part;
        }
        if value > 0.0 {
            high = s
        } else {
            low = s
        }
        let newton = s - value / slope;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - s).abs() <= 1e-13 * end {
            break;
        }
        s = next;
    }
    Some(s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::confidence::upper_part;

    #[test]
    fn for_scores_of_zero_and_one_the_bound_is_clopper_and_pearsons_and_never_tighter() {
        for (ones, n) in [(0, 20), (0, 300), (1, 59), (3, 200), (10, 40), (150, 200), (199, 200)] {
            let scores: Vec<f64> = (0..n).map(|case| f64::from(u8::from(case < ones))).collect();
            for tail in [0.05, 0.01, 0.001] {
                let (exact, ours) = (upper_part(ones, n, tail), upper(&scores, tail));
                assert!(ours >= exact - 1e-5, "{ones} of {n} at {tail}: {ours} is below {exact}");
                assert!(
                    ours - exact < 0.012 * (1.0 - exact).max(exact),
                    "{ones} of {n} at {tail}: {ours}, exactly {exact}"
                );
            }
        }
    }

    #[test]
    fn bounds_stay_between_0_and_1_and_have_a_width_for_flawless_scores() {
        assert_eq!((lower(&[], 0.05), upper(&[], 0.05)), (0.0, 1.0));
        let flawless = lower(&[1.0; 100], 0.05);
        assert!(flawless > 0.969 && flawless < 0.9705, "{flawless}");
        assert_eq!(upper(&[1.0; 100], 0.05), 1.0);
        let same = [0.7; 50];
        assert!(lower(&same, 0.05) < 0.7 && upper(&same, 0.05) > 0.7);
    }
}
