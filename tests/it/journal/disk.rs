//! Tests of the embedded journal on a disk that loses its power, fails, and is full; and of its size after a long time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bellwether::clock::{Clock, SystemClock};
use bellwether::journal::embedded::{Embedded, read_dead, read_decisions};
use bellwether::ports::{Batch, EventRecord, Journal, JournalError, Wake};
use bellwether_core::time::{Span, Timestamp};
use bellwether_testkit::journal_suite::{decided, opened, puts};
use tokio::sync::mpsc;

use super::faulty_file::{Fault, FaultyFile};

/// The number of commits of the script.
const COMMITS: usize = 6;
const RETENTION: Span = Span::from_secs(3600);

/// Returns the batch of a commit of the script: it replaces, adds and removes entries, makes the file longer, and adds a decision.
fn batch(n: usize) -> Batch {
    let large = "x".repeat(if n.is_multiple_of(3) { 200_000 } else { 50 });
    let (own, before) = (format!("entry/{n}"), format!("entry/{}", n.wrapping_sub(2)));
    let mut batch = puts(&[("count", Some(&n.to_string())), (&own, Some(&large)), (&before, None)]);
    batch.decisions = decided(&[u32::try_from(n).unwrap()]).decisions;
    batch.next_offset = Some(i64::try_from(n).unwrap() + 1);
    batch
}

/// Returns the entries after this many commits of the script.
fn entries_after(commits: usize) -> BTreeMap<String, Vec<u8>> {
    let mut entries = BTreeMap::new();
    for (key, value) in (0..commits).flat_map(|n| batch(n).puts) {
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
    entries
}

fn journal_on(file: &FaultyFile) -> Result<Embedded, JournalError> {
    Embedded::over(PathBuf::from("journal"), file.opener(), RETENTION, Arc::new(SystemClock))
}

/// Commits the script from commit `from` on until a commit fails. Returns the number of commits that have succeeded.
async fn run_script(journal: &mut dyn Journal, from: usize) -> (usize, Option<JournalError>) {
    for n in from..COMMITS {
        if let Err(error) = journal.commit(batch(n)).await {
            return (n, Some(error));
        }
    }
    (COMMITS, None)
}

/// Returns the number of operations by which the file is created, and that of the whole script.
async fn operations() -> (usize, usize) {
    let file = FaultyFile::default();
    let journal = journal_on(&file).unwrap();
    let created = file.operations();
    let (mut handle, _) = opened(&journal).await;
    assert_eq!(run_script(&mut *handle, 0).await.0, COMMITS);
    (created, file.operations())
}

#[tokio::test]
async fn after_a_power_cut_at_any_write_the_journal_has_a_whole_number_of_commits() {
    let (created, all) = operations().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let mut unfinished_kept = 0;
    for cut in created..all {
        let file = FaultyFile::default();
        file.fail_at(cut, Fault::PowerCut);
        let (mut handle, _) = opened(&journal_on(&file).unwrap()).await;
        let (committed, _) = run_script(&mut *handle, 0).await;
        // The commit that was cut off may be on the disk: its sender does not know.
        let found = |entries| (committed..=committed + 1).find(|commits| entries_after(*commits) == entries);
        for seed in [0, 1, 2 + cut as u64, 1_000 + cut as u64] {
            let after = FaultyFile::with_content(file.after_power_cut(seed));
            let found = found(opened(&journal_on(&after).unwrap()).await.1);
            let found = found.unwrap_or_else(|| panic!("cut {cut}, seed {seed}: the entries are of no commit"));
            unfinished_kept += found - committed;
        }
        // The same in a real file, with the decisions.
        std::fs::write(&path, file.after_power_cut(cut as u64)).unwrap();
        let decisions = read_decisions(&path).unwrap().len();
        assert_eq!(found(opened(&Embedded::open(&path).unwrap()).await.1), Some(decisions), "cut {cut}");
    }
    assert!(unfinished_kept > 0, "no cut came between the last write and its answer");
}

#[tokio::test]
async fn a_file_whose_creation_was_cut_off_is_created_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    std::fs::write(dir.path().join("journal.redb.new"), "a part of a database").unwrap();
    let (mut handle, entries) = opened(&Embedded::open(&path).unwrap()).await;
    assert_eq!(entries, BTreeMap::new());
    assert_eq!(run_script(&mut *handle, 0).await.0, COMMITS);
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "the part is gone");
}

