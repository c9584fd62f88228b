//! The ledger of a run: a file of JSON lines that only grows. The first line says whose it is, each further one is a scored
//! answer and what had been spent by then. Texts are in it only if the suite stores samples.
//!
//! A thread of its own writes: it takes all that has come, appends it, and syncs once, so that no answer waits for a disk and
//! none that was said to be kept is lost. A process that is killed leaves at most one broken line at the end, which is
//! cut off. Two runs on one ledger would ask everything twice, so the file is locked while it is open.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use bellwether_core::ids::digest;
use bellwether_core::time::Timestamp;
use bellwether_gate::observation::{Key, Observation};
use bellwether_gate::report::{Spent, Subject};
use serde::{Deserialize, Serialize};

/// What a run is of. If any of it differs it is another run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// The suite's hash, without its budget.
    pub suite: String,
    /// By gate, the hash of its cases.
    pub datasets: BTreeMap<String, String>,
    /// Who is asked: URL and model.
    pub target: (String, String),
    /// Who is asked the same.
    pub stable: Option<(String, String)>,
    /// What that is.
    pub subject: Subject,
}

impl Header {
    /// A short name for all of it.
    pub fn short(&self) -> String {
        // Lists and text: serializing it can't fail.
        digest(&[&serde_json::to_string(self).unwrap_or_default()])[..12].to_owned()
    }
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct First {
    ledger: u32,
    started: Timestamp,
    of: Header,
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    spent: Spent,
    #[serde(flatten)]
    observation: Observation,
}

/// The form of a ledger.
const FORM: u32 = 1;

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk, or who may write there.
    #[error("the ledger {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody has it open.
    #[error("the ledger {} is in use; another run of this suite is under way", .0.display())]
    InUse(PathBuf),
    /// It is of another run.
    #[error("the ledger {} is of another run ({what} differs); name another file with --ledger, or remove this one", path.display())]
    Other {
        /// Which.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// Not a ledger.
    #[error("the ledger {}, line {line}: {problem}; remove the file to begin anew", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The writer has died.
    #[error("the ledger's writer has stopped; see what was said before")]
    Stopped,
}

/// What an earlier attempt has left.
#[derive(Debug, Default)]
pub struct Found {
    /// When the run began; `None`: now.
    pub started: Option<Timestamp>,
    /// The answers.
    pub observations: Vec<Observation>,
    /// What had been spent.
    pub spent: Spent,
}

/// An open ledger.
pub struct Ledger {
    lines: Option<mpsc::Sender<String>>,
    writer: Option<JoinHandle<Result<(), LedgerError>>>,
}

impl Ledger {
    /// Opens the ledger at `path`, or begins one, and says what is in it.
    ///
    /// # Errors
    /// If it can't be had, or is of another run.
    pub fn open(path: &Path, header: &Header, now: Timestamp) -> Result<(Ledger, Found), LedgerError> {
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
        // What has no end was being written when the process died.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let found = read(path, &text[..whole], header)?;
        if whole == 0 {
            let first = First { ledger: FORM, started: now, of: header.clone() };
            writeln!(file, "{}", serde_json::to_string(&first).unwrap_or_default()).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        let (lines, taken) = mpsc::channel();
        let owned = path.to_owned();
        let writer = std::thread::spawn(move || write(file, &taken, owned));
        Ok((Ledger { lines: Some(lines), writer: Some(writer) }, found))
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// If nothing can be kept any more.
    pub fn keep(&self, observation: &Observation, spent: Spent) -> Result<(), LedgerError> {
        let line = Line { spent, observation: observation.clone() };
        let text = serde_json::to_string(&line).unwrap_or_default();
        let sent = self.lines.as_ref().and_then(|lines| lines.send(text).ok());
        sent.ok_or(LedgerError::Stopped)
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// If it is not.
    pub fn close(mut self) -> Result<(), LedgerError> {
        drop(self.lines.take());
        self.writer.take().map_or(Ok(()), |writer| writer.join().unwrap_or(Err(LedgerError::Stopped)))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            // Whoever wants to know calls `close`.
            drop(writer.join());
        }
    }
}

fn write(mut file: File, taken: &mpsc::Receiver<String>, path: PathBuf) -> Result<(), LedgerError> {
    while let Ok(first) = taken.recv() {
        let mut lines = first + "\n";
        for line in taken.try_iter() {
            lines += &line;
            lines.push('\n');
        }
        let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|source| LedgerError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

fn read(path: &Path, text: &str, header: &Header) -> Result<Found, LedgerError> {
    let broken = |line, problem| LedgerError::Broken { path: path.to_owned(), line, problem };
    let mut lines = text.lines().enumerate();
    let Some((_, first)) = lines.next() else { return Ok(Found::default()) };
    let first: First = serde_json::from_str(first).map_err(|error| broken(1, error.to_string()))?;
    if let Some(what) = difference(&first, header) {
        return Err(LedgerError::Other { path: path.to_owned(), what });
    }
    let mut answers: BTreeMap<Key, Observation> = BTreeMap::new();
    let mut spent = Spent::default();
    for (at, line) in lines {
        let line: Line = serde_json::from_str(line).map_err(|error| broken(at + 1, error.to_string()))?;
        spent = line.spent;
        answers.insert(line.observation.key.clone(), line.observation);
    }
    Ok(Found { started: Some(first.started), observations: answers.into_values().collect(), spent })
}

fn difference(first: &First, header: &Header) -> Option<&'static str> {
    let of = &first.of;
    [
        (first.ledger != FORM, "the form"),
        (of.suite != header.suite, "the suite"),
        (of.datasets != header.datasets, "a dataset"),
        (of.target != header.target, "the target"),
        (of.stable != header.stable, "the stable"),
        (of.subject != header.subject, "the subject"),
    ]
    .into_iter()
    .find_map(|(differs, what)| differs.then_some(what))
}

#[cfg(test)]
mod tests {
    use bellwether_gate::observation::{Answer, Arm, Scored};

    use super::*;

    fn header(suite: &str) -> Header {
        Header {
            suite: suite.to_owned(),
            datasets: BTreeMap::new(),
            target: ("http://t".to_owned(), "m".to_owned()),
            stable: None,
            subject: Subject::default(),
        }
    }

    fn one(case: &str) -> Observation {
        let key = Key { gate: "g".to_owned(), case: case.to_owned(), repeat: 0, arm: Arm::Candidate };
        Observation {
            key,
            answer: Answer::Scored(Box::new(Scored { total_ms: 0.1 + 0.2, ..Scored::default() })),
            sample: None,
        }
    }

    #[test]
    fn what_was_kept_is_found_and_half_a_line_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/ledger.jsonl");
        let now = "2026-11-26T10:00:00Z".parse().unwrap();
        let spent = Spent { requests: 2, tokens: 30, money: Some(0.1) };
        let (ledger, found) = Ledger::open(&path, &header("a"), now).unwrap();
        assert!(found.observations.is_empty() && found.started.is_none());
        assert!(matches!(Ledger::open(&path, &header("a"), now), Err(LedgerError::InUse(_))));
        ledger.keep(&one("1"), Spent::default()).unwrap();
        ledger.keep(&one("2"), spent).unwrap();
        ledger.close().unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"gate\":\"g\",\"ca").unwrap();
        for _ in 0..2 {
            let (_ledger, found) = Ledger::open(&path, &header("a"), Timestamp::MAX).unwrap();
            assert_eq!((found.started, found.spent), (Some(now), spent));
            assert_eq!(found.observations, [one("1"), one("2")]);
        }
        let other = Ledger::open(&path, &header("b"), now).err().unwrap().to_string();
        assert!(other.contains("the suite differs") && other.contains("--ledger"), "{other}");
    }

    #[test]
    fn what_is_no_ledger_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, "dear diary\n").unwrap();
        let error = Ledger::open(&path, &header("a"), Timestamp::MAX).err().unwrap().to_string();
        assert!(error.contains("line 1"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary\n");
    }
}
