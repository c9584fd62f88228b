//! The bars: the shares that each row of the table must keep.

use super::oracle::{End, Outcome};
use super::table::Summary;

/// The median time of a promotion in the kind world, in minutes: its steps, its guard, and the changes between them.
const KIND_MINUTES: f64 = 21.3;

/// One promise about every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bar {
    /// At most 1 % of the good versions are rolled back or quarantined.
    Blamed,
    /// At least 95 % of the good versions are promoted, where the canary gets traffic.
    Promoted,
    /// Good versions are promoted in at most 1.5 times the kind world's median time, unless the row makes them wait.
    Late,
    /// At most 5 % of the bad versions, the policy's β, are promoted.
    BadPromoted,
    /// No bad version has traffic at the end.
    Serving,
    /// After a rollback the stable runs the version that ran before.
    Misplaced,
    /// Each rollout ends.
    Unended,
    /// No weight rises, and no version is promoted, on a verdict whose newest block is older than a minute.
    Stale,
    /// No request of a rollout of a good version is sent to an arm without a ready pod.
    Unserved,
    /// The canary has no traffic without a ready pod for longer than 2 s after the watch told, and the time of the data plane.
    Unready,
    /// The canary has no traffic of which it answers nothing for longer than three minutes, until its weight is taken back.
    Unanswered,
}

impl Bar {
    /// All bars, in the order of the table.
    pub const ALL: [Bar; 11] = [
        Bar::Blamed,
        Bar::Promoted,
        Bar::Late,
        Bar::BadPromoted,
        Bar::Serving,
        Bar::Misplaced,
        Bar::Unended,
        Bar::Stale,
        Bar::Unserved,
        Bar::Unready,
        Bar::Unanswered,
    ];

    /// Returns whether the outcomes of one row and one kind of version keep the bar.
    pub fn is_kept(self, summary: &Summary) -> bool {
        let share = |holds: fn(&Outcome) -> bool| summary.share(holds);
        match self {
            Bar::Blamed => share(Outcome::is_blamed) <= 0.01,
            Bar::Promoted => {
                let feasible = share(|outcome| outcome.good && outcome.feasible);
                feasible == 0.0 || share(|outcome| outcome.good && outcome.end == End::Promoted) >= 0.95 * feasible
            }
            Bar::Late => {
                let waits = summary.outcomes.iter().any(|outcome| outcome.row.makes_wait());
                let median = summary.median_minutes(|outcome| outcome.good && outcome.end == End::Promoted);
                waits || median <= 1.5 * KIND_MINUTES
            }
            Bar::BadPromoted => share(|outcome| !outcome.good && outcome.end == End::Promoted) <= 0.05,
            Bar::Serving => share(|outcome| !outcome.good && outcome.serves) == 0.0,
            Bar::Misplaced => share(|outcome| outcome.misplaced) == 0.0,
            Bar::Unended => share(|outcome| outcome.end == End::Unended) == 0.0,
            Bar::Stale => share(|outcome| outcome.rose_stale) == 0.0,
            Bar::Unserved => share(|outcome| outcome.good && outcome.unserved >= 1.0) == 0.0,
            Bar::Unready => share(|outcome| outcome.unready_secs > 0.0) == 0.0,
            Bar::Unanswered => share(|outcome| outcome.unanswered_secs > 180.0) == 0.0,
        }
    }

    /// Returns the bars that the outcomes miss.
    pub fn missed(summary: &Summary) -> Vec<Bar> {
        Bar::ALL.into_iter().filter(|bar| !bar.is_kept(summary)).collect()
    }
}
