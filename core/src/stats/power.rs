//! How soon would it be seen? What `plan` tells people before a rollout, from the traffic that there is.
//!
//! While the rates stay as they are, each component's evidence grows by a fixed number of nats per second, and the fastest
//! one decides. To reach `1/α` it must also pay for the components and the blocks that the stake is spread over:
//!
//! ```text
//! time = ln(K / (α w_1)) / max_k growth_k
//! ```
//!
//! It is a first-order answer (Wald 1945): the last error usually carries the evidence some way beyond the goal, and the
//! other components help a little.

use super::BadTest;
use super::mixture::Onset;
use super::odds_grid::OddsGrid;
use super::slo::LimitGrid;
use super::tally::{Pair, Phi, Tally};

/// How fast evidence grows, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Nats per unit of what was given: per second, if requests per second were. Not above 0: it is never seen.
    pub nats: f64,
    /// Which component is the fastest, counted from 0.
    pub component: usize,
    /// Over how many the stake is spread.
    components: usize,
    /// The part of it that is put down at the first block.
    head: f64,
}

impl Growth {
    /// The growth of a test of the canary against the stable, if both see `expected` requests and errors per unit of
    /// time. The counts need not be whole.
    pub fn of(test: &OddsGrid, expected: Pair, phi: Phi) -> Growth {
        Growth::fastest(&test.factors(expected, phi), test.onset())
    }

    /// The growth of a test of one arm against its limit.
    pub fn alone(test: &LimitGrid, expected: Tally, phi: Phi) -> Growth {
        Growth::fastest(&test.factors(expected, phi), test.onset())
    }

    fn fastest(factors: &[f64], onset: Onset) -> Growth {
        let best = factors.iter().copied().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        let (component, nats) = best.unwrap_or((0, 0.0));
        Growth { nats, component, components: factors.len(), head: onset.stake(1) }
    }

    /// How long it takes to reach `1/alpha`, in the unit of time that was given; `None`: it is never reached on average.
    ///
    /// # Errors
    /// [`BadTest::Level`] unless `alpha` lies between 0 and 1.
    pub fn time(&self, alpha: f64) -> Result<Option<f64>, BadTest> {
        if !(alpha > 0.0 && alpha < 1.0) {
            return Err(BadTest::Level(alpha));
        }
        let goal = libm::log(self.components as f64 / (alpha * self.head));
        Ok((self.nats > 0.0).then(|| goal / self.nats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_worse_is_never_seen() {
        let test = OddsGrid::worse(1.25, Onset::Any).unwrap();
        let same = Pair { canary: Tally::new(0.5, 100.0).unwrap(), stable: Tally::new(4.5, 900.0).unwrap() };
        assert_eq!(Growth::of(&test, same, Phi::ONE).time(0.01), Ok(None));
        assert!(Growth::of(&test, same, Phi::ONE).time(1.0).is_err());
    }

    #[test]
    fn more_traffic_and_smaller_clusters_are_sooner() {
        let test = OddsGrid::worse(1.0, Onset::Any).unwrap();
        let at = |scale: f64, phi: f64| {
            let expected = Pair {
                canary: Tally::new(0.5 * scale, 50.0 * scale).unwrap(),
                stable: Tally::new(0.9, 900.0).unwrap(),
            };
            Growth::of(&test, expected, Phi::learnt(phi)).time(0.01).unwrap().unwrap()
        };
        assert!(at(2.0, 1.0) < at(1.0, 1.0));
        assert!((at(1.0, 3.0) - 3.0 * at(1.0, 1.0)).abs() < 1e-9);
    }
}
