//! The object store, reduced to the operations that the registry needs: create, read, list and remove. There is no
//! operation that overwrites, and only the removal of abandoned uploads deletes.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};

use crate::error::{RegistryError, Result};

/// Maximum size in bytes of an object that is read into memory whole: a manifest, a move or a report.
pub(crate) const MAX_OBJECT_SIZE: usize = 16 << 20;

#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) inner: Arc<dyn ObjectStore>,
    /// URL or directory, for messages.
    pub(crate) place: String,
    /// Size in bytes of an upload's parts; also the upper bound for a download's pieces.
    pub(crate) part_size: usize,
    /// Maximum number of parts or pieces in transfer at a time. With `part_size` it bounds the memory.
    pub(crate) concurrency: usize,
    /// The directory, if the store is a local one.
    pub(crate) root: Option<PathBuf>,
}

/// The result of a conditional creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// This call created the object.
    Yes,
    /// The key already has an object.
    Taken,
}

impl Store {
    /// Creates `key` if it does not exist.
    ///
    /// If the store created the object but its answer was lost, the client's own retry gets `Taken`. A caller for whom
    /// that matters must recognize its own object by its content.
    pub(crate) async fn create(&self, key: &Path, bytes: Vec<u8>) -> Result<Created> {
        match self.inner.put_opts(key, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Taken)
            }
            Err(error) => Err(self.failed(format!("creating {key}"), error)),
        }
    }

    /// Reads the object at `key`; `None` if there is none.
    pub(crate) async fn read(&self, key: &Path) -> Result<Option<Bytes>> {
        let found = match self.inner.get(key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(format!("reading {key}"), error)),
        };
        if found.meta.size > MAX_OBJECT_SIZE as u64 {
            let reason = format!("it has {} bytes, and at most {MAX_OBJECT_SIZE} are written there", found.meta.size);
            return Err(RegistryError::damaged(key, reason));
        }
        found.bytes().await.map(Some).map_err(|error| self.failed(format!("reading {key}"), error))
    }

    /// Lists all objects below `prefix`, in no particular order.
    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let found: Result<Vec<_>, _> = self.inner.list(Some(prefix)).try_collect().await;
        found.map_err(|error| self.failed(format!("listing {prefix}"), error))
    }

    /// Lists the "directories" directly below `prefix`, sorted by name.
    pub(crate) async fn names(&self, prefix: &Path) -> Result<Vec<String>> {
        let found = self.inner.list_with_delimiter(Some(prefix)).await;
        let found = found.map_err(|error| self.failed(format!("listing {prefix}"), error))?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes `key`. It is no error if there is no such object.
    pub(crate) async fn remove(&self, key: &Path) -> Result<()> {
        match self.inner.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(format!("removing {key}"), error)),
        }
    }

    pub(crate) fn failed(&self, operation: String, source: object_store::Error) -> RegistryError {
        RegistryError::Store { place: self.place.clone(), operation, source: Box::new(source) }
    }
}
