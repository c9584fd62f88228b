//! A file in memory as redb uses it, on a disk that is full, fails, or loses its power.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bellwether::journal::embedded::Opener;
use bellwether_core::dice::Random;
use redb::{Database, StorageBackend};

/// The unit in which a disk writes: after a power cut it has the old or the new content of each.
const SECTOR: usize = 512;

/// A file. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FaultyFile(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// The content as the process reads it.
    content: Vec<u8>,
    /// The content that a power cut can't change: that of the last sync.
    durable: Vec<u8>,
    /// The changes since the last sync.
    pending: Vec<Change>,
    /// The changes and syncs so far.
    operations: usize,
    /// The operation that fails, and how.
    fault: Option<(usize, Fault)>,
    /// The size beyond which no byte can be written.
    capacity: Option<usize>,
}

/// A fault of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One operation fails; a write is done by half.
    Error,
    /// This operation and all later ones fail.
    PowerCut,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl FaultyFile {
    /// Returns a file with this content.
    pub fn with_content(content: Vec<u8>) -> FaultyFile {
        let disk = Disk { durable: content.clone(), content, ..Disk::default() };
        FaultyFile(Arc::new(Mutex::new(disk)))
    }

    /// Returns an opener of a journal in this file.
    pub fn opener(&self) -> Opener {
        let file = self.clone();
        Box::new(move || Ok(Database::builder().create_with_backend(file.clone())?))
    }

    /// Sets the operation, counted from 0, that fails.
    pub fn fail_at(&self, operation: usize, fault: Fault) {
        self.disk().fault = Some((operation, fault));
    }

    /// Sets the size of the disk, in bytes. `None`: it has room for everything.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        self.disk().capacity = capacity;
    }

    /// Returns the number of changes and syncs so far.
    pub fn operations(&self) -> usize {
        self.disk().operations
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.disk().content.len()
    }

    /// Returns the content as it may be found after a power cut now: of the changes since the last sync, each sector has come
    /// to the disk or not. Seed 0 keeps none of them and seed 1 all.
    pub fn after_power_cut(&self, seed: u64) -> Vec<u8> {
        let disk = self.disk();
        let mut content = disk.durable.clone();
        let mut random = Random::new(seed);
        let mut kept = || match seed {
            0 => false,
            1 => true,
            _ => random.below(2) == 1,
        };
        for change in &disk.pending {
            change.apply(&mut content, &mut kept);
        }
        content
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl Change {
    /// Applies the sectors of the change for which `kept` holds.
    fn apply(&self, content: &mut Vec<u8>, kept: &mut impl FnMut() -> bool) {
        match self {
            Change::Resize(size) if kept() => content.resize(*size, 0),
            Change::Resize(_) => {}
            Change::Write { offset, bytes } => {
                let mut start = 0;
                while start < bytes.len() {
                    let at = offset + start;
                    let end = bytes.len().min(start + SECTOR - at % SECTOR);
                    if kept() {
                        let needed = offset + end;
                        if content.len() < needed {
                            content.resize(needed, 0);
                        }
                        content[at..needed].copy_from_slice(&bytes[start..end]);
                    }
                    start = end;
                }
            }
        }
    }
}

impl Disk {
    /// Counts an operation, and returns its fault if it has one.
    fn operate(&mut self) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        match self.fault? {
            (at, Fault::Error) if at == number => Some(Fault::Error),
            (at, Fault::PowerCut) if at <= number => Some(Fault::PowerCut),
            _ => None,
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.content, &mut || true);
        self.pending.push(change);
    }
}

fn broken() -> io::Error {
    io::Error::other("the disk failed")
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.size() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let disk = self.disk();
        let bytes = disk.content.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    /// A file system makes a file longer without taking room: a full disk shows itself at a write.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.operate().is_some() {
            return Err(broken());
        }
        disk.change(Change::Resize(usize::try_from(len).unwrap()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.operate().is_some() {
            return Err(broken());
        }
        for change in std::mem::take(&mut disk.pending) {
            change.apply(&mut disk.durable, &mut || true);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        let offset = usize::try_from(offset).unwrap();
        let room = disk.capacity.map_or(data.len(), |capacity| capacity.saturating_sub(offset).min(data.len()));
        let (written, failure) = match disk.operate() {
            Some(Fault::PowerCut) => (0, Some(broken())),
            Some(Fault::Error) => (data.len() / 2, Some(broken())),
            None if room < data.len() => (room, Some(io::ErrorKind::StorageFull.into())),
            None => (data.len(), None),
        };
        disk.change(Change::Write { offset, bytes: data[..written].to_vec() });
        failure.map_or(Ok(()), Err)
    }
}
