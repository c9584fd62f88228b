//! A partition whose journal hangs, beside one whose journal answers.

use std::sync::atomic::AtomicUsize;

use bellwether::journal::partition_of;
use tokio::sync::Notify;

use super::*;

/// Journals of two partitions. The one of partition `stuck` answers no commit after its first, which is that of the epoch.
struct TwoPartitions {
    stuck: Partition,
}

struct MemoryJournal {
    commits_left: u64,
}

#[async_trait]
impl Journals for TwoPartitions {
    fn partitions(&self) -> i32 {
        2
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(MemoryJournal { commits_left: if partition == self.stuck { 1 } else { u64::MAX } }))
    }

    fn assign_again(&self, partition: Partition, _: Duration) {
        panic!("the journal of partition {partition} is broken");
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        Ok(BTreeMap::new())
    }

    async fn commit(&mut self, _: Batch) -> Result<(), JournalError> {
        if self.commits_left == 0 {
            std::future::pending::<()>().await;
        }
        self.commits_left -= 1;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_journal_hangs_leaves_the_others_judged() {
    let setting = Setting::new();
    let home = partition_of(workload().to_string().as_bytes(), 2);
    let stuck = 1 - home;
    let mut daemon = setting.start_with(TwoPartitions { stuck });
    for partition in [home, stuck] {
        daemon.wakes.send(Wake::Assigned(partition)).await.unwrap();
    }
    let other = (0..).map(|n| format!("test/shop/Deployment/other-{n}"));
    let other = other.into_iter().find(|key| partition_of(key.as_bytes(), 2) == stuck).unwrap();
    let unanswered = EventRecord { partition: stuck, key: Some(other.into_bytes()), ..setting.event("x", "9", 0) };
    daemon.wakes.send(Wake::Record(unanswered.into())).await.unwrap();
    let record = EventRecord { partition: home, ..setting.event("a", "2-err50", 0) };
    assert!(matches!(daemon.send(record).await, Some(Receipt::Decided(_))));
    let decisions = daemon.until(ended).await;
    assert_eq!(decisions.last().unwrap().ending, Some(Ending::RolledBack), "{decisions:#?}");
    daemon.kill();
}

/// Journals of two partitions, of which the one of partition `stuck` can't be opened until `open` is notified. They note the
/// partitions that the daemon asks to pause.
#[derive(Clone)]
struct StuckOpening {
    stuck: Partition,
    open: Arc<tokio::sync::Notify>,
    paused: watch::Sender<bool>,
    offsets: Arc<Mutex<Vec<i64>>>,
}

#[async_trait]
impl Journals for StuckOpening {
    fn partitions(&self) -> i32 {
        2
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        if partition == self.stuck {
            self.open.notified().await;
        }
        let offsets = (partition == self.stuck).then(|| Arc::clone(&self.offsets));
        Ok(Box::new(NotedOffsets { offsets }))
    }

    fn pace(&self, partition: Partition, is_paused: bool) {
        assert_eq!(partition, self.stuck);
        self.paused.send_replace(is_paused);
    }

    fn assign_again(&self, partition: Partition, _: Duration) {
        panic!("the journal of partition {partition} is broken");
    }
}

/// A journal that notes the offsets that are committed.
struct NotedOffsets {
    offsets: Option<Arc<Mutex<Vec<i64>>>>,
}

#[async_trait]
impl Journal for NotedOffsets {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        Ok(BTreeMap::new())
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        if let Some(offsets) = &self.offsets {
            offsets.lock().unwrap().extend(batch.next_offset);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_being_opened_is_paused_and_leaves_the_others_judged() {
    let setting = Setting::new();
    let home = partition_of(workload().to_string().as_bytes(), 2);
    let stuck = 1 - home;
    let (open, paused) = (Arc::default(), watch::Sender::new(false));
    let journals = StuckOpening { stuck, open, paused, offsets: Arc::default() };
    let mut daemon = setting.start_with(journals.clone());
    for partition in [stuck, home] {
        daemon.wakes.send(Wake::Assigned(partition)).await.unwrap();
    }
    let mut paused = journals.paused.subscribe();
    let mut sent = 0;
    while !*paused.borrow_and_update() {
        let record = EventRecord { partition: stuck, offset: sent, ..EventRecord::default() };
        daemon.wakes.send(Wake::Record(record.into())).await.unwrap();
        sent += 1;
        assert!(sent < 4096, "the partition is not paused");
    }
    let record = EventRecord { partition: home, ..setting.event("a", "2-err50", 0) };
    assert!(matches!(daemon.send(record).await, Some(Receipt::Decided(_))));
    let decisions = daemon.until(ended).await;
    assert_eq!(decisions.last().unwrap().ending, Some(Ending::RolledBack), "{decisions:#?}");

    journals.open.notify_one();
    tokio::time::timeout(LONG, paused.wait_for(|is_paused| !is_paused)).await.expect("it stays paused").unwrap();
    let last = async {
        while journals.offsets.lock().unwrap().last() != Some(&sent) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, last).await.expect("a record is lost");
    assert!(journals.offsets.lock().unwrap().is_sorted());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_are_paused_and_committed_by_their_size() {
    const MEGABYTE: usize = 1 << 20;
    let setting = Setting::new();
    let (open, paused) = (Arc::default(), watch::Sender::new(false));
    let journals = StuckOpening { stuck: 0, open, paused, offsets: Arc::default() };
    let daemon = setting.start_with(journals.clone());
    daemon.wakes.send(Wake::Assigned(0)).await.unwrap();
    let mut paused = journals.paused.subscribe();
    let mut sent = 0;
    while !*paused.borrow_and_update() {
        let record = EventRecord { offset: sent, value: Some(vec![b'x'; MEGABYTE]), ..EventRecord::default() };
        daemon.wakes.send(Wake::Record(record.into())).await.unwrap();
        sent += 1;
        assert!(sent < 200, "the partition is not paused");
    }
    journals.open.notify_one();
    let last = async {
        while journals.offsets.lock().unwrap().last() != Some(&sent) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, last).await.expect("a record is lost");
    tokio::time::timeout(LONG, paused.wait_for(|is_paused| !is_paused)).await.expect("it stays paused").unwrap();
    let offsets = journals.offsets.lock().unwrap().clone();
    assert!(offsets.windows(2).all(|pair| pair[1] - pair[0] <= 5), "more than 5 MB in one commit: {offsets:?}");
    daemon.stop().await;
}

/// A journal whose commits hang after the first.
struct Hanging;

#[async_trait]
impl Journals for Hanging {
    fn partitions(&self) -> i32 {
        1
    }

    async fn open(&self, _: Partition) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(MemoryJournal { commits_left: 1 }))
    }

    fn assign_again(&self, partition: Partition, _: Duration) {
        panic!("the journal of partition {partition} is broken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_stops_although_a_commit_hangs() {
    let setting = Setting::new();
    let daemon = setting.start_with(Hanging);
    daemon.wakes.send(Wake::Assigned(0)).await.unwrap();
    daemon.wakes.send(Wake::Record(setting.event("a", "2", 0).into())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    tokio::time::timeout(LONG, daemon.stop()).await.expect("the daemon does not stop");
}

/// Journals whose openings wait for a permission. It counts those that are under way.
#[derive(Clone, Default)]
struct SlowOpenings {
    permitted: Arc<Notify>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Journals for SlowOpenings {
    fn partitions(&self) -> i32 {
        1
    }

    async fn open(&self, _: Partition) -> Result<Box<dyn Journal>, JournalError> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.permitted.notified().await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        Ok(Box::new(NotedOffsets { offsets: None }))
    }

    fn assign_again(&self, partition: Partition, _: Duration) {
        panic!("the journal of partition {partition} is broken");
    }
}

/// Two openings of one journal fence each other: the newer one was told that another process has the partition, and the older
/// one had no inbox any more, so that nothing owned it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_assigned_again_while_it_is_opened_has_one_opening_at_a_time() {
    let setting = Setting::new();
    let journals = SlowOpenings::default();
    let daemon = setting.start_with(journals.clone());
    for _ in 0..3 {
        daemon.wakes.send(Wake::Assigned(0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (done, _released) = oneshot::channel();
        daemon.wakes.send(Wake::Revoked { partition: 0, is_lost: true, done }).await.unwrap();
    }
    daemon.wakes.send(Wake::Assigned(0)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answered = daemon.send(setting.event("a", "2", 0));
    let permitted = async {
        loop {
            journals.permitted.notify_one();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        receipt = answered => assert!(matches!(receipt, Some(Receipt::Decided(_))), "{receipt:?}"),
        () = permitted => {}
    }
    assert_eq!(journals.most.load(Ordering::SeqCst), 1, "openings at the same time");
    daemon.stop().await;
}
