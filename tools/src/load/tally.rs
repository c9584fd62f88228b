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
    /// The server's certificate is not accepted.
    Certificate,
    /// The connection broke before the headers of the answer arrived.
    Broken,
    /// The body broke off after the headers, or a stream ended before the end that its protocol tells.
    Truncated,
    /// A stream without an event that has content.
    Empty,
    /// An error that a stream has as an event, after a status that promised an answer.
    InStream,
    /// An answer with another status than 2xx, by its class: 3 for a redirect, 4 for 4xx, 5 for 5xx.
    Status(u16),
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFailure::Timeout => f.write_str("timeout"),
            RequestFailure::Connect => f.write_str("connect"),
            RequestFailure::Certificate => f.write_str("certificate"),
            RequestFailure::Broken => f.write_str("broken"),
            RequestFailure::Truncated => f.write_str("truncated"),
            RequestFailure::Empty => f.write_str("empty"),
            RequestFailure::InStream => f.write_str("in-stream"),
            RequestFailure::Status(class) => write!(f, "{class}xx"),
        }
    }
}

impl Serialize for RequestFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A failure with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRequest {
    /// Kind, by which failures are counted.
    pub kind: RequestFailure,
    /// Cause as text; empty if the kind says all.
    pub why: String,
}

impl FailedRequest {
    /// Returns a failure of this kind and cause.
    pub fn new(kind: RequestFailure, why: impl Into<String>) -> FailedRequest {
        FailedRequest { kind, why: why.into() }
    }
}

/// The pace of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPace {
    /// Number of tokens: as the server counts them, or else the number of events with content.
    pub tokens: u64,
    /// Mean time from one token to the next.
    pub between: Duration,
}

/// The times of a good answer, each since the start of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoodAnswer {
    /// Time of the first event with content; of an answer that is no stream, of its first byte.
    pub first: Duration,
    /// Time at which the answer was complete: of a stream, that of its last content.
    pub complete: Duration,
    /// Pace of a stream; `None` of other answers.
    pub pace: Option<StreamPace>,
}

impl GoodAnswer {
    /// Returns an answer that came at once, as a whole.
    pub fn at(time: Duration) -> GoodAnswer {
        GoodAnswer { first: time, complete: time, pace: None }
    }
}

/// The times of one request, each since the start of the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTiming {
    /// Time at which the request should have been sent.
    pub due: Duration,
    /// Time at which the request was sent; `None` if it was not, because every connection was busy.
    pub sent: Option<Duration>,
    /// The good answer, or the reason why there is none.
    pub ended: Result<GoodAnswer, FailedRequest>,
}

/// A time of an answer that a threshold limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeFigure {
    /// From due to complete.
    Latency,
    /// From due to the first event with content; of an answer that is no stream, to its first byte.
    First,
    /// Mean time from one token of a stream to the next; 0 of an answer that is no stream.
    InterToken,
}

/// The limits that an answer must keep to count as goodput: the longest time of each figure.
pub type TimeLimits = BTreeMap<TimeFigure, Duration>;

/// The counts of all requests that were due after the warm-up.
#[derive(Debug, Clone)]
pub struct LoadTally {
    /// Microseconds of each figure, of good answers.
    times: BTreeMap<TimeFigure, Histogram<u64>>,
    /// Microseconds from the due time to the sending, of all requests that were sent: the generator's own lateness.
    lateness: Histogram<u64>,
    /// Number of requests that were sent and got no good answer, by reason.
    pub failures: BTreeMap<RequestFailure, u64>,
    /// Cause of the first failure of each kind that has one.
    pub causes: BTreeMap<RequestFailure, String>,
    /// Number of due requests that were not sent.
    pub not_sent: u64,
    /// Number of good answers that keep all time limits.
    within: u64,
    /// Number of tokens of all good streams.
    tokens: u64,
    limits: TimeLimits,
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
    /// Returns a tally without requests. `limits` tell which answers are goodput.
    pub fn new(limits: TimeLimits) -> LoadTally {
        let empty = || {
            Histogram::new_with_max(MAX_MICROS, 3)
                .unwrap_or_else(|_| unreachable!("three digits are within one to five"))
        };
        let figures = [TimeFigure::Latency, TimeFigure::First, TimeFigure::InterToken];
        LoadTally {
            times: figures.map(|figure| (figure, empty())).into(),
            lateness: empty(),
            failures: BTreeMap::new(),
            causes: BTreeMap::new(),
            not_sent: 0,
            within: 0,
            tokens: 0,
            limits,
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
        let since_due = |at: Duration| at.saturating_sub(timing.due);
        self.lateness.saturating_record(micros(since_due(sent)));
        match &timing.ended {
            Ok(answer) => {
                let time = |figure| match figure {
                    TimeFigure::Latency => since_due(answer.complete),
                    TimeFigure::First => since_due(answer.first),
                    TimeFigure::InterToken => answer.pace.map_or(Duration::ZERO, |pace| pace.between),
                };
                for (figure, histogram) in &mut self.times {
                    histogram.saturating_record(micros(time(*figure)));
                }
                self.within += u64::from(self.limits.iter().all(|(figure, limit)| time(*figure) <= *limit));
                self.tokens += answer.pace.map_or(0, |pace| pace.tokens);
                self.last = self.last.max(answer.complete);
            }
            Err(failed) => {
                *self.failures.entry(failed.kind).or_default() += 1;
                if !failed.why.is_empty() {
                    self.causes.entry(failed.kind).or_insert_with(|| failed.why.clone());
                }
            }
        }
    }

    /// Returns the number of due requests.
    pub fn due(&self) -> u64 {
        self.good() + self.failed() + self.not_sent
    }

    /// Returns the number of good answers.
    pub fn good(&self) -> u64 {
        self.times.get(&TimeFigure::Latency).map_or(0, Histogram::len)
    }

    /// Returns the number of requests that were sent and got no good answer.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Returns the number of due requests without a good answer that keeps the limit: failed, not sent, or slower.
    pub fn beyond(&self, figure: TimeFigure, limit: Duration) -> u64 {
        let kept = self.times.get(&figure).map_or(0, |times| times.count_between(0, micros(limit)));
        self.due() - kept
    }

    /// Returns the good answers per second, over the time from the end of the warm-up to the last good answer or to the
    /// end of the test, whichever is later.
    pub fn good_per_second(&self, warm_up: Duration, duration: Duration) -> f64 {
        self.per_second(self.good(), warm_up, duration)
    }

    /// Returns the good answers that keep all time limits, per second of the same time.
    pub fn goodput(&self, warm_up: Duration, duration: Duration) -> f64 {
        self.per_second(self.within, warm_up, duration)
    }

    /// Returns the tokens of good streams per second of the same time.
    pub fn tokens_per_second(&self, warm_up: Duration, duration: Duration) -> f64 {
        self.per_second(self.tokens, warm_up, duration)
    }

    fn per_second(&self, count: u64, warm_up: Duration, duration: Duration) -> f64 {
        let took = self.last.saturating_sub(warm_up).max(duration).as_secs_f64();
        if took > 0.0 { count as f64 / took } else { 0.0 }
    }

    /// Returns the time within which `share` (0 to 1) of all due requests got a good answer.
    pub fn time(&self, figure: TimeFigure, share: f64) -> Quantile {
        self.times.get(&figure).map_or(Quantile::Never, |times| quantile(times, self.due(), share))
    }

    /// Returns whether a good answer was a stream.
    pub fn has_streams(&self) -> bool {
        self.tokens > 0
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
        Duration::from_micros(self.times.get(&TimeFigure::Latency).map_or(0, Histogram::max))
    }
}

impl Default for LoadTally {
    fn default() -> LoadTally {
        LoadTally::new(TimeLimits::new())
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
        RequestTiming { due: millis(due), sent: Some(millis(sent)), ended: Ok(GoodAnswer::at(millis(ended))) }
    }

