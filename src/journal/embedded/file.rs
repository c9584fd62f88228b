//! The file of the embedded journal, and its tables.
//!
//! redb refuses every operation after a failed read or write until the database is closed. So any failure closes the file, and
//! the next use opens it anew, which undoes an unfinished commit. One process writes the file; others may read it meanwhile.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bellwether_core::time::Timestamp;
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
    ReadableTable, Table, TableDefinition, Value, WriteTransaction,
};

use crate::ports::{
    Batch, DeadLetter, DeadLetterList, EventRecord, JournalError, KeptBytes, LetterId, LetterOrigin, MOST_LETTERS,
};

/// The journal's entries: key and value.
const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// The decisions, numbered from 0 in their order.
const DECISIONS: TableDefinition<u64, DecisionRow> = TableDefinition::new("decisions");
/// The dead letters, numbered from 0 in their order.
const DEAD: TableDefinition<u64, DeadRow> = TableDefinition::new("dead");
/// The rows [`NEXT_OFFSET`], [`NEXT_DECISION`] and [`NEXT_DEAD`].
const NEXT: TableDefinition<&str, u64> = TableDefinition::new("next");
/// The key of the first offset that is not consumed yet.
const NEXT_OFFSET: &str = "offset";
/// The key of the next decision's number.
const NEXT_DECISION: &str = "decision";
/// The key of the next dead letter's number.
const NEXT_DEAD: &str = "dead";

/// A decision: the time of its commit in milliseconds since 1970, its key (the workload), and its JSON.
type DecisionRow<'a> = (u64, &'a str, &'a [u8]);
/// A dead letter: the time of its commit in milliseconds since 1970, the record's offset, key, value and headers, and its problem.
type DeadRow<'a> = (u64, i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a str, &'a [u8])>, &'a str);

/// The first bytes of a file of redb.
const MAGIC: &[u8] = b"redb";

/// The memory for pages of the file, in bytes. The file is read as a whole at a restore alone.
const CACHE: usize = 8 << 20;
/// The rows of one table that a commit removes at most because of their age, beside two for each row that it adds.
const PRUNED_AT_ONCE: usize = 64;

/// A function that opens the database of a journal, and creates what is missing.
pub type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// The file of a journal.
pub(super) struct JournalFile {
    /// The file's path, for messages.
    pub(super) path: PathBuf,
    opener: Opener,
    /// The database; `None` after a failure, until it is used again.
    database: Mutex<Option<Database>>,
}

impl JournalFile {
    pub(super) fn new(path: PathBuf, opener: Opener) -> JournalFile {
        JournalFile { path, opener, database: Mutex::new(None) }
    }

    /// Calls `work` with the database, which is opened first if it is not open.
    ///
    /// # Errors
    /// The database can't be opened, or `work` has failed. The database is closed then.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        // A panic during `work` leaves `None`, so a poisoned lock does no harm.
        let mut place = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match place.take() {
            Some(database) => database,
            None => (self.opener)()?,
        };
        let result = work(&database)?;
        *place = Some(database);
        Ok(result)
    }

    /// Returns the journal's error for an error of redb.
    pub(super) fn error(&self, error: &redb::Error) -> JournalError {
        journal_error(&self.path, error)
    }
}

/// Returns an opener of the file at `path`, which creates the file only until it has been opened once: a file that is gone later
/// is no empty journal.
pub(super) fn opener_of(path: &Path) -> Opener {
    let path = path.to_owned();
    let was_open = AtomicBool::new(false);
    Box::new(move || {
        let database = if was_open.load(Ordering::SeqCst) { builder().open(&path)? } else { open_or_create(&path)? };
        was_open.store(true, Ordering::SeqCst);
        Ok(database)
    })
}

/// Opens the database at `path`; creates it if it is missing.
fn open_or_create(path: &Path) -> Result<Database, redb::Error> {
    if !path.exists() {
        create(path, create_tables)?;
    }
    Ok(builder().open(path)?)
}

/// Creates a database at `path`, for its owner alone, with the content that `fill` writes. It has another name until it is
/// complete, so that a power cut leaves no part of it at `path`.
fn create<T>(path: &Path, fill: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<(), redb::Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let unfinished = PathBuf::from(format!("{}.new", path.display()));
    // The journal has pod templates, whose environment may hold secrets.
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    let database = builder().create(&unfinished)?;
    fill(&database)?;
    drop(database);
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    // The name is in the folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(std::fs::File::open(folder)?.sync_all()?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// Creates the missing tables, so that readers can rely on them. Returns the first offset that is not consumed yet.
pub(super) fn create_tables(database: &Database) -> Result<i64, redb::Error> {
    if let Ok(table) = database.begin_read()?.open_table(NEXT) {
        return Ok(table.get(NEXT_OFFSET)?.map_or(0, |row| signed(row.value())));
    }
    let writing = database.begin_write()?;
    writing.open_table(ENTRIES)?;
    writing.open_table(DECISIONS)?;
    writing.open_table(DEAD)?;
    writing.open_table(NEXT)?;
    writing.commit()?;
    Ok(0)
}

/// Returns all entries.
pub(super) fn read_entries(database: &Database) -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut entries = BTreeMap::new();
    for row in table.iter()? {
        let (key, value) = row?;
        entries.insert(key.value().to_owned(), value.value().to_vec());
    }
    Ok(entries)
}

