//! The store, reduced to what the registry may do with it: create, read, list, and collect what was abandoned. There is no
//! way to overwrite.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};

use crate::Result;
use crate::error::Error;

/// Manifests, moves and reports are read whole, so they may not be of any size.
pub(crate) const LARGEST: usize = 16 << 20;

#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) inner: Arc<dyn ObjectStore>,
    /// For people.
    pub(crate) place: String,
    /// The size of an upload's parts, and of a download's pieces.
    pub(crate) part: usize,
    /// So many of them are on their way at a time. With `part` it bounds the memory.
    pub(crate) flying: usize,
    /// The directory, if it is one.
    pub(crate) root: Option<PathBuf>,
}

/// Whether it was us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    Yes,
    /// The key is taken.
    Taken,
}

impl Store {
    /// Creates `key`. A store that did it and whose answer was lost says "taken" when it is asked again: whoever
    /// depends on the difference looks for something of his own in what is there.
    pub(crate) async fn create(&self, key: &Path, bytes: Vec<u8>) -> Result<Created> {
        match self.inner.put_opts(key, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Taken)
            }
            Err(error) => Err(self.failed(format!("creating {key}"), error)),
        }
    }

    /// What is at `key`, if something is.
    pub(crate) async fn read(&self, key: &Path) -> Result<Option<Bytes>> {
        let found = match self.inner.get(key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(format!("reading {key}"), error)),
        };
        if found.meta.size > LARGEST as u64 {
            return Err(Error::damaged(key, format!("it has {} bytes, far more than we write there", found.meta.size)));
        }
        found.bytes().await.map(Some).map_err(|error| self.failed(format!("reading {key}"), error))
    }

    /// All that lies below `prefix`, in no order.
    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let found: Result<Vec<_>, _> = self.inner.list(Some(prefix)).try_collect().await;
        found.map_err(|error| self.failed(format!("listing {prefix}"), error))
    }

    /// The names right below `prefix`, in order.
    pub(crate) async fn names(&self, prefix: &Path) -> Result<Vec<String>> {
        let found = self.inner.list_with_delimiter(Some(prefix)).await;
        let found = found.map_err(|error| self.failed(format!("listing {prefix}"), error))?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes `key`; that it is not there any more is what was wanted.
    pub(crate) async fn remove(&self, key: &Path) -> Result<()> {
        match self.inner.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(format!("removing {key}"), error)),
        }
    }

    pub(crate) fn failed(&self, doing: String, source: object_store::Error) -> Error {
        Error::Store { place: self.place.clone(), doing, source: Box::new(source) }
    }
}
