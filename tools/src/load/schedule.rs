//! The due times of all requests, fixed before the test starts, so that a late answer does not delay the next request.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bellwether_core::time::Span;
use serde::{Serialize, Serializer};

/// The largest number of requests in one test; more than that is a mistake in the command line.
const MAX_REQUESTS: f64 = 100_000_000.0;

/// A rate in requests per second, greater than 0. People write `50/s` or `300/m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

/// The error of a text that is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate; write requests per second or minute, as in \"50/s\" or \"300/m\"")]
pub struct BadRate(String);

/// The way in which due times are spread over the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Equal distances between requests.
    Constant,
    /// A Poisson process, as of independent users: clusters and gaps. The same seed gives the same due times.
    Poisson {
        /// Seed of the random numbers.
        seed: u64,
    },
}

/// The rate, the spread and the length of a test, from which all due times follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Average number of requests per second.
    pub rate: Rate,
    /// Spread of the due times.
    pub arrivals: Arrivals,
    /// Time from the start during which requests are sent but not counted.
    pub warm_up: Span,
    /// Time after the warm-up, during which requests are counted.
    pub duration: Span,
}

/// The reason why a schedule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// No request is due after the warm-up.
    #[error("at {0} not one request is due in {1}; give it more --duration or a higher --rate")]
    Empty(Rate, Span),
    /// More requests are due than one machine can send and count.
    #[error("{0} for {1} are too many requests for one test; lower --rate or --duration")]
    Endless(Rate, Span),
}

impl Rate {
    /// Returns the requests per second.
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl Eq for Rate {}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Rate, BadRate> {
        let bad = || BadRate(text.to_owned());
        let (number, unit) = text.split_once('/').ok_or_else(bad)?;
        let number: f64 = number.trim().parse().map_err(|_| bad())?;
        let per_second = match unit.trim() {
            "s" => number,
            "m" => number / 60.0,
            _ => return Err(bad()),
        };
        if per_second.is_finite() && per_second > 0.0 { Ok(Rate(per_second)) } else { Err(bad()) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0 * 100.0).round() / 100.0;
        write!(f, "{rounded}/s")
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrivals::Constant => f.write_str("constant"),
            Arrivals::Poisson { seed } => write!(f, "poisson, seed {seed}"),
        }
    }
}

impl Schedule {
    /// Checks that at least one request counts and that at most a hundred million are sent.
    ///
    /// # Errors
    /// [`BadSchedule`] names the limit that is broken.
    pub fn check(&self) -> Result<(), BadSchedule> {
        let requests = (self.warm_up.as_secs_f64() + self.duration.as_secs_f64()) * self.rate.per_second();
        if requests > MAX_REQUESTS {
            return Err(BadSchedule::Endless(self.rate, self.duration));
        }
        if self.instants().all(|at| at < self.warm_up.to_std()) {
            return Err(BadSchedule::Empty(self.rate, self.duration));
        }
        Ok(())
    }

    /// Returns the due times in ascending order, each as the time since the start of the test.
    pub fn instants(&self) -> Instants {
        let end = self.warm_up.as_secs_f64() + self.duration.as_secs_f64();
        let dice = match self.arrivals {
            Arrivals::Constant => None,
            Arrivals::Poisson { seed } => Some(Dice(seed)),
        };
        Instants { rate: self.rate.per_second(), end, dice, sent: 0, at: 0.0 }
    }
}

/// The iterator over the due times of a [`Schedule`].
#[derive(Debug, Clone)]
pub struct Instants {
    rate: f64,
    end: f64,
    dice: Option<Dice>,
    sent: u32,
    at: f64,
}

impl Iterator for Instants {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // Multiplied and not summed, so that rounding errors do not accumulate over an hour.
        let at = match &mut self.dice {
            None => f64::from(self.sent) / self.rate,
            Some(dice) => {
                self.at += -(1.0 - dice.throw()).ln() / self.rate;
                self.at
            }
        };
        self.sent = self.sent.saturating_add(1);
        (at < self.end).then(|| Duration::from_secs_f64(at))
    }
}

/// SplitMix64, written out because a seed must give the same test with every version of every dependency.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    /// Returns the next random number, from 0 to 1 without 1.
    fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: &str, arrivals: Arrivals, seconds: u64) -> Schedule {
        let duration = Span::from_secs(seconds);
        Schedule { rate: rate.parse().unwrap(), arrivals, warm_up: Span::ZERO, duration }
    }

    #[test]
    fn a_constant_schedule_is_even_and_does_not_drift() {
        let instants: Vec<Duration> = schedule("3/s", Arrivals::Constant, 3600).instants().collect();
        assert_eq!(instants.len(), 3 * 3600);
        assert_eq!(instants[3 * 1800], Duration::from_secs(1800));
    }

    #[test]
    fn a_poisson_schedule_has_its_rate_and_long_gaps_and_depends_on_its_seed() {
        let instants = |seed| schedule("50/s", Arrivals::Poisson { seed }, 400).instants().collect::<Vec<_>>();
        let first = instants(1);
        // 20,000 on average, with a standard deviation of √20,000, which is 141.
        assert!((19_600..20_400).contains(&first.len()), "{}", first.len());
        assert!(first.is_sorted());
        // Gaps of more than five times the average are e^-5 of all, which is about 135.
        let long = first.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(100)).count();
        assert!((80..190).contains(&long), "{long}");
        assert_eq!(first, instants(1));
        assert_ne!(first, instants(2));
    }

    #[test]
    fn a_rate_is_read_with_its_unit() {
        let rows =
            [("50/s", Some(50.0)), ("30/m", Some(0.5)), ("50", None), ("0/s", None), ("x/s", None), ("1/h", None)];
        for (text, wanted) in rows {
            assert_eq!(text.parse::<Rate>().ok().map(Rate::per_second), wanted, "{text}");
        }
    }

    #[test]
    fn an_empty_or_endless_schedule_is_refused() {
        assert!(schedule("10/s", Arrivals::Constant, 5).check().is_ok());
        assert!(matches!(schedule("10/s", Arrivals::Constant, 0).check(), Err(BadSchedule::Empty(..))));
        assert!(matches!(schedule("9999999/s", Arrivals::Constant, 3600).check(), Err(BadSchedule::Endless(..))));
        // The first request is due in the warm-up, and the second one after the end.
        let late = Schedule { warm_up: Span::from_secs(1), ..schedule("1/m", Arrivals::Constant, 5) };
        assert!(matches!(late.check(), Err(BadSchedule::Empty(..))));
    }
}
