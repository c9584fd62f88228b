//! Special functions of statistics that give the same bits on every platform.
//!
//! Elementary functions come from `libm`, which is software and gives the same bits everywhere. The functions that it
//! lacks are here. They return logarithms, because evidence grows exponentially and tails may be as small as `1e-400`.

use core::f64::consts::{LN_2, SQRT_2};

/// `ln(2π) / 2`.
const HALF_LN_2PI: f64 = 0.918_938_533_204_672_8;

/// The argument from which Stirling's series, truncated after the eleventh power, is exact to the last digit.
const STIRLING_FROM: f64 = 10.0;

/// The value of both parameters above which the incomplete beta function is computed by its expansion.
const EXPANSION_FROM: f64 = 1e6;

/// The difference in logarithms from which a term is left out of a sum: it would add less than 1e-19 of the largest
/// term, and a block needs dozens of such sums.
const NEGLIGIBLE: f64 = 45.0;

/// Returns `ln Σ e^x` over the terms, without overflow; `-∞` without terms.
pub fn ln_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let high = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if high.is_infinite() {
        return high;
    }
    let counts = terms.filter(|term| high - term <= NEGLIGIBLE);
    high + libm::log(counts.map(|term| libm::exp(term - high)).sum())
}

/// Returns `ln(1 - e^x)` for `x <= 0`, accurately near 0 and far below it (Mächler 2012, "Accurately computing
/// log(1 − exp(−|a|))"). Returns `-∞` for `x >= 0`.
pub fn ln_one_minus_exp(x: f64) -> f64 {
    if x >= 0.0 {
        f64::NEG_INFINITY
    } else if x > -LN_2 {
        libm::log(-libm::expm1(x))
    } else {
        libm::log1p(-libm::exp(x))
    }
}

/// Returns `ln Γ(x)` for `x > 0`.
pub fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// Returns the remainder of Stirling's formula for `ln Γ(x)`, for `x >= 10`.
fn stirling_remainder(x: f64) -> f64 {
    let y = 1.0 / (x * x);
    (1.0 / 12.0
        - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y * (1.0 / 1188.0 - y * 691.0 / 360_360.0)))))
        / x
}

/// Returns `ln B(a, b)` for `a, b > 0`.
///
/// Differences of large `ln Γ` lose all digits, so Stirling's formula is inserted before the difference is taken
/// (DiDonato and Morris 1992, ACM TOMS 18, "Algorithm 708").
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (p, q) = if a < b { (a, b) } else { (b, a) };
    let n = p + q;
    if p >= STIRLING_FROM {
        let remainder = stirling_remainder(p) + stirling_remainder(q) - stirling_remainder(n);
        HALF_LN_2PI + 0.5 * libm::log(n / p / q) + p * libm::log(p / n) + q * libm::log1p(-p / n) + remainder
    } else if q >= STIRLING_FROM {
        let remainder = stirling_remainder(q) - stirling_remainder(n);
        ln_gamma(p) + p - p * libm::log(n) + (q - 0.5) * libm::log1p(-p / n) + remainder
    } else {
        ln_gamma(p) + ln_gamma(q) - ln_gamma(n)
    }
}

/// Returns `ln B(a, b) - a ln s - b ln(1 - s)` for `a, b > 0` and `s` above 0 and below 1: the log likelihood ratio of
/// a beta mixture to the share `s` for `a` hits and `b` misses, up to the mixture's own weight.
///
/// Both parts grow with the counts and nearly cancel if the counts fit `s`. For large counts the cancellation is done
/// analytically, and the Kullback-Leibler distance remains, computed by `log1p`.
pub fn ln_beta_against(a: f64, b: f64, s: f64) -> f64 {
    if a < STIRLING_FROM || b < STIRLING_FROM {
        return ln_beta(a, b) - a * libm::log(s) - b * libm::log1p(-s);
    }
    let n = a + b;
    let over = a * (1.0 - s) - b * s;
    let distance = a * ln_quotient(a, n * s, over) + b * ln_quotient(b, n * (1.0 - s), -over);
    let remainder = stirling_remainder(a) + stirling_remainder(b) - stirling_remainder(n);
    HALF_LN_2PI + 0.5 * libm::log(n / a / b) + distance + remainder
}

/// Returns `ln(observed / expected)`, given also their difference, which is known more exactly than either.
fn ln_quotient(observed: f64, expected: f64, difference: f64) -> f64 {
    let relative = difference / expected;
    if relative.abs() < 0.5 { libm::log1p(relative) } else { libm::log(observed / expected) }
}

/// The logarithms of both tails of a distribution at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tails {
    /// `ln P(X <= x)`.
    pub lower: f64,
    /// `ln P(X > x)`.
    pub upper: f64,
}

/// Returns the logarithms of both tails of the distribution Beta(a, b) at `x`, for `a, b > 0`.
///
/// They are the regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) on the side on which it
/// converges, and its complement. The fraction takes about as many steps as the square root of the smaller parameter.
/// If both parameters are above a million an expansion is used instead, whose relative error falls with the power 3/2
/// of the smaller one. Below 0 and above 1, `x` counts as 0 and 1.
pub fn beta_tails(x: f64, a: f64, b: f64) -> Tails {
    beta_tails_against(x, a, b, ln_beta_against(a, b, x))
}

