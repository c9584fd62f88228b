//! The object store, reduced to the operations that the registry needs: create, read, list and remove. There is no
//! operation that overwrites, and only the removal of abandoned uploads deletes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};
use tokio::sync::OnceCell;

use crate::error::{RegistryError, Result};
use crate::keys;
use crate::random::random_fraction;

/// Maximum size in bytes of an object that is read into memory whole: a manifest, a move or a report.
pub(crate) const MAX_OBJECT_SIZE: usize = 16 << 20;

/// Content of the root object. The object marks the place of a registry, and its creation shows whether the store is fit.
pub(crate) const ROOT: &[u8] = b"{\"schema\":\"bellwether.dev/registry/v1\"}\n";

/// Maximum number of attempts at a creation that the store answers by a conflict. With the delays they take 5 s at most.
const MAX_ATTEMPTS: u32 = 8;

/// Maximum delay before the second attempt; it doubles with each further one.
const CONFLICT_DELAY: Duration = Duration::from_millis(40);

#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) inner: Arc<dyn ObjectStore>,
    /// The same store with few retries, for the creation that shows whether the store is fit.
    pub(crate) prober: Arc<dyn ObjectStore>,
    /// Set once the store has refused to create an object that exists.
    pub(crate) proven: Arc<OnceCell<()>>,
    /// The bucket or file system around the registry, for messages.
    pub(crate) surroundings: Surroundings,
    /// URL or directory, for messages.
    pub(crate) place: String,
    /// Size in bytes of an upload's parts.
    pub(crate) part_size: usize,
    /// Size in bytes of a download's pieces. A piece is assembled in memory, for a short time in two copies.
    pub(crate) piece_size: usize,
    /// Maximum number of parts or pieces in transfer at a time. With their sizes it bounds the memory.
    pub(crate) concurrency: usize,
    /// The directory, if the store is a local one.
    pub(crate) root: Option<PathBuf>,
}

/// The bucket or file system that the registry is a part of.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Prefix of the registry's keys in it.
    pub(crate) prefix: Path,
    /// URL or directory of its root.
    pub(crate) base: String,
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
    /// Creates `key` if it does not exist. The first creation shows whether the store honours that condition.
    ///
    /// If the store created the object but its answer was lost, the client's own retry gets `Taken`. A caller for whom
    /// that matters must recognize its own object by its content.
    ///
    /// # Errors
    /// The store has no conditional creation, answers by a conflict each time, or fails.
    pub(crate) async fn create(&self, key: &Path, bytes: Vec<u8>) -> Result<Created> {
        self.prove_conditional().await?;
        self.create_if_absent(&self.inner, key, bytes).await
    }

    /// Creates `key` in `store` if it does not exist.
    ///
    /// A refusal is believed only if the object can be seen. Without it, the refusal is a conflict with a creation that
    /// is under way and may still fail (S3: 409 ConditionalRequestConflict), and the creation is tried again.
    pub(crate) async fn create_if_absent(
        &self,
        store: &Arc<dyn ObjectStore>,
        key: &Path,
        bytes: Vec<u8>,
    ) -> Result<Created> {
        let bytes = Bytes::from(bytes);
        for attempt in 0..MAX_ATTEMPTS {
            match store.put_opts(key, bytes.clone().into(), PutMode::Create.into()).await {
                Ok(_) => return Ok(Created::Yes),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    if self.exists(key).await? {
                        return Ok(Created::Taken);
                    }
                }
                Err(error) if is_not_implemented(&error) => {
                    let reason = "it answered that it does not implement `If-None-Match: *`";
                    return Err(RegistryError::Unconditional { place: self.place.clone(), reason });
                }
                Err(error) => return Err(self.failed(format!("creating {key}"), error)),
            }
            tokio::time::sleep((CONFLICT_DELAY * 2_u32.pow(attempt)).mul_f64(random_fraction()?)).await;
        }
        Err(RegistryError::Busy { place: self.place.clone(), key: key.to_string(), attempts: MAX_ATTEMPTS })
    }

    /// Creates the root object, and checks that the store does not create it a second time. Once per process is enough: a
    /// store does not change its mind.
    ///
    /// # Errors
    /// The store has no conditional creation, or fails.
    pub(crate) async fn prove_conditional(&self) -> Result<()> {
        let prove = async || {
            for _ in 0..2 {
                if self.create_if_absent(&self.prober, &keys::root(), ROOT.to_vec()).await? == Created::Taken {
                    return Ok(());
                }
            }
            Err(RegistryError::Unconditional {
                place: self.place.clone(),
                reason: "it created one object twice, although the requests said `If-None-Match: *`",
            })
        };
        self.proven.get_or_try_init(prove).await?;
        Ok(())
    }

    /// Returns whether there is an object at `key`.
    pub(crate) async fn exists(&self, key: &Path) -> Result<bool> {
        match self.inner.head(key).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(format!("looking for {key}"), error)),
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

/// Returns whether the store answered that it does not know the request, by 501 over HTTP. The client's error has no field
/// for the status.
fn is_not_implemented(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotImplemented { .. }) || error.to_string().contains(" 501 Not Implemented")
}
