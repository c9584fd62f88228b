//! The limits of a load test, as people write them: `p95<=800ms`, `first-event-p99<=300ms`, `errors<=1%`, `rate>=45/s`.

use std::fmt;
use std::str::FromStr;

use bellwether_core::measure::metric::{RawLimit, Unit};
use bellwether_core::time::Span;
use serde::{Serialize, Serializer};

use super::schedule::Rate;
use super::tally::{TimeFigure, TimeLimits};

/// A limit on one figure of the result, with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// The text of the limit without white space, for the report.
    text: String,
    /// Figure that is limited, and its limit.
    pub limit: ThresholdLimit,
}

/// A limit on one figure of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThresholdLimit {
    /// The time within which a share of the due requests must have a good answer.
    Time {
        /// Figure that is limited.
        figure: TimeFigure,
        /// Share of the due requests, above 0 and below 1.
        share: f64,
        /// Longest time.
        within: Span,
    },
    /// The largest share (0 to 1) of the due requests without a good answer.
    Errors(f64),
    /// The largest share (0 to 1) of the due requests that are not sent.
    NotSent(f64),
    /// The lowest number per second.
    Rate {
        /// Figure that is limited.
        figure: RateFigure,
        /// Lowest number per second.
        least: f64,
    },
}

/// A number per second that a threshold limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateFigure {
    /// Good answers.
    Good,
    /// Good answers that keep the time limits of all thresholds.
    Goodput,
    /// Tokens of good streams.
    Tokens,
}

/// The forms of thresholds, for messages.
pub const FORMS: &str = "p95<=800ms, first-event-p95<=300ms, inter-token-p95<=80ms, errors<=1%, not-sent<=0%, \
                         rate>=45/s, goodput>=40/s or tokens>=500/s";

/// The error of a text that is not a threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a threshold: {why}; write {FORMS}")]
pub struct BadThreshold {
    text: String,
    why: String,
}

impl Threshold {
    /// Returns the largest share of bad requests that the threshold allows; `None` if it limits a count, which is not
    /// estimated from a sample: a rate, the requests that were not sent, and errors of 0 %, which no sample can show.
    pub fn allowed(&self) -> Option<f64> {
        match self.limit {
            ThresholdLimit::Time { share, .. } => Some(1.0 - share),
            ThresholdLimit::Errors(share) => Some(share).filter(|share| *share > 0.0),
            ThresholdLimit::NotSent(_) | ThresholdLimit::Rate { .. } => None,
        }
    }
}

/// Returns the limits of all thresholds on times, the shortest of each figure.
pub fn time_limits(thresholds: &[Threshold]) -> TimeLimits {
    let mut limits = TimeLimits::new();
    for threshold in thresholds {
        if let ThresholdLimit::Time { figure, within, .. } = threshold.limit {
            let limit = limits.entry(figure).or_insert(within.to_std());
            *limit = within.to_std().min(*limit);
        }
    }
    limits
}

impl FromStr for Threshold {
    type Err = BadThreshold;

