//! The simulator's model of the broker compared with the journal in a file, and with itself with a defect.
//! `tests/real/kafka/script.rs` compares it with a real Kafka.

use std::collections::BTreeMap;
use std::path::Path;

use bellwether::journal::embedded::{Embedded, read_decisions};
use bellwether::ports::{Batch, Delivery, EventRecord, Journal, JournalError, Wake};
use bellwether_sim::broker::CommitAnswer;
use bellwether_testkit::broker_script::{
    BrokerModel, Op, PartitionContent, ProducerKind, Script, ScriptedBroker, StepResult, compare, text,
};
use bellwether_testkit::journal_suite::opened;
use tokio::sync::mpsc;

const KINDS: [ProducerKind; 3] = [ProducerKind::Member, ProducerKind::Outsider, ProducerKind::Raw];

#[tokio::test]
async fn the_journal_in_a_file_does_as_the_simulators_broker_does() {
    let mut steps = BTreeMap::new();
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let script = Script::new(seed, 1, 40, &[ProducerKind::Member]);
        let mut file = JournalFile { journals: Embedded::open(&path).unwrap(), producers: Vec::new() };
        let agreement = compare(&script, &mut file).await.unwrap_or_else(|difference| panic!("{difference}"));
        drop(file);
        let model = PartitionContent { pending: Vec::new(), ..agreement.model.partition(0) };
        assert_eq!(content_of_file(&path).await, model, "seed {seed}");
        agreement.steps.into_iter().for_each(|(kind, times)| *steps.entry(kind).or_insert(0) += times);
    }
    assert!(steps["commit"] > 20 && steps["commit, fenced"] > 20, "{steps:?}");
}

/// The journal of a daemon in a file. It has one partition, and its producers never leave a transaction open.
struct JournalFile {
    journals: Embedded,
    producers: Vec<Box<dyn Journal>>,
}

impl ScriptedBroker for JournalFile {
    async fn perform(&mut self, op: &Op) -> StepResult {
        match op {
            // Events do not come from the file.
            Op::Append { .. } => StepResult::Done,
            Op::Open { .. } => {
                let (journal, entries) = opened(&self.journals).await;
                self.producers.push(journal);
                StepResult::Restored(as_texts(entries))
            }
            Op::Commit { producer, batch, answered } => {
                StepResult::Answered(match self.producers[*producer].commit(batch.clone()).await {
                    Ok(()) if *answered => CommitAnswer::Written,
                    Ok(()) => CommitAnswer::Unknown,
                    Err(JournalError::Fenced(_)) => CommitAnswer::Fenced,
                    Err(error) => panic!("{error}"),
                })
            }
            Op::Abort { .. } | Op::LeaveOpen { .. } | Op::End { .. } | Op::LoseMarkers { .. } | Op::Crash { .. } => {
                panic!("{op:?}: the script has raw producers, and a file has none")
            }
        }
    }

    /// Returns `None`: the file is in use until the end. Each opening compares the restored entries.
    async fn content(&mut self, _partition: usize, _open: bool) -> Option<PartitionContent> {
        None
    }
}

/// Returns the content that the next process finds in the file.
async fn content_of_file(path: &Path) -> PartitionContent {
    let decisions = read_decisions(path).unwrap().iter().map(|(_, json)| text(json)).collect();
    let journals = Embedded::open(path).unwrap();
    let (wakes, mut daemon) = mpsc::channel(8);
    let intake = journals.intake(wakes).await;
    let next = async {
        loop {
            if let Some(Wake::Record(Delivery { record, .. })) = daemon.recv().await {
                return record.offset;
            }
        }
    };
    let offset = tokio::select! {
        offset = next => offset,
        _ = intake.submit(EventRecord::default()) => panic!("the record was answered, and no daemon has taken it"),
    };
    let entries = as_texts(opened(&journals).await.1);
    let offset = usize::try_from(offset).unwrap();
    PartitionContent { entries, decisions, offset, pending: Vec::new(), open: false }
}

fn as_texts(entries: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    entries.into_iter().map(|(key, value)| (key, text(&value))).collect()
}

/// A difference between a broker and the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// A producer with an old epoch can commit.
    NoFencing,
    /// A producer with an old epoch ends the transaction of its successor.
    LateEnd,
    /// Aborted records are read.
    AbortedIsRead,
    /// Offsets of an aborted transaction are committed.
    AbortedOffsetsCount,
    /// A new producer commits the transaction that the previous one left open.
    OpenIsCommitted,
    /// A transaction without markers is aborted by the next opening.
    UnmarkedIsAborted,
}