/// Returns the same as [`beta_tails`] for a caller that already has `against = ln_beta_against(a, b, x)`, which is half
/// of the work.
pub fn beta_tails_against(x: f64, a: f64, b: f64, against: f64) -> Tails {
    if x <= 0.0 {
        return Tails { lower: f64::NEG_INFINITY, upper: 0.0 };
    }
    if x >= 1.0 {
        return Tails { lower: 0.0, upper: f64::NEG_INFINITY };
    }
    if a.min(b) > EXPANSION_FROM {
        return beta_tails_expanded(x, a, b);
    }
    if x < (a + 1.0) / (a + b + 2.0) {
        let lower = (libm::log(beta_fraction(x, a, b) / a) - against).min(0.0);
        Tails { lower, upper: ln_one_minus_exp(lower) }
    } else {
        let upper = (libm::log(beta_fraction(1.0 - x, b, a) / b) - against).min(0.0);
        Tails { lower: ln_one_minus_exp(upper), upper }
    }
}

/// Computes the tails for large parameters: the signed root of twice the likelihood ratio in log-odds, corrected by the
/// score, is normal to third order (DiCiccio and Martin 1991, Biometrika 78, "Approximations of marginal tail
/// probabilities").
fn beta_tails_expanded(x: f64, a: f64, b: f64) -> Tails {
    let n = a + b;
    let over = a * (1.0 - x) - b * x;
    let distance = a * ln_quotient(a, n * x, over) + b * ln_quotient(b, n * (1.0 - x), -over);
    let root = (2.0 * distance.max(0.0)).sqrt().copysign(over);
    let information = (a / n * b).sqrt();
    let correction = if root.abs() > 0.1 {
        libm::log(over / information / root) / root
    } else {
        // The limit of the correction for a root of zero: a third of the skewness.
        (a - b) / n / information / 3.0
    };
    let z = root + correction;
    Tails { lower: ln_normal_cdf(-z), upper: ln_normal_cdf(z) }
}

