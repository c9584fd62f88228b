//! Evidence that the canary is not worse than the stable at its own mix of requests, for a promotion.
//!
//! The requests are divided into strata, such as routes, and both arms may have other numbers in each. The canary's bad requests are
//! compared with those that the stable's shares would give in the canary's strata (indirect standardization: Breslow and Day 1987,
//! "Statistical Methods in Cancer Research", vol. II, §2.3). With `n` requests, `x` bad ones and the expectations `P` of `x`, of canary
//! (`c`) and stable (`b`) in stratum `s`, a version is too bad if
//!
//! ```text
//! Σ_s P_cs >= r Σ_s (n_cs/n_bs) P_bs     and     Σ_s P_cs >= Σ_s (n_cs/n_bs) P_bs + d Σ_s n_cs
//! ```
//!
//! For `u < 1` the factors
//!
//! ```text
//! ln f_r = Σ_s x_cs ln u + Σ_s x_bs ln(1 + (1-u) r n_cs/n_bs)
//! ln f_d = Σ_s x_cs ln u + Σ_s x_bs ln(1 + (1-u) n_cs/n_bs) + (1-u) d Σ_s n_cs
//! ```
//!
//! have an expectation of at most one under the first and the second: independent requests give
//! `E[u^x] = Π (1 + p_i (u-1)) <= exp(P (u-1))`, and the exponents add up to `(u-1)` times the difference of both sides, as in
//! [`super::odds_grid`]. A version that is too bad breaks both, so the mean of both is an e-process. Strata without requests of the
//! stable have nothing to be compared with and are left out.

use super::BadTest;
use super::mixture::{Mixture, Onset};
use super::tally::{Pair, Phi, Unusable, Worth};
use super::two_sample::{Null, smoothed};

/// The canary's share that is betted on, between half of the stable's (-0.5), the stable's (0) and the allowed one (1).
const BETS: [f64; 3] = [-0.5, 0.0, 0.5];
/// The stakes on the bets, for the ratio and for the difference. Most canaries are like their stable.
const STAKES: [f64; 6] = [0.075, 0.3, 0.125, 0.075, 0.3, 0.125];

/// A test for evidence that the canary's bad requests are fewer than `ratio` times those at the stable's shares, or fewer than those
/// and `difference` of its requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standardized {
    ratio: f64,
    difference: f64,
}

impl Standardized {
    /// Makes the test. `ratio` is above 0; `difference` is a share from 0 to below 1.
    ///
    /// # Errors
    /// [`BadTest::Margin`] with the margin that is out of range.
    pub fn new(ratio: f64, difference: f64) -> Result<Standardized, BadTest> {
        Null::Ratio(ratio).check()?;
        Null::Difference(difference).check()?;
        Ok(Standardized { ratio, difference })
    }

    /// Adds a block with a pair of tallies for each stratum, whose evidence is divided by `phi`. The bets come from `past`, the
    /// stable's counts before the block.
    ///
    /// # Errors
    /// [`Unusable::OtherShape`] if the state belongs to another test; it is then unchanged.
    pub fn absorb(&self, state: &mut Mixture, past: Worth, strata: &[Pair], phi: Phi) -> Result<(), Unusable> {
        let compared: Vec<Pair> = strata.iter().filter(|pair| pair.stable.n() > 0.0).copied().collect();
        let share = if past.n() == 0.0 { 0.0 } else { smoothed(past) };
        let by_difference = if share > 0.0 { 1.0 + self.difference / share } else { 1.0 };
        let legs = [(self.ratio, self.ratio, 0.0), (by_difference, 1.0, self.difference)];
        let factors = legs.into_iter().flat_map(|(allowed, ratio, difference)| {
            let pairs = &compared;
            BETS.map(move |bet| {
                let canary = if bet < 0.0 { 1.0 + bet } else { 1.0 + bet * (allowed - 1.0) };
                ln_factor(pairs, allowed, canary, ratio, difference) / phi.value()
            })
        });
        state.absorb(Onset::First, &factors.collect::<Vec<f64>>())
    }

