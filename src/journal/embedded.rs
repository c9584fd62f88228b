//! The embedded journal: a file of redb, for one process and one partition. A commit is one transaction with an fsync.
//!
//! The lock of the file takes the place of Kafka's consumer group: its holder owns the partition, and a second daemon on the
//! same file is refused at its start. Within the process, opening the journal again fences the earlier handle, as
//! `init_transactions` fences an earlier producer.
//!
//! A disk that is full or fails does not end the process. Nothing is committed then, and so nothing is done; the partition is
//! assigned again at growing intervals until the file can be written, and [`Embedded::condition`] has the reason meanwhile.
//!
//! [`EmbeddedIntake`] numbers the records that arrive over HTTP from the offset in the file, so that `next_offset` has the
//! same meaning as in Kafka.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bellwether_core::time::Span;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use self::file::{JournalFile, create_tables, is_full, opener_of, read_entries, write_batch};
use super::options::Options;
use crate::clock::{Clock, SystemClock};
use crate::ports::{Batch, Delivery, EventRecord, Journal, JournalError, Journals, Partition, Receipt, Wake};

mod dead_letters;
mod file;

pub use self::file::{Opener, back_up, read_dead, read_decisions};

/// The delay before the partition is assigned again after a failure. It doubles with each failure in a row.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// The longest delay before the partition is assigned again.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
/// The time of commits without a failure after which a failure is over.
const SETTLED: Duration = Duration::from_secs(10);

/// The embedded journal. Clones share one file, which is closed with the last of them.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    file: JournalFile,
    /// The age at which decisions and dead letters are removed.
    retention: Span,
    clock: Arc<dyn Clock>,
    /// The number of times that the partition was opened. A handle with a lower number is fenced.
    opened: AtomicU64,
    /// The offset of the next record.
    next_record: AtomicI64,
    /// The failures since the last commit.
    failures: StdMutex<Failures>,
    /// The daemon's channel, set by the first call of [`Embedded::intake`].
    wakes: std::sync::OnceLock<mpsc::Sender<Wake>>,
}

/// The failures in a row. A full disk may take some commits and refuse others, so a single commit does not end the row.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    /// The message of the last one.
    last: String,
    /// The time of the first commit since the last failure.
    written: Option<Instant>,
}

impl Failures {
    /// Returns whether there was no failure, or only commits for [`SETTLED`].
    fn are_over(&self) -> bool {
        self.count == 0 || self.written.is_some_and(|written| written.elapsed() >= SETTLED)
    }
}

impl Embedded {
    /// Opens the file with the default retention; creates it and its directory if they are missing.
    ///
    /// # Errors
    /// [`JournalError`] if another process writes the file, or if it can't be created or is not a journal. A full disk is no
    /// error: the journal is opened as soon as there is room.
    pub fn open(path: impl Into<PathBuf>) -> Result<Embedded, JournalError> {
        Embedded::with_options(&Options { path: path.into(), ..Options::default() })
    }

    /// Opens the file of the options; creates it and its directory if they are missing.
    ///
    /// # Errors
    /// As for [`Embedded::open`].
    pub fn with_options(options: &Options) -> Result<Embedded, JournalError> {
        let Options { kind: _, path, retention } = options;
        if let Some(parent) = path.parent() {
            let made = std::fs::create_dir_all(parent);
            made.map_err(|error| JournalError::Broken(format!("journal {}: {error}", path.display())))?;
        }
        Embedded::over(path.clone(), opener_of(path), *retention, Arc::new(SystemClock))
    }

    /// Opens a journal by an opener of its database. `path` is for messages alone.
    ///
    /// # Errors
    /// As for [`Embedded::open`].
    pub fn over(
        path: PathBuf,
        opener: Opener,
        retention: Span,
        clock: Arc<dyn Clock>,
    ) -> Result<Embedded, JournalError> {
        let file = JournalFile::new(path, opener);
        let next_record = match file.with(create_tables) {
            Ok(next_offset) => next_offset,
            Err(redb::Error::Io(error)) if is_full(error.kind()) => 0,
            // At the start every other failure is a wrong configuration or a damaged file, which a person has to repair.
            Err(error) => return Err(JournalError::Broken(file.error(&error).to_string())),
        };
        let shared = Shared {
            file,
            retention,
            clock,
            opened: AtomicU64::new(0),
            next_record: AtomicI64::new(next_record),
            failures: StdMutex::default(),
            wakes: std::sync::OnceLock::new(),
        };
        Ok(Embedded { shared: Arc::new(shared) })
    }

