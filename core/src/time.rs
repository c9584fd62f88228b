//! Instants, lengths of time and ranges of instants.
//!
//! The core never reads a clock. Every [`Timestamp`] arrives as an argument, so that a replay, the simulator and the
//! demo pass hours in a microsecond and make the same decisions as the daemon.

use std::fmt;
use std::str::FromStr;

pub use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in milliseconds, never negative. Written `"5m"`, `"300s"`, `"1h30m"`, `"500ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Span(u64);

impl Span {
    /// A length of zero.
    pub const ZERO: Span = Span(0);

    /// Returns a length of `ms` milliseconds.
    pub const fn from_millis(ms: u64) -> Span {
        Span(ms)
    }

    /// Returns a length of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Span {
        Span(secs * 1000)
    }

    /// Returns the length in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the length in seconds, with its fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Returns the length as a duration of the standard library, for timers.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Returns the length from `earlier` to `later`, or zero if `later` is before `earlier`.
    pub fn between(earlier: Timestamp, later: Timestamp) -> Span {
        let ms = later.as_millisecond().saturating_sub(earlier.as_millisecond());
        Span(u64::try_from(ms).unwrap_or(0))
    }

    /// Returns the instant this length after `start`, at most [`Timestamp::MAX`].
    pub fn after(self, start: Timestamp) -> Timestamp {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(start.as_millisecond().saturating_add(ms)).unwrap_or(Timestamp::MAX)
    }

    /// Returns the instant this length before `end`, at least [`Timestamp::MIN`].
    pub fn before(self, end: Timestamp) -> Timestamp {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(end.as_millisecond().saturating_sub(ms)).unwrap_or(Timestamp::MIN)
    }
}

impl Span {
    /// Returns this length less `other`, or zero if `other` is longer.
    pub const fn saturating_sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add for Span {
    type Output = Span;

    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Span {
    /// Writes the two largest units that are not zero: `1h 30m`, `5m`, `45s`, `0.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0 / 1000;
        let (days, hours, mins, rest) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60, secs % 60);
        match (days, hours, mins, rest) {
            (0, 0, 0, s) if self.0 < 1000 || (s < 10 && !self.0.is_multiple_of(1000)) => {
                write!(f, "{}s", (self.0 as f64) / 1000.0)
            }
            (0, 0, 0, s) => write!(f, "{s}s"),
            (0, 0, m, 0) => write!(f, "{m}m"),
            (0, 0, m, s) => write!(f, "{m}m {s}s"),
            (0, h, 0, _) => write!(f, "{h}h"),
            (0, h, m, _) => write!(f, "{h}h {m}m"),
            (d, 0, ..) => write!(f, "{d}d"),
            (d, h, ..) => write!(f, "{d}d {h}h"),
        }
    }
}

/// A text that is not a length of time; it has the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time; it needs a number and a unit, as in \"30s\", \"5m\" or \"1h30m\"")]
pub struct BadSpan(String);

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Span, BadSpan> {
        u64::try_from(duration(text)?.as_millis()).map(Span).map_err(|_| BadSpan(text.to_owned()))
    }
}

fn duration(text: &str) -> Result<jiff::SignedDuration, BadSpan> {
    let bad = || BadSpan(text.to_owned());
    let written: jiff::Span = text.parse().map_err(|_| bad())?;
    // A day is 24 hours: lengths don't depend on daylight saving.
    let length = written.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
    if length.is_negative() { Err(bad()) } else { Ok(length) }
}

/// Parses a length of time and returns it in seconds. Unlike [`Span`] it keeps fractions of a millisecond, as in
/// "2.5ms".
///
/// # Errors
/// [`BadSpan`] if the text is not a length of time or is negative.
pub fn seconds(text: &str) -> Result<f64, BadSpan> {
    // A float holds the nanoseconds of any length that can be written, without a loss of the written digits.
    Ok(duration(text)?.as_nanos() as f64 / 1e9)
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A single unit: `FromStr` must parse the text to the same number.
        match self.0 {
            0 => serializer.serialize_str("0s"),
            ms if ms.is_multiple_of(60_000) => serializer.collect_str(&format_args!("{}m", ms / 60_000)),
            ms if ms.is_multiple_of(1000) => serializer.collect_str(&format_args!("{}s", ms / 1000)),
            ms => serializer.collect_str(&format_args!("{ms}ms")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time with its unit, as in \"30s\", \"5m\" or \"1h30m\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The largest number of ticks in a range; in a longer range they are further apart.
const MOST_TICKS: u64 = 2_000;

/// A range of time with evenly spaced instants (ticks) at which a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first tick.
    pub from: Timestamp,
    /// The end of the range; no tick is later.
    pub to: Timestamp,
    /// The distance between two ticks.
    pub step: Span,
}

impl TimeRange {
    /// Returns the range of the last `length` before `to`. Its ticks are `interval` apart, or a multiple of it if there
    /// would be more than 2,000.
    pub fn before(to: Timestamp, length: Span, interval: Span) -> TimeRange {
        let interval = interval.as_millis().max(1);
        let step = interval * length.as_millis().div_ceil(interval.saturating_mul(MOST_TICKS)).max(1);
        let ticks = length.as_millis() / step;
        TimeRange { from: Span::from_millis(ticks * step).before(to), to, step: Span::from_millis(step) }
    }

    /// Returns the ticks in ascending order.
    pub fn ticks(self) -> impl Iterator<Item = Timestamp> {
        let next = move |at: &Timestamp| Some(self.step.max(Span::from_millis(1)).after(*at));
        std::iter::successors(Some(self.from), next).take_while(move |at| *at <= self.to)
    }
}