    /// Returns the evidence over all blocks so far, as `ln E` in nats.
    pub fn ln_e(&self, state: &Mixture) -> f64 {
        state.ln_e(Onset::First, &STAKES)
    }
}

/// Returns `ln f` of a block for the null of `ratio` and `difference`, by the bet that the canary has `canary` times the stable's
/// share where `allowed` times are allowed; 0 if the bet is not below that.
fn ln_factor(strata: &[Pair], allowed: f64, canary: f64, ratio: f64, difference: f64) -> f64 {
    let sum = |of: fn(&Pair) -> f64| strata.iter().map(of).sum::<f64>();
    let (of_canary, of_stable) = (sum(|pair| pair.canary.n()), sum(|pair| pair.stable.n()));
    if canary >= allowed || of_canary == 0.0 {
        return 0.0;
    }
    // The best u if there were one stratum: the canary's part of the bad requests by the bet, over that by the null.
    let part = |times: f64| times * of_canary / (times * of_canary + of_stable);
    let u = part(canary) / part(allowed);
    let of_stratum = |pair: &Pair| {
        let exposure = ratio * pair.canary.n() / pair.stable.n();
        pair.canary.hits() * libm::log(u) + pair.stable.hits() * libm::log1p((1.0 - u) * exposure)
    };
    strata.iter().map(of_stratum).sum::<f64>() + (1.0 - u) * difference * of_canary
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tally::Tally;

    #[test]
    fn margins_out_of_range_are_refused() {
        for (ratio, difference) in [(0.0, 0.1), (f64::NAN, 0.1), (1.25, -0.1), (1.25, 1.0)] {
            assert!(Standardized::new(ratio, difference).is_err(), "{ratio} {difference}");
        }
    }

    /// Sums the evidence over all counts of a block of two strata whose shares and mixes differ, where the canary's bad requests are
    /// just as many as is too bad, in one stratum or in both.
    #[test]
    fn the_factor_of_a_block_has_an_expectation_of_at_most_one_on_the_null() {
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
        let chance =
            |x: u64, n: u64, p: f64| choose(n, x) * libm::pow(p, x as f64) * libm::pow(1.0 - p, (n - x) as f64);
        let (canary, stable, shares) = ([6u64, 3], [3u64, 5], [0.05, 0.3]);
        for (ratio, difference) in [(1.25, 0.001), (1.0, 0.01), (2.0, 0.0), (1.5, 0.1)] {
            let test = Standardized::new(ratio, difference).unwrap();
            let past = Worth::from(Tally::of(30, 200).unwrap());
            let expected: f64 = (0..2).map(|s| canary[s] as f64 * shares[s]).sum();
            let too_bad = (ratio * expected).max(expected + difference * 9.0) - expected;
            for all_in in [0, 1] {
                let mut of_canary = shares;
                of_canary[all_in] = (of_canary[all_in] + too_bad / canary[all_in] as f64).min(1.0);
                let mut mean = 0.0;
                for code in 0..(7 * 4 * 4 * 6) {
                    let counts = [code % 7, code / 7 % 4, code / 28 % 4, code / 112];
                    let pair = |c: u64, b: u64, s: usize| Pair {
                        canary: Tally::of(c, canary[s]).unwrap(),
                        stable: Tally::of(b, stable[s]).unwrap(),
                    };
                    let strata = [pair(counts[0], counts[2], 0), pair(counts[1], counts[3], 1)];
                    let mut state = Mixture::default();
                    test.absorb(&mut state, past, &strata, Phi::ONE).unwrap();
                    let of_arm = |s: usize| {
                        chance(counts[s], canary[s], of_canary[s]) * chance(counts[s + 2], stable[s], shares[s])
                    };
                    mean += of_arm(0) * of_arm(1) * libm::exp(test.ln_e(&state));
                }
                assert!(mean <= 1.0 + 1e-9, "{ratio} {difference} {all_in}: {mean}");
            }
        }
    }
}
