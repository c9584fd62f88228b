//! The journal in a file: one process, one partition, one redb transaction with an fsync per commit.
//!
//! The file's lock is what a consumer group is in Kafka: it says who owns the partition, so a second daemon on the same
//! file is refused at its start, by name. Within the process, opening the journal again ends the earlier handle, as
//! `init_transactions` ends an earlier producer.
//!
//! The same file numbers the records that come in over HTTP ([`EmbeddedIntake`]), so that `next_offset` means here what it
//! means in Kafka.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::ports::{Batch, EventRecord, Journal, JournalError, Journals, Partition, Receipt, Wake};

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// Key (the workload) and JSON, in the order of their decision.
const DECISIONS: TableDefinition<u64, (&str, &[u8])> = TableDefinition::new("decisions");
/// Offset, key, value, headers, what was wrong.
const DEAD: TableDefinition<u64, DeadRow> = TableDefinition::new("dead");
/// One row: the first record that is not consumed yet.
const CONSUMED: TableDefinition<&str, i64> = TableDefinition::new("consumed");
const NEXT_OFFSET: &str = "next-offset";

type DeadRow<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a str, &'a [u8])>, &'a str);

/// How long a partition whose commit failed waits before it is tried again: the disk is full, or worse.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The journal in a file. Cheap to clone; the file is closed with the last clone.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    database: Database,
    /// How often it was opened. A handle with a lower number is fenced.
    opened: AtomicU64,
    /// The number that the next record gets.
    next_record: AtomicI64,
    /// Where the daemon listens, once it does: it is told there that it owns the partition.
    wakes: std::sync::OnceLock<mpsc::Sender<Wake>>,
}

impl Embedded {
    /// Opens the file, and creates it if it is missing. Fails if another process has it open.
    pub fn open(path: impl Into<PathBuf>) -> Result<Embedded, JournalError> {
        let path = path.into();
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| broken(&path, error))?;
        }
        let database = Database::create(&path).map_err(|error| cannot_open(&path, error))?;
        let next_offset = create_tables(&database).map_err(|error| broken(&path, error))?;
        Ok(Embedded {
            shared: Arc::new(Shared {
                path,
                database,
                opened: AtomicU64::new(0),
                next_record: AtomicI64::new(next_offset),
                wakes: std::sync::OnceLock::new(),
            }),
        })
    }

    /// The intake for records that don't come from Kafka. Tells the daemon that it owns partition 0.
    pub async fn intake(&self, wakes: mpsc::Sender<Wake>) -> EmbeddedIntake {
        // Set once: there is one daemon in a process.
        let wakes = self.shared.wakes.get_or_init(|| wakes).clone();
        // If nobody listens, the first submitted record says so.
        let _ = wakes.send(Wake::Assigned(0)).await;
        EmbeddedIntake { shared: Arc::clone(&self.shared), wakes, order: Mutex::new(()) }
    }
}

/// Takes records over HTTP or from the CLI, and answers when they are committed.
pub struct EmbeddedIntake {
    shared: Arc<Shared>,
    wakes: mpsc::Sender<Wake>,
    /// Numbers are given and sent in the same order.
    order: Mutex<()>,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The daemon has ended.
    #[error("the daemon is shutting down; send the event again when it is back")]
    Stopped,
    /// The daemon let go of the record without an answer.
    #[error("it is not known whether the event was taken; send it again, it is the same event by its source and id")]
    Unknown,
}

impl EmbeddedIntake {
    /// Hands `record` to the daemon and waits for what becomes of it. Its partition and offset are set here.
    pub async fn submit(&self, record: EventRecord) -> Result<Receipt, SubmitError> {
        let (answer, answered) = oneshot::channel();
        {
            let _ordered = self.order.lock().await;
            let place = self.wakes.reserve().await.map_err(|_| SubmitError::Stopped)?;
            let offset = self.shared.next_record.fetch_add(1, Ordering::SeqCst);
            let answer = Some(Arc::new(Mutex::new(Some(answer))));
            place.send(Wake::Record(EventRecord { partition: 0, offset, answer, ..record }));
        }
        answered.await.map_err(|_| SubmitError::Unknown)
    }
}

#[async_trait]
impl Journals for Embedded {
    fn partitions(&self) -> i32 {
        1
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        if partition != 0 {
            let path = self.shared.path.display();
            return Err(JournalError::Broken(format!("journal {path} has only partition 0, not {partition}")));
        }
        let shared = Arc::clone(&self.shared);
        let number = blocking(move || {
            // A commit of the earlier handle that has begun must be over before anybody restores.
            let _no_other_writer = shared.database.begin_write().map_err(|error| broken(&shared.path, error))?;
            Ok(shared.opened.fetch_add(1, Ordering::SeqCst) + 1)
        });
        Ok(Box::new(Handle { shared: Arc::clone(&self.shared), number: number.await?, spent: false }))
    }
}

struct Handle {
    shared: Arc<Shared>,
    number: u64,
    spent: bool,
}

#[async_trait]
impl Journal for Handle {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || read_entries(&shared.database).map_err(|error| broken(&shared.path, error))).await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.spent {
            return Err(JournalError::Unknown("an earlier commit failed; open the journal again".to_owned()));
        }
        let (shared, number) = (Arc::clone(&self.shared), self.number);
        let result = blocking(move || shared.commit(number, batch)).await;
        if matches!(result, Err(JournalError::Unknown(_))) {
            self.spent = true;
            self.start_over();
        }
        result
    }
}

