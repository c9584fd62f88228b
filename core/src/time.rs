//! Time as the core sees it: an instant that somebody hands in, and a length that a person wrote.
//!
//! The core never asks what time it is. `Timestamp` arrives as an argument, so that a replay, the simulator and the
//! demo travel hours in a microsecond and come to the same decisions as the daemon did.

use std::fmt;
use std::str::FromStr;

pub use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in milliseconds, never negative. Written `"5m"`, `"300s"`, `"1h30m"`, `"500ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Span {
        Span(ms)
    }

    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Span {
        Span(secs * 1000)
    }

    /// The length in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The length in seconds, with its fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The length as the standard library has it, for timers.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// From `earlier` to `later`; nothing if the order is the other one.
    pub fn between(earlier: Timestamp, later: Timestamp) -> Span {
        let ms = later.as_millisecond().saturating_sub(earlier.as_millisecond());
        Span(u64::try_from(ms).unwrap_or(0))
    }

    /// The instant that lies this far after `start`; the end of time if there is none.
    pub fn after(self, start: Timestamp) -> Timestamp {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(start.as_millisecond().saturating_add(ms)).unwrap_or(Timestamp::MAX)
    }

    /// The instant that lies this far before `end`.
    pub fn before(self, end: Timestamp) -> Timestamp {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(end.as_millisecond().saturating_sub(ms)).unwrap_or(Timestamp::MIN)
    }
}

impl fmt::Display for Span {
    /// The two largest units that say something: `1h 30m`, `5m`, `45s`, `0.5s`.
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

/// A length of time that can't be read.
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
    // A day is 24 hours here: nobody waits for a change of the clocks.
    let length = written.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
    if length.is_negative() { Err(bad()) } else { Ok(length) }
}

/// A length of time in seconds, as exactly as it is written: "2.5ms" is no whole number of milliseconds, as a [`Span`] is.
///
/// # Errors
/// [`BadSpan`]: it is none.
pub fn seconds(text: &str) -> Result<f64, BadSpan> {
    // No length that can be written is so long that the nanoseconds lose what was written.
    Ok(duration(text)?.as_nanos() as f64 / 1e9)
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Plain units only: what is written here must be readable by `FromStr` to the same number.
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

/// A stretch has no more ticks than this; of a longer one they are further apart.
const MOST_TICKS: u64 = 2_000;

/// A stretch of time, and the instants in it at which something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first tick.
    pub from: Timestamp,
    /// None is later than this.
    pub to: Timestamp,
    /// How far they are apart.
    pub step: Span,
}

impl TimeRange {
    /// The last `length` before `to`, with ticks `interval` apart, or further if there would be too many.
    pub fn before(to: Timestamp, length: Span, interval: Span) -> TimeRange {
        let interval = interval.as_millis().max(1);
        let step = interval * length.as_millis().div_ceil(interval.saturating_mul(MOST_TICKS)).max(1);
        let ticks = length.as_millis() / step;
        TimeRange { from: Span::from_millis(ticks * step).before(to), to, step: Span::from_millis(step) }
    }

    /// The ticks, from the first.
    pub fn ticks(self) -> impl Iterator<Item = Timestamp> {
        let next = move |at: &Timestamp| Some(self.step.max(Span::from_millis(1)).after(*at));
        std::iter::successors(Some(self.from), next).take_while(move |at| *at <= self.to)
    }
}
