//! The Kafka adapter with a real broker: topics, journal, intake, dead letters, takeover. Each test has its own topics and
//! consumer group, so they run at the same time on one broker.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::time::{Duration, Instant};

use bellwether::adapters::kafka::{Kafka, KafkaClientError, KafkaIntake, Options, read_decisions};
use bellwether::journal::partition_of;
use bellwether::ports::{Batch, EventRecord, Journal, JournalError, Journals, Partition, Rekeyed, Wake};
use bellwether_core::time::Span;
use bellwether_testkit::journal_suite::{self, decided, opened, puts};
use libtest_mimic::{Failed, Trial};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::mpsc;

mod hanging;
mod member;
mod moved;
mod position;
mod script;
mod secured;
mod tail;
mod wire;

/// Deadline for one step of a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns all tests, for a broker at `brokers`.
pub fn trials(brokers: &str) -> Vec<Trial> {
    vec![
        // The longest comes first, so that it runs beside the others.
        trial("kafka_agrees_with_the_simulators_broker", brokers, script::agrees),
        trial("kafka_coordinators_and_leaders_that_move_lose_no_commit", brokers, moved::coordinators),
        trial("kafka_journal_passes_the_suite_of_every_journal", brokers, every_journal),
        trial("kafka_missing_topics_are_created_and_existing_ones_accepted", brokers, created),
        trial("kafka_topics_with_wrong_settings_are_refused_by_name", brokers, refused),
        trial("kafka_an_unreachable_broker_is_named", brokers, unreachable),
        trial("kafka_partition_of_agrees_with_the_client_library", brokers, partitions_agree),
        trial("kafka_records_flow_once_the_journal_is_restored_and_go_on_after_a_restart", brokers, flow),
        trial("kafka_dead_letters_and_rekeyed_records_are_in_the_transaction", brokers, dead_and_rekeyed),
        trial("kafka_a_record_with_huge_key_headers_and_value_becomes_a_dead_letter", brokers, huge_dead_letter),
        trial("kafka_a_second_replica_takes_its_share_and_fences_the_first", brokers, shared),
        trial("kafka_the_journals_of_other_processes_are_followed", brokers, tail::followed),
        trial("kafka_a_static_member_comes_back_to_its_partitions", brokers, static_member),
        trial("kafka_an_orderly_restart_of_a_static_member_moves_no_partition", brokers, member::restarted),
        trial("kafka_a_changed_password_file_connects_anew", brokers, member::new_password),
        trial("kafka_a_user_with_a_password_over_tls_reads_and_commits", brokers, secured::reads_and_commits),
        trial("kafka_a_wrong_password_or_authority_is_named", brokers, secured::refused),
        trial("kafka_a_second_process_with_the_same_instance_id_ends_the_first", brokers, same_instance),
        trial("kafka_a_group_of_another_cluster_is_refused_by_name", brokers, two_clusters),
        trial("kafka_a_transaction_without_markers_ends_as_it_was_decided", brokers, hanging::ended_as_decided),
        trial("kafka_events_of_a_transaction_without_markers_are_read", brokers, hanging::of_events),
        trial("kafka_an_offset_without_a_marker_is_known_by_the_journal", brokers, hanging::of_the_offset),
        trial("kafka_a_foreign_open_transaction_stops_its_partition_alone", brokers, hanging::of_another_program),
        trial("kafka_events_that_expired_before_they_were_read_are_a_question", brokers, position::expired),
        trial("kafka_events_that_expire_while_they_are_read_are_a_question", brokers, position::expired_while_it_reads),
        trial("kafka_a_group_without_offsets_goes_on_where_the_journal_says", brokers, position::forgotten),
        trial("kafka_an_events_topic_that_was_created_anew_is_a_question", brokers, position::topic_created_anew),
        trial("kafka_a_missing_or_empty_journal_of_a_known_group_is_refused", brokers, position::journal_is_lost),
        trial("kafka_after_an_unknown_commit_the_records_are_read_again", brokers, doubt),
        trial("kafka_a_slow_daemon_gets_all_records_in_order", brokers, slow),
        trial("kafka_a_header_name_that_is_not_utf8_is_replaced", brokers, hostile_header),
        trial("kafka_restoring_survives_compaction", brokers, compacted),
        trial("kafka_a_partition_behind_an_open_transaction_grows_old", brokers, tail::behind),
        trial("kafka_each_commit_is_one_transaction_after_the_one_before", brokers, each_in_order),
    ]
}

