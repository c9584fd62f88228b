//! Registering a version: its files first, its manifest last, and each of the two only once.
//!
//! Whoever is killed on the way leaves an upload that no manifest names. It is not listed, nobody waits for it, and
//! [`crate::gc`] collects it. Before the manifest is created the upload is closed, and the collector has to close it as
//! well before it removes anything: so one of the two knows of the other, however long the upload has taken.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{Manifest, ModelFile};
use crate::name::{ModelName, Version};
use crate::source::SourceFile;
use crate::store::Created;
use crate::upload::upload;
use crate::{Registry, Result, keys, seal};

/// What a closed upload says of who closed it.
pub(crate) const REGISTERED: &[u8] = b"registered\n";
pub(crate) const COLLECTED: &[u8] = b"collected\n";

/// Words to find a version by, and what people write about it, have an end.
const LONGEST_TEXT: usize = 4096;

/// What is said of a version when it is registered; see [`Manifest`] for the fields.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// What people are told of it.
    pub description: String,
    /// What runs it.
    pub framework: String,
    /// Which version of that.
    pub framework_version: String,
    /// How well it does.
    pub performance_metrics: BTreeMap<String, f64>,
    /// What its makers found.
    pub validation_results: BTreeMap<String, Value>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What its checksum has to be.
    pub checksum: Option<Digest>,
    /// Who registers it.
    pub by: String,
}

impl Draft {
    fn check(&self) -> Result<()> {
        let invalid =
            |what, value: &str, why: &str| Err(Error::Invalid { what, value: value.to_owned(), why: why.to_owned() });
        if self.by.trim().is_empty() {
            return invalid("author", &self.by, "say who registers it");
        }
        for text in
            [&self.by, &self.description, &self.framework, &self.framework_version].into_iter().chain(&self.tags)
        {
            if text.len() > LONGEST_TEXT {
                return invalid(
                    "text for a manifest",
                    &text.chars().take(40).collect::<String>(),
                    "it is longer than 4096 bytes",
                );
            }
        }
        match self.performance_metrics.iter().find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => invalid("performance metric", &format!("{name}={value}"), "write a finite number"),
            None => Ok(()),
        }
    }
}

impl Registry {
    /// Registers a version. Of many that register the same one at the same time exactly one does.
    ///
    /// # Errors
    /// The version is there already, a file can't be read, the checksum is another one, or the store fails. In each case
    /// nothing is registered.
    pub async fn register(&self, draft: Draft, files: Vec<SourceFile>, at: Timestamp) -> Result<Manifest> {
        draft.check()?;
        // Before gigabytes are sent; what counts is the creation at the end.
        if let Some(manifest) = self.find(&draft.name, &draft.version).await? {
            return Err(Error::Exists(Box::new(manifest)));
        }
        let id = random()?;
        let registered = self.send_and_create(&draft, files, &id, at).await;
        // What was sent is taken back only if it is certain that no manifest names it, now or in a moment: a request that
        // was answered by an error may still be on its way. The rest is collected later.
        if let Err(Error::Exists(_) | Error::Checksum { .. } | Error::File { .. }) = registered {
            let _ = self.take_back(&draft, &id).await;
        }
        registered
    }

    async fn send_and_create(
        &self,
        draft: &Draft,
        files: Vec<SourceFile>,
        id: &str,
        at: Timestamp,
    ) -> Result<Manifest> {
        let place = keys::upload(&draft.name, &draft.version, id);
        let mut stored = Vec::with_capacity(files.len());
        for (at, SourceFile { path, from }) in files.into_iter().enumerate() {
            let sent = upload(&self.store, &place.clone().join(at.to_string()), from).await?;
            stored.push(ModelFile { path, size: sent.size, checksum: sent.checksum });
        }
        let manifest = manifest(draft, stored, id, at)?;
        self.close(&manifest).await?;
        let key = keys::manifest(&manifest.name, &manifest.version);
        if self.store.create(&key, seal::write(&manifest)?).await? == Created::Yes {
            return Ok(manifest);
        }
        match self.find(&manifest.name, &manifest.version).await? {
            // It was created, and only the answer was lost.
            Some(there) if there.upload == id => Ok(there),
            Some(there) => Err(Error::Exists(Box::new(there))),
            None => Err(Error::damaged(&key, "it is there and is not")),
        }
    }

    /// Closes the upload, with all of it there.
    async fn close(&self, manifest: &Manifest) -> Result<()> {
        let collected = || Error::Collected { name: manifest.name.clone(), version: manifest.version.clone() };
        let place = keys::upload(&manifest.name, &manifest.version, &manifest.upload);
        let closed = keys::closed(&place);
        if self.store.create(&closed, REGISTERED.to_vec()).await? == Created::Taken {
            match self.store.read(&closed).await? {
                Some(by) if by == REGISTERED => {}
                _ => return Err(collected()),
            }
        }
        let there = self.store.list(&place).await?;
        let size =
            |at: usize| there.iter().find(|object| object.location == manifest.key(at)).map(|object| object.size);
        match manifest.files.iter().enumerate().all(|(at, file)| size(at) == Some(file.size)) {
            true => Ok(()),
            false => Err(collected()),
        }
    }

    async fn take_back(&self, draft: &Draft, id: &str) -> Result<()> {
        for object in self.store.list(&keys::upload(&draft.name, &draft.version, id)).await? {
            self.store.remove(&object.location).await?;
        }
        Ok(())
    }
}

fn manifest(draft: &Draft, files: Vec<ModelFile>, id: &str, at: Timestamp) -> Result<Manifest> {
    let got = Manifest::digest(&files);
    if let Some(expected) = draft.checksum.filter(|expected| *expected != got) {
        let what = format!("the checksum of what was read as {} {}", draft.name, draft.version);
        let remedy = "nothing was registered; get the files again, or correct --checksum";
        return Err(Error::Checksum { what, expected, got, remedy });
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
        files,
        upload: id.to_owned(),
    })
}

/// 128 bits that nobody else has.
pub(crate) fn random() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
