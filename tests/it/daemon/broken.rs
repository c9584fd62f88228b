//! A partition whose journal is broken: it stops alone, says so, and goes on when a person has repaired it.

use std::sync::atomic::AtomicBool;

use bellwether::journal::partition_of;

use super::*;

/// The problem of the broken journal.
const PROBLEM: &str = "the entry \"epoch\" can't be read";

/// Journals of two partitions. From its second commit on the one of partition `broken` is broken, until it is repaired.
#[derive(Clone)]
struct OneBroken {
    broken: Partition,
    is_repaired: Arc<AtomicBool>,
    /// The partitions that the daemon asks for again.
    again: mpsc::UnboundedSender<Partition>,
}

/// An open journal of [`OneBroken`].
struct BrokenJournal {
    /// The journals, if this one is of the broken partition.
    of: Option<OneBroken>,
    commits: u64,
}

impl OneBroken {
    fn is_repaired(&self) -> bool {
        self.is_repaired.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Journals for OneBroken {
    fn partitions(&self) -> i32 {
        2
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        let of = (partition == self.broken).then(|| self.clone());
        Ok(Box::new(BrokenJournal { of, commits: 0 }))
    }

    fn assign_again(&self, partition: Partition, delay: Duration) {
        assert!(delay >= Duration::from_secs(10), "the partition is tried again every {delay:?}");
        self.again.send(partition).unwrap();
    }
}

#[async_trait]
impl Journal for BrokenJournal {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        Ok(BTreeMap::new())
    }

    async fn commit(&mut self, _: Batch) -> Result<(), JournalError> {
        self.commits += 1;
        let is_broken = self.of.as_ref().is_some_and(|of| self.commits > 1 && !of.is_repaired());
        if is_broken { Err(JournalError::Broken(PROBLEM.to_owned())) } else { Ok(()) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_journal_is_broken_stops_alone_and_goes_on_when_it_is_repaired() {
    let setting = Setting::new();
    let home = partition_of(workload().to_string().as_bytes(), 2);
    let broken = 1 - home;
    let (again, mut asked) = mpsc::unbounded_channel();
    let journals = OneBroken { broken, is_repaired: Arc::default(), again };
    let mut daemon = setting.start_with(journals.clone());
    for partition in [home, broken] {
        daemon.wakes.send(Wake::Assigned(partition)).await.unwrap();
    }
    let other = (0..).map(|n| format!("test/shop/Deployment/other-{n}"));
    let other: Workload =
        other.into_iter().find(|key| partition_of(key.as_bytes(), 2) == broken).unwrap().parse().unwrap();
    let of_other = EventRecord { partition: broken, ..setting.event_of(&other, "x", "9", 0) };
    assert_eq!(daemon.send(of_other.clone()).await, None, "it was not committed");

    // The other partition goes on, and the broken one is asked for again and told.
    let record = EventRecord { partition: home, ..setting.event("a", "2-err50", 0) };
    assert!(matches!(daemon.send(record).await, Some(Receipt::Decided(_))));
    let decisions = daemon.until(ended).await;
    assert_eq!(decisions.last().unwrap().ending, Some(Ending::RolledBack), "{decisions:#?}");
    assert_eq!(asked.recv().await, Some(broken));
    let problem = daemon.health.check().unwrap_err();
    assert_eq!(problem, format!("partition {broken} waits for a person: {PROBLEM}"));

    journals.is_repaired.store(true, Ordering::SeqCst);
    daemon.wakes.send(Wake::Assigned(broken)).await.unwrap();
    assert!(daemon.send(of_other).await.is_some(), "it is not opened again");
    assert_eq!(daemon.health.check(), Ok(()));
    daemon.stop().await;
}
