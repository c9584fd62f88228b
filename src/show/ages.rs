//! The ages of the views: those of this process's own partitions are the present ones, and those of the others are as old as the last
//! reading of their journal.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bellwether_core::time::Span;

use crate::clock::Stopwatch;
use crate::journal::partition_of;
use crate::ports::Partition;

/// The age from which a view is told to be old: several times the interval at which the journals are read.
const OLD: Duration = Duration::from_secs(15);
/// The most partitions whose problems are told.
const MOST_TOLD: usize = 3;

/// The ages of the views of all partitions. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ViewAges {
    /// The number of partitions; 0 if there is one process alone, whose views are always the present ones.
    partitions: i32,
    sources: Arc<RwLock<BTreeMap<Partition, ViewSource>>>,
}

/// The source of the views of a partition.
#[derive(Debug, Clone, Copy)]
enum ViewSource {
    /// This process owns the partition and has restored it. It is sure to have been the owner when the stopwatch started, at its last
    /// commit.
    Owned(Stopwatch),
    /// Another process may own it. Its journal was read to its end when the stopwatch started.
    Followed(Stopwatch),
}

impl ViewAges {
    /// Returns the ages of the views of `partitions` partitions, none of which has a view yet.
    pub fn new(partitions: i32) -> ViewAges {
        ViewAges { partitions, sources: Arc::default() }
    }

    /// Returns the age of the view of a workload's partition, to a tenth of a second. `None` if this process owns the partition, or
    /// if there is no view of it.
    pub fn of(&self, workload: &str) -> Option<Span> {
        match self.read().get(&self.partition_of(workload)?)? {
            ViewSource::Owned(_) => None,
            ViewSource::Followed(as_of) => Some(tenths(as_of.elapsed())),
        }
    }

    /// Returns the partition of a workload, by its key in the journal; `None` if there is one process alone.
    pub(super) fn partition_of(&self, workload: &str) -> Option<Partition> {
        (self.partitions > 0).then(|| partition_of(workload.as_bytes(), self.partitions))
    }

    /// Returns the age of the oldest view of a partition of another process, to a tenth of a second; `None` if there is none.
    pub fn oldest(&self) -> Option<Span> {
        self.read().values().filter_map(ViewSource::age).max().map(tenths)
    }

    /// Returns the partitions without a view and those whose view is old, as a phrase; `None` if there are none.
    pub fn problem(&self) -> Option<String> {
        self.told(|partition, source| match source.map(ViewSource::age) {
            None => Some(unread(partition)),
            Some(Some(age)) if age >= OLD => {
                Some(format!("the view of partition {partition} is {} old", Span::from_secs(age.as_secs())))
            }
            Some(_) => None,
        })
    }

    /// Returns the partitions without a view as a phrase; `None` if there are none.
    pub fn unread(&self) -> Option<String> {
        self.told(|partition, source| source.is_none().then(|| unread(partition)))
    }

    /// Returns the first problems of partitions as a phrase; `None` if there are none.
    fn told(&self, problem: impl Fn(Partition, Option<&ViewSource>) -> Option<String>) -> Option<String> {
        let sources = self.read();
        let mut problems: Vec<String> =
            (0..self.partitions).filter_map(|partition| problem(partition, sources.get(&partition))).collect();
        if problems.len() > MOST_TOLD {
            let more = problems.split_off(MOST_TOLD).len();
            problems.push(format!("and {more} more"));
        }
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// Notes that this process owns a partition and has restored it.
    pub(super) fn own(&self, partition: Partition) {
        self.write().insert(partition, ViewSource::Owned(Stopwatch::start()));
    }

    /// Notes that a commit has shown that this process still owns a partition.
    pub(super) fn committed(&self, partition: Partition) {
        if let Some(ViewSource::Owned(since)) = self.write().get_mut(&partition) {
            *since = Stopwatch::start();
        }
    }

    /// Notes that this process owns a partition no longer. With `is_lost` another process may have owned it since the last commit.
    pub(super) fn release(&self, partition: Partition, is_lost: bool) {
        if let Some(source) = self.write().get_mut(&partition)
            && let ViewSource::Owned(committed) = *source
        {
            *source = ViewSource::Followed(if is_lost { committed } else { Stopwatch::start() });
        }
    }

    /// Notes that the journal of a partition was read to the end that it had at `as_of`. Returns `false` if there is a newer view.
    pub(super) fn followed(&self, partition: Partition, as_of: Stopwatch) -> bool {
        let mut sources = self.write();
        let is_newest = match sources.get(&partition) {
            None => true,
            Some(ViewSource::Owned(_)) => false,
            Some(ViewSource::Followed(before)) => as_of.elapsed() <= before.elapsed(),
        };
        if is_newest {
            sources.insert(partition, ViewSource::Followed(as_of));
        }
        is_newest
    }

    /// Locks the sources. Poisoning is harmless: each change leaves them consistent.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Partition, ViewSource>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Partition, ViewSource>> {
        self.sources.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ViewSource {
    /// Returns the age of the views; `None` if they are the present ones.
    fn age(&self) -> Option<Duration> {
        match self {
            ViewSource::Owned(_) => None,
            ViewSource::Followed(as_of) => Some(as_of.elapsed()),
        }
    }
}

fn unread(partition: Partition) -> String {
    format!("partition {partition} is not read yet")
}

fn tenths(age: Duration) -> Span {
    Span::from_millis(u64::try_from(age.as_millis() / 100 * 100).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_view_is_as_old_as_the_last_reading_and_an_old_or_missing_one_is_told() {
        let ages = ViewAges::new(3);
        assert_eq!(
            ages.problem().as_deref(),
            Some("partition 0 is not read yet; partition 1 is not read yet; partition 2 is not read yet")
        );
        ages.own(0);
        let first = Stopwatch::start();
        assert!(ages.followed(1, first) && !ages.followed(0, first), "its owner knows better");
        tokio::time::advance(Duration::from_millis(2340)).await;
        assert!(ages.followed(2, Stopwatch::start()));
        assert!(ages.followed(1, Stopwatch::start()) && !ages.followed(1, first), "an older reading comes late");
        assert_eq!((ages.oldest(), ages.problem()), (Some(Span::ZERO), None));
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(ages.followed(2, Stopwatch::start()));
        assert_eq!(ages.oldest(), Some(Span::from_secs(16)));
        assert_eq!(ages.problem().as_deref(), Some("the view of partition 1 is 16s old"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_partition_has_an_age_from_its_release_and_a_lost_one_from_its_last_commit() {
        let ages = ViewAges::new(1);
        let advance = |secs| tokio::time::advance(Duration::from_secs(secs));
        ages.own(0);
        advance(60).await;
        assert_eq!(ages.of("prod/shop/Deployment/web"), None);
        ages.release(0, false);
        tokio::time::advance(Duration::from_millis(1250)).await;
        assert_eq!(ages.of("prod/shop/Deployment/web"), Some(Span::from_millis(1200)));
        ages.release(0, true);
        assert_eq!(ages.oldest(), Some(Span::from_millis(1200)), "it was released before");
        ages.own(0);
        advance(60).await;
        ages.committed(0);
        advance(20).await;
        ages.release(0, true);
        assert_eq!(ages.problem().as_deref(), Some("the view of partition 0 is 20s old"));
    }
}