    fn from_str(text: &str) -> Result<Threshold, BadThreshold> {
        let limit = read(text).map_err(|why| BadThreshold { text: text.to_owned(), why })?;
        Ok(Threshold { text: text.chars().filter(|c| !c.is_whitespace()).collect(), limit })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn read(text: &str) -> Result<ThresholdLimit, String> {
    let (name, value, up) = if let Some((name, value)) = text.split_once("<=") {
        (name.trim(), value.trim(), false)
    } else if let Some((name, value)) = text.split_once(">=") {
        (name.trim(), value.trim(), true)
    } else {
        return Err("it has no <= or >=".to_owned());
    };
    let rate = match name {
        "rate" => Some(RateFigure::Good),
        "goodput" => Some(RateFigure::Goodput),
        "tokens" => Some(RateFigure::Tokens),
        _ => None,
    };
    if up != rate.is_some() {
        return Err(format!("a limit on {name} takes {}", if up { "<=" } else { ">=" }));
    }
    if let Some(figure) = rate {
        let least = value.parse::<Rate>().map_err(|error| error.to_string())?.per_second();
        return Ok(ThresholdLimit::Rate { figure, least });
    }
    let figures =
        [("first-event-", TimeFigure::First), ("inter-token-", TimeFigure::InterToken), ("", TimeFigure::Latency)];
    match name {
        "errors" => percent(value).map(ThresholdLimit::Errors),
        "not-sent" => percent(value).map(ThresholdLimit::NotSent),
        name => {
            let found = figures.iter().find_map(|(prefix, figure)| Some((name.strip_prefix(prefix)?, *figure)));
            let (quantile, figure) = found.unwrap_or((name, TimeFigure::Latency));
            Ok(ThresholdLimit::Time { figure, share: share(quantile)?, within: time(value)? })
        }
    }
}

/// Parses a percentile as a share: `p95` is 0.95, and `p99.9` is 0.999.
fn share(quantile: &str) -> Result<f64, String> {
    let number = quantile.strip_prefix('p').and_then(|number| number.parse::<f64>().ok());
    match number.map(|number| number / 100.0) {
        Some(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err(format!("{quantile:?} is not a figure of a load test")),
    }
}

fn time(value: &str) -> Result<Span, String> {
    value.parse::<Span>().map_err(|error| error.to_string())
}

fn percent(value: &str) -> Result<f64, String> {
    Unit::Percent.read(&RawLimit::Text(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Threshold {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_threshold_is_parsed() {
        let within = Span::from_millis(800);
        let time = |figure, share| ThresholdLimit::Time { figure, share, within };
        let rate = |figure| ThresholdLimit::Rate { figure, least: 45.0 };
        let rows = [
            ("p95<=800ms", time(TimeFigure::Latency, 0.95)),
            ("p99.9 <= 800ms", time(TimeFigure::Latency, 0.9990000000000001)),
            ("first-event-p50<=800ms", time(TimeFigure::First, 0.5)),
            ("inter-token-p95<=800ms", time(TimeFigure::InterToken, 0.95)),
            ("errors<=1%", ThresholdLimit::Errors(0.01)),
            ("not-sent<=0%", ThresholdLimit::NotSent(0.0)),
            ("rate>=45/s", rate(RateFigure::Good)),
            ("goodput>=45/s", rate(RateFigure::Goodput)),
            ("tokens>=45/s", rate(RateFigure::Tokens)),
        ];
        for (text, limit) in rows {
            let (ThresholdLimit::Time { figure: f, share: a, .. }, ThresholdLimit::Time { figure: g, share: b, .. }) =
                (parsed(text).limit, limit)
            else {
                assert_eq!(parsed(text).limit, limit, "{text}");
                continue;
            };
            assert!(f == g && (a - b).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_threshold_is_refused_with_the_reason() {
        let rows = [
            ("p95", "no <="),
            ("p95>=800ms", "p95 takes <="),
            ("rate<=9/s", "rate takes >="),
            ("p100<=1s", "not a figure of a load test"),
            ("mean<=1s", "not a figure of a load test"),
            ("p95<=800", "length of time"),
            ("errors<=1", "percentage"),
            ("errors<=101%", "percentage"),
        ];
        for (text, part) in rows {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_allowed_share_is_that_of_bad_requests() {
        let rows = [
            ("p95<=1s", Some(0.05)),
            ("errors<=1%", Some(0.01)),
            ("errors<=0%", None),
            ("not-sent<=1%", None),
            ("rate>=1/s", None),
        ];
        for (text, allowed) in rows {
            let found = parsed(text).allowed();
            assert!(found.zip(allowed).map_or(found == allowed, |(a, b)| (a - b).abs() < 1e-9), "{text}: {found:?}");
        }
    }

    #[test]
    fn the_shortest_limit_of_each_figure_is_that_of_goodput() {
        let limits = time_limits(&["p50<=1s", "p95<=5s", "inter-token-p95<=80ms", "errors<=1%"].map(parsed));
        let millis = |figure| limits.get(&figure).map(std::time::Duration::as_millis);
        assert_eq!(millis(TimeFigure::Latency), Some(1000));
        assert_eq!((millis(TimeFigure::First), millis(TimeFigure::InterToken)), (None, Some(80)));
    }
}
