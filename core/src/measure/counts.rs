//! Whole requests, and the bad ones among them: what a reading comes down to once a check has said which are bad.

use serde::{Deserialize, Serialize};

use crate::measure::block::Reading;
use crate::measure::metric::Limit;
use crate::measure::window::Measure;
use crate::stats::histogram::slower_than;
use crate::stats::tally::Tally;

/// Counts of whole requests: the bad ones, and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) bad: u64,
    pub(crate) n: u64,
}

impl Counts {
    pub(crate) fn of(reading: &Reading, limit: Limit) -> Option<Counts> {
        match (reading, limit) {
            (Reading::Ratio { hits, total }, Limit::Max(_)) => Some(Counts { bad: *hits, n: *total }),
            (Reading::Ratio { hits, total }, Limit::Min(_)) => {
                Some(Counts { bad: total.checked_sub(*hits)?, n: *total })
            }
            (Reading::Histogram { edges, counts }, Limit::Max(max)) => {
                let tally = slower_than(edges, counts, max).ok()?;
                Some(Counts { bad: tally.hits() as u64, n: tally.n() as u64 })
            }
            (Reading::Histogram { .. } | Reading::Count(_) | Reading::Value(_), _) => None,
        }
    }

    pub(crate) fn tally(self) -> Option<Tally> {
        Tally::of(self.bad, self.n).ok()
    }

    pub(crate) fn add(&mut self, other: Counts) {
        self.bad = self.bad.saturating_add(other.bad);
        self.n = self.n.saturating_add(other.n);
    }

    /// The share of the bad ones; of none, none.
    pub(crate) fn share(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.bad as f64 / self.n as f64 }
    }

    pub(crate) fn measure(self, limit: Limit) -> Measure {
        let hits = if matches!(limit, Limit::Min(_)) { self.n - self.bad } else { self.bad };
        let value = Counts { bad: hits, n: self.n }.share();
        Measure { value, hits: Some(hits), n: self.n, beyond: false }
    }
}
