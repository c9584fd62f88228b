//! The limits of a load test, as people write them: `p95<=800ms`, `first-byte-p99<=300ms`, `errors<=1%`, `rate>=45/s`.

use std::fmt;
use std::str::FromStr;

use bellwether_core::measure::metric::{RawLimit, Unit};
use bellwether_core::time::Span;
use serde::{Serialize, Serializer};

use super::schedule::Rate;

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
    Latency {
        /// Share of the due requests, above 0 and below 1.
        share: f64,
        /// Longest time from due to complete.
        within: Span,
    },
    /// The time within which a share of the due requests must have the first byte of a good answer.
    FirstByte {
        /// Share of the due requests, above 0 and below 1.
        share: f64,
        /// Longest time from due to the first byte.
        within: Span,
    },
    /// The largest share (0 to 1) of the sent requests without a good answer.
    Errors(f64),
    /// The largest share (0 to 1) of the due requests that are not sent.
    NotSent(f64),
    /// The lowest number of good answers per second.
    Rate(f64),
}

/// The error of a text that is not a threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a threshold: {why}; write p95<=800ms, first-byte-p95<=300ms, errors<=1%, not-sent<=0% or rate>=45/s"
)]
pub struct BadThreshold {
    text: String,
    why: String,
}

impl Threshold {
    /// Returns the number of due requests that are needed to show with 95 % confidence that the limit is kept.
    ///
    /// If p is the allowed share of bad requests, n good requests in a row rule out a larger share if (1 − p)ⁿ ≤ 0.05.
    /// So n = ⌈ln 0.05 / ln(1 − p)⌉: 59 for p95 and 299 for p99.
    pub fn needs(&self) -> u64 {
        let allowed = match self.limit {
            ThresholdLimit::Latency { share, .. } | ThresholdLimit::FirstByte { share, .. } => 1.0 - share,
            ThresholdLimit::Errors(share) => share,
            // These figures are counted and not estimated from a sample.
            ThresholdLimit::NotSent(_) | ThresholdLimit::Rate(_) => return 1,
        };
        // No number of requests shows that errors never happen, so a limit of 0 % is kept if none was seen.
        if allowed <= 0.0 || allowed >= 1.0 { 1 } else { (0.05_f64.ln() / (1.0 - allowed).ln()).ceil() as u64 }
    }
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
    if up != (name == "rate") {
        return Err(format!("a limit on {name} takes {}", if up { "<=" } else { ">=" }));
    }
    if let Some(quantile) = name.strip_prefix("first-byte-") {
        return Ok(ThresholdLimit::FirstByte { share: share(quantile)?, within: time(value)? });
    }
    match name {
        "errors" => percent(value).map(ThresholdLimit::Errors),
        "not-sent" => percent(value).map(ThresholdLimit::NotSent),
        "rate" => {
            value.parse::<Rate>().map(|rate| ThresholdLimit::Rate(rate.per_second())).map_err(|error| error.to_string())
        }
        quantile => Ok(ThresholdLimit::Latency { share: share(quantile)?, within: time(value)? }),
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
        let rows = [
            ("p95<=800ms", ThresholdLimit::Latency { share: 0.95, within }),
            ("p99.9 <= 800ms", ThresholdLimit::Latency { share: 0.9990000000000001, within }),
            ("first-byte-p50<=800ms", ThresholdLimit::FirstByte { share: 0.5, within }),
            ("errors<=1%", ThresholdLimit::Errors(0.01)),
            ("not-sent<=0%", ThresholdLimit::NotSent(0.0)),
            ("rate>=45/s", ThresholdLimit::Rate(45.0)),
        ];
        for (text, limit) in rows {
            let (ThresholdLimit::Latency { share: a, .. }, ThresholdLimit::Latency { share: b, .. }) =
                (parsed(text).limit, limit)
            else {
                assert_eq!(parsed(text).limit, limit, "{text}");
                continue;
            };
            assert!((a - b).abs() < 1e-9, "{text}");
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
    fn the_needed_requests_follow_from_the_allowed_share() {
        let rows = [
            ("p50<=1s", 5),
            ("p95<=1s", 59),
            ("p99<=1s", 299),
            ("errors<=1%", 299),
            ("errors<=0%", 1),
            ("rate>=1/s", 1),
        ];
        for (text, needs) in rows {
            assert_eq!(parsed(text).needs(), needs, "{text}");
        }
    }
}
