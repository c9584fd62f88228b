//! Registering a version: the files are uploaded first, and the manifest is created last.
//!
//! A process that is killed on the way leaves an upload that no manifest names. It is not listed, it blocks no other
//! attempt, and [`Registry::collect`] removes it later.
//!
//! A collector can't tell a slow upload from an abandoned one. Both sides therefore create the same object, the upload's
//! closing mark: the registering side before the manifest, the collector before it removes anything. Only one of them
//! creates it, and the other reads in it which one that was: one of the two always learns of the other, however long the
//! upload takes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::invalid::InvalidValue;
use crate::manifest::{FoundRisk, Manifest, ModelFile, Provenance};
use crate::name::{ModelName, Version};
use crate::random::random_id;
use crate::registry::Registry;
use crate::risk::Risk;
use crate::scan::{check, scan};
use crate::share::Shareable;
use crate::source::SourceFile;
use crate::store::Created;
use crate::upload::upload;
use crate::{keys, seal};

/// Content of the closing mark that the registering side creates.
pub(crate) const REGISTERED: &[u8] = b"registered\n";
/// Content of the closing mark that a collector creates.
pub(crate) const COLLECTED: &[u8] = b"collected\n";

/// Maximum length in bytes of each text in a manifest.
const MAX_TEXT_LEN: usize = 4096;

/// The description of a version to be registered. The fields become those of [`Manifest`].
#[derive(Debug, Clone)]
pub struct VersionDraft {
    /// The model's name.
    pub name: ModelName,
    /// The version to be registered.
    pub version: Version,
    /// Free text for readers, at most 4096 bytes; may be empty.
    pub description: String,
    /// Framework that runs the model, at most 4096 bytes; may be empty.
    pub framework: String,
    /// Version of the framework, at most 4096 bytes; may be empty.
    pub framework_version: String,
    /// Measurements of the model's quality, by the metric's name. Each must be finite.
    pub performance_metrics: BTreeMap<String, f64>,
    /// Results of the developers' own validation, as free-form JSON.
    pub validation_results: BTreeMap<String, Value>,
    /// Search tags, each of at most 4096 bytes; order and duplicates do not matter.
    pub tags: Vec<String>,
    /// Expected digest of the model; `None`: any digest is accepted.
    pub checksum: Option<Digest>,
    /// Kinds of risks that the files may have. The manifest records those that they have.
    pub accept: Vec<Risk>,
    /// Origin of the version; each text has at most 4096 bytes.
    pub provenance: Provenance,
    /// Name of the registering person or program, at most 4096 bytes and not blank.
    pub by: String,
}

impl VersionDraft {
    fn check(&self) -> Result<(), InvalidValue> {
        if self.by.trim().is_empty() {
            return Err(InvalidValue::new("author", &self.by, "say who registers it"));
        }
        let texts = [&self.by, &self.description, &self.framework, &self.framework_version].into_iter();
        for text in texts.chain(&self.tags).chain(self.provenance.texts()) {
            if text.len() > MAX_TEXT_LEN {
                let start: String = text.chars().take(40).collect();
                return Err(InvalidValue::new("text for a manifest", start, "it is longer than 4096 bytes"));
            }
        }
        match self.performance_metrics.iter().find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => {
                Err(InvalidValue::new("performance metric", format!("{name}={value}"), "write a finite number"))
            }
            None => Ok(()),
        }
    }
}

impl Registry {
    /// Registers a version with these files at the time `at`, and returns its manifest. If several callers register the
    /// same version at the same time, exactly one of them succeeds.
    ///
    /// # Errors
    /// The draft is invalid, the version exists, a file can't be read or has a risk that is not accepted, the checksum is not
    /// the expected one, the upload was collected, or the store fails. Nothing is registered then, except that after a
    /// failure of the store the version may exist: the answer to its creation may be lost. If a version whose files the new
    /// one shares was deleted meanwhile, the new one exists and is marked as deleted.
    pub async fn register(&self, draft: VersionDraft, files: Vec<SourceFile>, at: Timestamp) -> Result<Manifest> {
        draft.check()?;
        // A store that is not fit is refused before anything is uploaded.
        self.store.prove_conditional().await?;
        // This check only saves an upload in vain; the creation of the manifest decides.
        if let Some(manifest) = self.find(&draft.name, &draft.version).await? {
            return Err(RegistryError::Exists(Box::new(manifest)));
        }
        let to_scan = files.clone();
        let found = spawn_blocking(move || scan(&to_scan)).await;
        let found = found.map_err(|_| RegistryError::Interrupted { task: "the scan of the files".to_owned() })??;
        let accepted = check(found, &draft.accept)?;
        let id = random_id()?;
        let mut shareable = self.shareable(&draft.name).await?;
        let registered = self.upload_and_create(&draft, files, &mut shareable, accepted, &id, at).await;
        // The files are removed only if it is certain that no manifest names them, now or later: a request that was
        // answered by an error may still take effect. In the other cases the collector removes them.
        if let Err(RegistryError::Exists(_) | RegistryError::Checksum { .. } | RegistryError::File { .. }) = registered
        {
            let _ = self.remove_upload(&draft, &id).await;
        }
        let manifest = registered?;
        self.check_shared(&manifest, &shareable).await?;
        Ok(manifest)
    }

