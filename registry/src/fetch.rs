//! Getting a version: what is on the disk afterwards has the digests of its manifest, or is not there.
//!
//! A file is written beside its place, under a name that holds a part of its digest, and takes its place when all of it is
//! verified. A download that is cut off goes on where it was: what is there is read again, so that it counts for nothing
//! if it has changed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use tokio::task::spawn_blocking;

use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::manifest::{Manifest, ModelFile};
use crate::pieces::{digest, pieces};
use crate::{Registry, Result};

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It was downloaded, from this byte on.
    From(u64),
    /// It was there already, with the right digest.
    Kept,
}

/// A file that can't be read back as it was registered.
#[derive(Debug)]
pub struct Bad {
    /// Its path within the model.
    pub path: String,
    /// What is wrong with it.
    pub error: Error,
}

impl Registry {
    /// Downloads a version's files into `directory`, verified. `replace` says what happens to other files that are in
    /// their places.
    ///
    /// # Errors
    /// A file is damaged, another one is in its place, or it can't be read or written.
    pub async fn fetch(&self, manifest: &Manifest, directory: &Path, replace: bool) -> Result<Vec<Fetched>> {
        let mut fetched = Vec::new();
        for at in 0..manifest.files.len() {
            fetched.push(self.fetch_file(manifest, at, directory, replace).await?);
        }
        Ok(fetched)
    }

    async fn fetch_file(&self, manifest: &Manifest, at: usize, directory: &Path, replace: bool) -> Result<Fetched> {
        let file = &manifest.files[at];
        let place = directory.join(file.path.as_str());
        let (there, expected) = (place.clone(), file.checksum);
        if blocking(move || taken(&there, expected, replace)).await? {
            return Ok(Fetched::Kept);
        }
        let partial = partial(&place, file.checksum);
        let first = self.fill(manifest, at, partial.clone()).await?;
        let (start, mut got) = first;
        let mut from = start;
        if got != file.checksum && start > 0 {
            // What was left there was not what it seemed.
            let again = partial.clone();
            blocking(move || remove(&again)).await?;
            (from, got) = self.fill(manifest, at, partial.clone()).await?;
        }
        if got != file.checksum {
            blocking(move || remove(&partial)).await?;
            return Err(wrong(manifest, at, got));
        }
        blocking(move || publish(&partial, &place)).await?;
        Ok(Fetched::From(from))
    }

    /// Goes on with the partial file: from which byte on, and the digest of the whole.
    async fn fill(&self, manifest: &Manifest, at: usize, partial: PathBuf) -> Result<(u64, Digest)> {
        let file = &manifest.files[at];
        let size = file.size;
        let mut writer = blocking(move || Partial::open(partial, size)).await?;
        let start = writer.written;
        let key = manifest.key(at);
        let mut pieces = std::pin::pin!(pieces(&self.store, &key, start, size));
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            writer = blocking(move || writer.write(&piece)).await?;
        }
        Ok((start, blocking(move || writer.finish()).await?))
    }

    /// Reads all of a version's files in the store, and says which are not what they were.
    ///
    /// # Errors
    /// The store fails.
    pub async fn verify(&self, manifest: &Manifest) -> Result<Vec<Bad>> {
        let mut bad = Vec::new();
        for (at, ModelFile { path, size, checksum }) in manifest.files.iter().enumerate() {
            let error = match digest(&self.store, &manifest.key(at), *size).await {
                Ok(got) if got == *checksum => continue,
                Ok(got) => wrong(manifest, at, got),
                Err(error @ Error::Damaged { .. }) => error,
                Err(error) => return Err(error),
            };
            bad.push(Bad { path: path.as_str().to_owned(), error });
        }
        Ok(bad)
    }
}

fn wrong(manifest: &Manifest, at: usize, got: Digest) -> Error {
    let file = &manifest.files[at];
    Error::Checksum {
        what: format!("{} of {} {}, at {},", file.path.as_str(), manifest.name, manifest.version, manifest.key(at)),
        expected: file.checksum,
        got,
        remedy: "it was refused; restore it from a copy of the store",
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|_| Error::CutOff { what: "a file".to_owned() })?
}

/// Whether the right file is there. Another one is in the way, unless it may be replaced.
fn taken(place: &Path, expected: Digest, replace: bool) -> Result<bool> {
    if !place.exists() {
        return Ok(false);
    }
    let mut hasher = Hasher::default();
    take_in(place, &mut hasher)?;
    match hasher.finish() == expected {
        true => Ok(true),
        false if replace => Ok(false),
        false => {
            Err(Error::file(place, "another file is there already; use --replace, or another directory with --to"))
        }
    }
}

fn partial(place: &Path, checksum: Digest) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(format!(".{}.part", &checksum.hex()[..12]));
    PathBuf::from(name)
}

/// Takes all of a file into a digest, and says how long it is.
fn take_in(path: &Path, hasher: &mut Hasher) -> Result<u64> {
    let unreadable = |error: std::io::Error| Error::file(path, format!("can't be read: {error}"));
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

/// A file that is being written.
struct Partial {
    path: PathBuf,
    file: File,
    written: u64,
    hasher: Hasher,
}

impl Partial {
    fn open(path: PathBuf, size: u64) -> Result<Partial> {
        let unwritable = |error: std::io::Error| Error::file(&path, format!("can't be written: {error}"));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(unwritable)?;
        }
        let mut hasher = Hasher::default();
        let mut written = if path.exists() { take_in(&path, &mut hasher)? } else { 0 };
        if written > size {
            remove(&path)?;
            (hasher, written) = (Hasher::default(), 0);
        }
        let file = File::options().create(true).append(true).open(&path).map_err(unwritable)?;
        Ok(Partial { path, file, written, hasher })
    }

    fn write(mut self, piece: &[u8]) -> Result<Partial> {
        let written = self.file.write_all(piece);
        written.map_err(|error| Error::file(&self.path, format!("can't be written: {error}")))?;
        self.hasher.update(piece);
        Ok(self)
    }

    fn finish(self) -> Result<Digest> {
        let synced = self.file.sync_all();
        synced.map_err(|error| Error::file(&self.path, format!("can't be written: {error}")))?;
        Ok(self.hasher.finish())
    }
}

fn publish(partial: &Path, place: &Path) -> Result<()> {
    let renamed = fs::rename(partial, place);
    renamed.map_err(|error| Error::file(place, format!("can't be put in its place: {error}")))
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| Error::file(path, format!("can't be removed: {error}")))
}
