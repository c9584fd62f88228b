//! From a file into the store in one pass: each part is read, taken into the digest, and sent, while the next one is read.
//!
//! What is in memory is the parts that fly and the one that is read, whatever the size of the file. Their buffers come back
//! when they have landed, and are used again: buffers that every thread frees and makes anew are kept by the allocator for
//! each of them, and add up to several times as much.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use tokio::task::{JoinSet, spawn_blocking};

use crate::Result;
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::store::Store;

/// No store takes more parts than this.
const MOST_PARTS: u64 = 10_000;

/// What was stored.
pub(crate) struct Stored {
    pub(crate) size: u64,
    pub(crate) checksum: Digest,
}

/// Uploads a file. Until it is whole nothing is listed; what was sent before an error is taken back, if the store still answers.
pub(crate) async fn upload(store: &Store, key: &Path, from: PathBuf) -> Result<Stored> {
    let reader = spawn_blocking({
        let part = store.part;
        move || Reader::open(from, part)
    });
    let reader = reader.await.map_err(|_| cut_off(key))??;
    let (reader, first) = reader.next(key).await?;
    let failed = |error| store.failed(format!("writing {key}"), error);
    if first.len() < reader.part {
        store.inner.put(key, first.into()).await.map_err(failed)?;
        return Ok(reader.stored());
    }
    let mut upload = store.inner.put_multipart(key).await.map_err(failed)?;
    let sent = send(store, key, &mut *upload, reader, first).await;
    let done = match sent {
        Ok(stored) => upload.complete().await.map(|_| stored).map_err(failed),
        Err(error) => Err(error),
    };
    if done.is_err() {
        let _ = upload.abort().await;
    }
    done
}

async fn send(
    store: &Store,
    key: &Path,
    upload: &mut dyn MultipartUpload,
    mut reader: Reader,
    mut part: Bytes,
) -> Result<Stored> {
    let mut flying = JoinSet::new();
    let landed = |part: Option<Result<object_store::Result<()>, _>>| match part {
        Some(Ok(Ok(()))) | None => Ok(()),
        Some(Ok(Err(error))) => Err(store.failed(format!("writing {key}"), error)),
        Some(Err(_)) => Err(cut_off(key)),
    };
    while !part.is_empty() {
        if flying.len() >= store.flying {
            landed(flying.join_next().await)?;
        }
        flying.spawn(upload.put_part(part.into()));
        (reader, part) = reader.next(key).await?;
    }
    while !flying.is_empty() {
        landed(flying.join_next().await)?;
    }
    Ok(reader.stored())
}

fn cut_off(key: &Path) -> Error {
    Error::CutOff { what: key.to_string() }
}

/// A file on its way: reading and hashing block, so they have a thread.
struct Reader {
    file: File,
    from: PathBuf,
    part: usize,
    size: u64,
    hasher: Hasher,
    pool: Pool,
}

impl Reader {
    fn open(from: PathBuf, part: usize) -> Result<Reader> {
        let unreadable = |error: std::io::Error| Error::file(&from, format!("can't be read: {error}"));
        let file = File::open(&from).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        // Larger files have larger parts: the number of parts is what is bounded.
        let part = usize::try_from(size.div_ceil(MOST_PARTS)).unwrap_or(usize::MAX).max(part);
        Ok(Reader { file, from, part, size: 0, hasher: Hasher::default(), pool: Pool::default() })
    }

    /// The next part; an empty one is the end.
    async fn next(self, key: &Path) -> Result<(Reader, Bytes)> {
        spawn_blocking(move || self.read()).await.map_err(|_| cut_off(key))?
    }

    fn read(mut self) -> Result<(Reader, Bytes)> {
        let mut buffer = Buffer::take(&self.pool, self.part);
        let read = (&mut self.file).take(self.part as u64).read_to_end(&mut buffer.bytes);
        read.map_err(|error| Error::file(&self.from, format!("can't be read: {error}")))?;
        self.hasher.update(&buffer.bytes);
        self.size += buffer.bytes.len() as u64;
        Ok((self, Bytes::from_owner(buffer)))
    }

    fn stored(self) -> Stored {
        Stored { size: self.size, checksum: self.hasher.finish() }
    }
}

/// Buffers that nobody uses at present.
type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// A buffer that goes back to where it came from.
struct Buffer {
    bytes: Vec<u8>,
    pool: Pool,
}

impl Buffer {
    fn take(pool: &Pool, size: usize) -> Buffer {
        let free = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: free.unwrap_or_else(|| Vec::with_capacity(size)), pool: pool.clone() }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