#[tokio::test]
async fn each_deliberate_defect_of_a_broker_is_found() {
    use Defect::{AbortedIsRead, AbortedOffsetsCount, LateEnd, NoFencing, OpenIsCommitted, UnmarkedIsAborted};
    for defect in [NoFencing, LateEnd, AbortedIsRead, AbortedOffsetsCount, OpenIsCommitted, UnmarkedIsAborted] {
        let mut found = None;
        for seed in 0..50 {
            let mut broker =
                DefectiveBroker { defect, model: BrokerModel::new(2), opened: Vec::new(), left_open: BTreeMap::new() };
            found = compare(&Script::new(seed, 2, 25, &KINDS), &mut broker).await.err();
            if found.is_some() {
                break;
            }
        }
        let difference = found.unwrap_or_else(|| panic!("{defect:?} was not found"));
        println!("{defect:?}: {}", difference.lines().next().unwrap_or_default());
    }
}

#[tokio::test]
async fn the_model_agrees_with_itself() {
    for seed in 0..200 {
        let difference = compare(&Script::new(seed, 2, 25, &KINDS), &mut BrokerModel::new(2)).await.err();
        assert_eq!(difference, None);
    }
}

/// The model, which performs other steps than those of the script.
struct DefectiveBroker {
    defect: Defect,
    model: BrokerModel,
    /// Partitions by producer.
    opened: Vec<usize>,
    /// The producer with an open transaction, by partition.
    left_open: BTreeMap<usize, usize>,
}

impl DefectiveBroker {
    /// Returns the latest producer of the same partition.
    fn owner(&self, producer: usize) -> usize {
        self.opened.iter().rposition(|partition| *partition == self.opened[producer]).unwrap()
    }

    /// Returns the step that this broker performs in place of `op`.
    fn replacement(&self, op: &Op) -> Op {
        let aborted = |producer: &usize, batch: Batch| Op::Commit { producer: *producer, batch, answered: false };
        match (op, self.defect) {
            (Op::Commit { producer, batch, answered }, Defect::NoFencing)
                if !self.left_open.contains_key(&self.opened[*producer]) =>
            {
                Op::Commit { producer: self.owner(*producer), batch: batch.clone(), answered: *answered }
            }
            (Op::End { producer, commit }, Defect::LateEnd) => {
                Op::End { producer: self.owner(*producer), commit: *commit }
            }
            (Op::Abort { producer, batch }, Defect::AbortedIsRead) => aborted(producer, batch.clone()),
            (Op::Abort { producer, batch }, Defect::AbortedOffsetsCount) => {
                aborted(producer, Batch { next_offset: batch.next_offset, ..Batch::default() })
            }
            (Op::LoseMarkers { partition, .. }, Defect::UnmarkedIsAborted) => {
                Op::LoseMarkers { partition: *partition, batch: Batch::default(), commit: false }
            }
            (op, _) => op.clone(),
        }
    }
}

impl ScriptedBroker for DefectiveBroker {
    async fn perform(&mut self, op: &Op) -> StepResult {
        if let (Op::Open { partition, .. }, Defect::OpenIsCommitted) = (op, self.defect)
            && let Some(producer) = self.left_open.get(partition)
        {
            self.model.perform(&Op::End { producer: *producer, commit: true }).await;
        }
        let result = self.model.perform(&self.replacement(op)).await;
        match op {
            Op::Open { partition, .. } => {
                self.opened.push(*partition);
                self.left_open.remove(partition);
            }
            Op::LeaveOpen { producer, .. } if result == StepResult::Done => {
                self.left_open.insert(self.opened[*producer], *producer);
            }
            Op::End { producer, .. } if result == StepResult::Done => {
                self.left_open.remove(&self.opened[*producer]);
            }
            Op::LoseMarkers { partition, .. } => {
                self.opened.push(*partition);
                self.left_open.remove(partition);
            }
            Op::Append { .. }
            | Op::Commit { .. }
            | Op::Abort { .. }
            | Op::LeaveOpen { .. }
            | Op::End { .. }
            | Op::Crash { .. } => {}
        }
        result
    }

    async fn content(&mut self, partition: usize, open: bool) -> Option<PartitionContent> {
        self.model.content(partition, open).await
    }
}
