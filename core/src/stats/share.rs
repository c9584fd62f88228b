//! The canary's share of the requests against the share that the router was asked for, in both directions, at every look.
//!
//! Each direction is the test of a share against a limit with restarts ([`LimitGrid`], Ville 1939): the canary's share
//! against the upper bound, and the stable's share against the complement of the lower bound. A share within the bounds is
//! of no interest: routers round, and caches, retries and long connections shift some of the traffic. The bounds are half
//! and 1.5 times the asked *odds*, so that they treat both arms alike near 0 and 1:
//!
//! ```text
//! o = p/(1-p)        low = o/2 / (1 + o/2)        high = 1.5 o / (1 + 1.5 o)
//! ```
//!
//! For an asked 10 % they are 5.3 and 14.3 %. The bounds keep a distance of [`SLACK`] from 0 and 1, so an asked 0 % allows
//! that much.
//! Both directions have half of the error rate. The proof that the share is as asked needs the evidence against both ends
//! at once, by the closed form of [`Ceiling`] over all counts (intersection-union, Berger 1982).
//!
//! **Design effect.** The requests of a session go to one arm together, so shares vary more than those of independent
//! requests, by the design effect φ (Kish 1965), which divides the evidence. It is learned from the blocks before: the
//! mean of the squared differences of the share between neighbouring blocks over the variance of independent requests,
//!
//! ```text
//! z² = (x_t/n_t - x_s/n_s)² / (p (1-p) (1/n_t + 1/n_s))        p = (x_t + x_s)/(n_t + n_s)
//! ```
//!
//! and it is at least [`LEAST_EFFECT`]. Before the first pairs it is [`DESIGN_EFFECT`], which counts as [`PRIOR`] of them. A
//! session that lasts as long as the test does not vary between blocks, so few and
//! long sessions can't be told from a wrong share.

use core::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use super::BadTest;
use super::mixture::{Mixture, Onset};
use super::slo::{Ceiling, LimitGrid};
use super::tally::{Phi, Tally, Unusable, Worth};

/// The odds of the upper bound, as a multiple of the asked odds.
const MOST: f64 = 1.5;
/// The odds of the lower bound, as a multiple of the asked odds.
const LEAST: f64 = 0.5;
/// The distance from 0 and 1 that a bound keeps, as a share.
const SLACK: f64 = 0.005;
/// The design effect before the first blocks: the requests that count as one.
const DESIGN_EFFECT: f64 = 10.0;
/// The smallest design effect.
const LEAST_EFFECT: f64 = 4.0;
/// The number of pairs of blocks by which [`DESIGN_EFFECT`] counts in the mean.
const PRIOR: f64 = 5.0;

/// The verdict on the observed share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShareVerdict {
    /// The canary gets less than the lower bound.
    TooLittle,
    /// The canary gets more than the upper bound.
    TooMuch,
    /// The share is shown to be between the bounds.
    AsAsked,
    /// None of the others is shown.
    Undecided,
}

/// The test of the canary's share against the asked one, with everything that it has counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShareTest {
    /// The asked share, from 0 to 1.
    asked: f64,
    /// The error rate of both directions together.
    alpha: f64,
    /// The evidence that the canary's share is above the upper bound.
    above: Mixture,
    /// The evidence that the canary's share is below the lower bound.
    below: Mixture,
    /// The canary's and all other requests, divided by φ.
    counts: Worth,
    /// The design effect of the blocks so far.
    design: DesignEffect,
}

impl ShareTest {
    /// Makes a test of the asked share, from 0 to 1, at the error rate `alpha`.
    ///
    /// # Errors
    /// [`BadTest::Limit`] for another share, [`BadTest::Level`] unless `alpha` is above 0 and below 1.
    pub fn new(asked: f64, alpha: f64) -> Result<ShareTest, BadTest> {
        if !(0.0..=1.0).contains(&asked) {
            return Err(BadTest::Limit(asked));
        }
        if !(alpha > 0.0 && alpha < 1.0) {
            return Err(BadTest::Level(alpha));
        }
        let (above, below) = (Mixture::default(), Mixture::default());
        Ok(ShareTest { asked, alpha, above, below, counts: Worth::default(), design: DesignEffect::default() })
    }

