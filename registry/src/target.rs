//! The local directory that a version is downloaded into. It holds one version and nothing else, and has one writer at a
//! time.
//!
//! ```text
//! .bellwether/lock               locked by the process that writes into the directory
//! .bellwether/version.json       the version in the directory, and the files that a download put there
//! .bellwether/DIGEST.ID.part     a file that is not complete yet, under the digest that it will have
//! ```
//!
//! A server of models reads every file that it finds, so a file of another version is as harmful as a wrong byte. Files
//! that a download put there are known from the record, and are removed with `replace`. Files of unknown origin may be a
//! person's only copy: they are refused and never removed. Names with a leading dot, and `lost+found`, are ignored.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::digest::{Digest, Hasher};
use crate::error::{RegistryError, Result};
use crate::manifest::{FilePath, Manifest, ModelFile};
use crate::name::{ModelName, Version};
use crate::random::random_id;

/// Name of the directory for everything that is not a file of the model.
pub(crate) const OWN: &str = ".bellwether";

/// Maximum number of files that an error names.
const MAX_NAMED: usize = 5;

/// The record of the version in a directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    name: ModelName,
    version: Version,
    checksum: Digest,
    /// Paths of the files that downloads put there. They include files of an earlier version until those are removed.
    files: BTreeSet<FilePath>,
}

impl Record {
    fn of(manifest: &Manifest) -> Record {
        let files = manifest.files.iter().map(|file| file.path.clone()).collect();
        let Manifest { name, version, checksum, .. } = manifest;
        Record { name: name.clone(), version: version.clone(), checksum: *checksum, files }
    }

    fn is_of(&self, manifest: &Manifest) -> bool {
        (&self.name, &self.version, &self.checksum) == (&manifest.name, &manifest.version, &manifest.checksum)
    }
}

/// A directory that this process alone writes into, until the value is dropped.
pub(crate) struct Target {
    root: PathBuf,
    /// The record as it will be when all files of the version are there.
    record: Record,
    /// Files of an earlier version, which are removed at the end.
    stale: BTreeSet<FilePath>,
    _lock: File,
}

impl Target {
    /// Locks the directory, creates it if it is missing, and prepares it for the version; `None` if another process has
    /// the lock.
    ///
    /// # Errors
    /// The directory has another version and `replace` is false, it has files of unknown origin, or it can't be written.
    pub(crate) fn open(root: &Path, manifest: &Manifest, replace: bool) -> Result<Option<Target>> {
        let own = root.join(OWN);
        if !own.exists() {
            // A refused directory is left as it was.
            refuse_unknown(root, manifest, None)?;
        }
        fs::create_dir_all(&own).map_err(unwritable(&own))?;
        let path = own.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(unwritable(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                let reason = format!("can't be locked: {error}; download into a file system that has locks");
                return Err(RegistryError::file(path, reason));
            }
        }
        let existing = read_record(root)?;
        if let Some(existing) = existing.as_ref().filter(|existing| !existing.is_of(manifest) && !replace) {
            let Record { name, version, files, .. } = existing;
            let reason = format!(
                "it has {name} {version} ({}); use --replace to remove that, or another directory with --to",
                named(files.iter().map(FilePath::as_str))
            );
            return Err(RegistryError::file(root, reason));
        }
        refuse_unknown(root, manifest, existing.as_ref())?;
        let record = Record::of(manifest);
        let before = existing.as_ref().map(|existing| existing.files.clone()).unwrap_or_default();
        let stale: BTreeSet<FilePath> = before.difference(&record.files).cloned().collect();
        let target = Target { root: root.to_owned(), record, stale, _lock: lock };
        target.remove_partials(manifest)?;
        // The record is there before the files: they are known even if this process is killed.
        let files = target.record.files.union(&target.stale).cloned().collect();
        let record = Record { files, ..target.record.clone() };
        if existing.as_ref() != Some(&record) {
            target.write_record(&record)?;
        }
        Ok(Some(target))
    }

    /// Returns the path of a file of the version.
    pub(crate) fn path(&self, file: &ModelFile) -> PathBuf {
        self.root.join(file.path.as_str())
    }

    /// Returns a path for the bytes of a file until they are verified. The bytes of an interrupted download are there
    /// already. The name has never been used before, so no other process has the file open.
    pub(crate) fn partial(&self, file: &ModelFile) -> Result<PathBuf> {
        let fresh = self.own(&format!("{}.{}.part", file.checksum.hex(), random_id()?));
        if let Some(left) = self.partials()?.into_iter().find(|path| digest_of(path) == Some(file.checksum)) {
            fs::rename(&left, &fresh).map_err(unwritable(&left))?;
        }
        Ok(fresh)
    }

