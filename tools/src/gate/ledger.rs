//! The ledger of a run: an append-only file of JSON lines. The first line identifies the run; each further line is a
//! scored answer with the budget that was used up to it. It holds texts only if the suite stores samples.
//!
//! Each line is written as soon as its answer is known, so a killed process loses no answer; at most the last line is incomplete,
//! and the next run cuts it off. A thread syncs the file, so that no answer waits for the disk: a power cut loses the answers
//! since the last sync. After [`AnswerLedger::close`] all lines are on the disk. The file is locked while it is open, because
//! two runs on one ledger would send every request twice.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, TrySendError};
use std::thread::JoinHandle;

use bellwether_core::ids::digest;
use bellwether_core::time::Timestamp;
use bellwether_gate::observation::{Observation, ObservationKey};
use bellwether_gate::report::{GateSubject, Spent};
use serde::{Deserialize, Serialize};

/// The identity of a run. Two runs are the same run if all fields are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunIdentity {
    /// SHA-256 of the suite without its budget.
    pub suite: String,
    /// SHA-256 of the cases, by the name of their gate.
    pub datasets: BTreeMap<String, String>,
    /// SHA-256 of the log with the recorded tasks; `None` if the target is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// URL and model of the target.
    pub target: (String, String),
    /// URL and model of the stable version, if the run compares with one.
    pub stable: Option<(String, String)>,
    /// Model, version and digest that the run tests.
    pub subject: GateSubject,
}

impl RunIdentity {
    /// Returns a short name of the run: the first 12 hexadecimal digits of a hash of all fields.
    pub fn short(&self) -> String {
        // Lists and texts can always be serialized.
        digest(&[&serde_json::to_string(self).unwrap_or_default()])[..12].to_owned()
    }
}

/// The first line of a ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct HeaderLine {
    ledger: u32,
    started: Timestamp,
    of: RunIdentity,
}

/// Every other line of a ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AnswerLine {
    spent: Spent,
    #[serde(flatten)]
    observation: Observation,
}

/// Version of the file format.
const FORMAT: u32 = 1;

/// The reason why a ledger can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// An operation of the file system failed.
    #[error("the ledger {}: {source}", path.display())]
    Io {
        /// Path of the ledger.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Another process has the ledger open.
    #[error("the ledger {} is in use; another run of this suite is under way", .0.display())]
    InUse(PathBuf),
    /// The ledger belongs to another run.
    #[error("the ledger {} belongs to another run ({difference} differs); name another file with --ledger, or remove this one", path.display())]
    OtherRun {
        /// Path of the ledger.
        path: PathBuf,
        /// Part of the identity that differs.
        difference: &'static str,
    },
    /// A line is not a line of a ledger.
    #[error("the ledger {}, line {line}: {problem}; remove the file to begin anew", path.display())]
    Broken {
        /// Path of the ledger.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Description of the problem.
        problem: String,
    },
    /// The thread that syncs has stopped after an error.
    #[error("the ledger can't be written to the disk any more; check the disk and its free space")]
    Stopped,
}

/// The answers of a run that was interrupted.
#[derive(Debug, Default)]
pub struct LedgerContents {
    /// Time at which the run began; `None` if the ledger is new.
    pub started: Option<Timestamp>,
    /// Recorded answers, one per request: the newest.
    pub observations: Vec<Observation>,
    /// Budget that the run had used up.
    pub spent: Spent,
}

/// An open, locked ledger. Dropping it waits for the disk and ignores its error.
pub struct AnswerLedger {
    path: PathBuf,
    file: File,
    /// Asks for a sync. One waiting request covers all lines that are written before it is taken.
    unsynced: Option<mpsc::SyncSender<()>>,
    syncing: Option<JoinHandle<Result<(), LedgerError>>>,
}