/// Writes a batch into a transaction, and removes decisions and dead letters that are older than `keep_from`.
pub(super) fn write_batch(
    writing: &WriteTransaction,
    batch: &Batch,
    now: Timestamp,
    keep_from: Timestamp,
) -> Result<(), redb::Error> {
    let Batch { next_offset, puts, decisions, dead, rekeyed: _ } = batch;
    let mut entries = writing.open_table(ENTRIES)?;
    for (key, value) in puts {
        match value {
            Some(value) => entries.insert(key.as_str(), value.as_slice())?,
            None => entries.remove(key.as_str())?,
        };
    }
    let mut next = writing.open_table(NEXT)?;
    let (at, keep_from) = (millis(now), millis(keep_from));

    let mut table = writing.open_table(DECISIONS)?;
    for (number, (key, json)) in numbers(&mut next, NEXT_DECISION, decisions.len())?.zip(decisions) {
        table.insert(number, (at, key.as_str(), json.as_slice()))?;
    }
    prune(&mut table, decisions.len(), |(at, ..)| at < keep_from)?;

    let mut table = writing.open_table(DEAD)?;
    for (number, (record, problem)) in numbers(&mut next, NEXT_DEAD, dead.len())?.zip(dead) {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let row: DeadRow<'_> = (at, record.offset, record.key.as_deref(), record.value.as_deref(), headers, problem);
        table.insert(number, row)?;
    }
    prune(&mut table, dead.len(), |(at, ..)| at < keep_from)?;

    if let Some(offset) = next_offset {
        next.insert(NEXT_OFFSET, unsigned(*offset))?;
    }
    Ok(())
}

/// Takes the next `count` numbers of a table. A number is given once, also if its row has been removed.
fn numbers(next: &mut Table<'_, &str, u64>, key: &str, count: usize) -> Result<Range<u64>, redb::Error> {
    let first = next.get(key)?.map_or(0, |row| row.value());
    let end = first.saturating_add(count as u64);
    if end > first {
        next.insert(key, end)?;
    }
    Ok(first..end)
}

/// Removes old rows from the start of a table to which `added` rows were added: so many that the table shrinks, and so few that
/// the commit stays quick.
fn prune<V: Value>(
    table: &mut Table<'_, u64, V>,
    added: usize,
    is_old: impl for<'a> Fn(V::SelfType<'a>) -> bool,
) -> Result<(), redb::Error> {
    for _ in 0..PRUNED_AT_ONCE.max(2 * added) {
        if !table.first()?.is_some_and(|(_, row)| is_old(row.value())) {
            break;
        }
        table.pop_first()?;
    }
    Ok(())
}

/// Returns all decisions in a journal's file, in their order, each as key (the workload) and JSON. A daemon may run meanwhile.
///
/// # Errors
/// [`JournalError`] if the file is missing or can't be read.
pub fn read_decisions(path: &Path) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
    read(path, |database| {
        let mut decisions = Vec::new();
        for row in database.begin_read()?.open_table(DECISIONS)?.iter()? {
            let (_, row) = row?;
            let (_, key, json) = row.value();
            decisions.push((key.to_owned(), json.to_vec()));
        }
        Ok(decisions)
    })
}

/// Returns all dead letters in a journal's file, in their order, each as the record and its problem. A daemon may run meanwhile.
///
/// # Errors
/// [`JournalError`] if the file is missing or can't be read.
pub fn read_dead(path: &Path) -> Result<Vec<(EventRecord, String)>, JournalError> {
    read(path, |database| {
        let mut letters = Vec::new();
        for row in database.begin_read()?.open_table(DEAD)?.iter()? {
            let (_, row) = row?;
            letters.push(dead_letter(row.value()));
        }
        Ok(letters)
    })
}

fn dead_letter((_, offset, key, value, headers, problem): DeadRow<'_>) -> (EventRecord, String) {
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
    (EventRecord { partition: 0, offset, key, value, headers }, problem.to_owned())
}

/// Returns the newest dead letters of a reading.
pub(super) fn newest_letters(reading: &ReadTransaction) -> Result<DeadLetterList, redb::Error> {
    let (table, mut list) = (reading.open_table(DEAD)?, DeadLetterList::default());
    for row in table.iter()?.rev().take(MOST_LETTERS + 1) {
        let (number, row) = row?;
        list.letters.push(letter(number.value(), row.value()).listed());
    }
    Ok(list.sorted())
}

