//! A bound for the mean of scores between 0 and 1, from one look at cases that do not depend on each other.
//!
//! Scores are neither 0 or 1 (Clopper and Pearson's interval needs that) nor normal: most cases are flawless and a few
//! are worth nothing, and where all that were seen are flawless a normal bound has no width at all. Gaffke's bound (2005)
//! has no such hole. It adds one case that was not seen and is the worst that a case can be, throws a random weight on
//! every case (exponential, scaled to sum to one), and takes the quantile of the weighted mean. For scores of 0 and 1 it
//! *is* Clopper and Pearson's bound, and holds at every `n`. That it holds for any other scores is conjectured, not proved;
//! nobody has found an exception (Learned-Miller and Thomas 2020), and our tests look for one at the edge of each gate.
//!
//! The weighted mean is at most `t` where a sum of exponentials `Σ E_i (t - y_i)` is not negative, and the tail of such a
//! sum needs no random numbers: the saddlepoint approximation (Lugannani and Rice 1980, in the form of Barndorff-Nielsen)
//! takes a few dozen divisions a case. On 0 and 1 it overstates the tail, by at most 2 % of it, and where it does not it is off
//! by less than one in a hundred thousand: a test holds it to both.

use super::special::ln_normal_cdf;

/// The mean is at most this, with an error of `tail` at most, where every score is within 0 and 1. Without scores: 1.
pub fn upper(scores: &[f64], tail: f64) -> f64 {
    let n = scores.len() as f64 + 1.0;
    let mean = (scores.iter().sum::<f64>() + 1.0) / n;
    let goal = libm::log(tail);
    let (mut low, mut high) = (mean.min(1.0), 1.0);
    let mut t = 0.5 * (low + high);
    for _ in 0..60 {
        let (ln_tail, slope) = ln_tail(scores, t);
        if ln_tail > goal {
            low = t
        } else {
            high = t
        }
        // The exponent falls by `s n` for each unit of `t`, and the logarithm of the tail by hardly more: nearly Newton's
        // method, within a bracket that halves where that would leave it.
        let near = t + (ln_tail - goal) / slope;
        let next = if near > low && near < high { near } else { 0.5 * (low + high) };
        if (next - t).abs() < 1e-11 || high - low < 1e-11 {
            break;
        }
        t = next;
    }
    high.min(t + 1e-10)
}

/// The mean is at least this, likewise. Without scores: 0.
pub fn lower(scores: &[f64], tail: f64) -> f64 {
    let turned: Vec<f64> = scores.iter().map(|score| 1.0 - score).collect();
    1.0 - upper(&turned, tail)
}

/// `ln P(Σ w_i y_i >= t)` for the scores and one more of 1, and exponential weights: how little the scores speak against a
/// mean of `t`, for `t` above their own; and how fast the exponent of that falls with `t`.
fn ln_tail(scores: &[f64], t: f64) -> (f64, f64) {
    let apart = || scores.iter().map(|score| score - t).chain([1.0 - t]);
    let Some(s) = saddlepoint(&apart, 1.0 / (1.0 - t)) else { return (f64::NEG_INFINITY, 0.0) };
    // `K(s) = -Σ ln(1 - a s)`, and its second derivative.
    let mut exponent = 0.0;
    let mut curvature = 0.0;
    for a in apart() {
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

/// Where `Σ a / (1 - a s)`, which rises with `s`, is 0: between 0 and `end`. `None`: it is not.
fn saddlepoint<I: Iterator<Item = f64>>(apart: &impl Fn() -> I, end: f64) -> Option<f64> {
    if !end.is_finite() {
        return None;
    }
    let (mut low, mut high) = (0.0, end);
    let mut s = 0.5 * end;
    // Newton's method within a bracket that halves where Newton would leave it.
    for _ in 0..100 {
        let (mut value, mut slope) = (0.0, 0.0);
        for a in apart() {
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
    fn of_zeros_and_ones_it_is_clopper_and_pearsons_bound_and_never_tighter() {
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
    fn it_never_leaves_its_range_and_flawless_scores_still_have_a_width() {
        assert_eq!((lower(&[], 0.05), upper(&[], 0.05)), (0.0, 1.0));
        let flawless = lower(&[1.0; 100], 0.05);
        assert!(flawless > 0.969 && flawless < 0.9705, "{flawless}");
        assert_eq!(upper(&[1.0; 100], 0.05), 1.0);
        let same = [0.7; 50];
        assert!(lower(&same, 0.05) < 0.7 && upper(&same, 0.05) > 0.7);
    }
}