    async fn upload_and_create(
        &self,
        draft: &VersionDraft,
        files: Vec<SourceFile>,
        shareable: &mut Shareable,
        accepted: Vec<FoundRisk>,
        id: &str,
        at: Timestamp,
    ) -> Result<Manifest> {
        let prefix = keys::upload(&draft.name, &draft.version, id);
        let mut uploaded = Vec::with_capacity(files.len());
        for (number, source) in files.into_iter().enumerate() {
            if let Some(shared) = self.share(&draft.name, &source, shareable).await? {
                uploaded.push(shared);
                continue;
            }
            let SourceFile { path, from } = source;
            let file = upload(&self.store, &keys::file(&prefix, number), from).await?;
            uploaded.push(ModelFile { path, size: file.size, checksum: file.checksum, shared: None });
        }
        let manifest = Manifest { accepted, ..manifest(draft, uploaded, id, at)? };
        self.close_upload(&manifest).await?;
        let key = keys::manifest(&manifest.name, &manifest.version);
        if self.store.create(&key, seal::write(&manifest)?).await? == Created::Yes {
            return Ok(manifest);
        }
        match self.find(&manifest.name, &manifest.version).await? {
            // This call created the manifest, but the answer was lost and the client tried again.
            Some(existing) if existing.upload == id => Ok(existing),
            Some(existing) => Err(RegistryError::Exists(Box::new(existing))),
            None => Err(RegistryError::damaged(&key, "the store says that it exists, and does not return it")),
        }
    }

    /// Creates the upload's closing mark, and checks that all files are there.
    async fn close_upload(&self, manifest: &Manifest) -> Result<()> {
        let collected = || RegistryError::Collected { name: manifest.name.clone(), version: manifest.version.clone() };
        let prefix = keys::upload(&manifest.name, &manifest.version, &manifest.upload);
        let closed = keys::closed(&prefix);
        if self.store.create(&closed, REGISTERED.to_vec()).await? == Created::Taken {
            match self.store.read(&closed).await? {
                Some(mark) if mark == REGISTERED => {}
                _ => return Err(collected()),
            }
        }
        let objects = self.store.list(&prefix).await?;
        // Those of other versions are looked for after the manifest was created.
        let own = manifest.files.iter().enumerate().filter(|(_, file)| file.shared.is_none());
        let size =
            |at: usize| objects.iter().find(|object| object.location == manifest.key(at)).map(|object| object.size);
        match own.into_iter().all(|(at, file)| size(at) == Some(file.size)) {
            true => Ok(()),
            false => Err(collected()),
        }
    }

    async fn remove_upload(&self, draft: &VersionDraft, id: &str) -> Result<()> {
        for object in self.store.list(&keys::upload(&draft.name, &draft.version, id)).await? {
            self.store.remove(&object.location).await?;
        }
        Ok(())
    }
}

/// Composes the manifest, and checks the draft's expected digest.
fn manifest(draft: &VersionDraft, files: Vec<ModelFile>, id: &str, at: Timestamp) -> Result<Manifest> {
    let got = Manifest::digest(&files);
    if let Some(expected) = draft.checksum.filter(|expected| *expected != got) {
        let subject = format!("the checksum of the files for {} {}", draft.name, draft.version);
        let remedy = "nothing was registered; get the files again, or correct --checksum";
        return Err(RegistryError::Checksum { subject, expected, got, remedy });
    }
    let mut tags = draft.tags.clone();
    tags.sort_unstable();
    tags.dedup();
    Ok(Manifest {
        schema: Manifest::schema(),
        name: draft.name.clone(),
        version: draft.version.clone(),
        description: draft.description.clone(),
        framework: draft.framework.clone(),
        framework_version: draft.framework_version.clone(),
        size: files.iter().map(|file| file.size).sum(),
        checksum: got,
        created_at: at,
        created_by: draft.by.clone(),
        performance_metrics: draft.performance_metrics.clone(),
        validation_results: draft.validation_results.clone(),
        tags,
        provenance: draft.provenance.clone(),
        accepted: Vec::new(),
        files,
        upload: id.to_owned(),
    })
}