/// Returns the dead letter of a number; `None` if there is none.
pub(super) fn letter_of(reading: &ReadTransaction, number: u64) -> Result<Option<DeadLetter>, redb::Error> {
    Ok(reading.open_table(DEAD)?.get(number)?.map(|row| letter(number, row.value())))
}

fn letter(number: u64, row: DeadRow<'_>) -> DeadLetter {
    let at = i64::try_from(row.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let (EventRecord { partition, offset, key, value, headers }, problem) = dead_letter(row);
    let kept = |bytes: Option<Vec<u8>>| bytes.map(|bytes| KeptBytes { all: bytes.len(), bytes });
    DeadLetter {
        id: LetterId { partition, offset: signed(number) },
        at,
        origin: Some(LetterOrigin { topic: None, partition, offset }),
        problem,
        key: kept(key),
        value: kept(value),
        headers,
    }
}

/// Copies the state of one instant from a journal's file into a new file. A daemon may run meanwhile.
///
/// # Errors
/// [`JournalError`] if the journal can't be read, or if `to` exists or can't be written.
pub fn back_up(path: &Path, to: &Path) -> Result<(), JournalError> {
    if to.exists() {
        return Err(JournalError::Broken(format!("{} exists; name a file that does not", to.display())));
    }
    read(path, |database| {
        let reading = database.begin_read()?;
        create(to, |copy| {
            let writing = copy.begin_write()?;
            copy_table(&reading, &writing, ENTRIES)?;
            copy_table(&reading, &writing, DECISIONS)?;
            copy_table(&reading, &writing, DEAD)?;
            copy_table(&reading, &writing, NEXT)?;
            Ok(writing.commit()?)
        })
    })
}

fn copy_table<K: redb::Key + 'static, V: Value + 'static>(
    reading: &ReadTransaction,
    writing: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let mut to = writing.open_table(table)?;
    for row in reading.open_table(table)?.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Calls `work` with the journal's file, opened beside the process that writes it.
fn read<T>(path: &Path, work: impl FnOnce(&ReadOnlyDatabase) -> Result<T, redb::Error>) -> Result<T, JournalError> {
    let open = || match builder().open_read_only(path) {
        // The last process was killed. Opening the file to write repairs it.
        Err(DatabaseError::RepairAborted) => {
            builder().open(path)?;
            builder().open_read_only(path)
        }
        other => other,
    };
    if !path.is_file() {
        let remedy = "set journal.path to the journal's file, or start `bellwether run`, which makes it";
        return Err(JournalError::Broken(format!("there is no journal {}; {remedy}", path.display())));
    }
    let read = || work(&open()?);
    read().map_err(|error| journal_error(path, &error))
}

/// Returns the journal's error for an error of redb. A failure of the disk may pass, damage and a foreign file do not.
#[expect(clippy::wildcard_enum_match_arm, reason = "redb has further errors, and their text is used as it is")]
pub(super) fn journal_error(path: &Path, error: &redb::Error) -> JournalError {
    let (file, path) = (path, path.display());
    let damaged = |problem: String| JournalError::Broken(foreign(file).unwrap_or(problem));
    match error {
        redb::Error::DatabaseAlreadyOpen => JournalError::Unknown(format!(
            "journal {path} is in use by another process; stop that process, or set journal.path to another file"
        )),
        redb::Error::Io(cause) if is_full(cause.kind()) => {
            JournalError::Unknown(format!("journal {path}: {cause}; make room, and the daemon goes on by itself"))
        }
        redb::Error::Io(cause) if cause.kind() == ErrorKind::InvalidData => damaged(format!("journal {path}: {cause}")),
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => {
            JournalError::Unknown(format!("journal {path}: {error}"))
        }
        redb::Error::UpgradeRequired(version) => JournalError::Broken(format!(
            "journal {path} was written in format {version}, which this version does not read"
        )),
        other => damaged(format!("journal {path}: {other}")),
    }
}

/// Returns why the file at `path` is no journal, with the remedy; `None` if it may be one.
fn foreign(path: &Path) -> Option<String> {
    let shown = path.display();
    let mut beginning = Vec::new();
    std::fs::File::open(path).ok()?.take(MAGIC.len() as u64).read_to_end(&mut beginning).ok()?;
    match beginning.as_slice() {
        [] => Some(format!(
            "journal {shown} is an empty file; restore a backup of it (`bellwether journal backup`), or remove it, and \
             `bellwether run` begins a journal that knows no rollouts"
        )),
        MAGIC => None,
        _ => Some(format!("{shown} is no journal of Bellwether; set journal.path to the journal's file")),
    }
}

/// Whether an error means that the disk has no room, or takes no writes for now.
pub(super) fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
}

/// Returns the milliseconds since 1970; 0 for an earlier time.
fn millis(at: Timestamp) -> u64 {
    unsigned(at.as_millisecond())
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}