async fn every_journal(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    journal_suite::check(&kafka).await;
    let decisions = read_decisions(&options, |key, _| key.starts_with("prod/shop/")).await.unwrap();
    let decisions: Vec<String> = decisions.into_iter().map(|json| String::from_utf8(json).unwrap()).collect();
    assert_eq!(decisions, journal_suite::decisions());
    assert!(read_decisions(&options, |key, _| key == "another/workload").await.unwrap().is_empty());
}

async fn created(options: Options) {
    let (one, two) = tokio::join!(Kafka::connect(options.clone()), Kafka::connect(options.clone()));
    assert_eq!((one.unwrap().partitions(), two.unwrap().partitions()), (4, 4));
    let other = Options { partitions: 7, ..options };
    assert_eq!(Kafka::connect(other).await.unwrap().partitions(), 4, "an existing topic keeps its partitions");
}

async fn refused(options: Options) {
    type Row<'a> = (&'a str, i32, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let rows: [Row<'_>; 4] = [
        (
            "journal",
            4,
            &[("cleanup.policy", "compact"), ("max.message.bytes", "1000000")],
            &["max.message.bytes = 1000000", "set it to 4325376"],
        ),
        ("journal", 4, &[("cleanup.policy", "delete")], &["cleanup.policy = delete", "compact"]),
        ("journal", 3, &[("cleanup.policy", "compact")], &["partitions = 3", "needs the 4"]),
        ("decisions", 4, &[("cleanup.policy", "compact")], &["cleanup.policy = compact", "set it to delete"]),
    ];
    for (n, (role, partitions, settings, parts)) in rows.into_iter().enumerate() {
        let mut options = options.clone();
        let name = format!("{}.{n}", options.topic);
        *(if role == "journal" { &mut options.journal_topic } else { &mut options.decisions_topic }) = name.clone();
        create(&options, &name, partitions, settings).await;
        let error = Kafka::connect(options).await.err().unwrap().to_string();
        assert!(error.contains(&name) && parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let many = Options { replication: 3, topic: format!("{}.many", options.topic), ..options };
    let error = Kafka::connect(many).await.err().unwrap().to_string();
    assert!(error.contains("kafka.replication"), "{error}");
}

async fn unreachable(options: Options) {
    let options = Options { brokers: "127.0.0.1:1".to_owned(), ..options };
    let error = Kafka::connect(options).await.err().unwrap();
    assert!(matches!(error, KafkaClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

async fn partitions_agree(options: Options) {
    let kafka = Kafka::connect(options).await.unwrap();
    let emitter = kafka.emitter().unwrap();
    for n in 0..200 {
        let key = format!("prod/team-{}/Deployment/{}", n % 7, "abcdefgh".repeat(n % 5) + &n.to_string());
        let written = emitter.send(&event(&key, "{}")).await.unwrap();
        assert_eq!(written.partition, partition_of(key.as_bytes(), 4), "{key}");
    }
}

async fn flow(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let emitter = kafka.emitter().unwrap();
    let key = key_on(2, 4);
    for n in 0..3 {
        emitter.send(&event(&key, &n.to_string())).await.unwrap();
    }
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    daemon.no_wake(Duration::from_millis(400)).await;
    let mut journal = kafka.open(2).await.unwrap();
    daemon.no_wake(Duration::from_millis(400)).await;
    journal.restore().await.unwrap();
    for n in 0..2 {
        let record = daemon.record().await;
        assert_eq!((record.partition, record.offset, text(&record)), (2, n, n.to_string()));
        assert!(record.headers.contains(&("ce_id".to_owned(), b"1".to_vec())));
    }
    journal.commit(Batch { next_offset: Some(2), ..puts(&[("k", Some("v"))]) }).await.unwrap();
    daemon.stop().await;
    let kafka = Kafka::connect(options).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = kafka.open(2).await.unwrap();
    assert_eq!(journal.restore().await.unwrap()["k"], b"v");
    let record = daemon.record().await;
    assert_eq!((record.offset, text(&record)), (2, "2".to_owned()));
    daemon.stop().await;
}

async fn dead_and_rekeyed(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let canonical = key_on(3, 4);
    let foreign = (0..).map(|n| format!("foreign-{n}")).find(|key| partition_of(key.as_bytes(), 4) == 1).unwrap();
    let emitter = kafka.emitter().unwrap();
    emitter.send(&event(&foreign, "\u{0}garbage")).await.unwrap();
    emitter.send(&event(&foreign, "elsewhere")).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(1).await;
    let (bad, misplaced) = (daemon.record().await, daemon.record().await);
    let batch = Batch {
        next_offset: Some(2),
        puts: vec![("seen".to_owned(), Some(b"1".to_vec()))],
        dead: vec![(bad.clone(), "not JSON".to_owned())],
        rekeyed: vec![Rekeyed { record: misplaced, key: canonical.clone(), partition: 3 }],
        ..decided(&[1])
    };
    journal.commit(batch).await.unwrap();
    let letters = read_all(&options, &options.dlq(), 1);
    assert_eq!(letters.len(), 1);
    let (letter, headers) = &letters[0];
    assert_eq!((&letter.key, &letter.value), (&bad.key, &bad.value));
    let added = ["dlq-original-topic", "dlq-original-partition", "dlq-original-offset", "dlq-error", "ce_id"];
    let values: Vec<&str> = added.iter().map(|name| headers[*name].as_str()).collect();
    assert_eq!(values, [options.topic.as_str(), "1", "0", "not JSON", "1"]);
    let mut other = daemon.open(3).await;
    let record = daemon.record().await;
    assert_eq!((record.partition, record.key.as_deref()), (3, Some(canonical.as_bytes())));
    assert_eq!(text(&record), "elsewhere");
    other.commit(Batch { next_offset: Some(1), ..Batch::default() }).await.unwrap();
    daemon.stop().await;
    // A transaction is written whole or not at all: no topic has the records of a fenced owner.
    let (mut zombie, _) = opened(&outside_the_group(&options)).await;
    let (_heir, _) = opened(&outside_the_group(&options)).await;
    let batch = Batch { dead: vec![(bad, "zombie".to_owned())], ..decided(&[2]) };
    assert!(matches!(zombie.commit(batch).await, Err(JournalError::Fenced(_))));
    assert_eq!(read_all(&options, &options.dlq(), 1).len(), 1);
    assert_eq!(read_decisions(&options, |_, _| true).await.unwrap().len(), 1);
}

/// A producer can send such a record in a compressed batch, because the broker compares the compressed size.
async fn huge_dead_letter(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(1).await;
    let header = |n: usize| (format!("x-{n}"), vec![b'x'; 1 << 20]);
    let mut headers = vec![("ce_id".to_owned(), b"1".to_vec())];
    headers.extend((0..6).map(header));
    let (key, value) = (Some(vec![b'k'; 3 << 20]), Some(vec![b'v'; 3 << 20]));
    let record = EventRecord { partition: 1, offset: 0, key, value, headers };
    journal.commit(Batch { dead: vec![(record, "too large".to_owned())], ..decided(&[1]) }).await.unwrap();
    let letters = read_all(&options, &options.dlq(), 1);
    let (letter, headers) = &letters[0];
    assert_eq!((&letter.key, &letter.value), (&None, &None));
    let left = ["dlq-key-left-behind-bytes", "dlq-value-left-behind-bytes", "dlq-headers-left-behind", "ce_id"];
    let values: Vec<&str> = left.iter().map(|name| headers[*name].as_str()).collect();
    assert_eq!(values, ["3145728", "3145728", "6", "1"]);
    daemon.stop().await;
}

async fn shared(options: Options) {
    let first = Kafka::connect(options.clone()).await.unwrap();
    let mut one = Daemon::start(&first);
    one.until_assigned(&[0, 1, 2, 3]).await;
    let mut journals = BTreeMap::new();
    for partition in 0..4 {
        let mut journal = one.open(partition).await;
        journal.commit(puts(&[("owner", Some("one"))])).await.unwrap();
        journals.insert(partition, journal);
    }
    let second = Kafka::connect(options.clone()).await.unwrap();
    let mut two = Daemon::start(&second);
    let shares = async {
        one.until(|daemon| daemon.held.is_empty()).await;
        one.until(|daemon| daemon.held.len() == 2).await;
    };
    tokio::join!(shares, two.until(|daemon| daemon.held.len() == 2));
    let of_two = two.held.clone();
    assert_eq!(one.held.union(&of_two).count(), 4, "{:?} {of_two:?}", one.held);
    for partition in of_two {
        let refused = journals.get_mut(&partition).unwrap().commit(puts(&[("owner", Some("late"))])).await;
        assert!(matches!(refused, Err(JournalError::Fenced(_))), "{refused:?}");
        let foreign = first.open(partition).await.err().unwrap();
        assert!(matches!(foreign, JournalError::Fenced(_)), "{foreign}");
        let mut journal = second.open(partition).await.unwrap();
        assert_eq!(journal.restore().await.unwrap()["owner"], b"one");
        journal.commit(Batch { next_offset: Some(0), ..puts(&[("owner", Some("two"))]) }).await.unwrap();
    }
    // A daemon that stops leaves its partitions to the other.
    two.stop().await;
    one.until_assigned(&[0, 1, 2, 3]).await;
    one.stop().await;
}

async fn static_member(options: Options) {
    let session_timeout = Span::from_secs(60);
    let options = Options { instance_id: Some("replica-0".to_owned()), session_timeout, ..options };
    let started = Instant::now();
    for round in 0..2 {
        let kafka = Kafka::connect(options.clone()).await.unwrap();
        let mut daemon = Daemon::start(&kafka);
        daemon.until_assigned(&[0, 1, 2, 3]).await;
        let mut journal = daemon.open(0).await;
        journal.commit(Batch { next_offset: Some(round), ..Batch::default() }).await.unwrap();
        daemon.stop().await;
    }
    assert!(
        started.elapsed() < session_timeout.to_std(),
        "the restart waited for the session to time out: {:?}",
        started.elapsed()
    );
}

async fn same_instance(options: Options) {
    let options = Options { instance_id: Some("replica-0".to_owned()), ..options };
    let first = Kafka::connect(options.clone()).await.unwrap();
    let mut one = Daemon::start(&first);
    one.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = one.open(0).await;
    let second = Kafka::connect(options).await.unwrap();
    let mut two = Daemon::start(&second);
    two.until_assigned(&[0, 1, 2, 3]).await;
    let late = journal.commit(Batch { next_offset: Some(0), ..puts(&[("late", Some("1"))]) }).await;
    assert!(matches!(late, Err(JournalError::Fenced(_))), "{late:?}");
    let serve = one.until(|daemon| daemon.held.is_empty());
    tokio::time::timeout(PATIENCE, serve).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, one.intake.ended()).await.unwrap();
    assert!(ended.unwrap_err().to_string().contains("instance-id"));
    let entries = two.restored(0).await;
    assert!(!entries.contains_key("late"));
    two.stop().await;
}

/// The group is the same, and the journals are not. The partitions of either cluster would lose the other's events.
async fn two_clusters(options: Options) {
    let of = |cluster: &str, journal_topic: &str| Options {
        cluster: cluster.to_owned(),
        journal_topic: journal_topic.to_owned(),
        ..options.clone()
    };
    for cluster in ["", "prod", "prod"] {
        let mut daemon = Daemon::start(&Kafka::connect(of(cluster, &options.journal_topic)).await.unwrap());
        daemon.until_assigned(&[0, 1, 2, 3]).await;
        let mut journal = daemon.open(0).await;
        journal.commit(Batch { next_offset: Some(0), ..Batch::default() }).await.unwrap();
        daemon.stop().await;
    }
    let edge = of("edge", &format!("{}.edge", options.journal_topic));
    let refused = Kafka::connect(edge.clone()).await.err().unwrap();
    assert!(matches!(refused, KafkaClientError::ForeignGroup { .. }), "{refused:?}");
    let other = Kafka::connect_without_journal(edge).await.unwrap();
    let mut daemon = Daemon::start(&other);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let refused = other.open(0).await.unwrap().restore().await.unwrap_err();
    assert!(matches!(refused, JournalError::Broken(_)), "{refused:?}");
    let refused = refused.to_string();
    let parts = [&options.group, "cluster prod", "cluster edge", "kafka.group"];
    assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
    daemon.stop().await;
}

async fn doubt(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let emitter = kafka.emitter().unwrap();
    let key = key_on(0, 4);
    for n in 0..4 {
        emitter.send(&event(&key, &n.to_string())).await.unwrap();
    }
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(0).await;
    for n in 0..4 {
        assert_eq!(text(&daemon.record().await), n.to_string());
    }
    journal.commit(Batch { next_offset: Some(1), ..puts(&[("k", Some("1"))]) }).await.unwrap();
    // Another producer takes the transactional id, but the daemon still holds the partition in the group.
    let (_other, _) = opened(&outside_the_group(&options)).await;
    let lost = journal.commit(Batch { next_offset: Some(4), ..puts(&[("k", Some("4"))]) }).await;
    assert!(matches!(lost, Err(JournalError::Unknown(_))), "{lost:?}");
    let spent = journal.commit(puts(&[("k", Some("5"))])).await;
    assert!(matches!(spent, Err(JournalError::Unknown(_))), "{spent:?}");
    daemon.held.remove(&0);
    daemon.until_assigned(&[0]).await;
    let mut journal = kafka.open(0).await.unwrap();
    assert_eq!(journal.restore().await.unwrap()["k"], b"1");
    for n in 1..4 {
        assert_eq!(text(&daemon.record().await), n.to_string(), "records are read again from the committed offset");
    }
    journal.commit(Batch { next_offset: Some(4), ..Batch::default() }).await.unwrap();
    daemon.stop().await;
}

async fn slow(options: Options) {
    let kafka = Kafka::connect(options).await.unwrap();
    let emitter = kafka.emitter().unwrap();
    let key = key_on(0, 4);
    let padding = "x".repeat(2000);
    let sent = (0..2000).map(|n| {
        let (emitter, record) = (emitter.clone(), event(&key, &format!("{n} {padding}")));
        async move { emitter.send(&record).await }
    });
    for result in futures::future::join_all(sent).await {
        result.unwrap();
    }
    let mut daemon = Daemon::with_room(&kafka, 2);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let _journal = daemon.open(0).await;
    for offset in 0..2000 {
        assert_eq!(daemon.record().await.offset, offset);
        if offset % 400 == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(
                daemon.intake.pulse().silent_for() < Duration::from_millis(500),
                "the consumer is not polled while the daemon takes no record"
            );
        }
    }
    daemon.stop().await;
}

async fn hostile_header(options: Options) {
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let producer: FutureProducer = client(&options).create().unwrap();
    // SAFETY: the name is passed to librdkafka as bytes and never read as text.
    let bytes = vec![0xff, 0xfe];
    #[expect(
        unsafe_code,
        reason = "a name that is not UTF-8: other clients can send one, and the API of this one can't"
    )]
    let name = unsafe { std::str::from_utf8_unchecked(&bytes) };
    let headers = OwnedHeaders::new()
        .insert(Header { key: name, value: Some("x") })
        .insert(Header { key: "fine", value: Some("y") })
        .insert(Header { key: "empty", value: None::<&str> });
    let record: FutureRecord<'_, str, str> =
        FutureRecord::to(&options.topic).partition(0).headers(headers).payload("{}");
    producer.send(record, PATIENCE).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let _journal = daemon.open(0).await;
    let record = daemon.record().await;
    let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["\u{fffd}", "fine", "empty"]);
    daemon.stop().await;
}

