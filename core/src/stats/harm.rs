//! How many more requests has the canary failed than it should have? A lower bound that holds at every look.
//!
//! The excess is what the canary's requests cost beyond the stable's rate: `H_t = Σ_s n_c,s (p_c,s - p_b,s)`, with rates
//! that may change from block to block. For any `a > 0`, with `c = n_c/n_b` of the block and `a c < 1`, the inequality of
//! [`super::odds_grid`] gives, for independent requests,
//!
//! ```text
//! E[(1+a)^x_c (1 - a c)^x_b] <= exp(a P_c - a c P_b) = exp(a n_c (p_c - p_b))
//! ```
//!
//! so `exp(S_t - a H_t)`, with `S_t` the sum of `x_c ln(1+a) + x_b ln(1 - a c)`, is a supermartingale whatever the rates
//! are, and so is a mixture over several `a`. By Ville's inequality
//!
//! ```text
//! H_t >= the h at which  mean_k exp(S_k,t - a_k h) = 1/α     for all t at once, with probability 1 - α.
//! ```
//!
//! A small `a` tells best when much has been counted, a large one when little has. With overdispersion φ the factor of
//! `aφ` is raised to `1/φ`, which leaves the exponent `a H` as it is. Where nothing stable is left (the guard), a limit
//! `s` takes its place: the excess is then `Σ n (p - s)`.

use serde::{Deserialize, Serialize};

use super::special::ln_sum_exp;
use super::tally::{Pair, Phi, Tally};

/// The bets: nats per failed request.
const RATES: [f64; 8] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8];

/// So close to `a c = 1` a component stakes nearly all on the stable having no error, and is given up.
const CLOSEST: f64 = 0.95;

/// What has been seen of the excess so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Harm {
    /// The excess as it looks: `Σ x_c - c x_b`.
    estimate: f64,
    /// `S_k`; `None`: given up, when the canary's share had become too large for its bet. What a component had won is
    /// lost with it, so the bound stays valid.
    bets: [Option<f64>; RATES.len()],
}

impl Default for Harm {
    fn default() -> Harm {
        Harm { estimate: 0.0, bets: [Some(0.0); RATES.len()] }
    }
}

impl Harm {
    /// Takes a block in. Without requests in both arms there is nothing to compare.
    pub fn absorb(&mut self, pair: Pair, phi: Phi) {
        let (canary, stable) = (pair.canary, pair.stable);
        if canary.n() == 0.0 || stable.n() == 0.0 {
            return;
        }
        let c = canary.n() / stable.n();
        self.estimate += canary.hits() - c * stable.hits();
        self.bet(phi, |stake| {
            (stake * c < CLOSEST).then(|| canary.hits() * libm::log1p(stake) + stable.hits() * libm::log1p(-stake * c))
        });
    }

    /// Takes in a block of an arm that is alone: its excess over `limit`, a share.
    pub fn absorb_alone(&mut self, tally: Tally, limit: f64, phi: Phi) {
        let allowed = tally.n() * limit;
        self.estimate += tally.hits() - allowed;
        self.bet(phi, |stake| Some(tally.hits() * libm::log1p(stake) - stake * allowed));
    }

    fn bet(&mut self, phi: Phi, factor: impl Fn(f64) -> Option<f64>) {
        for (bet, rate) in self.bets.iter_mut().zip(RATES) {
            *bet = bet.and_then(|sum| Some(sum + factor(rate * phi.value())? / phi.value()));
        }
    }

    /// The excess as it looks, in requests; negative where the canary is better.
    pub fn estimate(&self) -> f64 {
        self.estimate
    }

    /// `ln` of the evidence that the excess is above `excess` requests; `-∞` where no bet is left.
    pub fn ln_e(&self, excess: f64) -> f64 {
        let left = self.bets.iter().zip(RATES).filter_map(|(bet, rate)| Some((*bet)? - rate * excess));
        ln_sum_exp(left) - libm::log(RATES.len() as f64)
    }

    /// Whether the excess is above `budget` requests, with an error rate of `alpha` over all looks together.
    pub fn exceeds(&self, budget: f64, alpha: f64) -> bool {
        self.ln_e(budget) >= -libm::log(alpha)
    }

    /// The excess is at least this, at every look with probability `1 - alpha`; `None`: no bet is left to tell by.
    pub fn lower_bound(&self, alpha: f64) -> Option<f64> {
        let goal = -libm::log(alpha);
        let ln_k = libm::log(RATES.len() as f64);
        // Where one bet alone would reach the goal all of them do: a start below the root of a falling, convex function,
        // from which Newton's method climbs without passing it.
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
    use super::*;

    fn pair(xc: u64, nc: u64, xb: u64, nb: u64) -> Pair {
        Pair { canary: Tally::of(xc, nc).unwrap(), stable: Tally::of(xb, nb).unwrap() }
    }

    #[test]
    fn the_bound_is_below_the_estimate_and_comes_closer() {
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
    fn the_bound_is_where_the_evidence_is_spent() {
        let mut harm = Harm::default();
        harm.absorb(pair(50, 1000, 20, 4000), Phi::learned(2.0));
        for alpha in [0.2, 0.01, 1e-6] {
            let bound = harm.lower_bound(alpha).unwrap();
            assert!((harm.ln_e(bound) + libm::log(alpha)).abs() < 1e-9, "{alpha}");
            assert!(harm.exceeds(bound - 0.01, alpha) && !harm.exceeds(bound + 0.01, alpha));
        }
    }

    #[test]
    fn a_larger_share_gives_up_bets_and_keeps_the_rest() {
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

    #[test]
    fn alone_it_is_the_excess_over_the_limit() {
        let mut harm = Harm::default();
        for _ in 0..100 {
            harm.absorb_alone(Tally::of(10, 100).unwrap(), 0.01, Phi::ONE);
        }
        assert!((harm.estimate() - 900.0).abs() < 1e-9);
        assert!(harm.exceeds(700.0, 0.01) && !harm.exceeds(900.0, 0.01));
    }
}