    /// Returns whether the journal can be written: without a failure for the last seconds.
    ///
    /// # Errors
    /// The message of the last failure. Nothing is decided without the journal.
    pub fn condition(&self) -> Result<(), String> {
        let failures = self.shared.failures();
        if failures.are_over() { Ok(()) } else { Err(failures.last.clone()) }
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
            permit.send(Wake::Record(Delivery { reply: Some(reply), ..record.into() }));
        }
        receipt.await.map_err(|_| SubmitError::Unknown)
    }

    /// Submits the posted events until their queue is closed, and passes each receipt on to the event's sender.
    pub async fn serve(self: Arc<Self>, mut posted: mpsc::Receiver<Delivery>) {
        while let Some(Delivery { record, reply, .. }) = posted.recv().await {
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
            let path = self.shared.file.path.display();
            return Err(JournalError::Broken(format!("journal {path} has only partition 0, not {partition}")));
        }
        let number = self.shared.attempt(Shared::open).await?;
        Ok(Box::new(Handle { shared: Arc::clone(&self.shared), number, failed: false }))
    }

    fn assign_again(&self, _: Partition, delay: Duration) {
        self.shared.assign_after(delay);
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
        self.shared.attempt(Shared::restore).await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.failed {
            return Err(JournalError::Unknown("an earlier commit failed; open the journal again".to_owned()));
        }
        let number = self.number;
        let result = self.shared.attempt(move |shared| shared.commit(number, &batch)).await;
        self.failed = matches!(result, Err(JournalError::Unknown(_)));
        if result.is_ok() {
            self.shared.failures().written.get_or_insert_with(Instant::now);
        }
        result
    }
}

impl Shared {
    fn failures(&self) -> MutexGuard<'_, Failures> {
        // A panic can't leave it half written.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `work` on a thread for blocking work. After a failure of the disk the partition is assigned again.
    async fn attempt<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Shared) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let shared = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || work(&shared)).await;
        let result = result.unwrap_or_else(|error| {
            Err(JournalError::Unknown(format!("journal {}: its thread ended: {error}", self.file.path.display())))
        });
        if let Err(JournalError::Unknown(message)) = &result {
            self.assign_again(message);
        }
        result
    }

    /// Notes a failure, and sends the daemon `Wake::Assigned` after a delay that grows with each failure in a row.
    fn assign_again(&self, message: &str) {
        let delay = {
            let mut failures = self.failures();
            let before = if failures.are_over() { 0 } else { failures.count };
            *failures = Failures { count: before.saturating_add(1), last: message.to_owned(), written: None };
            RESTART_DELAY.saturating_mul(2_u32.saturating_pow(before)).min(MAX_RESTART_DELAY)
        };
        self.assign_after(delay);
    }

    /// Sends the daemon `Wake::Assigned` after `delay`, so that it restores from the file.
    fn assign_after(&self, delay: Duration) {
        let Some(wakes) = self.wakes.get().cloned() else { return };
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // The channel is closed if the daemon has ended.
            let _ = wakes.send(Wake::Assigned(0)).await;
        });
    }

    /// Fences the earlier handles, and returns the number of the new one. No commit is in progress meanwhile.
    fn open(&self) -> Result<u64, JournalError> {
        let opened = self.file.with(|database| {
            let next_offset = create_tables(database)?;
            self.next_record.fetch_max(next_offset, Ordering::SeqCst);
            Ok(self.opened.fetch_add(1, Ordering::SeqCst) + 1)
        });
        opened.map_err(|error| self.file.error(&error))
    }

    fn restore(&self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        self.file.with(read_entries).map_err(|error| self.file.error(&error))
    }

    fn commit(&self, number: u64, batch: &Batch) -> Result<(), JournalError> {
        let path = self.file.path.display();
        if !batch.rekeyed.is_empty() {
            return Err(JournalError::Broken(
                "the embedded journal has one partition, so no record can be moved to another".to_owned(),
            ));
        }
        let now = self.clock.now();
        let committed = self.file.with(|database| {
            // `with` has one caller at a time, so no other handle can be opened between this check and the commit.
            if self.opened.load(Ordering::SeqCst) != number {
                return Ok(false);
            }
            let writing = database.begin_write()?;
            write_batch(&writing, batch, now, self.retention.before(now))?;
            writing.commit()?;
            Ok(true)
        });
        match committed {
            Ok(true) => Ok(()),
            Ok(false) => Err(JournalError::Fenced(format!("journal {path} was opened again"))),
            Err(error) => Err(self.file.error(&error)),
        }
    }
}
