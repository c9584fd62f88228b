//! The embedded journal: a file of redb, for one process and one partition. A commit is one transaction with an fsync.
//!
//! The lock of the file takes the place of Kafka's consumer group: its holder owns the partition, and a second daemon on the
//! same file is refused at its start. Within the process, opening the journal again fences the earlier handle, as
//! `init_transactions` fences an earlier producer.
//!
//! [`EmbeddedIntake`] numbers the records that arrive over HTTP from the offset in the file, so that `next_offset` has the
//! same meaning as in Kafka.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::ports::{Batch, Delivery, EventRecord, Journal, JournalError, Journals, Partition, Receipt, Wake};

/// The journal's entries: key and value.
const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// The decisions, numbered from 0 in their order: key (the workload) and JSON.
const DECISIONS: TableDefinition<u64, (&str, &[u8])> = TableDefinition::new("decisions");
/// The dead letters, numbered from 0 in their order.
const DEAD: TableDefinition<u64, DeadRow> = TableDefinition::new("dead");
/// One row, with the key [`NEXT_OFFSET`]: the first offset that is not consumed yet.
const CONSUMED: TableDefinition<&str, i64> = TableDefinition::new("consumed");
const NEXT_OFFSET: &str = "next-offset";

/// A dead letter: the record's offset, key, value and headers, and its problem.
type DeadRow<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a str, &'a [u8])>, &'a str);

/// The delay before the partition is assigned again after a failed commit, which may have failed because the disk is full.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The embedded journal. Clones share one file, which is closed with the last of them.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    database: Database,
    /// The number of times that the partition was opened. A handle with a lower number is fenced.
    opened: AtomicU64,
    /// The offset of the next record.
    next_record: AtomicI64,
    /// The daemon's channel, set by the first call of [`Embedded::intake`].
    wakes: std::sync::OnceLock<mpsc::Sender<Wake>>,
}

impl Embedded {
    /// Opens the file; creates it and its directory if they are missing.
    ///
    /// # Errors
    /// [`JournalError::Broken`] if another process has the file open, or if it can't be created or is not a journal.
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

    /// Returns the intake for records that don't come from Kafka. Sends the daemon `Wake::Assigned` for partition 0.
    pub async fn intake(&self, wakes: mpsc::Sender<Wake>) -> EmbeddedIntake {
        // A process has one daemon, so a later call keeps the first channel.
        let wakes = self.shared.wakes.get_or_init(|| wakes).clone();
        // If the daemon has ended, the first submitted record gets the error.
        let _ = wakes.send(Wake::Assigned(0)).await;
        EmbeddedIntake { shared: Arc::clone(&self.shared), wakes, order: Mutex::new(()) }
    }
}

/// The intake of the embedded journal: passes records to the daemon, and waits for their receipts.
pub struct EmbeddedIntake {
    shared: Arc<Shared>,
    wakes: mpsc::Sender<Wake>,
    /// Held while a record gets its offset and is sent, so that records are sent in the order of their offsets.
    order: Mutex<()>,
}

/// An error of submitting a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The daemon has ended.
    #[error("the daemon is shutting down; send the event again when it is back")]
    Stopped,
    /// The daemon dropped the record without a receipt, as it does when a commit fails.
    #[error("it is not known whether the event was accepted; send it again with the same source and id")]
    Unknown,
}

impl EmbeddedIntake {
    /// Passes `record` to the daemon and waits for its receipt. The record's partition and offset are set here.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`] if the daemon has ended, [`SubmitError::Unknown`] if it gave no receipt.
    pub async fn submit(&self, record: EventRecord) -> Result<Receipt, SubmitError> {
        let (reply, receipt) = oneshot::channel();
        {
            let _ordered = self.order.lock().await;
            let permit = self.wakes.reserve().await.map_err(|_| SubmitError::Stopped)?;
            let offset = self.shared.next_record.fetch_add(1, Ordering::SeqCst);
            let record = EventRecord { partition: 0, offset, ..record };
            permit.send(Wake::Record(Delivery { record, reply: Some(reply) }));
        }
        receipt.await.map_err(|_| SubmitError::Unknown)
    }

    /// Submits the posted events until their queue is closed, and passes each receipt on to the event's sender.
    pub async fn serve(self: Arc<Self>, mut posted: mpsc::Receiver<Delivery>) {
        while let Some(Delivery { record, reply }) = posted.recv().await {
            let intake = Arc::clone(&self);
            tokio::spawn(async move {
                // Without a receipt the channel is dropped, which tells the sender that the result is unknown.
                if let (Ok(receipt), Some(reply)) = (intake.submit(record).await, reply) {
                    // Sending fails only if the sender no longer waits.
                    let _ = reply.send(receipt);
                }
            });
        }
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
            // Holding the write lock means that no commit of an earlier handle is in progress.
            let _write_lock = shared.database.begin_write().map_err(|error| broken(&shared.path, error))?;
            Ok(shared.opened.fetch_add(1, Ordering::SeqCst) + 1)
        });
        Ok(Box::new(Handle { shared: Arc::clone(&self.shared), number: number.await?, failed: false }))
    }
}