async fn compacted(options: Options) {
    // The settings of the adapter, with times that make the broker compact soon.
    let soon = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "500"),
        ("max.message.bytes", "4325376"),
    ];
    create(&options, &options.topic, 4, &[]).await;
    create(&options, &options.journal_topic, 4, &soon).await;
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let (mut journal, _) = opened(&kafka).await;
    for n in 0..300 {
        let (slot, value) = (format!("w/block/{}", n % 5), n.to_string());
        journal.commit(puts(&[("w/snap", Some(&value)), (&slot, Some(&value))])).await.unwrap();
    }
    journal.commit(puts(&[("w/block/4", None)])).await.unwrap();
    let before = opened(&kafka).await.1;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The broker does not compact the active segment. Another record makes it roll over.
        let (mut journal, _) = opened(&kafka).await;
        journal.commit(puts(&[("epoch", Some("1"))])).await.unwrap();
        let left = read_all(&options, &options.journal_topic, 1).len();
        if left < 100 {
            break;
        }
        assert!(Instant::now() < deadline, "the broker did not compact the topic: {left} records are left");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut after = opened(&kafka).await.1;
    after.remove("epoch");
    assert_eq!(after, before);
    let newest: Vec<&str> = after.values().map(|value| std::str::from_utf8(value).unwrap()).collect();
    assert_eq!(newest, ["295", "296", "297", "298", "299"]);
}

