//! Sight: the time for which the statuses of the cluster are known to be true.
//!
//! A status is sent when it changes, so silence means either that nothing has changed or that the API server can't be
//! watched. The watches therefore report at intervals that they are complete, and each input carries the result: a decision
//! that rests on a status asks first how old the newest report is.

use serde::{Deserialize, Serialize};

use crate::time::{Span, Timestamp};

/// The age of the watches' newest report from which on a status counts as unknown. The watches report every 10 s.
pub const LONGEST_SILENCE: Span = Span::from_secs(45);

/// A span of time in which the cluster was watched without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The beginning: the first complete report of the watches, or the first one after a break.
    pub since: Timestamp,
    /// The newest report.
    pub until: Timestamp,
}

impl Sight {
    /// Returns the sight after a report of the watches at `at`: it continues `before` unless that is too old, or from a clock
    /// that ran ahead.
    pub fn reported(before: Option<Sight>, at: Timestamp) -> Sight {
        match before {
            Some(before) if Span::between(at, before.until) > LONGEST_SILENCE => Sight { since: at, until: at },
            Some(before) if at <= before.until => before,
            Some(before) if before.is_fresh(at) => Sight { since: before.since, until: at },
            Some(_) | None => Sight { since: at, until: at },
        }
    }

    /// Returns whether the statuses are still known at `now`.
    pub fn is_fresh(self, now: Timestamp) -> bool {
        Span::between(self.until, now) <= LONGEST_SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_after_a_long_silence_begins_a_new_sight() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let first = Sight::reported(None, at(100));
        assert_eq!(first, Sight { since: at(100), until: at(100) });
        let second = Sight::reported(Some(first), at(145));
        assert_eq!(second, Sight { since: at(100), until: at(145) });
        assert_eq!(Sight::reported(Some(second), at(120)), second, "an older report says nothing new");
        assert!(second.is_fresh(at(190)));
        assert!(!second.is_fresh(at(191)));
        assert_eq!(Sight::reported(Some(second), at(191)), Sight { since: at(191), until: at(191) });
    }
}
