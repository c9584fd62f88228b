//! A store in memory that asks before each of its operations. A test decides there when the operation goes on.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Get,
    Put,
    List,
    Delete,
}

/// The question before an operation on a key or prefix. The operation goes on when the future is ready.
pub type Gate = dyn Fn(Operation, &str) -> BoxFuture<'static, ()> + Send + Sync;

#[derive(Clone)]
pub struct Stepped {
    inner: Arc<InMemory>,
    gate: Arc<Gate>,
}

impl Stepped {
    pub fn new(inner: Arc<InMemory>, gate: Arc<Gate>) -> Stepped {
        Stepped { inner, gate }
    }

    /// Returns a store whose operations of these kinds, after as many as are `allowed`, never go on, as if its process was killed
    /// there, and the notice of the first one of these.
    pub fn mortal(inner: Arc<InMemory>, kinds: &'static [Operation], allowed: usize) -> (Stepped, Arc<Notify>) {
        let (counted, killed) = (AtomicUsize::new(0), Arc::new(Notify::new()));
        let kill = killed.clone();
        let gate = move |operation: Operation, _: &str| {
            let dies = kinds.contains(&operation) && counted.fetch_add(1, Ordering::SeqCst) >= allowed;
            let kill = kill.clone();
            Box::pin(async move {
                if dies {
                    kill.notify_one();
                    std::future::pending().await
                }
            }) as BoxFuture<'static, ()>
        };
        (Stepped::new(inner, Arc::new(gate)), killed)
    }
}

impl Display for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stepped")
    }
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stepped")
    }
}

#[async_trait]
impl ObjectStore for Stepped {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        (self.gate)(Operation::Put, location.as_ref()).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        (self.gate)(Operation::Put, location.as_ref()).await;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        (self.gate)(Operation::Get, location.as_ref()).await;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        (self.gate)(Operation::Get, location.as_ref()).await;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, gate) = (self.inner.clone(), self.gate.clone());
        let deleted = locations.and_then(move |location| {
            let (inner, gate) = (inner.clone(), gate.clone());
            async move {
                gate(Operation::Delete, location.as_ref()).await;
                inner.delete(&location).await.map(|()| location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, gate, prefix) = (self.inner.clone(), self.gate.clone(), prefix.cloned());
        let listed = futures::stream::once(async move {
            gate(Operation::List, prefix.as_ref().map_or("", |prefix| prefix.as_ref())).await;
            inner.list(prefix.as_ref())
        });
        listed.flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        (self.gate)(Operation::List, prefix.map_or("", |prefix| prefix.as_ref())).await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        (self.gate)(Operation::Put, to.as_ref()).await;
        self.inner.copy_opts(from, to, options).await
    }
}
