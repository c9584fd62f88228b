//! The number of requests that the canary failed beyond the stable's rate, with a lower bound that holds at every look.
//!
//! The excess is `H_t = Σ_s n_c,s (p_c,s - p_b,s)`, where `n_c` are the canary's requests in block `s` and `p_c` and
//! `p_b` the failure rates of canary and stable, which may change from block to block. Let `c` be `n_c/n_b` of the
//! block. For any `a > 0` with `a c < 1` the inequality of [`super::odds_grid`] gives, for independent requests,
//!
//! ```text
//! E[(1+a)^x_c (1 - a c)^x_b] <= exp(a P_c - a c P_b) = exp(a n_c (p_c - p_b))
//! ```
//!
//! so `exp(S_t - a H_t)`, with `S_t` the sum of `x_c ln(1+a) + x_b ln(1 - a c)`, is a supermartingale for any
//! rates, and so is a mixture over several `a`. By Ville's inequality
//!
//! ```text
//! H_t >= the h at which  mean_k exp(S_k,t - a_k h) = 1/α     for all t at once, with probability 1 - α.
//! ```
//!
//! A small `a` is most powerful for large counts, a large one for small counts. With dispersion φ the factor of `aφ` is
//! raised to `1/φ`, which leaves the exponent `a H` unchanged.

use serde::{Deserialize, Serialize};

use super::special::ln_sum_exp;
use super::tally::{Pair, Phi};

/// The values of `a`, one per bet, in nats per failed request.
const RATES: [f64; 8] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8];

/// The value of `a c` from which a bet is dropped: near 1 it stakes nearly everything on the stable having no error.
const LARGEST_STAKE: f64 = 0.95;

/// The estimate of the excess, and the evidence for its lower bound, over all blocks so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Harm {
    /// The estimated excess, `Σ x_c - c x_b`, in requests.
    estimate: f64,
    /// The sum `S_k` of each bet, in nats; `None` for a bet that was dropped because the canary's share of the traffic
    /// became too large for it. Its gains are lost with it, so the bound stays valid.
    bets: [Option<f64>; RATES.len()],
}

impl Default for Harm {
    fn default() -> Harm {
        Harm { estimate: 0.0, bets: [Some(0.0); RATES.len()] }
    }
}

impl Harm {
    /// Adds a block of both arms, whose evidence is divided by `phi`. A block without requests in either arm is
    /// ignored.
    pub fn absorb(&mut self, pair: Pair, phi: Phi) {
        let (canary, stable) = (pair.canary, pair.stable);
        if canary.n() == 0.0 || stable.n() == 0.0 {
            return;
        }
        let c = canary.n() / stable.n();
        self.estimate += canary.hits() - c * stable.hits();
        self.bet(phi, |stake| {
            (stake * c < LARGEST_STAKE)
                .then(|| canary.hits() * libm::log1p(stake) + stable.hits() * libm::log1p(-stake * c))
        });
    }

    fn bet(&mut self, phi: Phi, factor: impl Fn(f64) -> Option<f64>) {
        for (bet, rate) in self.bets.iter_mut().zip(RATES) {
            *bet = bet.and_then(|sum| Some(sum + factor(rate * phi.value())? / phi.value()));
        }
    }

    /// Returns the estimated excess in failed requests; it is negative if the canary is better.
    pub fn estimate(&self) -> f64 {
        self.estimate
    }

    /// Returns the evidence that the true excess is above `excess` requests, as `ln E` in nats; `-∞` if no bet is left.
    pub fn ln_e(&self, excess: f64) -> f64 {
        let left = self.bets.iter().zip(RATES).filter_map(|(bet, rate)| Some((*bet)? - rate * excess));
        ln_sum_exp(left) - libm::log(RATES.len() as f64)
    }

    /// Returns whether the excess is shown to be above `budget` requests, with an error rate of `alpha`, above 0 and
    /// below 1, over all looks together.
    pub fn exceeds(&self, budget: f64, alpha: f64) -> bool {
        self.ln_e(budget) >= -libm::log(alpha)
    }

    /// Returns a lower bound for the excess in requests, which holds at all looks together with probability `1 - alpha`
    /// (Ville 1939, as derived in the module's documentation). `alpha` is above 0 and below 1. Returns `None` if no bet
    /// is left.
    pub fn lower_bound(&self, alpha: f64) -> Option<f64> {
        let goal = -libm::log(alpha);
        let ln_k = libm::log(RATES.len() as f64);
        // The largest root of a single bet is below the root of the mean, a falling, convex function, so Newton's
        // method approaches that root from below without passing it.
        let alone = |(bet, rate): (&Option<f64>, f64)| bet.map(|sum| (sum - ln_k - goal) / rate);
        let mut bound = self.bets.iter().zip(RATES).filter_map(alone).reduce(f64::max)?;
        for _ in 0..100 {
            let over = self.ln_e(bound) - goal;
            let weight = |(bet, rate): (&Option<f64>, f64)| {
                bet.map(|sum| rate * libm::exp(sum - rate * bound - goal - over - ln_k))
            };
            let slope: f64 = self.bets.iter().zip(RATES).filter_map(weight).sum();
            let step = over / slope;
            if !step.is_finite() || step.abs() <= 1e-12 * bound.abs().max(1.0) {
                break;
            }
            bound += step;
        }
        Some(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::*;

    fn pair(xc: u64, nc: u64, xb: u64, nb: u64) -> Pair {
        Pair { canary: Tally::of(xc, nc).unwrap(), stable: Tally::of(xb, nb).unwrap() }
    }

    #[test]
    fn the_bound_is_below_the_estimate_and_approaches_it() {
        let mut harm = Harm::default();
        let mut gap = f64::INFINITY;
        for blocks in 1..200 {
            harm.absorb(pair(6, 100, 10, 900), Phi::ONE);
            let bound = harm.lower_bound(0.01).unwrap();
            assert!(bound < harm.estimate());
            if blocks % 50 == 0 {
                let relative = (harm.estimate() - bound) / harm.estimate();
                assert!(relative < gap);
                gap = relative;
            }
        }
        assert!(gap < 0.2, "{gap}");
    }

    #[test]
    fn at_the_bound_the_evidence_equals_the_level() {
        let mut harm = Harm::default();
        harm.absorb(pair(50, 1000, 20, 4000), Phi::learned(2.0));
        for alpha in [0.2, 0.01, 1e-6] {
            let bound = harm.lower_bound(alpha).unwrap();
            assert!((harm.ln_e(bound) + libm::log(alpha)).abs() < 1e-9, "{alpha}");
            assert!(harm.exceeds(bound - 0.01, alpha) && !harm.exceeds(bound + 0.01, alpha));
        }
    }

    #[test]
    fn a_larger_share_drops_bets_and_keeps_the_others() {
        let mut harm = Harm::default();
        harm.absorb(pair(50, 1000, 20, 4000), Phi::ONE);
        let before = harm.lower_bound(0.01).unwrap();
        harm.absorb(pair(0, 4000, 0, 1000), Phi::ONE);
        let after = harm.lower_bound(0.01).unwrap();
        assert!(after <= before && after > 0.0, "{before} {after}");
        harm.absorb(pair(0, 1 << 50, 0, 1), Phi::ONE);
        assert_eq!(harm.lower_bound(0.01), None);
        assert!(!harm.exceeds(0.0, 0.01));
    }
}
