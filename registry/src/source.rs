//! Collects the local files that are registered as a model, and their paths within the model.

use std::path::{Path, PathBuf};

use crate::error::{RegistryError, Result};
use crate::manifest::FilePath;
use crate::target::{OWN, unreadable};

/// Maximum number of files in a model. A directory with more is probably an archive that was not packed.
const MAX_FILES: usize = 10_000;

/// A local file to be registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFile {
    /// The file's path within the model.
    pub path: FilePath,
    /// The file's local path.
    pub from: PathBuf,
}

/// Collects the files at these local paths, in the order of their paths within the model.
///
/// A file's path within the model is its file name; the files of a directory have their paths relative to the directory.
/// A symbolic link in a directory is followed if it leads to a place in that directory or in the same model of a hub's
/// cache.
///
/// # Errors
/// A path can't be read, a directory has no files or too many, a link leads elsewhere, or two files would have the same
/// path within the model.
pub fn files(paths: &[PathBuf]) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        // The path itself may be a link: it is the one that was asked for.
        let real = real_path(path)?;
        if real.is_dir() {
            let links = Links { within: [Some(real.clone()), hub_blobs(&real)].into_iter().flatten().collect() };
            walk(&real, &real, &links, &mut found)?;
        } else {
            add(path.parent().unwrap_or(Path::new("")), path, real, &mut found)?;
        }
        if found.len() == before {
            return Err(RegistryError::file(
                path,
                "there is no file in it; name the model's file, or the directory that it is in",
            ));
        }
    }
    found.sort();
    if let Some(twice) = found.windows(2).find(|pair| pair[0].path == pair[1].path) {
        let reason = format!("it would have the same path in the model as {}; rename one", twice[0].from.display());
        return Err(RegistryError::file(&twice[1].from, reason));
    }
    Ok(found)
}

/// The directories that links may lead into.
struct Links {
    within: Vec<PathBuf>,
}

impl Links {
    /// Follows a link, and returns its target.
    fn follow(&self, link: &Path) -> Result<PathBuf> {
        let target = real_path(link)?;
        if !self.within.iter().any(|directory| target.starts_with(directory)) {
            let reason = format!(
                "it is a link to {}, outside of the directory; put the file itself there, or remove the link",
                target.display()
            );
            return Err(RegistryError::file(link, reason));
        }
        // The directory that the link is in has a real path, unless another link was followed to it.
        if link.parent().is_some_and(|parent| real_path(parent).is_ok_and(|parent| parent.starts_with(&target))) {
            return Err(RegistryError::file(link, "it is a link to a directory that it is in; remove it"));
        }
        Ok(target)
    }
}

/// Returns the directory that has the files of a snapshot in Hugging Face's cache, which consists of links:
/// `models--ORG--NAME/snapshots/REVISION/FILE` leads to `models--ORG--NAME/blobs/DIGEST`.
fn hub_blobs(directory: &Path) -> Option<PathBuf> {
    let snapshots =
        directory.ancestors().find(|ancestor| ancestor.file_name().is_some_and(|name| name == "snapshots"))?;
    let model = snapshots.parent()?;
    model.file_name()?.to_str()?.starts_with("models--").then(|| model.join("blobs"))
}

fn real_path(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(unreadable(path))
}

fn walk(root: &Path, directory: &Path, links: &Links, found: &mut Vec<SourceFile>) -> Result<()> {
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let entry = entry.map_err(unreadable(directory))?;
        let path = entry.path();
        // The files of `bellwether model get` are not those of the model.
        if entry.file_name() == OWN {
            continue;
        }
        let is_link = entry.file_type().map_err(unreadable(&path))?.is_symlink();
        let real = if is_link { links.follow(&path)? } else { path.clone() };
        if real.is_dir() { walk(root, &path, links, found)? } else { add(root, &path, real, found)? }
    }
    Ok(())
}

/// Adds the file at `path`, whose bytes are at `from`.
fn add(root: &Path, path: &Path, from: PathBuf, found: &mut Vec<SourceFile>) -> Result<()> {
    if !from.is_file() {
        return Err(RegistryError::file(path, "it is no regular file; remove it from the directory"));
    }
    if found.len() >= MAX_FILES {
        return Err(RegistryError::file(root, format!("it has more than {MAX_FILES} files; pack them into one")));
    }
    let within = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> = within.iter().map(|part| part.to_str()).collect();
    let parts = parts.ok_or_else(|| RegistryError::file(path, "its name is not UTF-8; rename it"))?;
    found.push(SourceFile { path: FilePath::try_from(parts.join("/"))?, from });
    Ok(())
}