    /// Adds the requests of a block. A block without requests changes nothing.
    ///
    /// # Errors
    /// [`Unusable::TooLarge`] for more than 2⁵³ requests, and [`Unusable::OtherShape`] if another version of the test wrote
    /// the state; it is then unchanged.
    pub fn absorb(&mut self, canary: u64, stable: u64) -> Result<(), Unusable> {
        let n = canary.saturating_add(stable);
        let (of_canary, of_stable) = (Tally::of(canary, n)?, Tally::of(stable, n)?);
        if n == 0 {
            return Ok(());
        }
        let phi = self.design.phi();
        let mut next = self.clone();
        if let Some(test) = grid(upper_bound(self.asked)) {
            test.absorb(&mut next.above, of_canary, phi)?;
        }
        if let Some(test) = grid(lower_bound(self.asked).map(|low| 1.0 - low)) {
            test.absorb(&mut next.below, of_stable, phi)?;
        }
        next.counts.absorb(of_canary, phi);
        next.design.absorb(of_canary);
        *self = next;
        Ok(())
    }

    /// Returns the verdict on all blocks so far. The share is within the bounds, and called too little or too much at any
    /// look, with a probability of at most `alpha`; the same holds for a share beyond a bound that is called as asked.
    pub fn verdict(&self) -> ShareVerdict {
        let (too_much, too_little) = self.ln_e();
        let needed = -libm::log(self.alpha);
        if too_much >= needed + LN_2 {
            ShareVerdict::TooMuch
        } else if too_little >= needed + LN_2 {
            ShareVerdict::TooLittle
        } else if self.ln_within() >= needed {
            ShareVerdict::AsAsked
        } else {
            ShareVerdict::Undecided
        }
    }

    /// Returns the evidence for too much and for too little, as `ln E` in nats.
    pub fn ln_e(&self) -> (f64, f64) {
        let above = grid(upper_bound(self.asked)).map_or(0.0, |test| test.ln_e(&self.above));
        let below = grid(lower_bound(self.asked).map(|low| 1.0 - low)).map_or(0.0, |test| test.ln_e(&self.below));
        (above, below)
    }

    /// Returns the evidence that the share is between the bounds, as `ln E` in nats: the smaller one of both ends.
    fn ln_within(&self) -> f64 {
        let ceiling = |bound: Option<f64>| bound.and_then(|bound| Ceiling::new(bound).ok());
        let high = ceiling(upper_bound(self.asked)).map_or(f64::INFINITY, |high| high.ln_compliance(self.counts));
        let low = ceiling(lower_bound(self.asked)).map_or(f64::INFINITY, |low| low.ln_violation(self.counts));
        high.min(low)
    }
}

/// Returns the largest share that is of no interest; `None` if all of the traffic is asked for.
fn upper_bound(asked: f64) -> Option<f64> {
    (asked < 1.0).then(|| at_odds(asked, MOST).max(SLACK))
}

/// Returns the smallest share that is of no interest; `None` if no traffic is asked for.
fn lower_bound(asked: f64) -> Option<f64> {
    match asked {
        asked if asked <= 0.0 => None,
        asked if asked >= 1.0 => Some(1.0 - SLACK),
        asked => Some(at_odds(asked, LEAST).min(1.0 - SLACK)),
    }
}

/// Returns the share whose odds are `times` those of `share`, which is below 1.
fn at_odds(share: f64, times: f64) -> f64 {
    let odds = times * share / (1.0 - share);
    odds / (1.0 + odds)
}

/// Returns the test of a share above `bound`, whose fault may begin at any block; `None` without a bound.
fn grid(bound: Option<f64>) -> Option<LimitGrid> {
    LimitGrid::above(bound?, Onset::Any).ok()
}

/// The design effect, learned from the differences between neighbouring blocks.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DesignEffect {
    /// The canary's requests and all requests of the newest block; both 0 before the first.
    newest: (f64, f64),
    /// The sum of the squared, standardised differences.
    squares: f64,
    /// The number of these.
    pairs: f64,
}

