//! The download of one file to a partial file: written, made durable and read back at the same time.
//!
//! The bytes that count are those that the file system returns, so each is read back after it was written, and the digest
//! is that of the bytes read. Reading back and `fsync` follow the writing at a distance. If they began after the last
//! write, a file would take as long as the three one after the other.
//!
//! Each byte is written at its own position. So a write that was under way when an earlier download was given up changes
//! nothing, if it is carried out late.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use object_store::path::Path;
use tokio::sync::watch;

use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::pieces::pieces;
use crate::store::Store;
use crate::target::{blocking, unreadable, unwritable};

/// Number of bytes after which they are made durable. The disk is then busy while further ones arrive.
const SYNC_STEP: u64 = 64 << 20;

/// Size in bytes of the buffer for reading back.
const BUFFER_SIZE: usize = 1 << 20;

/// Downloads the missing rest of a partial file, which will have `size` bytes, and makes it durable. Returns the first byte
/// that was downloaded, and the digest of all bytes of the file.
pub(crate) async fn complete(store: &Store, key: &Path, size: u64, path: &FilePath) -> Result<(u64, Digest)> {
    let to_open = path.to_owned();
    let writer = blocking(move || Writer::open(to_open, size)).await?;
    let (start, file, path) = (writer.end, writer.file.clone(), writer.path.clone());
    // The sender is dropped after the last write, or after an error.
    let (progress, written) = watch::channel(start);
    let write = write_pieces(store, key, size, writer, progress);
    let sync = sync_behind(file, path.clone(), written.clone());
    let ((), (), got) = futures::try_join!(write, sync, hash_behind(path, written))?;
    Ok((start, got))
}

async fn write_pieces(
    store: &Store,
    key: &Path,
    size: u64,
    mut writer: Writer,
    progress: watch::Sender<u64>,
) -> Result<()> {
    let mut pieces = std::pin::pin!(pieces(store, key, writer.end, size));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        writer = blocking(move || writer.write(&piece)).await?;
        progress.send_replace(writer.end);
    }
    Ok(())
}

/// Makes the written bytes durable, step by step, and the rest after the last write.
async fn sync_behind(file: Arc<File>, path: PathBuf, mut written: watch::Receiver<u64>) -> Result<()> {
    let mut durable = *written.borrow();
    loop {
        let more = written.wait_for(|end| end - durable >= SYNC_STEP).await.map(|end| *end).ok();
        let (to_sync, path) = (file.clone(), path.clone());
        let sync = move || if more.is_some() { to_sync.sync_data() } else { to_sync.sync_all() };
        blocking(move || sync().map_err(unwritable(&path))).await?;
        match more {
            Some(end) => durable = end,
            None => return Ok(()),
        }
    }
}

/// Reads the written bytes back, and after the last write all that is left in the file. Returns the digest of all bytes.
async fn hash_behind(path: PathBuf, mut written: watch::Receiver<u64>) -> Result<Digest> {
    let mut reader = blocking(move || Reader::open(path)).await?;
    loop {
        let position = reader.position;
        let more = written.wait_for(|end| *end > position).await.map(|end| *end).ok();
        reader = blocking(move || reader.read_to(more.unwrap_or(u64::MAX))).await?;
        if more.is_none() {
            return Ok(reader.hasher.finish());
        }
    }
}

/// The writing end of a partial file.
struct Writer {
    path: PathBuf,
    file: Arc<File>,
    /// Number of bytes that are in the file.
    end: u64,
}

impl Writer {
    /// Opens or creates a partial file. One that is longer than the complete file can't be right, and is started again.
    fn open(path: PathBuf, size: u64) -> Result<Writer> {
        let open = || {
            let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
            let mut end = file.metadata()?.len();
            if end > size {
                file.set_len(0)?;
                end = 0;
            }
            file.seek(SeekFrom::Start(end))?;
            Ok((Arc::new(file), end))
        };
        let (file, end) = open().map_err(unwritable(&path))?;
        Ok(Writer { path, file, end })
    }

    fn write(mut self, piece: &[u8]) -> Result<Writer> {
        (&*self.file).write_all(piece).map_err(unwritable(&self.path))?;
        self.end += piece.len() as u64;
        Ok(self)
    }
}

/// The reading end of a partial file.
struct Reader {
    path: PathBuf,
    file: File,
    position: u64,
    buffer: Vec<u8>,
    hasher: Hasher,
}

impl Reader {
    fn open(path: PathBuf) -> Result<Reader> {
        let file = File::open(&path).map_err(unreadable(&path))?;
        Ok(Reader { path, file, position: 0, buffer: vec![0; BUFFER_SIZE], hasher: Hasher::default() })
    }

    /// Reads up to the position `end`, or to the end of the file if that comes first.
    fn read_to(mut self, end: u64) -> Result<Reader> {
        while self.position < end {
            let wanted = usize::try_from(end - self.position).unwrap_or(BUFFER_SIZE).min(BUFFER_SIZE);
            match self.file.read(&mut self.buffer[..wanted]).map_err(unreadable(&self.path))? {
                0 => break,
                read => {
                    self.hasher.update(&self.buffer[..read]);
                    self.position += read as u64;
                }
            }
        }
        Ok(self)
    }
}
