//! The health of this process's partitions, as `/readyz` and the metrics tell it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::metrics;
use crate::ports::Partition;

/// The duration of a commit from which on the journal counts as unavailable.
const SLOW_COMMIT: Duration = Duration::from_secs(5);
/// The most partitions whose problems are told.
const MOST_TOLD: usize = 3;

/// The health of the partitions that are assigned to this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health {
    partitions: Arc<Mutex<BTreeMap<Partition, Stage>>>,
}

/// The stage of an assigned partition.
#[derive(Debug)]
enum Stage {
    /// Its journal is being opened and its state restored, since this long.
    Restoring(Stopwatch),
    /// It is restored, and takes inputs; with the commit that is under way.
    Open(Option<Stopwatch>),
    /// Its shard has ended, for this reason, and is opened again.
    Failed(String),
    /// Its shard has ended, for this reason, and is opened in vain until a person has answered or repaired the journal.
    Stopped(String),
}

impl Stage {
    /// Returns the stage's name in the metrics.
    fn name(&self) -> &'static str {
        match self {
            Stage::Restoring(_) => "restoring",
            Stage::Open(_) => "open",
            Stage::Failed(_) => "failed",
            Stage::Stopped(_) => "stopped",
        }
    }

    /// Returns the problem of the stage; `None` if there is none.
    fn problem(&self, partition: Partition) -> Option<String> {
        match self {
            Stage::Restoring(since) => {
                Some(format!("partition {partition} is being restored for {} s", since.elapsed().as_secs()))
            }
            Stage::Open(commit) => {
                let slow = commit.map(|commit| commit.elapsed()).filter(|took| *took > SLOW_COMMIT)?;
                Some(format!("the journal of partition {partition} has not answered for {} s", slow.as_secs()))
            }
            Stage::Failed(why) => Some(format!("partition {partition} is opened again: {why}")),
            Stage::Stopped(why) => Some(format!("partition {partition} waits for a person: {why}")),
        }
    }
}

impl Health {
    /// Notes that a partition's journal is being opened.
    pub fn restoring(&self, partition: Partition) {
        self.change(|partitions| drop(partitions.insert(partition, Stage::Restoring(Stopwatch::start()))));
    }

    /// Notes that a partition is restored.
    pub fn restored(&self, partition: Partition) {
        self.change(|partitions| {
            // It may have been released meanwhile.
            partitions.entry(partition).and_modify(|stage| *stage = Stage::Open(None));
        });
    }

    /// Notes that a commit to a partition's journal begins.
    pub fn committing(&self, partition: Partition) {
        self.set_commit(partition, Some(Stopwatch::start()));
    }

    /// Notes that the commit under way has ended.
    pub fn committed(&self, partition: Partition) {
        self.set_commit(partition, None);
    }

    /// Notes that a partition's shard has ended for a reason that the next one may not meet.
    pub fn failed(&self, partition: Partition, why: String) {
        self.change(|partitions| drop(partitions.insert(partition, Stage::Failed(why))));
    }

    /// Notes that a partition's shard has ended for a reason that a person has to remove.
    pub fn stopped(&self, partition: Partition, why: String) {
        self.change(|partitions| drop(partitions.insert(partition, Stage::Stopped(why))));
    }

    /// Notes that a partition belongs to this process no longer.
    pub fn released(&self, partition: Partition) {
        self.change(|partitions| drop(partitions.remove(&partition)));
    }

    /// Checks that partitions are assigned, and that each is restored and its journal answers.
    ///
    /// # Errors
    /// The problem, with the partition's number.
    pub fn check(&self) -> Result<(), String> {
        let partitions = self.lock();
        if partitions.is_empty() {
            return Err("none assigned; another replica may have them all".to_owned());
        }
        let mut problems: Vec<String> =
            partitions.iter().filter_map(|(partition, stage)| stage.problem(*partition)).collect();
        if problems.is_empty() {
            return Ok(());
        }
        if problems.len() > MOST_TOLD {
            let more = problems.split_off(MOST_TOLD).len();
            problems.push(format!("and {more} more partitions"));
        }
        Err(problems.join("; "))
    }

    fn set_commit(&self, partition: Partition, commit: Option<Stopwatch>) {
        // A shard whose partition was released meanwhile ends its commit unnoticed.
        if let Some(Stage::Open(under_way)) = self.lock().get_mut(&partition) {
            *under_way = commit;
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Partition, Stage>)) {
        let mut partitions = self.lock();
        change(&mut partitions);
        for name in ["restoring", "open", "failed", "stopped"] {
            metrics::partitions(name, partitions.values().filter(|stage| stage.name() == name).count());
        }
    }

    /// Locks the partitions. Poisoning is harmless: each change leaves them consistent.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Stage>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_well_once_it_is_restored_and_while_its_journal_answers() {
        let health = Health::default();
        let problem = || health.check().err().unwrap_or_default();
        assert!(problem().contains("none assigned"));
        health.restoring(3);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(problem(), "partition 3 is being restored for 7 s");
        health.restored(3);
        assert_eq!(problem(), "");
        health.committing(3);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(problem(), "");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(problem(), "the journal of partition 3 has not answered for 7 s");
        health.committed(3);
        assert_eq!(problem(), "");
        health.failed(3, "no broker".to_owned());
        assert_eq!(problem(), "partition 3 is opened again: no broker");
        health.stopped(3, "the entry \"epoch\" can't be read".to_owned());
        assert_eq!(problem(), "partition 3 waits for a person: the entry \"epoch\" can't be read");
        health.released(3);
        assert!(problem().contains("none assigned"));
    }

    #[test]
    fn the_problems_of_many_partitions_are_told_in_short() {
        let health = Health::default();
        (0..12).for_each(|partition| health.failed(partition, "no broker".to_owned()));
        let problem = health.check().unwrap_err();
        assert!(problem.ends_with("partition 2 is opened again: no broker; and 9 more partitions"), "{problem}");
    }
}
