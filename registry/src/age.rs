//! The longest age of a report.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::Deserialize;

use crate::invalid::InvalidValue;

/// The longest time since the end of a run for which its report counts, as in `30d` or `12h`. A day has 24 hours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MaxAge {
    text: String,
    duration: SignedDuration,
}

impl MaxAge {
    /// Returns whether a run that ended at `finished` is older than this at the time `at`.
    pub fn is_exceeded(&self, finished: Timestamp, at: Timestamp) -> bool {
        at.duration_since(finished) > self.duration
    }
}

impl FromStr for MaxAge {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<MaxAge, InvalidValue> {
        let span = text.parse::<Span>().ok();
        let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        let duration = duration.filter(SignedDuration::is_positive).ok_or_else(|| {
            InvalidValue::new("age", text, "write days, hours or minutes, more than none, as in 30d or 12h")
        })?;
        Ok(MaxAge { text: text.to_owned(), duration })
    }
}

impl TryFrom<String> for MaxAge {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<MaxAge, InvalidValue> {
        text.parse()
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
