//! Tests of the embedded journal: the suite that every journal passes, and the rules of its file and its intake.

use bellwether::journal::embedded::{Embedded, SubmitError, back_up, read_dead, read_decisions};
use bellwether::ports::{
    Batch, DeadLetterList, DeadLetters as _, Delivery, EventRecord, JournalError, Journals, LISTED_BYTES, LetterId,
    LetterOrigin, MOST_LETTERS, Receipt, Wake,
};
use bellwether_testkit::journal_suite::{self, decided, opened, puts};
use tokio::sync::mpsc;

mod disk;
mod faulty_file;

#[tokio::test]
async fn the_embedded_journal_passes_the_suite_of_every_journal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/journal.redb");
    let journal = Embedded::open(&path).unwrap();
    journal_suite::check(&journal).await;
    drop(journal);
    let decisions = read_decisions(&path).unwrap();
    let json: Vec<String> = decisions.into_iter().map(|(_, json)| String::from_utf8(json).unwrap()).collect();
    assert_eq!(json, journal_suite::decisions());
}

#[tokio::test]
async fn a_committed_entry_is_restored_after_the_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let journal = Embedded::open(&path).unwrap();
    opened(&journal).await.0.commit(puts(&[("k", Some("v"))])).await.unwrap();
    drop(journal);
    let (_, entries) = opened(&Embedded::open(&path).unwrap()).await;
    assert_eq!(entries["k"], b"v");
}

#[tokio::test]
async fn a_second_open_of_the_file_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let _first = Embedded::open(&path).unwrap();
    let error = Embedded::open(&path).err().unwrap();
    assert!(matches!(error, JournalError::Broken(_)));
    let text = error.to_string();
    assert!(text.contains("journal.redb") && text.contains("in use by another process"), "{text}");
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "not a database, but notes").unwrap();
    assert!(matches!(Embedded::open(&path), Err(JournalError::Broken(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a database, but notes");
}

#[tokio::test]
async fn a_dead_letter_keeps_its_bytes_and_its_problem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let journal = Embedded::open(&path).unwrap();
    let record = EventRecord {
        offset: 4,
        key: Some(vec![0, 255]),
        value: None,
        headers: vec![("ce_id".to_owned(), b"1".to_vec()), ("ce_id".to_owned(), Vec::new())],
        ..EventRecord::default()
    };
    let batch = Batch { dead: vec![(record.clone(), "it is a tombstone".to_owned())], ..decided(&[1]) };
    opened(&journal).await.0.commit(batch).await.unwrap();
    drop(journal);
    let dead = read_dead(&path).unwrap();
    assert_eq!(dead.len(), 1);
    let (read, problem) = &dead[0];
    assert_eq!((read.offset, &read.key, &read.value, &read.headers), (4, &record.key, &record.value, &record.headers));
    assert_eq!(problem, "it is a tombstone");
}

#[tokio::test]
async fn the_newest_dead_letters_are_listed_while_the_journal_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Embedded::open(dir.path().join("journal.redb")).unwrap();
    assert_eq!(journal.newest().await, Ok(DeadLetterList::default()));
    let dead = |offset: i64| {
        let value = Some(vec![b'x'; LISTED_BYTES + 1]);
        (EventRecord { offset, value, ..EventRecord::default() }, format!("problem {offset}"))
    };
    let mut handle = opened(&journal).await.0;
    for first in [100, 200] {
        let batch = Batch { dead: (first..first + 40).map(dead).collect(), ..Batch::default() };
        handle.commit(batch).await.unwrap();
    }
    let list = journal.newest().await.unwrap();
    assert_eq!((list.letters.len(), list.may_have_more, list.problem), (MOST_LETTERS, true, None));
    let newest = &list.letters[0];
    let origin = LetterOrigin { topic: None, partition: 0, offset: 239 };
    assert_eq!(
        (newest.id.to_string().as_str(), newest.origin.as_ref(), newest.at.is_some()),
        ("0-79", Some(&origin), true)
    );
    assert_eq!((newest.problem.as_str(), newest.record().is_none()), ("problem 239", true));
    let whole = journal.letter(newest.id).await.unwrap().unwrap();
    assert_eq!(whole.record().unwrap().value, dead(239).0.value);
    for (partition, offset) in [(0, 80), (0, -1), (1, 0)] {
        assert_eq!(journal.letter(LetterId { partition, offset }).await, Ok(None));
    }
}

#[tokio::test]
async fn records_are_numbered_from_the_consumed_offset_and_get_their_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    for first in [0, 2] {
        let journal = Embedded::open(&path).unwrap();
        let (wakes, mut daemon) = mpsc::channel(8);
        let intake = journal.intake(wakes).await;
        assert!(matches!(daemon.recv().await, Some(Wake::Assigned(0))));
        let (mut handle, _) = opened(&journal).await;
        let serve = async {
            for expected in [first, first + 1] {
                let Some(Wake::Record(Delivery { record, reply, .. })) = daemon.recv().await else {
                    panic!("no record")
                };
                assert_eq!((record.partition, record.offset), (0, expected));
                handle.commit(Batch { next_offset: Some(record.offset + 1), ..Batch::default() }).await.unwrap();
                reply.unwrap().send(Receipt::Decided(format!("took {expected}"))).unwrap();
            }
        };
        let submit =
            async { (intake.submit(EventRecord::default()).await, intake.submit(EventRecord::default()).await) };
        let ((), (one, two)) = tokio::join!(serve, submit);
        assert_eq!(one, Ok(Receipt::Decided(format!("took {first}"))));
        assert_eq!(two, Ok(Receipt::Decided(format!("took {}", first + 1))));
        drop(daemon);
        assert_eq!(intake.submit(EventRecord::default()).await, Err(SubmitError::Stopped));
    }
}

