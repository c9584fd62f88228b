//! The simulator's broker beside the journal in a file, and beside itself with a defect: the same script to both. (Beside
//! a real Kafka: `tests/real/kafka/script.rs`.)

use std::collections::BTreeMap;
use std::path::Path;

use bellwether::journal::embedded::{Embedded, read_decisions};
use bellwether::ports::{Batch, EventRecord, Journal, JournalError, Wake};
use tokio::sync::mpsc;

use crate::broker_script::{Model, Op, Script, Seen, Sight, Way, World, play, text};
use crate::journal_suite::opened;
use bellwether_sim::broker::CommitAnswer as Answer;

const WAYS: [Way; 3] = [Way::Member, Way::Stranger, Way::Raw];

#[tokio::test]
async fn the_journal_in_a_file_does_as_the_simulators_broker_does() {
    let mut seen = BTreeMap::new();
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let script = Script::new(seed, 1, 40, &[Way::Member]);
        let mut world = InAFile { journals: Embedded::open(&path).unwrap(), producers: Vec::new() };
        let agreed = play(&script, &mut world).await.unwrap_or_else(|difference| panic!("{difference}"));
        drop(world);
        let model = Sight { ahead: Vec::new(), ..agreed.model.sight(0) };
        assert_eq!(left_behind(&path).await, model, "seed {seed}");
        agreed.seen.into_iter().for_each(|(what, times)| *seen.entry(what).or_insert(0) += times);
    }
    assert!(seen["commit"] > 20 && seen["commit, fenced"] > 20, "{seen:?}");
}

/// A daemon's file: one partition, and producers that never stop half-way.
struct InAFile {
    journals: Embedded,
    producers: Vec<Box<dyn Journal>>,
}

impl World for InAFile {
    async fn act(&mut self, op: &Op) -> Seen {
        match op {
            // Events do not come from the file.
            Op::Append { .. } => Seen::Done,
            Op::Open { .. } => {
                let (journal, entries) = opened(&self.journals).await;
                self.producers.push(journal);
                Seen::Restored(in_words(entries))
            }
            Op::Commit { producer, batch, heard } => {
                Seen::Answered(match self.producers[*producer].commit(batch.clone()).await {
                    Ok(()) if *heard => Answer::Written,
                    Ok(()) => Answer::Unknown,
                    Err(JournalError::Fenced(_)) => Answer::Fenced,
                    Err(error) => panic!("{error}"),
                })
            }
            Op::Abort { .. } | Op::Leave { .. } | Op::End { .. } | Op::Die { .. } => {
                panic!("no producer of a file stops half-way")
            }
        }
    }

    /// The file is in use until the end; what is restored is seen at each opening.
    async fn look(&mut self, _partition: usize, _open: bool) -> Option<Sight> {
        None
    }
}

/// What the next process finds in the file.
async fn left_behind(path: &Path) -> Sight {
    let decisions = read_decisions(path).unwrap().iter().map(|(_, json)| text(json)).collect();
    let journals = Embedded::open(path).unwrap();
    let (wakes, mut daemon) = mpsc::channel(8);
    let intake = journals.intake(wakes).await;
    let next = async {
        loop {
            if let Some(Wake::Record(record)) = daemon.recv().await {
                return record.offset;
            }
        }
    };
    let offset = tokio::select! {
        offset = next => offset,
        _ = intake.submit(EventRecord::default()) => panic!("nobody answers it"),
    };
    let entries = in_words(opened(&journals).await.1);
    Sight { entries, decisions, offset: usize::try_from(offset).unwrap(), ahead: Vec::new(), open: false }
}

fn in_words(entries: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    entries.into_iter().map(|(key, value)| (key, text(&value))).collect()
}

/// What a broker could do otherwise than the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// A producer with an old epoch commits.
    NoFencing,
    /// A producer with an old epoch ends what its successor has begun.
    LateEnd,
    /// What is aborted is read.
    AbortedIsRead,
    /// The offsets of what is aborted count.
    AbortedOffsetsCount,
    /// A new producer commits what the one before has left open.
    OpenIsCommitted,
}

#[tokio::test]
async fn each_deliberate_difference_is_found() {
    use Defect::{AbortedIsRead, AbortedOffsetsCount, LateEnd, NoFencing, OpenIsCommitted};
    for defect in [NoFencing, LateEnd, AbortedIsRead, AbortedOffsetsCount, OpenIsCommitted] {
        let mut found = None;
        for seed in 0..50 {
            let mut world = Defective { defect, model: Model::new(2), opened: Vec::new(), left: BTreeMap::new() };
            found = play(&Script::new(seed, 2, 25, &WAYS), &mut world).await.err();
            if found.is_some() {
                break;
            }
        }
        let said = found.unwrap_or_else(|| panic!("{defect:?} was not found"));
        println!("{defect:?}: {}", said.lines().next().unwrap_or_default());
    }
}

#[tokio::test]
async fn the_model_agrees_with_itself() {
    for seed in 0..200 {
        let said = play(&Script::new(seed, 2, 25, &WAYS), &mut Model::new(2)).await.err();
        assert_eq!(said, None);
    }
}

/// The model, with steps that are not those of the script.
struct Defective {
    defect: Defect,
    model: Model,
    /// Partitions by producer.
    opened: Vec<usize>,
    /// By partition: who has something open.
    left: BTreeMap<usize, usize>,
}

impl Defective {
    /// The latest producer of the same partition.
    fn owner(&self, producer: usize) -> usize {
        self.opened.iter().rposition(|partition| *partition == self.opened[producer]).unwrap()
    }

    fn instead(&self, op: &Op) -> Op {
        let aborted = |producer: &usize, batch: Batch| Op::Commit { producer: *producer, batch, heard: false };
        match (op, self.defect) {
            (Op::Commit { producer, batch, heard }, Defect::NoFencing)
                if !self.left.contains_key(&self.opened[*producer]) =>
            {
                Op::Commit { producer: self.owner(*producer), batch: batch.clone(), heard: *heard }
            }
            (Op::End { producer, commit }, Defect::LateEnd) => {
                Op::End { producer: self.owner(*producer), commit: *commit }
            }
            (Op::Abort { producer, batch }, Defect::AbortedIsRead) => aborted(producer, batch.clone()),
            (Op::Abort { producer, batch }, Defect::AbortedOffsetsCount) => {
                aborted(producer, Batch { next_offset: batch.next_offset, ..Batch::default() })
            }
            (op, _) => op.clone(),
        }
    }
}

impl World for Defective {
    async fn act(&mut self, op: &Op) -> Seen {
        if let (Op::Open { partition, .. }, Defect::OpenIsCommitted) = (op, self.defect)
            && let Some(producer) = self.left.get(partition)
        {
            self.model.act(&Op::End { producer: *producer, commit: true }).await;
        }
        let seen = self.model.act(&self.instead(op)).await;
        match op {
            Op::Open { partition, .. } => {
                self.opened.push(*partition);
                self.left.remove(partition);
            }
            Op::Leave { producer, .. } if seen == Seen::Done => {
                self.left.insert(self.opened[*producer], *producer);
            }
            Op::End { producer, .. } if seen == Seen::Done => {
                self.left.remove(&self.opened[*producer]);
            }
            Op::Append { .. }
            | Op::Commit { .. }
            | Op::Abort { .. }
            | Op::Leave { .. }
            | Op::End { .. }
            | Op::Die { .. } => {}
        }
        seen
    }

    async fn look(&mut self, partition: usize, open: bool) -> Option<Sight> {
        self.model.look(partition, open).await
    }
}
