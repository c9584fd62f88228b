//! What became of the requests, counted so that nothing can disappear.
//!
//! A latency belongs to a good answer alone. A request that was refused in a millisecond is not a fast one, and one that
//! was never sent is not absent: both stand behind every good answer when a percentile is looked for. So a percentile is
//! of all that should have been answered, and can be "never".

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Three digits, from a microsecond to a day: what is longer counts as a day.
const LONGEST: u64 = 86_400_000_000;

/// Why a request got no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Not within the time that a request has.
    Timeout,
    /// No connection: refused, unreachable, no such name, no handshake.
    Connect,
    /// The connection broke before the headers came.
    Broken,
    /// The headers came, and then not all of the body; or a stream without one event.
    Truncated,
    /// Answered with a status of this class: 4 for 4xx, 5 for 5xx.
    Status(u16),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Timeout => f.write_str("timeout"),
            Failure::Connect => f.write_str("connect"),
            Failure::Broken => f.write_str("broken"),
            Failure::Truncated => f.write_str("truncated"),
            Failure::Status(class) => write!(f, "{class}xx"),
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One request: when it was due, and what became of it. All times are since the start of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was to be sent.
    pub due: Duration,
    /// When it was; `None`: it was not, since every connection was busy.
    pub sent: Option<Duration>,
    /// When the first byte of the body came.
    pub first_byte: Option<Duration>,
    /// When the answer was complete, or why there is none.
    pub ended: Result<Duration, Failure>,
}

/// Everything that was counted after the warm-up.
#[derive(Debug, Clone)]
pub struct Tally {
    /// From due to complete, of good answers, in microseconds.
    latency: Histogram<u64>,
    /// From due to the first byte, of good answers.
    first_byte: Histogram<u64>,
    /// From due to sent: this end's own lateness.
    lateness: Histogram<u64>,
    /// Those that got no good answer, by reason.
    pub failures: BTreeMap<Failure, u64>,
    /// Those that were not sent.
    pub not_sent: u64,
    /// When the last good answer was complete.
    last: Duration,
}

/// A percentile: of all that should have been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantile {
    /// That long at most.
    Within(Duration),
    /// So many were not answered well that this one never was.
    Never,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Tally {
        let empty = || {
            Histogram::new_with_max(LONGEST, 3).unwrap_or_else(|_| unreachable!("three digits are within one to five"))
        };
        Tally {
            latency: empty(),
            first_byte: empty(),
            lateness: empty(),
            failures: BTreeMap::new(),
            not_sent: 0,
            last: Duration::ZERO,
        }
    }

    /// Counts one request.
    pub fn add(&mut self, sample: &Sample) {
        let Some(sent) = sample.sent else {
            self.not_sent += 1;
            return;
        };
        // From when it was due and not from when it was sent: see the module's argument.
        let since_due = |at: Duration| micros(at.saturating_sub(sample.due));
        self.lateness.saturating_record(since_due(sent));
        match sample.ended {
            Ok(ended) => {
                self.latency.saturating_record(since_due(ended));
                self.first_byte.saturating_record(since_due(sample.first_byte.unwrap_or(ended)));
                self.last = self.last.max(ended);
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    /// Those that should have been answered.
    pub fn due(&self) -> u64 {
        self.good() + self.failed() + self.not_sent
    }

    /// Those that were answered well.
    pub fn good(&self) -> u64 {
        self.latency.len()
    }

    /// Those that were sent and not answered well.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Good answers per second, from the end of the warm-up to the last of them, or to the end of the test.
    pub fn good_per_second(&self, warm_up: Duration, duration: Duration) -> f64 {
        let took = self.last.saturating_sub(warm_up).max(duration).as_secs_f64();
        if took > 0.0 { self.good() as f64 / took } else { 0.0 }
    }

    /// So long, at most, the given share of all that should have been answered took.
    pub fn latency(&self, share: f64) -> Quantile {
        quantile(&self.latency, self.due(), share)
    }

    /// The same until the first byte.
    pub fn first_byte(&self, share: f64) -> Quantile {
        quantile(&self.first_byte, self.due(), share)
    }

    /// How late this end was, of all that it sent.
    pub fn lateness(&self, share: f64) -> Duration {
        match quantile(&self.lateness, self.lateness.len(), share) {
            Quantile::Within(late) => late,
            Quantile::Never => Duration::ZERO,
        }
    }

    /// The longest good answer.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.latency.max())
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(LONGEST).min(LONGEST)
}

/// The value at the rank that `share` of `all` has; those beyond the histogram's own number never came.
fn quantile(histogram: &Histogram<u64>, all: u64, share: f64) -> Quantile {
    let rank = (share * all as f64).ceil().max(1.0);
    let known = histogram.len() as f64;
    if rank > known {
        return Quantile::Never;
    }
    // Half a rank lower, so that rounding can't take the next one.
    Quantile::Within(Duration::from_micros(histogram.value_at_quantile((rank - 0.5) / known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn good(due: u64, sent: u64, ended: u64) -> Sample {
        Sample { due: millis(due), sent: Some(millis(sent)), first_byte: None, ended: Ok(millis(ended)) }
    }

    fn near(found: Quantile, wanted: u64) {
        let Quantile::Within(found) = found else { panic!("never") };
        let wanted = millis(wanted).as_secs_f64();
        assert!((found.as_secs_f64() - wanted).abs() <= wanted / 500.0, "{found:?}");
    }

    #[test]
    fn a_latency_begins_when_the_request_was_due_and_not_when_it_was_sent() {
        let mut tally = Tally::new();
        // This end hung for a second, and then all hundred were sent at once and answered in a millisecond.
        for n in 0..100 {
            tally.add(&good(10 * n, 1000, 1001));
        }
        near(tally.latency(0.99), 1001 - 10);
        near(tally.latency(0.5), 1001 - 500);
        assert!(tally.lateness(0.99) > millis(980), "{:?}", tally.lateness(0.99));
    }

    #[test]
    fn what_was_not_answered_well_stands_behind_all_that_was() {
        let mut tally = Tally::new();
        for n in 0..96 {
            tally.add(&good(n, n, n + 20));
        }
        for failure in [Failure::Status(5), Failure::Status(5), Failure::Timeout] {
            tally.add(&Sample { ended: Err(failure), ..good(0, 0, 1) });
        }
        tally.add(&Sample { sent: None, ended: Err(Failure::Timeout), ..good(0, 0, 0) });
        assert_eq!((tally.due(), tally.good(), tally.failed(), tally.not_sent), (100, 96, 3, 1));
        near(tally.latency(0.96), 20);
        assert_eq!(tally.latency(0.97), Quantile::Never);
        let named: Vec<String> = tally.failures.iter().map(|(failure, n)| format!("{n} {failure}")).collect();
        assert_eq!(named, ["1 timeout", "2 5xx"]);
    }

    #[test]
    fn of_nothing_every_percentile_is_never() {
        assert_eq!(Tally::new().latency(0.5), Quantile::Never);
        assert_eq!(Tally::new().lateness(0.99), Duration::ZERO);
    }
}
