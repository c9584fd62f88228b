//! Three brokers of which each is killed once: the coordinators of the transactions and of the group, the leaders of the partitions
//! and the controller move while a process reads events and commits.

use std::collections::BTreeSet;
use std::time::Duration;

use bellwether::adapters::kafka::{Kafka, Options, read_decisions};
use bellwether::ports::{Batch, EventRecord, Journal, JournalError, Journals, Partition};
use bellwether_testkit::journal_suite::decided;
use bellwether_testkit::plane::kafka::KafkaBroker;
use bellwether_testkit::plane::paths::cache;
use serde_json::Value;

use super::{Daemon, PATIENCE, event, key_on, text};

const PARTITION: Partition = 0;
const EVENTS: u32 = 240;
/// The time between two commits. All of them take longer than the deaths of the brokers.
const PAUSE: Duration = Duration::from_millis(350);
/// The time for which each broker is away: longer than its session with the controller, which is 9 s.
const AWAY: Duration = Duration::from_secs(12);

pub async fn coordinators(options: Options) {
    let data = tempfile::tempdir().unwrap();
    let cluster = KafkaBroker::start_cluster(&cache().unwrap(), data.path(), data.path()).await.unwrap();
    let brokers = cluster.each_ref().map(|broker| broker.address.as_str()).join(",");
    let options = Options { brokers, replication: 3, ..options };
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let (emitter, key) = (kafka.emitter().unwrap(), key_on(PARTITION, 4));
    for n in 0..EVENTS {
        emitter.send(&event(&key, &n.to_string())).await.unwrap();
    }
    let deaths = async {
        for broker in &cluster {
            broker.restart(AWAY).await.unwrap();
        }
    };
    let (interruptions, ()) = tokio::join!(consume(&kafka), deaths);
    println!("{EVENTS} commits; {} were interrupted: {interruptions:?}", interruptions.len());
    let decisions = read_decisions(&options, |_, _| true).await.unwrap();
    let numbers = decisions.iter().map(|json| serde_json::from_slice::<Value>(json).unwrap()["n"].as_u64().unwrap());
    assert_eq!(
        numbers.collect::<Vec<_>>(),
        (0..u64::from(EVENTS)).collect::<Vec<_>>(),
        "each event is decided once and in order"
    );
}

/// Commits all events of the partition, one in each transaction. Returns the errors after which it opened the journal again.
async fn consume(kafka: &Kafka) -> Vec<JournalError> {
    let mut daemon = Daemon::start(kafka);
    let mut errors = Vec::new();
    loop {
        while !daemon.held.contains(&PARTITION) {
            daemon.next().await;
        }
        match commit_all(&mut daemon).await {
            Ok(()) => break,
            Err(error) => errors.push(error),
        }
        // It is assigned again, because the outcome of the commit is not known or another generation of the group has begun.
        daemon.held.remove(&PARTITION);
    }
    daemon.stop().await;
    errors
}

async fn commit_all(daemon: &mut Daemon) -> Result<(), JournalError> {
    let mut journal: Box<dyn Journal> = daemon.kafka.open(PARTITION).await?;
    let entries = journal.restore().await?;
    let known: BTreeSet<u32> = entries.keys().filter_map(|key| key.strip_prefix("event/")?.parse().ok()).collect();
    let mut next = known.len() as u32;
    assert_eq!(known, (0..next).collect::<BTreeSet<u32>>(), "an event was left out");
    while next < EVENTS {
        let record = record(daemon).await?;
        assert_eq!((record.offset, text(&record)), (i64::from(next), next.to_string()));
        let puts = vec![(format!("event/{next}"), Some(b"1".to_vec()))];
        journal.commit(Batch { next_offset: Some(i64::from(next) + 1), puts, ..decided(&[next]) }).await?;
        next += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Returns the next record of the partition.
///
/// # Errors
/// The partition was taken away.
async fn record(daemon: &mut Daemon) -> Result<EventRecord, JournalError> {
    let next = async {
        while daemon.held.contains(&PARTITION) {
            if let Some(record) = daemon.next().await {
                return Ok(record);
            }
        }
        Err(JournalError::Fenced("the partition was taken away".to_owned()))
    };
    tokio::time::timeout(PATIENCE, next).await.expect("neither a record nor a revocation")
}
