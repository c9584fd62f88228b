//! Collecting what registrations that were killed have left: uploads that no manifest names, and the unfinished files of a
//! local directory. Versions, moves and reports are never collected.
//!
//! An upload that still goes on looks the same as an abandoned one, so age decides, counted from the last file that came.
//! If it was wrong about that, the upload is closed by the collector, and who registers is told and writes no manifest.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use object_store::path::Path;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::name::{ModelName, Version};
use crate::register::{COLLECTED, REGISTERED};
use crate::store::Created;
use crate::{Registry, Result, keys};

/// Nothing younger is touched: a request may take its time, and clocks differ.
pub const YOUNGEST: Duration = Duration::from_secs(3600);

/// Something that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Garbage {
    /// Where it lies.
    pub place: String,
    /// Bytes.
    pub size: u64,
    /// Since when nothing has come to it.
    pub since: Timestamp,
}

struct Upload {
    name: ModelName,
    version: Version,
    id: String,
    objects: Vec<Path>,
    size: u64,
    newest: i64,
}

impl Registry {
    /// Finds what is older than `age`, and removes it if `delete` says so.
    ///
    /// # Errors
    /// The age is too small, or the store fails.
    pub async fn collect(&self, age: Duration, delete: bool, now: Timestamp) -> Result<Vec<Garbage>> {
        if age < YOUNGEST {
            return Err(Error::Invalid {
                what: "age for garbage",
                value: format!("{age:?}"),
                why: "what still goes on would be taken for abandoned; write 1h or more".to_owned(),
            });
        }
        let before = now.as_second() - i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let mut garbage = Vec::new();
        for upload in self.uploads().await? {
            if upload.newest < before && (!self.is_named(&upload).await?) {
                if delete && !self.remove(&upload).await? {
                    continue;
                }
                let place = keys::upload(&upload.name, &upload.version, &upload.id).to_string();
                garbage.push(Garbage { place, size: upload.size, since: second(upload.newest) });
            }
        }
        garbage.extend(self.unfinished(age, delete).await?);
        garbage.sort();
        Ok(garbage)
    }

    async fn uploads(&self) -> Result<Vec<Upload>> {
        let mut uploads: BTreeMap<(ModelName, Version, String), Upload> = BTreeMap::new();
        for object in self.store.list(&keys::uploads()).await? {
            // What is not ours is left alone.
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

    /// A damaged manifest might name it, and then its files are what is left.
    async fn is_named(&self, upload: &Upload) -> Result<bool> {
        match self.find(&upload.name, &upload.version).await {
            Ok(manifest) => Ok(manifest.is_some_and(|manifest| manifest.upload == upload.id)),
            Err(Error::Damaged { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether it was removed: not, if its manifest has come in the last moment.
    async fn remove(&self, upload: &Upload) -> Result<bool> {
        let place = keys::upload(&upload.name, &upload.version, &upload.id);
        let closed = keys::closed(&place);
        if self.store.create(&closed, COLLECTED.to_vec()).await? == Created::Taken {
            let by = self.store.read(&closed).await?;
            // It was closed for its manifest, which is one request away: by its age, that request was never made.
            if by.is_some_and(|by| by == REGISTERED) && self.is_named(upload).await? {
                return Ok(false);
            }
        }
        let mut files = upload.objects.clone();
        files.retain(|object| *object != closed);
        for object in &files {
            self.store.remove(object).await?;
        }
        // The mark stays for another round, for an upload that turns out to live.
        if files.is_empty() {
            self.store.remove(&closed).await?;
        }
        Ok(true)
    }

    /// A local directory's own unfinished files, which it does not list. Their name ends with `#` and a number.
    async fn unfinished(&self, age: Duration, delete: bool) -> Result<Vec<Garbage>> {
        let Some(root) = self.store.root.clone() else { return Ok(Vec::new()) };
        let found = spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&root, &root, age, delete, &mut found)?;
            Ok(found)
        });
        found.await.map_err(|_| Error::CutOff { what: "the directory".to_owned() })?
    }
}

fn walk(root: &FilePath, directory: &FilePath, age: Duration, delete: bool, found: &mut Vec<Garbage>) -> Result<()> {
    let failed = |path: &FilePath, error: std::io::Error| Error::file(path, error);
    for entry in std::fs::read_dir(directory).map_err(|error| failed(directory, error))? {
        let path: PathBuf = entry.map_err(|error| failed(directory, error))?.path();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            walk(root, &path, age, delete, found)?;
            continue;
        }
        let modified = metadata.modified().map_err(|error| failed(&path, error))?;
        // The system's clock and no other has written that time.
        let old = modified.elapsed().is_ok_and(|passed| passed >= age);
        if !old || !is_unfinished(&path) {
            continue;
        }
        if delete {
            std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        found.push(Garbage { place, size: metadata.len(), since: second(i64::try_from(since).unwrap_or(0)) });
    }
    Ok(())
}

fn is_unfinished(path: &FilePath) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.rsplit_once('#'))
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}