/// Each commit is one transaction with all of its records, and is in the journal after the one before, however many records it has and
/// however soon it follows. The times are printed and not judged: they are those of the machine.
async fn each_in_order(options: Options) {
    const COMMITS: i64 = 60;
    let kafka = Kafka::connect(options.clone()).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(0).await;
    let (mut expected, mut next) = (Vec::new(), 0);
    for (label, records, pause) in
        [("one record, spaced", 1, 20), ("50 records, spaced", 50, 20), ("50 records, back to back", 50, 0)]
    {
        let mut took = Vec::new();
        for _ in 0..COMMITS {
            next += 1;
            let value = next.to_string().into_bytes();
            let rows = (0..records).map(|row| (format!("w/block/{row}"), Some(value.clone())));
            let batch = Batch { next_offset: Some(next), puts: rows.collect(), ..Batch::default() };
            let started = Instant::now();
            journal.commit(batch).await.unwrap();
            took.push(started.elapsed());
            // The records, and the one of the position.
            expected.push((next.to_string(), records + 1));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        took.sort();
        eprintln!("commit, {label}: p50 {:?}, max {:?}", took[took.len() / 2], took.last());
    }
    daemon.stop().await;

    let all = read_all(&options, &options.journal_topic, expected.iter().map(|(_, records)| records).sum());
    let mut transactions: Vec<(&str, String, usize)> = Vec::new();
    for (record, headers) in &all {
        let (name, value) =
            (headers["bellwether-txn"].as_str(), String::from_utf8_lossy(record.value.as_ref().unwrap()));
        match transactions.last_mut() {
            Some((last, written, records)) if *last == name => {
                assert_eq!(*written, value, "a commit has the records of another");
                *records += 1;
            }
            _ => transactions.push((name, value.into_owned(), 1)),
        }
    }
    let names: BTreeSet<&str> = transactions.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), transactions.len(), "the records of a commit do not lie together");
    let written: Vec<(String, usize)> = transactions.into_iter().map(|(_, value, records)| (value, records)).collect();
    assert_eq!(written, expected);
    let reader: BaseConsumer = client(&options).create().unwrap();
    let (_, end) = reader.fetch_watermarks(&options.journal_topic, 0, PATIENCE).unwrap();
    assert_eq!(end, all.len() as i64 + 3 * COMMITS, "each commit has one marker");
}

