//! The counts of a load test. Every due request is counted exactly once: as a good answer, as a failure, or as not
//! sent.
//!
//! Only good answers have a latency. A request that was refused within a millisecond is not a fast request, and a
//! request that could not be sent is not left out: both rank behind every good answer. So a percentile is taken over
//! all due requests, and its value can be "never".

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// The largest recorded time, in microseconds: one day. Longer times count as one day.
const MAX_MICROS: u64 = 86_400_000_000;

/// The reason why a request that was sent got no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestFailure {
    /// No complete answer within the timeout of a request.
    Timeout,
    /// No connection: refused, unreachable, unknown name, or a failed TLS handshake.
    Connect,
    /// The connection broke before the headers of the answer arrived.
    Broken,
    /// The body broke off after the headers, or a stream of events ended without an event.
    Truncated,
    /// An answer with an error status, by its class: 4 for 4xx, 5 for 5xx.
    Status(u16),
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFailure::Timeout => f.write_str("timeout"),
            RequestFailure::Connect => f.write_str("connect"),
            RequestFailure::Broken => f.write_str("broken"),
            RequestFailure::Truncated => f.write_str("truncated"),
            RequestFailure::Status(class) => write!(f, "{class}xx"),
        }
    }
}

impl Serialize for RequestFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The times of one request, each since the start of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTiming {
    /// Time at which the request should have been sent.
    pub due: Duration,
    /// Time at which the request was sent; `None` if it was not, because every connection was busy.
    pub sent: Option<Duration>,
    /// Time at which the first byte of the body arrived; `None` if there was none.
    pub first_byte: Option<Duration>,
    /// Time at which a good answer was complete, or the reason why there is no good answer.
    pub ended: Result<Duration, RequestFailure>,
}

/// The counts of all requests that were due after the warm-up.
#[derive(Debug, Clone)]
pub struct LoadTally {
    /// Microseconds from the due time to the complete answer, of good answers.
    latency: Histogram<u64>,
    /// Microseconds from the due time to the first byte, of good answers.
    first_byte: Histogram<u64>,
    /// Microseconds from the due time to the sending, of all requests that were sent: the generator's own lateness.
    lateness: Histogram<u64>,
    /// Number of requests that were sent and got no good answer, by reason.
    pub failures: BTreeMap<RequestFailure, u64>,
    /// Number of due requests that were not sent.
    pub not_sent: u64,
    /// Time since the start at which the last good answer was complete.
    last: Duration,
}

/// A percentile over all due requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantile {
    /// The time within which that share of the requests got a good answer.
    Within(Duration),
    /// Fewer requests than that share got a good answer.
    Never,
}

impl LoadTally {
    /// Returns a tally without requests.
    pub fn new() -> LoadTally {
        let empty = || {
            Histogram::new_with_max(MAX_MICROS, 3)
                .unwrap_or_else(|_| unreachable!("three digits are within one to five"))
        };
        LoadTally {
            latency: empty(),
            first_byte: empty(),
            lateness: empty(),
            failures: BTreeMap::new(),
            not_sent: 0,
            last: Duration::ZERO,
        }
    }