impl DesignEffect {
    fn absorb(&mut self, block: Tally) {
        let (hits, n) = self.newest;
        let pooled = (hits + block.hits()) / (n + block.n());
        let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / block.n());
        if n > 0.0 && variance > 0.0 {
            let difference = hits / n - block.hits() / block.n();
            self.squares += difference * difference / variance;
            self.pairs += 1.0;
        }
        self.newest = (block.hits(), block.n());
    }

    /// Returns the design effect for the next block.
    fn phi(self) -> Phi {
        Phi::learned(LEAST_EFFECT.max((PRIOR * DESIGN_EFFECT + self.squares) / (PRIOR + self.pairs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Random;

    fn test_of(asked: f64, blocks: &[(u64, u64)]) -> ShareTest {
        let mut test = ShareTest::new(asked, 0.01).unwrap();
        blocks.iter().for_each(|(canary, stable)| test.absorb(*canary, *stable).unwrap());
        test
    }

    #[test]
    fn shares_and_levels_out_of_range_are_refused_and_an_empty_block_changes_nothing() {
        for (asked, alpha) in [(-0.1, 0.01), (1.1, 0.01), (f64::NAN, 0.01), (0.5, 0.0), (0.5, 1.0)] {
            assert!(ShareTest::new(asked, alpha).is_err(), "{asked} {alpha}");
        }
        let test = test_of(0.1, &[(0, 0)]);
        assert_eq!((&test, test.verdict()), (&ShareTest::new(0.1, 0.01).unwrap(), ShareVerdict::Undecided));
        assert_eq!(test_of(0.1, &[(1, 9)]).absorb(u64::MAX, 0), Err(Unusable::TooLarge));
    }

    /// The counts of public reports, and of a router that works.
    #[test]
    fn a_share_far_from_the_asked_one_is_told_in_both_directions() {
        for (asked, blocks, expected) in [
            (0.1, &[(0, 1000); 4][..], ShareVerdict::TooLittle),
            (0.1, &[(0, 800)], ShareVerdict::Undecided),
            (0.1, &[(100, 900), (0, 1000), (0, 1000), (0, 1000), (0, 1000)], ShareVerdict::TooLittle),
            (0.5, &[(970, 30)], ShareVerdict::TooMuch),
            (0.5, &[(30, 970)], ShareVerdict::TooLittle),
            (0.1, &[(190, 810); 15], ShareVerdict::TooMuch),
            (0.0, &[(40, 960); 3], ShareVerdict::TooMuch),
            (0.0, &[(0, 30_000)], ShareVerdict::AsAsked),
            (1.0, &[(30_000, 0)], ShareVerdict::AsAsked),
            (1.0, &[(900, 100)], ShareVerdict::TooLittle),
            (0.01, &[(3, 97)], ShareVerdict::Undecided),
            (0.1, &[(103, 897); 15], ShareVerdict::AsAsked),
            (0.5, &[(480, 520); 5], ShareVerdict::AsAsked),
        ] {
            let test = test_of(asked, blocks);
            assert_eq!(test.verdict(), expected, "{asked} {blocks:?}: {:?} {}", test.ln_e(), test.ln_within());
            assert_eq!(serde_json::from_str::<ShareTest>(&serde_json::to_string(&test).unwrap()).unwrap(), test);
        }
    }

    /// The values are those of an independent computation in Python, written from the formulas of this module and of
    /// `mixture` and `odds_grid`.
    #[test]
    fn the_evidence_equals_the_reference() {
        for (asked, blocks, above, below) in [
            (
                0.1,
                &[(100, 900), (0, 1000), (0, 1000), (0, 1000), (0, 1000)][..],
                -2.2847821582336887,
                8.477417107257358,
            ),
            (0.1, &[(0, 400)], -0.654736999831488, 0.9864478462648612),
            (0.5, &[(970, 30)], 36.40795773150675, -0.6931466737238128),
            (0.1, &[(180, 820), (203, 797), (190, 810)], 0.9670212452375313, -1.789240988651279),
            (0.5, &[(480, 520); 3], -1.7894544419733829, -1.7905376028326974),
            (0.0, &[(40, 960)], 2.6466766776919877, 0.0),
        ] {
            let found = test_of(asked, blocks).ln_e();
            let differs = (found.0 - above).abs().max((found.1 - below).abs());
            assert!(differs < 1e-9, "{asked} {blocks:?}: {found:?}");
        }
    }

    /// Returns blocks of about 600 requests in sessions of `length` requests on average, each in one arm and one block.
    fn sessions(length: u64, share: f64, random: &mut Random) -> (u64, u64) {
        let mut block = (0, 0);
        for _ in 0..random.poisson(600.0 / length as f64) {
            let requests = 1 + random.poisson(length as f64 - 1.0);
            let arm = if random.uniform() < share { &mut block.0 } else { &mut block.1 };
            *arm += requests;
        }
        block
    }

    /// An hour of blocks of 15 s, in 60 rollouts a row.
    #[test]
    fn a_share_as_asked_is_called_wrong_no_more_often_than_alpha() {
        let rollouts = 60;
        for asked in [0.01, 0.1, 0.5, 0.9] {
            for length in [1, 4, 20] {
                let wrong = |run: &u64| {
                    let (random, mut test) = (&mut Random::new(*run + 1), ShareTest::new(asked, 0.01).unwrap());
                    (0..240).any(|_| {
                        let (canary, stable) = sessions(length, asked, random);
                        test.absorb(canary, stable).unwrap();
                        matches!(test.verdict(), ShareVerdict::TooMuch | ShareVerdict::TooLittle)
                    })
                };
                let wrong = (0..rollouts).filter(wrong).count();
                println!("asked {asked}, sessions of {length}: {wrong} of {rollouts} called wrong");
                assert!(wrong <= 2, "asked {asked}, sessions of {length}: {wrong} of {rollouts}");
            }
        }
    }
}