// ---- helpers ----

/// Returns a test with its own topics and group.
fn trial<F: Future<Output = ()> + 'static>(name: &'static str, brokers: &str, body: fn(Options) -> F) -> Trial {
    let brokers = brokers.to_owned();
    Trial::test(name, move || {
        let unique = format!("{name}.{}", std::process::id());
        let options = Options {
            brokers,
            topic: format!("{unique}.events"),
            journal_topic: format!("{unique}.journal"),
            decisions_topic: format!("{unique}.decisions"),
            group: unique,
            partitions: 4,
            replication: 1,
            ..Options::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let finished = runtime.block_on(async { tokio::time::timeout(PATIENCE * 5, body(options)).await });
        finished.map_err(|_| Failed::from(format!("the test did not end within {:?}", PATIENCE * 5)))
    })
}

/// The intake of a daemon, driven by the test.
struct Daemon {
    kafka: Kafka,
    intake: KafkaIntake,
    wakes: mpsc::Receiver<Wake>,
    /// The partitions that it holds.
    held: BTreeSet<Partition>,
}

impl Daemon {
    fn start(kafka: &Kafka) -> Daemon {
        Daemon::with_room(kafka, 64)
    }

    fn with_room(kafka: &Kafka, room: usize) -> Daemon {
        let (sender, wakes) = mpsc::channel(room);
        Daemon { kafka: kafka.clone(), intake: kafka.consume(sender).unwrap(), wakes, held: BTreeSet::new() }
    }

    /// Takes the next wake, and returns it if it is a record. Assignments and revocations change `held`.
    async fn next(&mut self) -> Option<EventRecord> {
        match self.wakes.recv().await.expect("the intake has ended") {
            Wake::Assigned(partition) => drop(self.held.insert(partition)),
            Wake::Revoked { partition, done, .. } => {
                self.held.remove(&partition);
                drop(done);
            }
            Wake::Record(delivery) => return Some(delivery.record),
            other @ (Wake::Observed { .. } | Wake::Sighted(_)) => panic!("{other:?}"),
        }
        None
    }

    /// Takes wakes until a condition holds. A record is an error.
    async fn until(&mut self, is_met: impl Fn(&Daemon) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_met(self) {
            let next = tokio::time::timeout_at(deadline, self.next()).await;
            let record = next.unwrap_or_else(|_| panic!("waited {PATIENCE:?} with the partitions {:?}", self.held));
            assert!(record.is_none(), "unexpected record: {record:?}");
        }
    }

    async fn until_assigned(&mut self, partitions: &[Partition]) {
        let wanted: BTreeSet<Partition> = partitions.iter().copied().collect();
        self.until(|daemon| daemon.held.is_superset(&wanted)).await;
    }

    /// Returns the next record.
    async fn record(&mut self) -> EventRecord {
        let found = async {
            loop {
                if let Some(record) = self.next().await {
                    return record;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no record within {PATIENCE:?}"))
    }

    /// Checks that there is no wake for a time.
    async fn no_wake(&mut self, time: Duration) {
        if let Ok(wake) = tokio::time::timeout(time, self.wakes.recv()).await {
            panic!("unexpected wake: {wake:?}");
        }
    }

    /// Opens a partition's journal and restores it.
    async fn open(&self, partition: Partition) -> Box<dyn Journal> {
        let mut journal = self.kafka.open(partition).await.unwrap();
        journal.restore().await.unwrap();
        journal
    }

    /// Opens a partition's journal and returns its entries.
    async fn restored(&self, partition: Partition) -> BTreeMap<String, Vec<u8>> {
        self.kafka.open(partition).await.unwrap().restore().await.unwrap()
    }

    /// Leaves the group and releases all partitions.
    async fn stop(self) {
        let Daemon { intake, mut wakes, .. } = self;
        let serve = async { while wakes.recv().await.is_some() {} };
        let (stopped, ()) = tokio::join!(tokio::time::timeout(PATIENCE, intake.stop()), serve);
        stopped.unwrap().unwrap();
    }
}

/// Returns the adapter of a process outside of the group, which can open any journal.
fn outside_the_group(options: &Options) -> Kafka {
    Kafka::with_topics(options.clone(), 4)
}

fn event(key: &str, value: &str) -> EventRecord {
    EventRecord {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![("ce_id".to_owned(), b"1".to_vec())],
        ..EventRecord::default()
    }
}

fn text(record: &EventRecord) -> String {
    String::from_utf8(record.value.clone().unwrap()).unwrap()
}

/// Returns a key whose records belong on `partition`.
fn key_on(partition: Partition, partitions: i32) -> String {
    let keys = (0..).map(|n| format!("prod/shop/Deployment/web-{n}"));
    keys.into_iter().find(|key| partition_of(key.as_bytes(), partitions) == partition).unwrap()
}

fn client(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers).set("group.id", "of-the-tests");
    config
}

async fn create(options: &Options, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = client(options).create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let results = admin.create_topics([&topic], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await.unwrap();
    results.into_iter().for_each(|result| drop(result.unwrap()));
}

/// Returns all committed records of a topic with four partitions, read by a client that shares no code with the product.
/// Waits for at least this many.
fn read_all(options: &Options, topic: &str, at_least: usize) -> Vec<(EventRecord, HashMap<String, String>)> {
    let consumer: BaseConsumer = client(options)
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..4 {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut found, mut quiet) = (Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while (quiet < 8 || found.len() < at_least) && Instant::now() < deadline {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            quiet += 1;
            continue;
        };
        let message = message.unwrap();
        quiet = 0;
        let mut headers = HashMap::new();
        if let Some(all) = message.headers() {
            for header in all.iter() {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
                headers.insert(header.key.to_owned(), value);
            }
        }
        let (key, value) = (message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec));
        found.push((EventRecord { key, value, partition: message.partition(), ..EventRecord::default() }, headers));
    }
    found
}