/// Evaluates the continued fraction of the incomplete beta function from the front (Lentz's method as modified by
/// Thompson and Barnett 1986).
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    // A denominator of exactly zero would break the recursion; replace it by a tiny number.
    let nonzero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for step in 1..=20_000u32 {
        let m = f64::from(step);
        let a2 = a + 2.0 * m;
        let even = m * (b - m) * x / ((a2 - 1.0) * a2);
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        value *= c * d;
        let odd = -(a + m) * (a + b + m) * x / (a2 * (a2 + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

/// Returns `ln Φ(z)`, the logarithm of the standard normal distribution function, with a small relative error far into
/// the lower tail.
pub fn ln_normal_cdf(z: f64) -> f64 {
    if z > 0.0 {
        libm::log1p(-0.5 * libm::erfc(z / SQRT_2))
    } else if z > -30.0 {
        libm::log(0.5 * libm::erfc(-z / SQRT_2))
    } else {
        // The asymptotic series of Mills' ratio (Abramowitz and Stegun 26.2.12).
        let y = 1.0 / (z * z);
        -0.5 * z * z - libm::log(-z) - HALF_LN_2PI
            + libm::log1p(-y * (1.0 - 3.0 * y * (1.0 - 5.0 * y * (1.0 - 7.0 * y))))
    }
}

/// Returns the standard normal quantile for a probability `p` between 0 and 1; `-∞` for `p <= 0` and `∞` for `p >= 1`.
///
/// It uses Newton's method on `ln Φ`, which is concave, so that every step from below the root stays below it.
pub fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    if p == 0.5 {
        return 0.0;
    }
    let goal = libm::log(p.max(0.0));
    if goal == f64::NEG_INFINITY || goal.is_nan() {
        return f64::NEG_INFINITY;
    }
    let mut z = -(-2.0 * goal).sqrt();
    for _ in 0..50 {
        let ln_cdf = ln_normal_cdf(z);
        let ln_density = -0.5 * z * z - HALF_LN_2PI;
        let step = (goal - ln_cdf) * libm::exp(ln_cdf - ln_density);
        z += step;
        if step.abs() <= 1e-15 * z.abs() {
            break;
        }
    }
    z
}

/// Returns the upper tail of the chi-square distribution, `P(X > x)`, with `freedom` degrees of freedom, `freedom > 0`.
/// It is 1 for `x <= 0` and for NaN.
///
/// It is the regularised incomplete gamma function, by its series below the mean (DLMF 8.7.1) and by its continued
/// fraction above it (DLMF 8.9.2).
pub fn chi_square_sf(x: f64, freedom: f64) -> f64 {
    let (a, x) = (freedom / 2.0, x / 2.0);
    if x.is_nan() || x <= 0.0 {
        return 1.0;
    }
    let front = libm::exp(a * libm::log(x) - x - ln_gamma(a));
    if x < a + 1.0 {
        let mut term = 1.0 / a;
        let mut sum = term;
        for step in 1..10_000u32 {
            term *= x / (a + f64::from(step));
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    let mut b = x + 1.0 - a;
    let mut c = 1e300;
    let mut d = 1.0 / b;
    let mut value = d;
    for step in 1..10_000u32 {
        let i = f64::from(step);
        let numerator = -i * (i - a);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (front * value).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1e-300), "{a} {b}");
    }

    #[test]
    fn ln_beta_equals_factorials_in_all_branches() {
        for (a, b) in [(1.0, 1.0), (3.0, 5.0), (9.0, 30.0), (30.0, 9.0), (12.0, 15.0), (40.0, 60.0)] {
            let factorial = |n: f64| (1..n as u32).map(|k| libm::log(f64::from(k))).sum::<f64>();
            let exact = factorial(a) + factorial(b) - factorial(a + b);
            assert!((ln_beta(a, b) - exact).abs() < 1e-12 * exact.abs().max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn ln_beta_against_equals_the_plain_difference() {
        for (a, b, s) in [(12.0, 900.0, 0.01), (0.5, 0.5, 0.3), (3.0, 1e4, 1e-3), (500.0, 500.0, 0.5), (1e5, 50.0, 0.2)]
        {
            let plain = ln_beta(a, b) - a * libm::log(s) - b * libm::log1p(-s);
            assert!((ln_beta_against(a, b, s) - plain).abs() < 1e-9 * plain.abs().max(1.0), "{a} {b} {s}");
        }
    }

    /// For whole numbers the incomplete beta function is a binomial tail, which can be summed.
    #[test]
    fn beta_tails_of_whole_numbers_are_binomial_tails() {
        for n in [1u32, 5, 20, 60] {
            for k in 1..=n {
                for x in [0.001, 0.1, 0.5, 0.93] {
                    let term = |j: u32| {
                        let (j, m) = (f64::from(j), f64::from(n - j));
                        let ways = ln_gamma(f64::from(n) + 1.0) - ln_gamma(j + 1.0) - ln_gamma(m + 1.0);
                        ways + j * libm::log(x) + m * libm::log1p(-x)
                    };
                    let tails = beta_tails(x, f64::from(k), f64::from(n - k + 1));
                    let at_least = ln_sum_exp((k..=n).map(term));
                    let below = ln_sum_exp((0..k).map(term));
                    assert!((tails.lower - at_least).abs() < 1e-11 * at_least.abs().max(1.0), "{n} {k} {x}");
                    assert!((tails.upper - below).abs() < 1e-11 * below.abs().max(1.0), "{n} {k} {x}");
                }
            }
        }
    }

    #[test]
    fn the_expansion_agrees_with_the_fraction() {
        for (a, b) in [(2e4f64, 1.98e6f64), (1.5e4, 1.5e4), (9e5, 1e4)] {
            let p = a / (a + b);
            for z in [-6.0, -1.0, -0.099, -0.01, 0.0, 0.05, 0.2, 2.0, 5.0] {
                let x = p + z * (p * (1.0 - p) / (a + b)).sqrt();
                let (exact, expanded) = (beta_tails(x, a, b), beta_tails_expanded(x, a, b));
                assert!((exact.lower - expanded.lower).abs() < 2e-5, "{a} {b} {z}: {exact:?} {expanded:?}");
                assert!((exact.upper - expanded.upper).abs() < 2e-5, "{a} {b} {z}: {exact:?} {expanded:?}");
            }
        }
    }

    #[test]
    fn normal_values_agree_with_tables() {
        close(normal_quantile(0.975), 1.959_963_984_540_054, 1e-14);
        close(normal_quantile(0.01), -2.326_347_874_040_841, 1e-14);
        close(normal_quantile(1e-300), -37.04709629936121, 1e-12);
        close(ln_normal_cdf(0.0), -LN_2, 1e-15);
        close(ln_normal_cdf(-10.0), -53.231_285_150_512_47, 1e-11);
        assert!((ln_normal_cdf(-30.001) - ln_normal_cdf(-29.999) + 0.002 * 30.033).abs() < 1e-4);
    }

    #[test]
    fn chi_square_tails_equal_their_closed_forms_for_even_freedom() {
        for x in [0.1, 1.0, 4.810_469, 30.0] {
            close(chi_square_sf(x, 2.0), libm::exp(-x / 2.0), 1e-13);
            close(chi_square_sf(x, 4.0), libm::exp(-x / 2.0) * (1.0 + x / 2.0), 1e-13);
        }
        assert_eq!(chi_square_sf(f64::NAN, 3.0), 1.0);
    }

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_vanish() {
        close(ln_sum_exp([1000.0, 1000.0].into_iter()), 1000.0 + LN_2, 1e-15);
        close(ln_sum_exp([-2000.0, -2000.0].into_iter()), -2000.0 + LN_2, 1e-15);
        assert_eq!(ln_sum_exp([].into_iter()), f64::NEG_INFINITY);
    }
}
