//! The records of the events topic that wait, by librdkafka's statistics, and the partitions that a transaction blocks.
//!
//! librdkafka's own `consumer_lag` is counted from the offset that the consumer has committed. Here a producer commits the
//! offsets, so that figure counts what was read long ago, and the markers of transactions as well.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::statistics;

use crate::ports::Partition;

/// The time for which a transaction blocks a partition before that is reported. Longer than the transactions of programs
/// that work, and than the brokers' default for those of programs that have ended.
const REPORTED_AFTER: Duration = Duration::from_secs(90);

/// Returns the records of a partition that the daemon has not got, `queued` of which wait in this process; `None` while it
/// is not known. Records of a transaction that is open count, with the markers before the end of the partition.
pub(super) fn lag(state: &statistics::Partition, queued: usize) -> Option<i64> {
    let (next, high) = (state.next_offset, state.hi_offset);
    if next < 0 || high < 0 {
        return None;
    }
    Some((high - next).max(0) + state.fetchq_cnt.max(0) + i64::try_from(queued).unwrap_or(i64::MAX))
}

/// The partitions whose reading has reached an open transaction, each with its offset, the instant at which that was seen
/// first, and whether it was reported.
#[derive(Debug, Default)]
pub(super) struct Blocked(HashMap<Partition, (i64, Instant, bool)>);

impl Blocked {
    /// Notes the state of a partition. Returns the offset of a transaction that has blocked it for long, once.
    pub(super) fn note(&mut self, partition: Partition, state: &statistics::Partition, now: Instant) -> Option<i64> {
        let stable = state.ls_offset;
        if stable < 0 || stable >= state.hi_offset || state.next_offset < stable {
            self.0.remove(&partition);
            return None;
        }
        let entry = self.0.entry(partition).or_insert((stable, now, false));
        if entry.0 != stable {
            *entry = (stable, now, false);
        }
        let (offset, since, reported) = entry;
        let is_due = !*reported && now.duration_since(*since) >= REPORTED_AFTER;
        *reported |= is_due;
        is_due.then_some(*offset)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;

    fn state(next_offset: i64, ls_offset: i64, hi_offset: i64, fetchq_cnt: i64) -> statistics::Partition {
        // The consumer's own figure is counted from an offset that it never commits.
        statistics::Partition { next_offset, ls_offset, hi_offset, fetchq_cnt, consumer_lag: 21, ..Default::default() }
    }

    #[test]
    fn a_partition_that_was_read_to_its_end_has_no_lag() {
        assert_eq!(lag(&state(500, 500, 500, 0), 0), Some(0));
        assert_eq!(lag(&state(500, 500, 500, 7), 3), Some(10), "fetched and not handed over");
        assert_eq!(lag(&state(480, 500, 500, 7), 3), Some(30));
        assert_eq!(lag(&state(480, 480, 500, 0), 0), Some(20), "an open transaction");
        assert_eq!(lag(&state(-1001, 500, 500, 0), 0), None);
        assert_eq!(lag(&state(500, -1001, -1001, 0), 0), None);
    }

    #[test]
    fn a_transaction_that_blocks_a_partition_for_long_is_reported_once() {
        let (mut blocked, start) = (Blocked::default(), Instant::now());
        let mut note = |seconds, state| blocked.note(3, &state, start + Duration::from_secs(seconds));
        let open = state(480, 480, 500, 0);
        assert_eq!(note(0, open.clone()), None);
        assert_eq!(note(89, open.clone()), None);
        assert_eq!(note(90, open.clone()), Some(480));
        assert_eq!(note(200, open), None);
        assert_eq!(note(205, state(485, 485, 500, 0)), None, "another transaction");
        assert_eq!(note(294, state(485, 485, 510, 0)), None);
        assert_eq!(note(295, state(485, 485, 510, 0)), Some(485));
        assert_eq!(note(300, state(510, 510, 510, 0)), None);
        assert_eq!(note(310, state(470, 485, 510, 0)), None, "it reads, and has not reached it");
        assert_eq!(note(400, state(485, 485, 510, 0)), None);
    }
}
