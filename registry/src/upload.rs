//! Uploads a local file in one pass: each part is read, added to the digest and sent, while the next one is read.
//!
//! Memory is bounded for a file of any size: it holds the parts in transfer and the one that is being read. A part's
//! buffer is used again once the part is sent. With fresh buffers for each part, the allocator would keep freed ones for
//! every thread, several times as much.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use tokio::task::{JoinSet, spawn_blocking};

use crate::digest::{Digest, Hasher};
use crate::error::{RegistryError, Result};
use crate::store::Store;

/// Maximum number of parts of an upload that every store accepts.
const MAX_PARTS: u64 = 10_000;

/// The size and the digest of the bytes that were uploaded.
pub(crate) struct Uploaded {
    pub(crate) size: u64,
    pub(crate) checksum: Digest,
}

/// Uploads the file `from` to `key`. The object is not visible before it is complete. After an error the parts that were
/// sent are removed, if the store still answers.
pub(crate) async fn upload(store: &Store, key: &Path, from: PathBuf) -> Result<Uploaded> {
    let reader = spawn_blocking({
        let part_size = store.part_size;
        move || Reader::open(from, part_size)
    });
    let reader = reader.await.map_err(|_| interrupted(key))??;
    let (reader, first) = reader.next(key).await?;
    let failed = |error| store.failed(format!("writing {key}"), error);
    if first.len() < reader.part_size {
        store.inner.put(key, first.into()).await.map_err(failed)?;
        return Ok(reader.finish());
    }
    let mut upload = store.inner.put_multipart(key).await.map_err(failed)?;
    let sent = send(store, key, &mut *upload, reader, first).await;
    let done = match sent {
        Ok(uploaded) => upload.complete().await.map(|_| uploaded).map_err(failed),
        Err(error) => Err(error),
    };
    if done.is_err() {
        let _ = upload.abort().await;
    }
    done
}

/// Sends `part` and all parts after it.
async fn send(
    store: &Store,
    key: &Path,
    upload: &mut dyn MultipartUpload,
    mut reader: Reader,
    mut part: Bytes,
) -> Result<Uploaded> {
    let mut sending = JoinSet::new();
    let check = |part: Option<Result<object_store::Result<()>, _>>| match part {
        Some(Ok(Ok(()))) | None => Ok(()),
        Some(Ok(Err(error))) => Err(store.failed(format!("writing {key}"), error)),
        Some(Err(_)) => Err(interrupted(key)),
    };
    while !part.is_empty() {
        if sending.len() >= store.concurrency {
            check(sending.join_next().await)?;
        }
        sending.spawn(upload.put_part(part.into()));
        (reader, part) = reader.next(key).await?;
    }
    while !sending.is_empty() {
        check(sending.join_next().await)?;
    }
    Ok(reader.finish())
}

fn interrupted(key: &Path) -> RegistryError {
    RegistryError::Interrupted { task: format!("writing {key}") }
}

/// Reads a file part by part and computes its digest. Both block, so they run on a thread for blocking work.
struct Reader {
    file: File,
    from: PathBuf,
    /// Size of each part but the last, in bytes.
    part_size: usize,
    /// Number of bytes read.
    size: u64,
    hasher: Hasher,
    pool: Pool,
}

impl Reader {
    fn open(from: PathBuf, part_size: usize) -> Result<Reader> {
        let unreadable = |error: std::io::Error| RegistryError::file(&from, format!("can't be read: {error}"));
        let file = File::open(&from).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        // The number of parts is limited, so large files have larger parts.
        let part_size = usize::try_from(size.div_ceil(MAX_PARTS)).unwrap_or(usize::MAX).max(part_size);
        Ok(Reader { file, from, part_size, size: 0, hasher: Hasher::default(), pool: Pool::default() })
    }

    /// Reads the next part. It is empty at the end of the file.
    async fn next(self, key: &Path) -> Result<(Reader, Bytes)> {
        spawn_blocking(move || self.read()).await.map_err(|_| interrupted(key))?
    }

    fn read(mut self) -> Result<(Reader, Bytes)> {
        let mut buffer = Buffer::take(&self.pool, self.part_size);
        let read = (&mut self.file).take(self.part_size as u64).read_to_end(&mut buffer.bytes);
        read.map_err(|error| RegistryError::file(&self.from, format!("can't be read: {error}")))?;
        self.hasher.update(&buffer.bytes);
        self.size += buffer.bytes.len() as u64;
        Ok((self, Bytes::from_owner(buffer)))
    }

    fn finish(self) -> Uploaded {
        Uploaded { size: self.size, checksum: self.hasher.finish() }
    }
}

/// The buffers that are free.
type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// A buffer that returns to its pool when it is dropped.
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
