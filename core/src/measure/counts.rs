//! Counts of all requests and of the bad ones among them, taken from a reading by a check's limit.

use serde::{Deserialize, Serialize};

use crate::measure::block::Reading;
use crate::measure::metric::Limit;
use crate::measure::window::Measure;
use crate::stats::histogram::slower_than;
use crate::stats::tally::Tally;

/// The number of bad requests and of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// The number of bad requests, at most `n`.
    pub(crate) bad: u64,
    /// The number of all requests.
    pub(crate) n: u64,
}

impl Counts {
    /// Returns the counts of `reading`, where the requests on the wrong side of `limit` are bad. `None` if the reading
    /// does not count requests, or if no bucket of the histogram ends at the limit.
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

    /// Returns the counts as a tally, whose hits are the bad requests; `None` if it has more than 2⁵³ requests or more
    /// bad requests than requests.
    pub(crate) fn tally(self) -> Option<Tally> {
        Tally::of(self.bad, self.n).ok()
    }

    /// Adds the counts of `other`.
    pub(crate) fn add(&mut self, other: Counts) {
        self.bad = self.bad.saturating_add(other.bad);
        self.n = self.n.saturating_add(other.n);
    }

    /// Returns the share of bad requests, 0 to 1; 0 if there is no request.
    pub(crate) fn share(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.bad as f64 / self.n as f64 }
    }

    /// Returns the counts as the check's metric shows them: as the share of bad requests for a maximum, and of good
    /// requests for a minimum.
    pub(crate) fn measure(self, limit: Limit) -> Measure {
        let hits = if matches!(limit, Limit::Min(_)) { self.n - self.bad } else { self.bad };
        let value = Counts { bad: hits, n: self.n }.share();
        Measure { value, hits: Some(hits), n: self.n, beyond: false }
    }
}
