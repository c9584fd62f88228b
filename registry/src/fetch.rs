//! Downloading and verifying a version. A file appears under its name only with the digest that its manifest gives.
//!
//! A file is written beside its final path, under a name with a part of its digest, and renamed once all of it is verified.
//! An interrupted download resumes at the end of the partial file. The partial file is read and hashed again, so a changed
//! one is detected.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use tokio::task::spawn_blocking;

use crate::digest::{Digest, Hasher};
use crate::error::{RegistryError, Result};
use crate::manifest::{Manifest, ModelFile};
use crate::pieces::{digest, pieces};
use crate::registry::Registry;

/// The result of fetching one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file was downloaded, starting at this byte. It is greater than 0 if a partial file was resumed.
    DownloadedFrom(u64),
    /// The file was there already with the right digest.
    Kept,
}

/// A file of a version that the store does not return as it was registered.
#[derive(Debug)]
pub struct BadFile {
    /// The file's path within the model.
    pub path: String,
    /// The difference: [`RegistryError::Checksum`] or [`RegistryError::Damaged`].
    pub error: RegistryError,
}

impl Registry {
    /// Downloads a version's files into `directory`, verifies them, and returns one result for each file in the manifest's
    /// order. With `replace`, a different file at the path of one of them is replaced.
    ///
    /// # Errors
    /// A file in the store is damaged, a different local file is in the way, or a local file can't be read or written.
    pub async fn fetch(&self, manifest: &Manifest, directory: &Path, replace: bool) -> Result<Vec<Fetched>> {
        let mut fetched = Vec::new();
        for at in 0..manifest.files.len() {
            fetched.push(self.fetch_file(manifest, at, directory, replace).await?);
        }
        Ok(fetched)
    }

    async fn fetch_file(&self, manifest: &Manifest, at: usize, directory: &Path, replace: bool) -> Result<Fetched> {
        let file = &manifest.files[at];
        let target = directory.join(file.path.as_str());
        let (existing, expected) = (target.clone(), file.checksum);
        if blocking(move || is_already_there(&existing, expected, replace)).await? {
            return Ok(Fetched::Kept);
        }
        let partial = partial_path(&target, file.checksum);
        let (start, mut got) = self.complete_partial(manifest, at, partial.clone()).await?;
        let mut from = start;
        if got != file.checksum && start > 0 {
            // The existing partial file had wrong bytes: download everything once more.
            let wrong = partial.clone();
            blocking(move || remove(&wrong)).await?;
            (from, got) = self.complete_partial(manifest, at, partial.clone()).await?;
        }
        if got != file.checksum {
            blocking(move || remove(&partial)).await?;
            return Err(checksum_error(manifest, at, got));
        }
        blocking(move || publish(&partial, &target)).await?;
        Ok(Fetched::DownloadedFrom(from))
    }

    /// Downloads the missing rest of a partial file. Returns the first byte that was downloaded, and the digest of the
    /// whole file.
    async fn complete_partial(&self, manifest: &Manifest, at: usize, partial: PathBuf) -> Result<(u64, Digest)> {
        let file = &manifest.files[at];
        let size = file.size;
        let mut writer = blocking(move || PartialFile::open(partial, size)).await?;
        let start = writer.existing;
        let key = manifest.key(at);
        let mut pieces = std::pin::pin!(pieces(&self.store, &key, start, size));
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            writer = blocking(move || writer.write(&piece)).await?;
        }
        Ok((start, blocking(move || writer.finish()).await?))
    }

    /// Reads all of a version's files in the store, and returns those that differ from the registered ones.
    ///
    /// # Errors
    /// The store fails.
    pub async fn verify(&self, manifest: &Manifest) -> Result<Vec<BadFile>> {
        let mut bad = Vec::new();
        for (at, ModelFile { path, size, checksum }) in manifest.files.iter().enumerate() {
            let error = match digest(&self.store, &manifest.key(at), *size).await {
                Ok(got) if got == *checksum => continue,
                Ok(got) => checksum_error(manifest, at, got),
                Err(error @ RegistryError::Damaged { .. }) => error,
                Err(error) => return Err(error),
            };
            bad.push(BadFile { path: path.as_str().to_owned(), error });
        }
        Ok(bad)
    }
}

fn checksum_error(manifest: &Manifest, at: usize, got: Digest) -> RegistryError {
    let file = &manifest.files[at];
    RegistryError::Checksum {
        subject: format!("{} of {} {}, at {},", file.path.as_str(), manifest.name, manifest.version, manifest.key(at)),
        expected: file.checksum,
        got,
        remedy: "it was refused; restore it from a copy of the store",
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|_| RegistryError::Interrupted { task: "work on a local file".to_owned() })?
}

/// Returns whether `path` has the expected file. A different file there is an error, unless it may be replaced.
fn is_already_there(path: &Path, expected: Digest, replace: bool) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let mut hasher = Hasher::default();
    hash_file(path, &mut hasher)?;
    match hasher.finish() == expected {
        true => Ok(true),
        false if replace => Ok(false),
        false => Err(RegistryError::file(
            path,
            "another file is there already; use --replace, or another directory with --to",
        )),
    }
}

/// Returns the path that a file is written to until it is verified.
fn partial_path(target: &Path, checksum: Digest) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.part", &checksum.hex()[..12]));
    PathBuf::from(name)
}

/// Adds all bytes of a file to a digest, and returns their number.
fn hash_file(path: &Path, hasher: &mut Hasher) -> Result<u64> {
    let unreadable = |error: std::io::Error| RegistryError::file(path, format!("can't be read: {error}"));
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut buffer, mut size) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(size),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// A file that is being downloaded.
struct PartialFile {
    path: PathBuf,
    file: File,
    /// Number of bytes that were there when it was opened.
    existing: u64,
    hasher: Hasher,
}

impl PartialFile {
    /// Opens or creates a partial file. One that is longer than the complete file can't be right, and is started again.
    fn open(path: PathBuf, size: u64) -> Result<PartialFile> {
        let unwritable = |error: std::io::Error| RegistryError::file(&path, format!("can't be written: {error}"));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(unwritable)?;
        }
        let mut hasher = Hasher::default();
        let mut existing = if path.exists() { hash_file(&path, &mut hasher)? } else { 0 };
        if existing > size {
            remove(&path)?;
            (hasher, existing) = (Hasher::default(), 0);
        }
        let file = File::options().create(true).append(true).open(&path).map_err(unwritable)?;
        Ok(PartialFile { path, file, existing, hasher })
    }

    fn write(mut self, piece: &[u8]) -> Result<PartialFile> {
        let written = self.file.write_all(piece);
        written.map_err(|error| RegistryError::file(&self.path, format!("can't be written: {error}")))?;
        self.hasher.update(piece);
        Ok(self)
    }

    fn finish(self) -> Result<Digest> {
        let synced = self.file.sync_all();
        synced.map_err(|error| RegistryError::file(&self.path, format!("can't be written: {error}")))?;
        Ok(self.hasher.finish())
    }
}

fn publish(partial: &Path, target: &Path) -> Result<()> {
    let renamed = fs::rename(partial, target);
    renamed.map_err(|error| RegistryError::file(target, format!("can't be put in its place: {error}")))
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| RegistryError::file(path, format!("can't be removed: {error}")))
}