    fn failed(kind: RequestFailure) -> RequestTiming {
        RequestTiming { ended: Err(FailedRequest::new(kind, "because")), ..good(0, 0, 1) }
    }

    fn near(found: Quantile, wanted: u64) {
        let Quantile::Within(found) = found else { panic!("never") };
        let wanted = millis(wanted).as_secs_f64();
        assert!((found.as_secs_f64() - wanted).abs() <= wanted / 500.0, "{found:?}");
    }

    #[test]
    fn a_latency_begins_when_the_request_was_due_and_not_when_it_was_sent() {
        let mut tally = LoadTally::default();
        // The generator hung for a second; then all hundred requests were sent at once and answered in a millisecond.
        for n in 0..100 {
            tally.add(&good(10 * n, 1000, 1001));
        }
        near(tally.time(TimeFigure::Latency, 0.99), 1001 - 10);
        near(tally.time(TimeFigure::Latency, 0.5), 1001 - 500);
        assert!(tally.lateness(0.99) > millis(980), "{:?}", tally.lateness(0.99));
    }

    #[test]
    fn failed_and_unsent_requests_rank_behind_all_good_answers() {
        let mut tally = LoadTally::default();
        for n in 0..96 {
            tally.add(&good(n, n, n + 20));
        }
        for failure in [RequestFailure::Status(5), RequestFailure::Status(5), RequestFailure::Timeout] {
            tally.add(&failed(failure));
        }
        tally.add(&RequestTiming { sent: None, ..failed(RequestFailure::Timeout) });
        assert_eq!((tally.due(), tally.good(), tally.failed(), tally.not_sent), (100, 96, 3, 1));
        near(tally.time(TimeFigure::Latency, 0.96), 20);
        assert_eq!(tally.time(TimeFigure::Latency, 0.97), Quantile::Never);
        let by_reason: Vec<String> = tally.failures.iter().map(|(failure, n)| format!("{n} {failure}")).collect();
        assert_eq!(by_reason, ["1 timeout", "2 5xx"]);
        assert_eq!(tally.causes[&RequestFailure::Timeout], "because");
        assert_eq!(tally.beyond(TimeFigure::Latency, millis(30)), 4);
        assert_eq!(tally.beyond(TimeFigure::Latency, millis(10)), 100);
    }

    #[test]
    fn goodput_counts_the_answers_that_keep_every_limit() {
        let limits = TimeLimits::from([(TimeFigure::Latency, millis(100)), (TimeFigure::InterToken, millis(10))]);
        let mut tally = LoadTally::new(limits);
        let stream = |complete: u64, between: u64| RequestTiming {
            ended: Ok(GoodAnswer {
                first: millis(1),
                complete: millis(complete),
                pace: Some(StreamPace { tokens: 10, between: millis(between) }),
            }),
            ..good(0, 0, 0)
        };
        for (complete, between) in [(90, 9), (90, 11), (110, 9), (100, 10)] {
            tally.add(&stream(complete, between));
        }
        let second = Duration::from_secs(1);
        assert_eq!(tally.good_per_second(Duration::ZERO, second), 4.0);
        assert_eq!(tally.goodput(Duration::ZERO, second), 2.0);
        assert_eq!(tally.tokens_per_second(Duration::ZERO, second), 40.0);
    }

    #[test]
    fn percentiles_without_requests_are_never() {
        assert_eq!(LoadTally::default().time(TimeFigure::Latency, 0.5), Quantile::Never);
        assert_eq!(LoadTally::default().lateness(0.99), Duration::ZERO);
    }
}