/// An open journal.
struct Handle {
    shared: Arc<Shared>,
    /// The value of [`Shared::opened`] when this handle was opened.
    number: u64,
    /// Whether a commit had an unknown outcome, after which the handle refuses all commits.
    failed: bool,
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
        if self.failed {
            return Err(JournalError::Unknown("an earlier commit failed; open the journal again".to_owned()));
        }
        let (shared, number) = (Arc::clone(&self.shared), self.number);
        let result = blocking(move || shared.commit(number, batch)).await;
        if matches!(result, Err(JournalError::Unknown(_))) {
            self.failed = true;
            self.assign_again();
        }
        result
    }
}

impl Handle {
    /// Sends the daemon `Wake::Assigned` after a delay, so that it restores from the file.
    fn assign_again(&self) {
        let Some(wakes) = self.shared.wakes.get().cloned() else { return };
        tokio::spawn(async move {
            tokio::time::sleep(RESTART_DELAY).await;
            // The channel is closed if the daemon has ended.
            let _ = wakes.send(Wake::Assigned(0)).await;
        });
    }
}

impl Shared {
    fn commit(&self, number: u64, batch: Batch) -> Result<(), JournalError> {
        if !batch.rekeyed.is_empty() {
            return Err(JournalError::Broken(
                "the embedded journal has one partition, so no record can be moved to another".to_owned(),
            ));
        }
        let unknown = |error: redb::Error| JournalError::Unknown(format!("journal {}: {error}", self.path.display()));
        let writing = self.database.begin_write().map_err(|error| unknown(error.into()))?;
        // redb has one write transaction at a time, so no other handle can be opened between this check and the commit.
        if self.opened.load(Ordering::SeqCst) != number {
            return Err(JournalError::Fenced(format!("journal {} was opened again", self.path.display())));
        }
        write_batch(&writing, &batch).map_err(unknown)?;
        writing.commit().map_err(|error| unknown(error.into()))
    }
}

/// Creates the missing tables, so that readers can rely on them. Returns the first offset that is not consumed yet.
fn create_tables(database: &Database) -> Result<i64, redb::Error> {
    let writing = database.begin_write()?;
    writing.open_table(ENTRIES)?;
    writing.open_table(DECISIONS)?;
    writing.open_table(DEAD)?;
    let next_offset = writing.open_table(CONSUMED)?.get(NEXT_OFFSET)?.map_or(0, |row| row.value());
    writing.commit()?;
    Ok(next_offset)
}

/// Returns all entries.
fn read_entries(database: &Database) -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut entries = BTreeMap::new();
    for row in table.iter()? {
        let (key, value) = row?;
        entries.insert(key.value().to_owned(), value.value().to_vec());
    }
    Ok(entries)
}

/// Writes a batch into a transaction.
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
    for (number, (record, problem)) in (next..).zip(dead) {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let row: DeadRow<'_> = (record.offset, record.key.as_deref(), record.value.as_deref(), headers, problem);
        table.insert(number, row)?;
    }
    if let Some(next) = next_offset {
        writing.open_table(CONSUMED)?.insert(NEXT_OFFSET, next)?;
    }
    Ok(())
}

/// Returns all decisions in a journal's file, in their order, each as key (the workload) and JSON.
///
/// # Errors
/// [`JournalError::Broken`] if the file is in use by another process, is missing or can't be read.
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

/// Returns all dead letters in a journal's file, in their order, each as the record and its problem.
///
/// # Errors
/// [`JournalError::Broken`] if the file is in use by another process, is missing or can't be read.
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

fn dead_letter((offset, key, value, headers, problem): DeadRow<'_>) -> (EventRecord, String) {
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
    (EventRecord { partition: 0, offset, key, value, headers }, problem.to_owned())
}

/// Returns the error for a file that can't be opened.
#[expect(clippy::wildcard_enum_match_arm, reason = "the text of redb's other errors is used as it is")]
fn cannot_open(path: &Path, error: DatabaseError) -> JournalError {
    let path = path.display();
    JournalError::Broken(match error {
        DatabaseError::DatabaseAlreadyOpen => {
            format!(
                "journal {path} is in use by another process; stop that process, or set journal.path to another file"
            )
        }
        DatabaseError::UpgradeRequired(version) => {
            format!("journal {path} was written in format {version}, which this version does not read")
        }
        other => format!("journal {path} can't be opened: {other}"),
    })
}

/// Returns the error for a file that can't be read or written.
fn broken(path: &Path, error: impl std::fmt::Display) -> JournalError {
    JournalError::Broken(format!("journal {}: {error}", path.display()))
}

/// Runs `work` on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(JournalError::Unknown(format!("the journal's thread ended: {error}"))))
}