    /// Removes the files of an earlier version, and makes all changes of the directory durable.
    pub(crate) fn finish(self) -> Result<()> {
        let mut changed: BTreeSet<PathBuf> = BTreeSet::from([self.root.clone()]);
        changed.extend(self.root.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned));
        for file in &self.stale {
            let path = self.root.join(file.as_str());
            remove(&path)?;
            remove_empty_parents(&self.root, &path);
        }
        for file in self.record.files.union(&self.stale) {
            changed.extend(parents(&self.root, &self.root.join(file.as_str())).map(Path::to_owned));
        }
        for directory in changed.iter().filter(|directory| directory.is_dir()) {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable(directory))?;
        }
        if self.stale.is_empty() { Ok(()) } else { self.write_record(&self.record) }
    }

    fn own(&self, name: &str) -> PathBuf {
        self.root.join(OWN).join(name)
    }

    fn partials(&self) -> Result<Vec<PathBuf>> {
        let own = self.root.join(OWN);
        let entries = fs::read_dir(&own).map_err(unreadable(&own))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut paths = paths.map_err(unreadable(&own))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "part"));
        Ok(paths)
    }

    /// Removes the partial files that are of no use for the version, and all but one of each digest.
    fn remove_partials(&self, manifest: &Manifest) -> Result<()> {
        let mut wanted: BTreeSet<Digest> = manifest.files.iter().map(|file| file.checksum).collect();
        for path in self.partials()? {
            if !digest_of(&path).is_some_and(|digest| wanted.remove(&digest)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let (path, new) = (self.own("version.json"), self.own("version.json.new"));
        let mut bytes = serde_json::to_vec_pretty(record).map_err(RegistryError::Json)?;
        bytes.push(b'\n');
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&new, &path)).map_err(unwritable(&path))?;
        let own = self.root.join(OWN);
        File::open(&own).and_then(|own| own.sync_all()).map_err(unwritable(&own))
    }
}

/// Reads the record of a directory; `None` if no download has been there.
fn read_record(root: &Path) -> Result<Option<Record>> {
    let path = root.join(OWN).join("version.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path)(error)),
    };
    let damaged = |error| {
        RegistryError::file(&path, format!("is damaged: {error}; empty the directory, or use another one with --to"))
    };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Refuses a directory with files that are neither of the version nor put there by a download.
fn refuse_unknown(root: &Path, manifest: &Manifest, record: Option<&Record>) -> Result<()> {
    let mut found = Vec::new();
    if root.exists() {
        walk(root, root, &mut found)?;
    }
    let known: BTreeSet<&str> = manifest
        .files
        .iter()
        .map(|file| &file.path)
        .chain(record.into_iter().flat_map(|record| &record.files))
        .map(FilePath::as_str)
        .collect();
    found.retain(|path| !known.contains(path.as_str()));
    if found.is_empty() {
        return Ok(());
    }
    found.sort();
    let Manifest { name, version, .. } = manifest;
    let reason = format!(
        "it has files that are not of {name} {version} ({}), and a server would load them; move them away, or use another \
         directory with --to",
        named(found.iter().map(String::as_str))
    );
    Err(RegistryError::file(root, reason))
}

/// Collects the paths of all files below `directory`, relative to `root`. Links are not followed: a link is a file.
fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let entry = entry.map_err(unreadable(directory))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || name == "lost+found" {
            continue;
        }
        let path = entry.path();
        if entry.file_type().map_err(unreadable(&path))?.is_dir() {
            walk(root, &path, found)?;
        } else {
            found.push(path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Joins the first names, and says how many more there are.
fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let shown = names.take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Returns the digest that a partial file will have, from its name.
fn digest_of(partial: &Path) -> Option<Digest> {
    let (hex, _) = partial.file_name()?.to_str()?.split_once('.')?;
    format!("sha256:{hex}").parse().ok()
}

/// Returns the directories between `root` and a file in it, without `root`.
fn parents<'a>(root: &'a Path, file: &'a Path) -> impl Iterator<Item = &'a Path> {
    file.ancestors().skip(1).take_while(move |directory| *directory != root)
}

fn remove_empty_parents(root: &Path, file: &Path) {
    for directory in parents(root, file) {
        // A directory that is not empty stays.
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Removes a file. It is no error if there is none.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RegistryError::file(path, format!("can't be removed: {error}"))),
    }
}

/// Computes the digest of a local file, as the file system returns its bytes.
pub(crate) fn hash_file(path: &Path) -> Result<Digest> {
    let mut file = File::open(path).map_err(unreadable(path))?;
    let (mut buffer, mut hasher) = (vec![0; 1 << 20], Hasher::default());
    loop {
        match file.read(&mut buffer).map_err(unreadable(path))? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Does blocking work on a local file, on a thread for such work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let interrupted = || RegistryError::Interrupted { task: "work on a local file".to_owned() };
    spawn_blocking(work).await.map_err(|_| interrupted())?
}

/// Creates the error for a local path that can't be read.
pub(crate) fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> RegistryError + '_ {
    move |error| RegistryError::file(path, format!("can't be read: {error}"))
}

/// Creates the error for a local path that can't be written.
pub(crate) fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> RegistryError + '_ {
    move |error| RegistryError::file(path, format!("can't be written: {error}"))
}
