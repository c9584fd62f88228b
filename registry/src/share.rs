//! Files that several versions of a model have. A file whose bytes an earlier version has is not uploaded again: the
//! manifest names the object of that version.
//!
//! Only the newest versions are looked at, and only a file of the same size is read twice: for its digest, and if that is
//! new, for the upload.
//!
//! A deletion creates its mark and then reads the manifests; a registration creates its manifest and then reads the marks.
//! So at least one of the two learns of the other, and no version loses a file in silence.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::lookup::CONCURRENT_READS;
use crate::manifest::{Manifest, ModelFile, SharedFile};
use crate::name::{ModelName, Version};
use crate::registry::Registry;
use crate::source::SourceFile;
use crate::target::{blocking, hash_file, unreadable};
use crate::withdraw::{Deletion, Withdrawal};

/// Number of versions whose files are shared with a new one.
const MAX_VERSIONS: usize = 20;

/// The files that a new version may share.
#[derive(Default)]
pub(crate) struct Shareable {
    /// The object and the version that has it, by the file's size in bytes and its digest.
    files: BTreeMap<u64, BTreeMap<Digest, (SharedFile, Version)>>,
    /// The versions whose files are shared.
    used: BTreeSet<Version>,
}

impl Shareable {
    fn add(&mut self, manifest: &Manifest) {
        for (number, file) in manifest.files.iter().enumerate().filter(|(_, file)| file.size > 0) {
            let own = || SharedFile { version: manifest.version.clone(), upload: manifest.upload.clone(), number };
            let shared = (file.shared.clone().unwrap_or_else(own), manifest.version.clone());
            self.files.entry(file.size).or_default().entry(file.checksum).or_insert(shared);
        }
    }
}

impl Registry {
    /// Collects the files of the newest versions of a model that are not withdrawn. A damaged manifest shares nothing.
    pub(crate) async fn shareable(&self, name: &ModelName) -> Result<Shareable> {
        let versions = self.versions(name).await?;
        let read = |version: Version| async move {
            match self.check_given_out(name, &version, false).await {
                Ok(()) => {}
                Err(RegistryError::Withdrawn { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            match self.find(name, &version).await {
                Err(RegistryError::Damaged { .. }) => Ok(None),
                found => found,
            }
        };
        let read = stream::iter(versions.into_iter().take(MAX_VERSIONS)).map(read).buffered(CONCURRENT_READS);
        let manifests: Vec<Option<Manifest>> = read.try_collect().await?;
        let mut shareable = Shareable::default();
        manifests.iter().flatten().for_each(|manifest| shareable.add(manifest));
        Ok(shareable)
    }

    /// Finds the object with the bytes of a local file; `None` if there is none, or if the store has lost it. The file is read
    /// only if one of the objects has its size.
    pub(crate) async fn share(
        &self,
        name: &ModelName,
        source: &SourceFile,
        shareable: &mut Shareable,
    ) -> Result<Option<ModelFile>> {
        let size = std::fs::metadata(&source.from).map_err(unreadable(&source.from))?.len();
        let Some(same_size) = shareable.files.get(&size) else { return Ok(None) };
        let from = source.from.clone();
        let checksum = blocking(move || hash_file(&from)).await?;
        let Some((shared, version)) = same_size.get(&checksum) else { return Ok(None) };
        if !self.store.exists(&shared.key(name)).await? {
            return Ok(None);
        }
        let shared = Some(shared.clone());
        shareable.used.insert(version.clone());
        Ok(Some(ModelFile { path: source.path.clone(), size, checksum, shared }))
    }

    /// Checks, after the manifest was created, that none of the versions whose files it shares was deleted meanwhile. If one
    /// was, the files may be gone, and the new version is marked as deleted.
    pub(crate) async fn check_shared(&self, manifest: &Manifest, shareable: &Shareable) -> Result<()> {
        let (name, version) = (&manifest.name, &manifest.version);
        for used in &shareable.used {
            if let Some(Deletion { by, at, .. }) = self.deletion(name, used).await? {
                let why = format!("it shares files with {used}, which was deleted while it was registered");
                let deletion = Deletion { name: name.clone(), version: version.clone(), by, why, at };
                self.mark_deleted(&deletion).await?;
                return Err(RegistryError::withdrawn(name, version, Withdrawal::Deleted(deletion)));
            }
        }
        Ok(())
    }
}