impl AnswerLedger {
    /// Opens the ledger at `path` or creates it, with `now` as the start of the run. Returns it with its contents.
    ///
    /// # Errors
    /// [`LedgerError`] if the file can't be read or written, is in use, is not a ledger or belongs to another run.
    pub fn open(
        path: &Path,
        identity: &RunIdentity,
        now: Timestamp,
    ) -> Result<(AnswerLedger, LedgerContents), LedgerError> {
        let io = |source| LedgerError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(LedgerError::InUse(path.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        // A last line without an end was being written when the process died.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let found = read(path, &text[..whole], identity)?;
        if whole == 0 {
            let first = HeaderLine { ledger: FORMAT, started: now, of: identity.clone() };
            writeln!(file, "{}", serde_json::to_string(&first).unwrap_or_default()).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        let (unsynced, requests) = mpsc::sync_channel(1);
        let (synced, owned) = (file.try_clone().map_err(io)?, path.to_owned());
        let syncing = std::thread::spawn(move || sync(&synced, &requests, owned));
        let ledger = AnswerLedger { path: path.to_owned(), file, unsynced: Some(unsynced), syncing: Some(syncing) };
        Ok((ledger, found))
    }

    /// Writes an answer, with the budget that was used up to it. It outlives this process at once, and a power cut after the next
    /// sync.
    ///
    /// # Errors
    /// [`LedgerError`] if the line can't be written, or if the thread that syncs has stopped. Nothing can be appended after an error.
    pub fn append(&mut self, observation: &Observation, spent: Spent) -> Result<(), LedgerError> {
        let Some(unsynced) = &self.unsynced else { return Err(LedgerError::Stopped) };
        let line = AnswerLine { spent, observation: observation.clone() };
        let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
        let written = self.file.write_all(text.as_bytes());
        if written.is_ok() && !matches!(unsynced.try_send(()), Err(TrySendError::Disconnected(()))) {
            return Ok(());
        }
        // Nothing more is appended: a further line could follow an incomplete one.
        let synced = self.finish();
        written.map_err(|source| LedgerError::Io { path: self.path.clone(), source })?;
        Err(synced.err().unwrap_or(LedgerError::Stopped))
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// [`LedgerError`] if they can't be written to the disk.
    pub fn close(mut self) -> Result<(), LedgerError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), LedgerError> {
        drop(self.unsynced.take());
        self.syncing.take().map_or(Ok(()), |thread| thread.join().unwrap_or(Err(LedgerError::Stopped)))
    }
}

impl Drop for AnswerLedger {
    fn drop(&mut self) {
        // A caller that needs the error calls `close`.
        drop(self.finish());
    }
}

/// Syncs the file after each request, until the ledger is closed. A request that waits at the close is still carried out.
fn sync(file: &File, requests: &mpsc::Receiver<()>, path: PathBuf) -> Result<(), LedgerError> {
    while let Ok(()) = requests.recv() {
        if let Err(source) = file.sync_data() {
            return Err(LedgerError::Io { path, source });
        }
    }
    Ok(())
}

fn read(path: &Path, text: &str, identity: &RunIdentity) -> Result<LedgerContents, LedgerError> {
    let broken = |line, problem| LedgerError::Broken { path: path.to_owned(), line, problem };
    let mut lines = text.lines().enumerate();
    let Some((_, first)) = lines.next() else { return Ok(LedgerContents::default()) };
    let first: HeaderLine = serde_json::from_str(first).map_err(|error| broken(1, error.to_string()))?;
    if let Some(difference) = difference(&first, identity) {
        return Err(LedgerError::OtherRun { path: path.to_owned(), difference });
    }
    let mut answers: BTreeMap<ObservationKey, Observation> = BTreeMap::new();
    let mut spent = Spent::default();
    for (at, line) in lines {
        let line: AnswerLine = serde_json::from_str(line).map_err(|error| broken(at + 1, error.to_string()))?;
        spent = line.spent;
        answers.insert(line.observation.key.clone(), line.observation);
    }
    Ok(LedgerContents { started: Some(first.started), observations: answers.into_values().collect(), spent })
}

fn difference(first: &HeaderLine, identity: &RunIdentity) -> Option<&'static str> {
    let of = &first.of;
    [
        (first.ledger != FORMAT, "the format"),
        (of.suite != identity.suite, "the suite"),
        (of.datasets != identity.datasets, "a dataset"),
        (of.log != identity.log, "the log of `traces.inspect`"),
        (of.target != identity.target, "the target"),
        (of.stable != identity.stable, "the stable"),
        (of.subject != identity.subject, "the subject"),
    ]
    .into_iter()
    .find_map(|(differs, part)| differs.then_some(part))
}

#[cfg(test)]
mod tests {
    use bellwether_gate::observation::{GateArm, MissingAnswer, ModelAnswer, Scored};

    use super::*;

    fn identity(suite: &str) -> RunIdentity {
        RunIdentity {
            suite: suite.to_owned(),
            datasets: BTreeMap::new(),
            log: None,
            target: ("http://t".to_owned(), "m".to_owned()),
            stable: None,
            subject: GateSubject::default(),
        }
    }

    fn observation(case: &str) -> Observation {
        let key = ObservationKey { gate: "g".to_owned(), case: case.to_owned(), repeat: 0, arm: GateArm::Candidate };
        Observation {
            key,
            answer: ModelAnswer::Scored(Box::new(Scored { total_ms: 0.1 + 0.2, ..Scored::default() })),
            failed: [(MissingAnswer::ServerError, 2)].into(),
            sample: None,
        }
    }

    #[test]
    fn answers_are_found_again_and_an_incomplete_line_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/ledger.jsonl");
        let now = "2026-11-26T10:00:00Z".parse().unwrap();
        let spent = Spent { requests: 2, tokens: 30, money: Some(0.1), ..Spent::default() };
        let (mut ledger, found) = AnswerLedger::open(&path, &identity("a"), now).unwrap();
        assert!(found.observations.is_empty() && found.started.is_none());
        assert!(matches!(AnswerLedger::open(&path, &identity("a"), now), Err(LedgerError::InUse(_))));
        ledger.append(&observation("1"), Spent::default()).unwrap();
        ledger.append(&observation("2"), spent).unwrap();
        ledger.close().unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"gate\":\"g\",\"ca").unwrap();
        for _ in 0..2 {
            let (_ledger, found) = AnswerLedger::open(&path, &identity("a"), Timestamp::MAX).unwrap();
            assert_eq!((found.started, found.spent), (Some(now), spent));
            assert_eq!(found.observations, [observation("1"), observation("2")]);
        }
        let other = AnswerLedger::open(&path, &identity("b"), now).err().unwrap().to_string();
        assert!(other.contains("the suite differs") && other.contains("--ledger"), "{other}");
    }

    #[test]
    fn an_answer_is_in_the_file_before_append_returns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let (mut ledger, _) = AnswerLedger::open(&path, &identity("a"), Timestamp::MAX).unwrap();
        for n in 1..=200 {
            ledger.append(&observation(&n.to_string()), Spent::default()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1 + n, "a kill would lose it");
        }
    }

    #[test]
    fn a_full_disk_is_told_and_nothing_is_appended_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let (mut ledger, _) =
            AnswerLedger::open(&directory.path().join("ledger.jsonl"), &identity("a"), Timestamp::MAX).unwrap();
        ledger.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = ledger.append(&observation("1"), Spent::default()).err().unwrap().to_string();
        assert!(error.contains("ledger.jsonl: No space left on device"), "{error}");
        assert!(matches!(ledger.append(&observation("2"), Spent::default()), Err(LedgerError::Stopped)));
    }

    #[test]
    fn a_file_that_is_not_a_ledger_is_refused_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, "dear diary\n").unwrap();
        let error = AnswerLedger::open(&path, &identity("a"), Timestamp::MAX).err().unwrap().to_string();
        assert!(error.contains("line 1"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary\n");
    }
}
