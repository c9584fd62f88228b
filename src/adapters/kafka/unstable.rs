//! The followed partitions with a transaction that is open for longer than a commit takes. Nothing behind its beginning can be read,
//! although the owner may have committed further records, so the view of such a partition grows old and must not count as read.

use std::collections::BTreeMap;

use crate::ports::Partition;

/// The ends of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// The last stable offset: the beginning of the first open transaction, or the end.
    pub stable: i64,
    /// The offset after the last record.
    pub end: i64,
}

/// The partitions that had an open transaction at the last look.
#[derive(Debug, Default)]
pub(super) struct Unstable(BTreeMap<Partition, OpenTransaction>);

#[derive(Debug)]
struct OpenTransaction {
    offset: i64,
    is_reported: bool,
}

impl Unstable {
    /// Takes in the present ends of all followed partitions. Returns the partitions whose transaction was open at the last look
    /// already, each with its offset and once.
    pub(super) fn look(&mut self, ends: &BTreeMap<Partition, Ends>) -> Vec<(Partition, i64)> {
        let mut reported = Vec::new();
        let mut before = std::mem::take(&mut self.0);
        for (&partition, ends) in ends.iter().filter(|(_, ends)| ends.stable < ends.end) {
            let known = before.remove(&partition).filter(|known| known.offset == ends.stable);
            let is_due = known.as_ref().is_some_and(|known| !known.is_reported);
            if is_due {
                reported.push((partition, ends.stable));
            }
            let is_reported = is_due || known.is_some();
            self.0.insert(partition, OpenTransaction { offset: ends.stable, is_reported });
        }
        reported
    }

    /// Notes that a record was read: a transaction before it has ended.
    pub(super) fn passed(&mut self, partition: Partition, offset: i64) {
        if self.0.get(&partition).is_some_and(|open| offset >= open.offset) {
            self.0.remove(&partition);
        }
    }

    /// Whether committed records may lie behind an open transaction.
    pub(super) fn hides(&self, partition: Partition) -> bool {
        self.0.contains_key(&partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_transaction_hides_the_rest_until_it_ends_and_is_reported_at_the_second_look() {
        let mut unstable = Unstable::default();
        let look = |unstable: &mut Unstable, stable, end| unstable.look(&BTreeMap::from([(3, Ends { stable, end })]));
        assert_eq!((look(&mut unstable, 500, 500), unstable.hides(3)), (vec![], false));
        assert_eq!((look(&mut unstable, 500, 502), unstable.hides(3)), (vec![], true));
        assert_eq!(look(&mut unstable, 500, 502), [(3, 500)]);
        assert_eq!((look(&mut unstable, 500, 509), unstable.hides(3)), (vec![], true), "it is told once");
        unstable.passed(3, 499);
        assert!(unstable.hides(3), "a record before it");
        assert_eq!((look(&mut unstable, 509, 512), unstable.hides(3)), (vec![], true), "the next transaction");
        unstable.passed(3, 509);
        assert!(!unstable.hides(3), "it was committed");
        assert_eq!((look(&mut unstable, 512, 515), look(&mut unstable, 515, 515)), (vec![], vec![]));
        assert!(!unstable.hides(3), "it was aborted");
        let other = BTreeMap::from([(4, Ends { stable: 1, end: 2 })]);
        assert!(unstable.look(&other).is_empty() && unstable.hides(4));
        assert!(unstable.look(&BTreeMap::new()).is_empty() && !unstable.hides(4), "it is followed no longer");
    }
}
