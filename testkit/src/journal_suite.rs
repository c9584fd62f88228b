//! The behaviour of every journal. Both implementations pass this suite, and the daemon relies on nothing else.
//!
//! The suite needs a real broker: the mock cluster of `rdkafka` can't run it (rdkafka_mock_handlers.c of librdkafka
//! 2.12.1). The mock fences by producer epoch and answers the requests of a transaction, but it has no transaction
//! markers: `EndTxn` only checks the epoch, `Fetch` reports no aborted transactions, and `TxnOffsetCommit` stores nothing.
//! Aborted records stay readable there, so it can't show that a transaction is written whole or not at all. It has no
//! admin API either.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use bellwether::ports::{Batch, Journal, JournalError, Journals};

/// Runs all checks on partition 0 of a journal that is empty.
pub async fn check(journals: &dyn Journals) {
    an_empty_journal_restores_to_nothing(journals).await;
    written_entries_are_restored_and_removed_ones_are_not(journals).await;
    the_last_value_of_a_key_counts(journals).await;
    opening_again_fences_the_earlier_handle(journals).await;
    an_empty_batch_changes_nothing(journals).await;
    binary_and_large_values_come_back_unchanged(journals).await;
}

/// Returns the decisions that [`check`] leaves in the journal, oldest first.
pub fn decisions() -> Vec<String> {
    vec![r#"{"n":1}"#.to_owned(), r#"{"n":2}"#.to_owned(), r#"{"n":3}"#.to_owned()]
}

async fn an_empty_journal_restores_to_nothing(journals: &dyn Journals) {
    assert!(journals.partitions() >= 1);
    let (_, entries) = opened(journals).await;
    assert_eq!(entries, BTreeMap::new());
}

async fn written_entries_are_restored_and_removed_ones_are_not(journals: &dyn Journals) {
    let (mut journal, _) = opened(journals).await;
    journal.commit(puts(&[("a/snap", Some("1")), ("a/block/0", Some("2")), ("epoch", Some("7"))])).await.unwrap();
    journal.commit(puts(&[("a/block/0", None), ("never/was", None)])).await.unwrap();
    journal.commit(decided(&[1, 2])).await.unwrap();
    drop(journal);
    let (_, entries) = opened(journals).await;
    assert_eq!(entries, expected(&[("a/snap", "1"), ("epoch", "7")]));
}

async fn the_last_value_of_a_key_counts(journals: &dyn Journals) {
    let (mut journal, _) = opened(journals).await;
    journal
        .commit(puts(&[("k", Some("old")), ("k", Some("newer")), ("gone", Some("x")), ("gone", None)]))
        .await
        .unwrap();
    journal.commit(puts(&[("k", Some("newest")), ("back", None), ("back", Some("again"))])).await.unwrap();
    let (mut journal, entries) = opened(journals).await;
    assert_eq!(entries, expected(&[("a/snap", "1"), ("back", "again"), ("epoch", "7"), ("k", "newest")]));
    journal.commit(puts(&[("k", None), ("back", None)])).await.unwrap();
    journal.commit(decided(&[3])).await.unwrap();
}

async fn opening_again_fences_the_earlier_handle(journals: &dyn Journals) {
    let (mut first, _) = opened(journals).await;
    first.commit(puts(&[("owner", Some("first"))])).await.unwrap();
    let (mut second, _) = opened(journals).await;
    // A store may tell of the fence while a large batch is still being written.
    for size in [1, 20_000] {
        let zombie: Vec<(String, Option<Vec<u8>>)> =
            (0..size).map(|n| (format!("zombie-{n}"), Some(vec![0]))).collect();
        let refused = first.commit(Batch { puts: zombie, ..decided(&[99]) }).await;
        assert!(matches!(refused, Err(JournalError::Fenced(_))), "{size}: {refused:?}");
        (first, second) = (second, opened(journals).await.0);
    }
    second.commit(puts(&[("next", Some("second"))])).await.unwrap();
    let (mut third, entries) = opened(journals).await;
    assert_eq!(entries, expected(&[("a/snap", "1"), ("epoch", "7"), ("next", "second"), ("owner", "first")]));
    third.commit(puts(&[("next", None), ("owner", None)])).await.unwrap();
}

async fn an_empty_batch_changes_nothing(journals: &dyn Journals) {
    let (mut journal, before) = opened(journals).await;
    journal.commit(Batch::default()).await.unwrap();
    assert_eq!(opened(journals).await.1, before);
    // The handle is fenced by now, but an empty batch has no content that another owner could have to refuse.
    journal.commit(Batch::default()).await.unwrap();
}

async fn binary_and_large_values_come_back_unchanged(journals: &dyn Journals) {
    let (mut journal, _) = opened(journals).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let large = vec![b'x'; 2 << 20];
    let batch = vec![("bytes".to_owned(), Some(all_bytes.clone())), ("large".to_owned(), Some(large.clone()))];
    journal.commit(Batch { puts: batch, ..Batch::default() }).await.unwrap();
    let (mut journal, entries) = opened(journals).await;
    assert!(entries["bytes"] == all_bytes && entries["large"] == large);
    journal.commit(puts(&[("bytes", None), ("large", None)])).await.unwrap();
}

// ---- helpers ----

/// Opens partition 0 and restores it. Returns the handle and the entries by key.
pub async fn opened(journals: &dyn Journals) -> (Box<dyn Journal>, BTreeMap<String, Vec<u8>>) {
    let mut journal = journals.open(0).await.unwrap();
    let entries = journal.restore().await.unwrap();
    (journal, entries)
}

/// Returns a batch that writes these entries. `None` removes a key.
pub fn puts(rows: &[(&str, Option<&str>)]) -> Batch {
    let put = |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(|value| value.as_bytes().to_vec()));
    Batch { puts: rows.iter().map(put).collect(), ..Batch::default() }
}

/// Returns a batch with the decisions of these numbers.
pub fn decided(numbers: &[u32]) -> Batch {
    let decision = |n: &u32| ("prod/shop/Deployment/web".to_owned(), format!(r#"{{"n":{n}}}"#).into_bytes());
    Batch { decisions: numbers.iter().map(decision).collect(), ..Batch::default() }
}

fn expected(rows: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
}
