//! Reads a model's file from the store piece by piece. A few pieces are in transfer while the caller handles one. If a
//! piece fails, the store's client requests that piece again, not the whole file.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::task::spawn_blocking;

use crate::digest::{Digest, Hasher};
use crate::error::{RegistryError, Result};
use crate::store::Store;

/// Returns the bytes of an object from `start` to `size`, in order.
pub(crate) fn pieces(store: &Store, key: &Path, start: u64, size: u64) -> impl Stream<Item = Result<Bytes>> {
    let step = store.piece_size as u64;
    let ranges = (0..size.saturating_sub(start).div_ceil(step))
        .map(move |n| start + n * step..(start + (n + 1) * step).min(size));
    let (store, key) = (store.clone(), key.clone());
    let concurrency = store.concurrency;
    let fetch = move |range: Range<u64>| {
        let (store, key) = (store.clone(), key.clone());
        // A task of its own continues while the stream is not polled.
        let task = tokio::spawn(async move { piece(&store, &key, range).await });
        async move { task.await.map_err(|_| RegistryError::Interrupted { task: "reading a file's piece".to_owned() })? }
    };
    stream::iter(ranges).map(fetch).buffered(concurrency)
}

async fn piece(store: &Store, key: &Path, range: Range<u64>) -> Result<Bytes> {
    let wanted = range.end - range.start;
    match store.inner.get_range(key, range).await {
        Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
        Ok(_) => Err(RegistryError::damaged(key, "it is shorter than it was when it was registered")),
        Err(object_store::Error::NotFound { .. }) => Err(RegistryError::damaged(key, "it is not there any more")),
        // This includes a range beyond the end, by which a store reports that the object is shorter.
        Err(error) => Err(store.failed(format!("reading {key}"), error)),
    }
}

/// Reads an object of `size` bytes and computes its digest.
pub(crate) async fn digest(store: &Store, key: &Path, size: u64) -> Result<Digest> {
    let mut hasher = Hasher::default();
    let mut pieces = std::pin::pin!(pieces(store, key, 0, size));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let hashed = spawn_blocking(move || {
            hasher.update(&piece);
            hasher
        });
        hasher = hashed.await.map_err(|_| RegistryError::Interrupted { task: format!("hashing {key}") })?;
    }
    Ok(hasher.finish())
}
