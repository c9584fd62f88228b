//! The decision of one judge about one recorded rollout.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rivals::RivalEnd;
use bellwether_core::time::{Span, Timestamp};

/// The decision of one judge about one recorded rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judged {
    /// The judge's name.
    pub who: String,
    /// The decision; `None` if the recording ended first.
    pub end: Option<RivalEnd>,
    /// The time of the decision, or the end of the recording.
    pub at: Timestamp,
    /// The time from the beginning of the first block to `at`.
    pub after: Span,
    /// The reason, as one sentence.
    pub why: String,
}

impl Judged {
    /// Makes the decision of a judge about a recording that begins at `start`.
    pub(super) fn new(who: &str, end: Option<RivalEnd>, (start, at): (Timestamp, Timestamp), why: String) -> Judged {
        Judged { who: who.to_owned(), end, at, after: Span::between(start, at), why }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "{}: {end} after {}: {}", self.who, self.after, self.why),
            None => write!(f, "{}: undecided when the recording ends after {}: {}", self.who, self.after, self.why),
        }
    }
}