#[tokio::test]
async fn a_partition_other_than_zero_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Embedded::open(dir.path().join("journal.redb")).unwrap();
    assert!(matches!(journal.open(1).await, Err(JournalError::Broken(_))));
}

#[tokio::test]
async fn a_backup_and_the_decisions_are_read_while_the_daemon_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    let journal = Embedded::open(&path).unwrap();
    let (mut handle, _) = opened(&journal).await;
    let commits = 100;
    let write = async {
        for n in 0..commits {
            let n = n.to_string();
            let batch =
                Batch { decisions: decided(&[1]).decisions, ..puts(&[("count", Some(&n)), ("copy", Some(&n))]) };
            handle.commit(batch).await.unwrap();
        }
    };
    let copies: Vec<_> = (0..5).map(|n| dir.path().join(format!("backup-{n}"))).collect();
    let back_up_all = async {
        for to in copies.clone() {
            let path = path.clone();
            tokio::task::spawn_blocking(move || back_up(&path, &to).unwrap()).await.unwrap();
        }
    };
    tokio::join!(write, back_up_all);
    for copy in &copies {
        let decisions = read_decisions(copy).unwrap().len();
        let (_, entries) = opened(&Embedded::open(copy).unwrap()).await;
        // A backup is the state of one instant: as many decisions as the entries say.
        let count = entries.get("count").map_or(0, |n| String::from_utf8_lossy(n).parse::<usize>().unwrap() + 1);
        assert_eq!((count, entries.get("count")), (decisions, entries.get("copy")));
    }
    assert_eq!(read_decisions(&path).unwrap().len(), commits, "they are read beside the daemon");
    let again = back_up(&path, &copies[0]).unwrap_err().to_string();
    assert!(again.contains("backup-0 exists"), "{again}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_the_file_and_a_backup() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("journal.redb"), dir.path().join("backup.redb"));
    drop(Embedded::open(&path).unwrap());
    back_up(&path, &copy).unwrap();
    for file in [path, copy] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_file_that_is_no_journal_is_told_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let told = |expected: &str| {
        let why = read_decisions(&path).unwrap_err().to_string();
        assert!(why.contains(expected) && why.contains("journal.redb"), "{why}");
    };
    told("there is no journal");
    std::fs::write(&path, "").unwrap();
    told("is an empty file; restore a backup of it");
    // A daemon does not take it for a new journal: what it knew would be lost.
    let why = Embedded::open(&path).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(why.contains("is an empty file"), "{why}");
    std::fs::write(&path, "cluster = 'prod'").unwrap();
    told("is no journal of Bellwether; set journal.path");
}
