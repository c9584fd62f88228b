//! Collects the remains of registrations that were killed: uploads that no manifest names, and the unfinished files of a
//! local directory. Versions, moves and reports are never collected, also not those of deleted versions.
//!
//! A running upload looks the same as an abandoned one, so its age decides, counted from its newest object. If a running
//! upload is taken for abandoned nevertheless, the collector closes it before it removes anything. The registering side
//! then finds it closed, fails with [`RegistryError::Collected`] and creates no manifest.
//!
//! An upload that the registering side has closed is never taken for abandoned, however old it is: the manifest may follow
//! at any time, also from a process that was suspended for days. It is garbage only if the version has another manifest,
//! because then its own can't be created any more.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use object_store::path::Path;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::error::{RegistryError, Result};
use crate::invalid::InvalidValue;
use crate::keys;
use crate::name::{ModelName, Version};
use crate::register::COLLECTED;
use crate::registry::Registry;
use crate::store::Created;

/// Minimum age of garbage. A request may take long, and clocks differ.
pub const MIN_AGE: Duration = Duration::from_secs(3600);

/// An abandoned upload, or an unfinished file of a local directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Garbage {
    /// Key of the upload, or path of the file within the directory.
    pub place: String,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last write.
    pub since: Timestamp,
}

struct Upload {
    name: ModelName,
    version: Version,
    id: String,
    objects: Vec<Path>,
    /// Size of all objects in bytes.
    size: u64,
    /// Time of the newest object, in seconds since the Unix epoch.
    newest: i64,
}

impl Registry {
    /// Finds garbage that is older than `age`, and with `delete` removes it. Returns the garbage that was found or removed.
    ///
    /// # Errors
    /// The age is below [`MIN_AGE`], or the store fails.
    pub async fn collect(&self, age: Duration, delete: bool, now: Timestamp) -> Result<Vec<Garbage>> {
        if age < MIN_AGE {
            let reason = "a running upload would be taken for abandoned; write 1h or more";
            return Err(InvalidValue::new("age for garbage", format!("{age:?}"), reason).into());
        }
        let before = now.as_second() - i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let mut garbage = Vec::new();
        for upload in self.uploads().await? {
            if upload.newest < before && self.is_abandoned(&upload).await? {
                if delete && !self.remove_abandoned(&upload).await? {
                    continue;
                }
                let place = keys::upload(&upload.name, &upload.version, &upload.id).to_string();
                garbage.push(Garbage { place, size: upload.size, since: timestamp(upload.newest) });
            }
        }
        garbage.extend(self.unfinished_files(age, delete).await?);
        garbage.sort();
        Ok(garbage)
    }

    async fn uploads(&self) -> Result<Vec<Upload>> {
        let mut uploads: BTreeMap<(ModelName, Version, String), Upload> = BTreeMap::new();
        for object in self.store.list(&keys::uploads()).await? {
            // Objects that are not of the registry's layout are ignored.
            let Some((name, version, id)) = keys::upload_of(&object.location) else { continue };
            let upload = uploads.entry((name.clone(), version.clone(), id.clone())).or_insert(Upload {
                name,
                version,
                id,
                objects: Vec::new(),
                size: 0,
                newest: i64::MIN,
            });
            upload.size += object.size;
            upload.newest = upload.newest.max(object.last_modified.timestamp());
            upload.objects.push(object.location);
        }
        Ok(uploads.into_values().collect())
    }

    /// Returns whether no manifest names this upload, now or later. A damaged manifest counts as naming it, because the
    /// files are then all that is left of the version.
    async fn is_abandoned(&self, upload: &Upload) -> Result<bool> {
        match self.find(&upload.name, &upload.version).await {
            Ok(Some(manifest)) => Ok(manifest.upload != upload.id),
            Ok(None) => {
                let closed = keys::closed(&keys::upload(&upload.name, &upload.version, &upload.id));
                Ok(self.store.read(&closed).await?.is_none_or(|mark| mark == COLLECTED))
            }
            Err(RegistryError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an upload, and returns whether it was removed. It is kept if the registering side has closed it in the
    /// meantime.
    async fn remove_abandoned(&self, upload: &Upload) -> Result<bool> {
        let prefix = keys::upload(&upload.name, &upload.version, &upload.id);
        let closed = keys::closed(&prefix);
        let taken = self.store.create(&closed, COLLECTED.to_vec()).await? == Created::Taken;
        if taken && !self.is_abandoned(upload).await? {
            return Ok(false);
        }
        let mut files = upload.objects.clone();
        files.retain(|object| *object != closed);
        for object in &files {
            self.store.remove(object).await?;
        }
        // The mark is kept until the next collection, for the case that the upload is still running.
        if files.is_empty() {
            self.store.remove(&closed).await?;
        }
        Ok(true)
    }

    /// Finds the unfinished files of a local directory, which the store itself does not list.
    async fn unfinished_files(&self, age: Duration, delete: bool) -> Result<Vec<Garbage>> {
        let Some(root) = self.store.root.clone() else { return Ok(Vec::new()) };
        let found = spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&root, &root, age, delete, &mut found)?;
            Ok(found)
        });
        let task = || RegistryError::Interrupted { task: "the search for unfinished files".to_owned() };
        found.await.map_err(|_| task())?
    }
}

fn walk(root: &FilePath, directory: &FilePath, age: Duration, delete: bool, found: &mut Vec<Garbage>) -> Result<()> {
    let failed = |path: &FilePath, error: std::io::Error| RegistryError::file(path, error);
    for entry in std::fs::read_dir(directory).map_err(|error| failed(directory, error))? {
        let path: PathBuf = entry.map_err(|error| failed(directory, error))?.path();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            walk(root, &path, age, delete, found)?;
            continue;
        }
        let modified = metadata.modified().map_err(|error| failed(&path, error))?;
        // A file's time comes from the system's clock, so its age is counted by that clock and not by the caller's.
        let old = modified.elapsed().is_ok_and(|passed| passed >= age);
        if !old || !is_unfinished(&path) {
            continue;
        }
        if delete {
            std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        found.push(Garbage { place, size: metadata.len(), since: timestamp(i64::try_from(since).unwrap_or(0)) });
    }
    Ok(())
}

/// Returns whether a file is one that `object_store` has not finished: its name ends with `#` and a number.
fn is_unfinished(path: &FilePath) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.rsplit_once('#'))
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Converts seconds since the Unix epoch.
fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}
