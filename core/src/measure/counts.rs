//! Counts of requests and of the bad ones among them, derived from a reading and a check's limit.

use serde::{Deserialize, Serialize};

use crate::measure::block::Reading;
use crate::measure::metric::Limit;
use crate::measure::window::Measure;
use crate::stats::histogram::slower_than;
use crate::stats::tally::Tally;

/// The number of requests and of the bad ones among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// The number of bad requests; at most `n` in a valid reading.
    pub(crate) bad: u64,
    /// The number of all requests.
    pub(crate) n: u64,
}

impl Counts {
    /// Returns the counts of a reading, with the side of `limit` that is bad. `None` if the reading counts no requests, if
    /// no bucket ends at the limit, or if the good ones under a lower limit are more than all.
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

    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Returns the counts as a tally of the statistics; `None` if they are not a valid one.
    pub(crate) fn tally(self) -> Option<Tally> {
        Tally::of(self.bad, self.n).ok()
    }

    /// Adds the counts of `other`; sums stop at the largest number.
    pub(crate) fn add(&mut self, other: Counts) {
        self.bad = self.bad.saturating_add(other.bad);
        self.n = self.n.saturating_add(other.n);
    }

    /// Returns the share of bad requests, from 0 to 1; 0 without requests.
    pub(crate) fn share(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.bad as f64 / self.n as f64 }
    }

    /// Returns the counts as a measure of a check: for a lower limit the good requests are its hits.
    pub(crate) fn measure(self, limit: Limit) -> Measure {
        let hits = if matches!(limit, Limit::Min(_)) { self.n - self.bad } else { self.bad };
        let value = Counts { bad: hits, n: self.n }.share();
        Measure { value, hits: Some(hits), n: self.n, beyond: false }
    }
}