#[tokio::test]
async fn after_an_error_of_the_disk_at_any_write_the_same_journal_goes_on() {
    let (created, all) = operations().await;
    for at in created..all {
        let file = FaultyFile::default();
        file.fail_at(at, Fault::Error);
        let journal = journal_on(&file).unwrap();
        let (mut handle, _) = opened(&journal).await;
        let (committed, error) = run_script(&mut *handle, 0).await;
        assert!(matches!(error, Some(JournalError::Unknown(_))), "operation {at}: {error:?}");
        assert!(journal.condition().unwrap_err().contains("the disk failed"), "operation {at}");
        let (mut handle, entries) = opened(&journal).await;
        let found = if entries == entries_after(committed) { committed } else { committed + 1 };
        assert!(entries == entries_after(found), "operation {at}: the entries are not of one commit");
        // The commit of unknown outcome is made again if it was not written.
        assert_eq!(run_script(&mut *handle, found).await.0, COMMITS, "operation {at}");
        assert!(opened(&journal).await.1 == entries_after(COMMITS), "operation {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_the_journal_waits_for_room_and_says_so() {
    let file = FaultyFile::default();
    let journal = journal_on(&file).unwrap();
    let (wakes, mut daemon) = mpsc::channel(8);
    let _intake = journal.intake(wakes).await;
    assert!(matches!(daemon.recv().await, Some(Wake::Assigned(0))));
    let (mut handle, _) = opened(&journal).await;
    handle.commit(puts(&[("kept", Some("1"))])).await.unwrap();

    file.set_capacity(Some(file.size()));
    let large = "x".repeat(4 << 20);
    let error = handle.commit(puts(&[("large", Some(&large))])).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, JournalError::Unknown(_)) && text.contains("make room"), "{text}");
    assert_eq!(journal.condition(), Err(text));
    let late = handle.commit(puts(&[("late", Some("1"))])).await;
    assert!(matches!(late, Err(JournalError::Unknown(_))), "a handle is not used after a failure: {late:?}");

    assert!(matches!(daemon.recv().await, Some(Wake::Assigned(0))), "the partition is assigned again by itself");
    file.set_capacity(None);
    let (mut handle, entries) = opened(&journal).await;
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["kept"]);
    handle.commit(puts(&[("large", Some(&large))])).await.unwrap();
    assert!(journal.condition().is_err(), "a full disk takes some commits and refuses the next");
    let none = tokio::time::timeout(Duration::from_secs(60), daemon.recv()).await;
    assert!(none.is_err(), "assigned once for each failure: {none:?}");
    assert_eq!(journal.condition(), Ok(()));
}

#[tokio::test]
async fn a_journal_that_was_left_on_a_full_disk_can_be_opened_there() {
    let file = FaultyFile::default();
    {
        let journal = journal_on(&file).unwrap();
        let (mut handle, _) = opened(&journal).await;
        run_script(&mut *handle, 0).await;
        file.fail_at(file.operations(), Fault::PowerCut);
    }
    // The process was killed, so redb has to repair the file, and there is no room.
    let left = FaultyFile::with_content(file.after_power_cut(1));
    left.set_capacity(Some(left.size()));
    let journal = journal_on(&left).unwrap();
    left.set_capacity(None);
    let (mut handle, entries) = opened(&journal).await;
    assert!(entries == entries_after(COMMITS));
    handle.commit(puts(&[("more", Some("1"))])).await.unwrap();
}

/// A clock that a test sets.
#[derive(Clone)]
struct SetClock(Arc<Mutex<Timestamp>>);

#[async_trait]
impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    async fn sleep_until(&self, _at: Timestamp) {
        std::future::pending().await
    }
}

