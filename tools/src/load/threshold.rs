//! What a load test has to keep, as people write it: `p95<=800ms`, `first-byte-p99<=300ms`, `errors<=1%`, `rate>=45/s`.

use std::fmt;
use std::str::FromStr;

use bellwether_core::measure::metric::{RawLimit, Unit};
use bellwether_core::time::Span;
use serde::{Serialize, Serializer};

use super::schedule::Rate;

/// A limit on one number of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// As it was written, for the report.
    text: String,
    /// Which number, and its limit.
    pub limit: Limit,
}

/// Which number may not pass what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// The given share of the requests has to be answered well within this time.
    Latency {
        /// From 0 to 1.
        share: f64,
        /// How long it may take.
        within: Span,
    },
    /// The given share has to have its first byte within this time.
    FirstByte {
        /// From 0 to 1.
        share: f64,
        /// How long it may take.
        within: Span,
    },
    /// At most this share of what was sent may get no good answer.
    Errors(f64),
    /// At most this share of what was due may not be sent.
    NotSent(f64),
    /// At least so many good answers a second.
    Rate(f64),
}

/// A threshold that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a threshold: {why}; write p95<=800ms, first-byte-p95<=300ms, errors<=1%, not-sent<=0% or rate>=45/s"
)]
pub struct BadThreshold {
    text: String,
    why: String,
}

impl Threshold {
    /// So many requests are needed before the limit can be shown to be kept, with 95 % confidence: if all of fewer were
    /// good, a share of bad ones above the limit would still not be ruled out.
    pub fn needs(&self) -> u64 {
        let allowed = match self.limit {
            Limit::Latency { share, .. } | Limit::FirstByte { share, .. } => 1.0 - share,
            Limit::Errors(share) => share,
            // Counted, and not guessed from a part.
            Limit::NotSent(_) | Limit::Rate(_) => return 1,
        };
        // No number of requests shows that something never happens. Who asks for none has to be content with none seen.
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

fn read(text: &str) -> Result<Limit, String> {
    let (name, value, up) = if let Some((name, value)) = text.split_once("<=") {
        (name.trim(), value.trim(), false)
    } else if let Some((name, value)) = text.split_once(">=") {
        (name.trim(), value.trim(), true)
    } else {
        return Err("there is no <= or >= in it".to_owned());
    };
    if up != (name == "rate") {
        return Err(format!("{name} is limited the other way round"));
    }
    if let Some(quantile) = name.strip_prefix("first-byte-") {
        return Ok(Limit::FirstByte { share: share(quantile)?, within: time(value)? });
    }
    match name {
        "errors" => percent(value).map(Limit::Errors),
        "not-sent" => percent(value).map(Limit::NotSent),
        "rate" => value.parse::<Rate>().map(|rate| Limit::Rate(rate.per_second())).map_err(|error| error.to_string()),
        quantile => Ok(Limit::Latency { share: share(quantile)?, within: time(value)? }),
    }
}

/// `p95` is 0.95, and `p99.9` is 0.999.
fn share(quantile: &str) -> Result<f64, String> {
    let number = quantile.strip_prefix('p').and_then(|number| number.parse::<f64>().ok());
    match number.map(|number| number / 100.0) {
        Some(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err(format!("{quantile:?} is no number that a load test gives")),
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
    fn thresholds_are_read_as_people_write_them() {
        let within = Span::from_millis(800);
        let rows = [
            ("p95<=800ms", Limit::Latency { share: 0.95, within }),
            ("p99.9 <= 800ms", Limit::Latency { share: 0.9990000000000001, within }),
            ("first-byte-p50<=800ms", Limit::FirstByte { share: 0.5, within }),
            ("errors<=1%", Limit::Errors(0.01)),
            ("not-sent<=0%", Limit::NotSent(0.0)),
            ("rate>=45/s", Limit::Rate(45.0)),
        ];
        for (text, limit) in rows {
            let (Limit::Latency { share: a, .. }, Limit::Latency { share: b, .. }) = (parsed(text).limit, limit) else {
                assert_eq!(parsed(text).limit, limit, "{text}");
                continue;
            };
            assert!((a - b).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told_why() {
        let rows = [
            ("p95", "no <="),
            ("p95>=800ms", "other way round"),
            ("rate<=9/s", "other way round"),
            ("p100<=1s", "no number that a load test gives"),
            ("mean<=1s", "no number that a load test gives"),
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
    fn a_limit_needs_as_many_requests_as_can_show_it() {
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