impl Handle {
    /// Has the daemon told that it owns the partition, so that it begins again from what is in the file.
    fn start_over(&self) {
        let Some(wakes) = self.shared.wakes.get().cloned() else { return };
        tokio::spawn(async move {
            tokio::time::sleep(RETRY_AFTER).await;
            // A daemon that has ended needs no telling.
            let _ = wakes.send(Wake::Assigned(0)).await;
        });
    }
}

impl Shared {
    fn commit(&self, number: u64, batch: Batch) -> Result<(), JournalError> {
        if !batch.rekeyed.is_empty() {
            return Err(JournalError::Broken("a journal with one partition has nowhere to send a record".to_owned()));
        }
        let unknown = |error: redb::Error| JournalError::Unknown(format!("journal {}: {error}", self.path.display()));
        let writing = self.database.begin_write().map_err(|error| unknown(error.into()))?;
        // redb lets one writer in at a time: between this look and the commit nobody else can open and write.
        if self.opened.load(Ordering::SeqCst) != number {
            return Err(JournalError::Fenced(format!("journal {} was opened again", self.path.display())));
        }
        write_batch(&writing, &batch).map_err(unknown)?;
        writing.commit().map_err(|error| unknown(error.into()))
    }
}

/// Creates the tables, so that reading never meets a missing one, and says which record comes next.
fn create_tables(database: &Database) -> Result<i64, redb::Error> {
    let writing = database.begin_write()?;
    writing.open_table(ENTRIES)?;
    writing.open_table(DECISIONS)?;
    writing.open_table(DEAD)?;
    let next_offset = writing.open_table(CONSUMED)?.get(NEXT_OFFSET)?.map_or(0, |row| row.value());
    writing.commit()?;
    Ok(next_offset)
}

fn read_entries(database: &Database) -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut entries = BTreeMap::new();
    for row in table.iter()? {
        let (key, value) = row?;
        entries.insert(key.value().to_owned(), value.value().to_vec());
    }
    Ok(entries)
}

fn write_batch(writing: &redb::WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    let Batch { next_offset, puts, decisions, dead, rekeyed: _ } = batch;
    let mut entries = writing.open_table(ENTRIES)?;
    for (key, value) in puts {
        match value {
            Some(value) => entries.insert(key.as_str(), value.as_slice())?,
            None => entries.remove(key.as_str())?,
        };
    }
    let mut table = writing.open_table(DECISIONS)?;
    let next = table.last()?.map_or(0, |(last, _)| last.value() + 1);
    for (number, (key, json)) in (next..).zip(decisions) {
        table.insert(number, (key.as_str(), json.as_slice()))?;
    }
    let mut table = writing.open_table(DEAD)?;
    let next = table.last()?.map_or(0, |(last, _)| last.value() + 1);
    for (number, (record, wrong)) in (next..).zip(dead) {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let row: DeadRow<'_> = (record.offset, record.key.as_deref(), record.value.as_deref(), headers, wrong);
        table.insert(number, row)?;
    }
    if let Some(next) = next_offset {
        writing.open_table(CONSUMED)?.insert(NEXT_OFFSET, next)?;
    }
    Ok(())
}

/// All decisions in a journal's file, in their order: key (the workload) and JSON.
pub fn read_decisions(path: &Path) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
    let database = Database::open(path).map_err(|error| cannot_open(path, error))?;
    let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let table = match database.begin_read()?.open_table(DECISIONS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let mut decisions = Vec::new();
        for row in table.iter()? {
            let (_, row) = row?;
            let (key, json) = row.value();
            decisions.push((key.to_owned(), json.to_vec()));
        }
        Ok(decisions)
    };
    read().map_err(|error| broken(path, error))
}

/// All dead letters in a journal's file, in their order: the record, and what was wrong with it.
pub fn read_dead(path: &Path) -> Result<Vec<(EventRecord, String)>, JournalError> {
    let database = Database::open(path).map_err(|error| cannot_open(path, error))?;
    let read = || -> Result<Vec<(EventRecord, String)>, redb::Error> {
        let table = match database.begin_read()?.open_table(DEAD) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let mut letters = Vec::new();
        for row in table.iter()? {
            let (_, row) = row?;
            letters.push(dead_letter(row.value()));
        }
        Ok(letters)
    };
    read().map_err(|error| broken(path, error))
}

fn dead_letter((offset, key, value, headers, wrong): DeadRow<'_>) -> (EventRecord, String) {
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
    (EventRecord { partition: 0, offset, key, value, headers, answer: None }, wrong.to_owned())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "redb's other errors speak for themselves")]
fn cannot_open(path: &Path, error: DatabaseError) -> JournalError {
    let path = path.display();
    JournalError::Broken(match error {
        DatabaseError::DatabaseAlreadyOpen => {
            format!("journal {path} is in use by another process; stop that one, or give this one a file of its own")
        }
        DatabaseError::UpgradeRequired(version) => {
            format!("journal {path} was written in format {version}, which this version does not read")
        }
        other => format!("journal {path} can't be opened: {other}"),
    })
}

fn broken(path: &Path, error: impl std::fmt::Display) -> JournalError {
    JournalError::Broken(format!("journal {}: {error}", path.display()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(JournalError::Unknown(format!("the journal's thread ended: {error}"))))
}
