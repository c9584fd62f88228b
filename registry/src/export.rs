//! Copying a version's files to a bucket, as plain objects with the files' own paths under a prefix: the form that servers of
//! models (KServe's storage initializer, vLLM with a streaming loader) and `aws s3` read.
//!
//! The registry itself stores files under numbers, so that an unfinished upload is never taken for a model. A reader of a
//! plain prefix has no such protection: it must be pointed there only once the export has succeeded.

use std::sync::Arc;

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;

use crate::digest::Hasher;
use crate::error::{RegistryError, Result};
use crate::fetch::checksum_error;
use crate::manifest::{FilePath, Manifest};
use crate::open;
use crate::options::{Options, StorePlace};
use crate::pieces::pieces;
use crate::registry::Registry;
use crate::store::Store;

/// The bucket and prefix that a version is copied to.
pub struct ExportTarget(Store);

impl ExportTarget {
    /// Opens the bucket that the options name. It is not contacted yet.
    ///
    /// # Errors
    /// The options are wrong, or name a directory.
    pub fn open(options: &Options) -> Result<ExportTarget> {
        if matches!(options.place(), Ok(StorePlace::Directory(_))) {
            let reason = "an export goes to a bucket; use `bellwether model get --to` for a directory".to_owned();
            return Err(RegistryError::Options { key: "url", reason });
        }
        open::open(options, false).map(ExportTarget)
    }

    /// Returns a target on any object store, for tests. `part_size` is the size of an upload's parts in bytes.
    pub fn on(inner: Arc<dyn ObjectStore>, part_size: usize) -> ExportTarget {
        ExportTarget(Registry::on(inner, part_size).store)
    }
}

impl Registry {
    /// Copies a version's files to an empty prefix of a bucket, and returns their keys below the prefix. The bytes of each
    /// are compared with the digest in the manifest before the object becomes visible. `yanked` admits a yanked version.
    ///
    /// # Errors
    /// The version is withdrawn or, if the registry has a key, has no valid signature; the target has objects already; a
    /// file in the store is damaged, or a store fails. Files that were copied before stay.
    pub async fn export(
        &self,
        manifest: &Manifest,
        ExportTarget(target): &ExportTarget,
        yanked: bool,
    ) -> Result<Vec<String>> {
        self.check_given_out(&manifest.name, &manifest.version, yanked).await?;
        if let Some(key) = &self.key {
            self.verify_signature(manifest, key).await?;
        }
        if let Some(object) = target.list(&Path::default()).await?.first() {
            let reason = format!(
                "it has objects already, such as {}, and a server would load them; use an empty prefix",
                object.location
            );
            return Err(RegistryError::Options { key: "url", reason: format!("{}: {reason}", target.place) });
        }
        let mut keys = Vec::with_capacity(manifest.files.len());
        for (at, file) in manifest.files.iter().enumerate() {
            let key = plain_key(&file.path)?;
            self.copy(manifest, at, target, &key).await?;
            keys.push(key.to_string());
        }
        Ok(keys)
    }

    /// Copies a file of a version. The object is not created if its bytes are wrong.
    async fn copy(&self, manifest: &Manifest, at: usize, target: &Store, key: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            let source = object_store::Error::Generic { store: "target", source: Box::new(error) };
            target.failed(format!("writing {key}"), source)
        };
        let mut writer = BufWriter::with_capacity(target.inner.clone(), key.clone(), target.part_size)
            .with_max_concurrency(target.concurrency);
        let mut hasher = Hasher::default();
        let from = manifest.key(at);
        let mut pieces = std::pin::pin!(pieces(&self.store, &from, 0, manifest.files[at].size));
        let copied = async {
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                hasher.update(&piece);
                writer.write_all(&piece).await.map_err(failed)?;
            }
            let got = hasher.finish();
            if got == manifest.files[at].checksum { Ok(()) } else { Err(checksum_error(manifest, at, got)) }
        };
        match copied.await {
            Ok(()) => writer.shutdown().await.map_err(failed),
            Err(error) => {
                // Without parts that were sent there is nothing to remove.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }
}

/// Returns the key of a file, which is its path as it is. A path that a store would write differently is an error.
fn plain_key(path: &FilePath) -> Result<Path> {
    Path::parse(path.as_str()).map_err(|error| {
        RegistryError::file(path.as_str(), format!("can't be the name of an object: {error}; rename the file"))
    })
}
