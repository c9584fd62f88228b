//! The position in the events topic: it is the journal's, and a person is asked if the topic no longer has it.

use std::time::Duration;

use bellwether::adapters::kafka::position::{PositionProblem, entry};
use bellwether::adapters::kafka::{Kafka, KafkaClientError, Options};
use bellwether::ports::{Batch, JournalError, Journals, Partition};
use bellwether_testkit::journal_suite::puts;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use super::{Daemon, PATIENCE, client, create, event, key_on, outside_the_group, text};

const PARTITION: Partition = 2;

/// Sends events with the numbers 0 to `count` - 1 to partition 2.
async fn send(kafka: &Kafka, count: usize, padding: usize) {
    let (emitter, key) = (kafka.emitter().unwrap(), key_on(PARTITION, 4));
    let padding = "x".repeat(padding);
    let sent = (0..count).map(|n| {
        let (emitter, record) = (emitter.clone(), event(&key, &format!("{n}{padding}")));
        async move { emitter.send(&record).await }
    });
    for result in futures::future::join_all(sent).await {
        result.unwrap();
    }
}

/// Reads and commits all events before `next` in a process that then ends.
async fn consumed(options: &Options, next: i64) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(PARTITION).await;
    journal.commit(Batch { next_offset: Some(next), ..puts(&[("k", Some("v"))]) }).await.unwrap();
    daemon.stop().await;
}

/// Returns the question with which the partition's restore ends.
async fn question(daemon: &Daemon) -> String {
    let mut journal = daemon.kafka.open(PARTITION).await.unwrap();
    let restored = journal.restore().await;
    let Err(JournalError::Asks(question)) = restored else { panic!("no question: {restored:?}") };
    question
}

fn admin(options: &Options) -> AdminClient<DefaultClientContext> {
    client(options).create().unwrap()
}

async fn delete_events(options: &Options, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&options.topic, PARTITION, Offset::Offset(before)).unwrap();
    let patience = AdminOptions::new().operation_timeout(Some(PATIENCE));
    admin(options).delete_records(&list, &patience).await.unwrap();
}

/// Writes the position into the journal, as `bellwether journal offsets --accept` does.
async fn accept(options: &Options, position: i64) {
    let mut journal = outside_the_group(options).open(PARTITION).await.unwrap();
    journal.restore().await.unwrap();
    journal.commit(Batch { puts: vec![entry(position)], ..Batch::default() }).await.unwrap();
}

pub async fn expired(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    send(&kafka, 6, 0).await;
    consumed(&options, 2).await;
    delete_events(&options, 4).await;
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let question = question(&daemon).await;
    let parts = [format!("events 2 to 3 of {}[2]", options.topic), "--partition 2 --accept` to go on at 4".to_owned()];
    assert!(parts.iter().all(|part| question.contains(part)), "{question}");
    daemon.open(1).await.commit(puts(&[("k", Some("another partition"))])).await.unwrap();
    let (entries, facts) = kafka.look(PARTITION).await.unwrap();
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["k"]);
    assert_eq!(facts.position(), Err(PositionProblem::Expired { position: 2, low: 4 }));
    accept(&options, 4).await;
    daemon.held.remove(&PARTITION);
    daemon.until_assigned(&[PARTITION]).await;
    let _journal = daemon.open(PARTITION).await;
    assert_eq!(text(&daemon.record().await), "4");
    daemon.stop().await;
}

/// A group that was away for long has no offsets any more.
pub async fn forgotten(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    send(&kafka, 4, 0).await;
    consumed(&options, 3).await;
    let deleted = admin(&options).delete_groups(&[&options.group], &AdminOptions::new()).await.unwrap();
    deleted.into_iter().for_each(|group| drop(group.unwrap()));
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(PARTITION).await;
    assert_eq!(text(&daemon.record().await), "3", "no event is read twice, and none is skipped");
    assert_eq!(kafka.look(PARTITION).await.unwrap().1.committed, None);
    journal.commit(puts(&[("k", Some("w"))])).await.unwrap();
    assert_eq!(kafka.look(PARTITION).await.unwrap().1.committed, Some(3), "the first commit has the position");
    daemon.stop().await;
}

pub async fn topic_created_anew(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    send(&kafka, 6, 0).await;
    consumed(&options, 6).await;
    for deleted in admin(&options).delete_topics(&[&options.topic], &AdminOptions::new()).await.unwrap() {
        deleted.unwrap();
    }
    // The broker deletes a topic after its answer.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !Kafka::inspect(&options).await.unwrap().contains(&options.topic) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    create(&options, &options.topic, 4, &[]).await;
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    send(&kafka, 2, 0).await;
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let question = question(&daemon).await;
    assert!(question.contains("up to offset 6 and ends at 2") && question.contains("--accept"), "{question}");
    accept(&options, 0).await;
    daemon.held.remove(&PARTITION);
    daemon.until_assigned(&[PARTITION]).await;
    let _journal = daemon.open(PARTITION).await;
    assert_eq!(text(&daemon.record().await), "0");
    daemon.stop().await;
}

/// Events are deleted while the daemon reads them more slowly than they expire.
pub async fn expired_while_it_reads(options: Options) {
    const COUNT: usize = 2000;
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    send(&kafka, COUNT, 2000).await;
    let mut daemon = Daemon::with_room(&kafka, 2);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(PARTITION).await;
    assert_eq!(daemon.record().await.offset, 0);
    journal.commit(Batch { next_offset: Some(1), ..puts(&[("k", Some("v"))]) }).await.unwrap();
    // The queue is full by now, and the records that were fetched ahead are discarded.
    tokio::time::sleep(Duration::from_secs(1)).await;
    delete_events(&options, 1900).await;
    let mut next = 1;
    daemon.held.clear();
    let reassigned = async {
        while !daemon.held.contains(&PARTITION) {
            if let Some(record) = daemon.next().await {
                assert_eq!(record.offset, next, "an event was skipped in silence");
                next += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reassigned).await.unwrap();
    assert!(next < 1900, "nothing was deleted before it was read");
    let question = question(&daemon).await;
    assert!(question.contains("events 1 to 1899"), "{question}");
    daemon.stop().await;
}

/// An empty journal beside events that were read is refused, first as a missing topic and then as an empty one.
pub async fn journal_is_lost(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    send(&kafka, 4, 0).await;
    consumed(&options, 3).await;
    let options = Options { journal_topic: format!("{}.renamed", options.journal_topic), ..options };
    let refused = Kafka::connect(options.clone()).await.err().unwrap();
    assert!(matches!(refused, KafkaClientError::MissingJournal { .. }), "{refused:?}");
    let refused = refused.to_string();
    let parts = [&options.journal_topic, &options.group, &options.topic, "`bellwether journal init`"];
    assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
    assert_eq!(Kafka::inspect(&options).await.unwrap(), [options.journal_topic.as_str()], "nothing was created");
    let kafka = Kafka::connect_without_journal(options.clone()).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let question = question(&daemon).await;
    assert!(question.contains("[2] is empty") && question.contains("`bellwether journal init`"), "{question}");
    let mut journal = outside_the_group(&options).open(PARTITION).await.unwrap();
    assert!(journal.restore().await.unwrap().is_empty());
    journal.commit(puts(&[("cluster", Some("\"prod\""))])).await.unwrap();
    daemon.held.remove(&PARTITION);
    daemon.until_assigned(&[PARTITION]).await;
    let _journal = daemon.open(PARTITION).await;
    assert_eq!(text(&daemon.record().await), "3", "the events that were read are not read again");
    daemon.stop().await;
}