    /// Counts one request that was due after the warm-up.
    pub fn add(&mut self, timing: &RequestTiming) {
        let Some(sent) = timing.sent else {
            self.not_sent += 1;
            return;
        };
        // From the due time and not from the sending; see the documentation of `load`.
        let since_due = |at: Duration| micros(at.saturating_sub(timing.due));
        self.lateness.saturating_record(since_due(sent));
        match timing.ended {
            Ok(ended) => {
                self.latency.saturating_record(since_due(ended));
                self.first_byte.saturating_record(since_due(timing.first_byte.unwrap_or(ended)));
                self.last = self.last.max(ended);
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    /// Returns the number of due requests.
    pub fn due(&self) -> u64 {
        self.good() + self.failed() + self.not_sent
    }

    /// Returns the number of good answers.
    pub fn good(&self) -> u64 {
        self.latency.len()
    }

    /// Returns the number of requests that were sent and got no good answer.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Returns the good answers per second, over the time from the end of the warm-up to the last good answer or to the
    /// end of the test, whichever is later.
    pub fn good_per_second(&self, warm_up: Duration, duration: Duration) -> f64 {
        let took = self.last.saturating_sub(warm_up).max(duration).as_secs_f64();
        if took > 0.0 { self.good() as f64 / took } else { 0.0 }
    }

    /// Returns the time from due to complete within which `share` (0 to 1) of all due requests got a good answer.
    pub fn latency(&self, share: f64) -> Quantile {
        quantile(&self.latency, self.due(), share)
    }

    /// Returns the same as [`LoadTally::latency`], from due to the first byte of the body.
    pub fn first_byte(&self, share: f64) -> Quantile {
        quantile(&self.first_byte, self.due(), share)
    }

    /// Returns the time by which `share` (0 to 1) of all sent requests were late at most; zero if none was sent.
    pub fn lateness(&self, share: f64) -> Duration {
        match quantile(&self.lateness, self.lateness.len(), share) {
            Quantile::Within(late) => late,
            Quantile::Never => Duration::ZERO,
        }
    }

    /// Returns the longest latency of a good answer; zero if there is none.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.latency.max())
    }
}

impl Default for LoadTally {
    fn default() -> LoadTally {
        LoadTally::new()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(MAX_MICROS).min(MAX_MICROS)
}

/// Returns the value at rank `share` × `all`. The requests that are not in the histogram rank last and have no value.
fn quantile(histogram: &Histogram<u64>, all: u64, share: f64) -> Quantile {
    let rank = (share * all as f64).ceil().max(1.0);
    let recorded = histogram.len() as f64;
    if rank > recorded {
        return Quantile::Never;
    }
    // Half a rank lower, so that rounding can't select the next rank.
    Quantile::Within(Duration::from_micros(histogram.value_at_quantile((rank - 0.5) / recorded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn good(due: u64, sent: u64, ended: u64) -> RequestTiming {
        RequestTiming { due: millis(due), sent: Some(millis(sent)), first_byte: None, ended: Ok(millis(ended)) }
    }

    fn near(found: Quantile, wanted: u64) {
        let Quantile::Within(found) = found else { panic!("never") };
        let wanted = millis(wanted).as_secs_f64();
        assert!((found.as_secs_f64() - wanted).abs() <= wanted / 500.0, "{found:?}");
    }

    #[test]
    fn a_latency_begins_when_the_request_was_due_and_not_when_it_was_sent() {
        let mut tally = LoadTally::new();
        // The generator hung for a second; then all hundred requests were sent at once and answered in a millisecond.
        for n in 0..100 {
            tally.add(&good(10 * n, 1000, 1001));
        }
        near(tally.latency(0.99), 1001 - 10);
        near(tally.latency(0.5), 1001 - 500);
        assert!(tally.lateness(0.99) > millis(980), "{:?}", tally.lateness(0.99));
    }

    #[test]
    fn failed_and_unsent_requests_rank_behind_all_good_answers() {
        let mut tally = LoadTally::new();
        for n in 0..96 {
            tally.add(&good(n, n, n + 20));
        }
        for failure in [RequestFailure::Status(5), RequestFailure::Status(5), RequestFailure::Timeout] {
            tally.add(&RequestTiming { ended: Err(failure), ..good(0, 0, 1) });
        }
        tally.add(&RequestTiming { sent: None, ended: Err(RequestFailure::Timeout), ..good(0, 0, 0) });
        assert_eq!((tally.due(), tally.good(), tally.failed(), tally.not_sent), (100, 96, 3, 1));
        near(tally.latency(0.96), 20);
        assert_eq!(tally.latency(0.97), Quantile::Never);
        let by_reason: Vec<String> = tally.failures.iter().map(|(failure, n)| format!("{n} {failure}")).collect();
        assert_eq!(by_reason, ["1 timeout", "2 5xx"]);
    }

    #[test]
    fn percentiles_without_requests_are_never() {
        assert_eq!(LoadTally::new().latency(0.5), Quantile::Never);
        assert_eq!(LoadTally::new().lateness(0.99), Duration::ZERO);
    }
}
