//! A file of a model, read from the store piece by piece. A few pieces are on their way while one is looked at, and a piece
//! that fails is asked for again by the store's client; the file's other pieces are not.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::task::spawn_blocking;

use crate::Result;
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::store::Store;

/// The largest piece. A piece is put together in memory, for a while twice.
const LARGEST: u64 = 4 << 20;

/// The bytes of an object from `start` to `size`, in order.
pub(crate) fn pieces(store: &Store, key: &Path, start: u64, size: u64) -> impl Stream<Item = Result<Bytes>> {
    let step = LARGEST.min(store.part as u64);
    let ranges = (0..size.saturating_sub(start).div_ceil(step))
        .map(move |n| start + n * step..(start + (n + 1) * step).min(size));
    let (store, key) = (store.clone(), key.clone());
    let flying = store.flying;
    let fetch = move |range: Range<u64>| {
        let (store, key) = (store.clone(), key.clone());
        // A task of its own, so that it goes on while nobody waits for it.
        let task = tokio::spawn(async move { piece(&store, &key, range).await });
        async move { task.await.map_err(|_| Error::CutOff { what: "a piece of a file".to_owned() })? }
    };
    stream::iter(ranges).map(fetch).buffered(flying)
}

async fn piece(store: &Store, key: &Path, range: Range<u64>) -> Result<Bytes> {
    let wanted = range.end - range.start;
    match store.inner.get_range(key, range).await {
        Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
        Ok(_) => Err(Error::damaged(key, "it is shorter than it was when it was registered")),
        Err(object_store::Error::NotFound { .. }) => Err(Error::damaged(key, "it is not there any more")),
        // A range that begins behind the end is how a store says that it has become shorter.
        Err(error) => Err(store.failed(format!("reading {key}"), error)),
    }
}

/// Reads all of an object and takes its digest.
pub(crate) async fn digest(store: &Store, key: &Path, size: u64) -> Result<Digest> {
    let mut hasher = Hasher::default();
    let mut pieces = std::pin::pin!(pieces(store, key, 0, size));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let hashed = spawn_blocking(move || {
            hasher.update(&piece);
            hasher
        });
        hasher = hashed.await.map_err(|_| Error::CutOff { what: key.to_string() })?;
    }
    Ok(hasher.finish())
}