#[tokio::test]
async fn decisions_and_dead_letters_are_removed_by_their_age_and_the_file_stops_growing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let file = FaultyFile::default();
    let clock = SetClock(Arc::new(Mutex::new("2026-01-31T12:00:00Z".parse().unwrap())));
    let journal = Embedded::over(path.clone(), file.opener(), RETENTION, Arc::new(clock.clone())).unwrap();
    let (mut handle, _) = opened(&journal).await;
    let decision = vec![b'd'; 20_000];
    let letter = EventRecord { value: Some(vec![b'v'; 10_000]), ..EventRecord::default() };
    let mut size_after_the_first_hours = 0;
    // A commit every minute, with a decision and a dead letter.
    for minute in 0..600 {
        let decisions = vec![(minute.to_string(), decision.clone())];
        let dead = vec![(letter.clone(), minute.to_string())];
        handle.commit(Batch { decisions, dead, ..Batch::default() }).await.unwrap();
        let mut now = clock.0.lock().unwrap();
        *now = Span::from_secs(60).after(*now);
        if minute == 180 {
            size_after_the_first_hours = file.size();
        }
    }
    assert!(file.size() <= size_after_the_first_hours, "{} > {size_after_the_first_hours}", file.size());
    drop((handle, journal));
    std::fs::write(&path, file.after_power_cut(1)).unwrap();
    let expected: Vec<String> = (539..600).map(|minute: i32| minute.to_string()).collect();
    let decisions: Vec<String> = read_decisions(&path).unwrap().into_iter().map(|(key, _)| key).collect();
    let dead: Vec<String> = read_dead(&path).unwrap().into_iter().map(|(_, problem)| problem).collect();
    assert_eq!((decisions, dead), (expected.clone(), expected));
}

#[tokio::test]
async fn a_clock_that_jumps_far_forward_removes_few_rows_at_once() {
    let file = FaultyFile::default();
    let clock = SetClock(Arc::new(Mutex::new("2026-01-31T12:00:00Z".parse().unwrap())));
    let journal = Embedded::over(PathBuf::from("journal"), file.opener(), RETENTION, Arc::new(clock.clone())).unwrap();
    let (mut handle, _) = opened(&journal).await;
    handle.commit(decided(&(0..1_000).collect::<Vec<u32>>())).await.unwrap();
    *clock.0.lock().unwrap() = "2099-01-31T12:00:00Z".parse().unwrap();
    handle.commit(decided(&[1_000])).await.unwrap();
    drop((handle, journal));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    std::fs::write(&path, file.after_power_cut(1)).unwrap();
    assert_eq!(read_decisions(&path).unwrap().len(), 1_001 - 64);
}

#[tokio::test(start_paused = true)]
async fn the_partition_is_assigned_again_at_growing_intervals() {
    let file = FaultyFile::default();
    let journal = journal_on(&file).unwrap();
    let (wakes, mut daemon) = mpsc::channel(8);
    let _intake = journal.intake(wakes).await;
    daemon.recv().await.unwrap();
    let mut delays = Vec::new();
    for n in 0..8 {
        file.set_capacity(None);
        let (mut handle, _) = opened(&journal).await;
        // A disk that is full takes a small commit.
        handle.commit(puts(&[("epoch", Some(&n.to_string()))])).await.unwrap();
        file.set_capacity(Some(0));
        let failed = tokio::time::Instant::now();
        handle.commit(puts(&[("k", Some("v"))])).await.unwrap_err();
        daemon.recv().await.unwrap();
        delays.push(failed.elapsed().as_secs());
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30, 30]);
    file.set_capacity(None);
    let (mut handle, _) = opened(&journal).await;
    handle.commit(puts(&[("k", Some("v"))])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    file.set_capacity(Some(0));
    let failed = tokio::time::Instant::now();
    handle.commit(puts(&[("k", Some("v"))])).await.unwrap_err();
    daemon.recv().await.unwrap();
    assert_eq!(failed.elapsed().as_secs(), 1, "the next failure is the first of another row");
}
