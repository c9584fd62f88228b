//! A store in memory whose writes fail in a chosen way.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// A concurrent act; its argument is the number of the write that it follows.
pub type Hook = dyn Fn(usize) -> BoxFuture<'static, ()> + Send + Sync;

/// The way in which the store fails.
pub enum Failure {
    /// The chosen write and all later ones fail and have no effect: the writer was killed, or the store is gone.
    Before,
    /// The chosen write takes effect but fails, and all later ones fail without effect.
    After,
    /// Every write is carried out twice, as if each first answer was lost and the client tried again.
    Twice,
    /// A concurrent act follows the chosen write.
    Meanwhile(Box<Hook>),
}

/// A store in memory whose write number `nth` fails, counted from 1.
pub struct Unstable {
    pub inner: Arc<InMemory>,
    failure: Arc<Failure>,
    nth: usize,
    writes: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
}

impl Unstable {
    pub fn new(inner: Arc<InMemory>, failure: Failure, nth: usize) -> Unstable {
        let (writes, dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        Unstable { inner, failure: Arc::new(failure), nth, writes, dead }
    }

    fn gate(&self) -> WriteGate {
        let Unstable { failure, nth, writes, dead, .. } = self;
        WriteGate { failure: failure.clone(), nth: *nth, writes: writes.clone(), dead: dead.clone() }
    }

    /// Returns whether write number `nth` was reached.
    pub fn has_failed(&self) -> bool {
        self.writes.load(Ordering::SeqCst) >= self.nth
    }
}

/// Counts the writes of a store and its uploads, and lets them fail.
#[derive(Clone)]
struct WriteGate {
    failure: Arc<Failure>,
    nth: usize,
    writes: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
}

fn gone() -> Error {
    Error::Generic { store: "Unstable", source: "the store is gone".into() }
}

impl WriteGate {
    async fn perform<T>(&self, write: impl Fn() -> BoxFuture<'static, Result<T>> + Send) -> Result<T> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(gone());
        }
        let fails = self.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.nth;
        match &*self.failure {
            Failure::Before if fails => {
                self.dead.store(true, Ordering::SeqCst);
                Err(gone())
            }
            Failure::After if fails => {
                let _ = write().await;
                self.dead.store(true, Ordering::SeqCst);
                Err(gone())
            }
            Failure::Twice => {
                let _ = write().await;
                write().await
            }
            Failure::Meanwhile(hook) if fails => {
                let done = write().await;
                hook(self.nth).await;
                done
            }
            Failure::Before | Failure::After | Failure::Meanwhile(_) => write().await,
        }
    }
}

impl Display for Unstable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unstable")
    }
}

impl fmt::Debug for Unstable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unstable")
    }
}

#[async_trait]
impl ObjectStore for Unstable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (gate, inner) = (self.gate(), self.inner.clone());
        let location = location.clone();
        let write = move || {
            let (inner, location, payload, opts) = (inner.clone(), location.clone(), payload.clone(), opts.clone());
            async move { inner.put_opts(&location, payload, opts).await }.boxed()
        };
        gate.perform(write).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, opts).await?;
        // Beginning an upload has no visible effect, so it is not counted as a write.
        Ok(Box::new(Upload { inner: upload, gate: self.gate() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.dead.load(Ordering::SeqCst) {
            return futures::stream::once(async { Err(gone()) }).boxed();
        }
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    gate: WriteGate,
}

impl fmt::Debug for WriteGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteGate")
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // A failed part is never stored, so `Before` and `After` are the same here.
        let fails = self.gate.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.gate.nth;
        if let (true, Failure::Before | Failure::After) = (fails, &*self.gate.failure) {
            self.gate.dead.store(true, Ordering::SeqCst);
        }
        if self.gate.dead.load(Ordering::SeqCst) {
            return async { Err(gone()) }.boxed();
        }
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.gate.dead.load(Ordering::SeqCst) {
            return Err(gone());
        }
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        if self.gate.dead.load(Ordering::SeqCst) {
            return Err(gone());
        }
        self.inner.abort().await
    }
}
