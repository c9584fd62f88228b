//! The tail of the journals that other processes own.

use std::collections::BTreeSet;
use std::time::Duration;

use bellwether::adapters::kafka::{Kafka, Options};
use bellwether::clock::Stopwatch;
use bellwether::ports::{Batch, JournalFollower, Partition};
use rdkafka::producer::Producer;
use tokio::sync::mpsc;

use super::{Daemon, PATIENCE, outside_the_group};

/// The calls of a tail, in their order.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Begin(Partition),
    Entry(Partition, String, Option<String>),
    Read(Partition),
}

struct Calls(mpsc::UnboundedSender<Call>);

impl Calls {
    fn note(&self, call: Call) {
        // The test may have ended.
        let _ = self.0.send(call);
    }
}

impl JournalFollower for Calls {
    fn begin(&mut self, partition: Partition) {
        self.note(Call::Begin(partition));
    }

    fn entry(&mut self, partition: Partition, key: &str, value: Option<&[u8]>) {
        let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
        self.note(Call::Entry(partition, key.to_owned(), value));
    }

    fn read(&mut self, partition: Partition, _: Stopwatch) {
        self.note(Call::Read(partition));
    }
}

/// Returns the calls up to the one after which each partition was read once.
async fn round(calls: &mut mpsc::UnboundedReceiver<Call>) -> Vec<Call> {
    let (mut seen, mut read) = (Vec::new(), BTreeSet::new());
    while read.len() < 4 {
        let call = tokio::time::timeout(PATIENCE, calls.recv()).await.expect("no call in time").unwrap();
        if let Call::Read(partition) = call {
            read.insert(partition);
        }
        seen.push(call);
    }
    seen
}

fn entries(calls: &[Call]) -> Vec<(&str, Option<&str>)> {
    let entry = |call| match call {
        &Call::Entry(2, ref key, ref value) if !key.starts_with("kafka/") => Some((key.as_str(), value.as_deref())),
        Call::Begin(_) | Call::Entry(..) | Call::Read(_) => None,
    };
    calls.iter().filter_map(entry).collect()
}

fn batch(puts: &[(&str, Option<&str>)]) -> Batch {
    let puts = puts.iter().map(|(key, value)| ((*key).to_owned(), value.map(|value| value.as_bytes().to_vec())));
    Batch { next_offset: Some(0), puts: puts.collect(), ..Batch::default() }
}

/// A process that owns no partition reads all of them, and then only the further commits. The owner reads its own only after it has
/// left the group.
pub async fn followed(options: Options) {
    let owner = Kafka::connect(options.clone()).await.unwrap();
    let mut daemon = Daemon::start(&owner);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(2).await;
    journal.commit(batch(&[("a/snap", Some("1")), ("b/snap", Some("2"))])).await.unwrap();

    let (sender, mut calls) = mpsc::unbounded_channel();
    let tail = outside_the_group(&options).follow(Box::new(Calls(sender))).unwrap();
    let first = round(&mut calls).await;
    assert_eq!(first.iter().filter(|call| matches!(call, Call::Begin(_))).count(), 4, "{first:?}");
    assert_eq!(entries(&first), [("a/snap", Some("1")), ("b/snap", Some("2"))], "{first:?}");
    journal.commit(batch(&[("a/snap", None), ("c/snap", Some("3"))])).await.unwrap();
    let mut later = round(&mut calls).await;
    while entries(&later).is_empty() {
        later = round(&mut calls).await;
    }
    assert_eq!(entries(&later), [("a/snap", None), ("c/snap", Some("3"))], "{later:?}");
    assert!(!later.iter().any(|call| matches!(call, Call::Begin(_))), "{later:?}");
    drop(tail);

    let (sender, mut calls) = mpsc::unbounded_channel();
    let _tail = owner.follow(Box::new(Calls(sender))).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(calls.try_recv().is_err(), "its own partitions are followed");
    drop(journal);
    daemon.stop().await;
    assert_eq!(round(&mut calls).await.iter().filter(|call| matches!(call, Call::Begin(_))).count(), 4);
}

/// The calls of a while.
async fn calls_for(calls: &mut mpsc::UnboundedReceiver<Call>, time: Duration) -> Vec<Call> {
    let (mut seen, end) = (Vec::new(), tokio::time::Instant::now() + time);
    while let Ok(Some(call)) = tokio::time::timeout_at(end, calls.recv()).await {
        seen.push(call);
    }
    seen
}

/// Another program leaves a transaction open in the journal of partition 2. Nothing behind it can be read, so the partition does not count
/// as read, and the others do, until the transaction has ended.
pub async fn behind(options: Options) {
    let owner = Kafka::connect(options.clone()).await.unwrap();
    let (sender, mut calls) = mpsc::unbounded_channel();
    let _tail = owner.follow(Box::new(Calls(sender))).unwrap();
    round(&mut calls).await;
    let mut config = super::client(&options);
    config.set("transactional.id", "another-program").set("transaction.timeout.ms", "120000");
    let foreign: rdkafka::producer::BaseProducer = config.create().unwrap();
    foreign.init_transactions(PATIENCE).unwrap();
    foreign.begin_transaction().unwrap();
    let record = rdkafka::producer::BaseRecord::to(&options.journal_topic).partition(2).key("x/snap").payload("1");
    foreign.send::<str, str>(record).map_err(|(error, _)| error).unwrap();
    foreign.flush(PATIENCE).unwrap();

    // Within two looks at the ends the partition counts as read no longer.
    calls_for(&mut calls, Duration::from_secs(14)).await;
    let later = calls_for(&mut calls, Duration::from_secs(10)).await;
    let reads = |partition| later.iter().filter(|call| **call == Call::Read(partition)).count();
    assert!(reads(2) == 0 && reads(1) >= 3, "{later:?}");
    foreign.abort_transaction(PATIENCE).unwrap();
    let ended = async { while calls.recv().await != Some(Call::Read(2)) {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the partition is not read again");
}
