//! Downloading and verifying a version. A file appears under its name only if its bytes on the disk have the digest that
//! the manifest gives.
//!
//! The bytes of a file are written to a path of their own (`partial`), made durable, read back and compared with the digest,
//! and renamed. An interrupted download resumes at the end of the partial file; since all bytes are read back, a changed
//! partial file is detected. Several processes may download into one directory: they take turns, and each of them checks
//! the files that the others left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::manifest::{FilePath, Manifest, ModelFile};
use crate::partial::complete;
use crate::pieces::digest;
use crate::registry::Registry;
use crate::target::{Target, blocking, hash_file, remove, unreadable, unwritable};

/// Maximum number of files that an error names.
const MAX_NAMED: usize = 10;

/// Time between two attempts to lock the directory.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The way in which a version is downloaded.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Whether another version in the directory is removed, and different files at the paths of this one are replaced.
    pub replace: bool,
    /// Time to wait for another download into the same directory.
    pub wait: Duration,
    /// The files to download; all if it is empty.
    pub files: Vec<FilePath>,
    /// Whether a yanked version is downloaded.
    pub yanked: bool,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions { replace: false, wait: Duration::from_secs(600), files: Vec::new(), yanked: false }
    }
}

impl FetchOptions {
    /// Returns whether a file is to be downloaded.
    pub fn selects(&self, file: &ModelFile) -> bool {
        self.files.is_empty() || self.files.contains(&file.path)
    }
}

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
    /// Downloads a version's files into `directory`, verifies them, and returns one result for each selected file in the
    /// manifest's order.
    ///
    /// # Errors
    /// The version has no such file, is withdrawn or, if the registry has a key, has no valid signature; the directory has
    /// other files that may not be removed, or is in use by another download for longer than `wait`; a file in the store is
    /// damaged, or a local file can't be read or written.
    pub async fn fetch(&self, manifest: &Manifest, directory: &Path, options: &FetchOptions) -> Result<Vec<Fetched>> {
        if let Some(path) = options.files.iter().find(|path| manifest.files.iter().all(|file| file.path != **path)) {
            return Err(absent_file(manifest, path));
        }
        self.check_given_out(&manifest.name, &manifest.version, options.yanked).await?;
        if let Some(key) = &self.key {
            self.verify_signature(manifest, key).await?;
        }
        let target = open_target(directory, manifest, options).await?;
        let mut fetched = Vec::new();
        for (at, file) in manifest.files.iter().enumerate() {
            if options.selects(file) {
                fetched.push(self.fetch_file(manifest, at, &target, options.replace).await?);
            }
        }
        blocking(move || target.finish()).await?;
        Ok(fetched)
    }

    async fn fetch_file(&self, manifest: &Manifest, at: usize, target: &Target, replace: bool) -> Result<Fetched> {
        let file = &manifest.files[at];
        let path = target.path(file);
        let (existing, expected) = (path.clone(), file.clone());
        if blocking(move || is_already_there(&existing, &expected, replace)).await? {
            return Ok(Fetched::Kept);
        }
        let partial = target.partial(file)?;
        let key = manifest.key(at);
        let (mut start, mut got) = complete(&self.store, &key, file.size, &partial).await?;
        if got != file.checksum && start > 0 {
            // The existing partial file had wrong bytes: download everything once more.
            remove(&partial)?;
            (start, got) = complete(&self.store, &key, file.size, &partial).await?;
        }
        if got != file.checksum {
            remove(&partial)?;
            return Err(checksum_error(manifest, at, got));
        }
        blocking(move || publish(&partial, &path)).await?;
        Ok(Fetched::DownloadedFrom(start))
    }

    /// Reads all of a version's files in the store, and returns those that differ from the registered ones.
    ///
    /// # Errors
    /// The store fails.
    pub async fn verify(&self, manifest: &Manifest) -> Result<Vec<BadFile>> {
        let mut bad = Vec::new();
        for (at, ModelFile { path, size, checksum, .. }) in manifest.files.iter().enumerate() {
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

pub(crate) fn checksum_error(manifest: &Manifest, at: usize, got: Digest) -> RegistryError {
    let file = &manifest.files[at];
    RegistryError::Checksum {
        subject: format!("{} of {} {}, at {},", file.path.as_str(), manifest.name, manifest.version, manifest.key(at)),
        expected: file.checksum,
        got,
        remedy: "it was refused; restore it from a copy of the store",
    }
}

/// Locks and prepares the directory, waiting for other downloads.
async fn open_target(directory: &Path, manifest: &Manifest, options: &FetchOptions) -> Result<Target> {
    let polls = options.wait.as_millis() / LOCK_POLL.as_millis();
    for poll in 0..=polls {
        let (root, manifest, replace) = (directory.to_owned(), manifest.clone(), options.replace);
        if let Some(target) = blocking(move || Target::open(&root, &manifest, replace)).await? {
            return Ok(target);
        }
        if poll < polls {
            tokio::time::sleep(LOCK_POLL).await;
        }
    }
    let reason = format!(
        "another process has been downloading into it for {} s; try again later, or use another directory with --to",
        options.wait.as_secs()
    );
    Err(RegistryError::file(directory, reason))
}

/// Creates the error for a file that the version does not have. It names the files that there are, those with the same
/// file name first.
fn absent_file(manifest: &Manifest, path: &FilePath) -> RegistryError {
    let name = |path: &FilePath| path.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    let mut paths: Vec<&FilePath> = manifest.files.iter().map(|file| &file.path).collect();
    paths.sort_by_key(|existing| name(existing) != name(path));
    let more = if paths.len() > MAX_NAMED { ", …" } else { "" };
    let shown: Vec<&str> = paths.iter().take(MAX_NAMED).map(|path| path.as_str()).collect();
    let thing = format!("file {} in {} {}", path.as_str(), manifest.name, manifest.version);
    RegistryError::Absent { thing, hint: format!("; its files are {}{more}", shown.join(", ")) }
}

/// Returns whether `path` has the expected file. A different file there is an error, unless it may be replaced. A link is
/// a different file: its target may change later.
fn is_already_there(path: &Path, expected: &ModelFile, replace: bool) -> Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unreadable(path)(error)),
    };
    if metadata.is_file() && metadata.len() == expected.size && hash_file(path)? == expected.checksum {
        return Ok(true);
    }
    match replace {
        true => Ok(false),
        false => {
            let reason = "another file is there already; use --replace, or another directory with --to";
            Err(RegistryError::file(path, reason))
        }
    }
}

/// Moves a verified file to its place. The directories are made durable at the end of the download.
fn publish(partial: &Path, path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(unwritable(parent))?;
    }
    let renamed = fs::rename(partial, path);
    renamed.map_err(|error| RegistryError::file(path, format!("can't be put in its place: {error}")))
}
