//! Collects the local files that are registered as a model, and their paths within the model.

use std::path::{Path, PathBuf};

use crate::error::{RegistryError, Result};
use crate::manifest::FilePath;

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
/// Symbolic links are followed.
///
/// # Errors
/// A path can't be read, a directory has no files or too many, or two files would have the same path within the model.
pub fn files(paths: &[PathBuf]) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        let metadata =
            std::fs::metadata(path).map_err(|error| RegistryError::file(path, format!("can't be read: {error}")))?;
        if metadata.is_dir() {
            walk(path, path, &mut found)?;
        } else {
            add(path.parent().unwrap_or(Path::new("")), path, &mut found)?;
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

fn walk(root: &Path, directory: &Path, found: &mut Vec<SourceFile>) -> Result<()> {
    let unreadable = |error: std::io::Error| RegistryError::file(directory, format!("can't be read: {error}"));
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // `metadata` follows links, which the caches of model hubs consist of. A cycle of links ends with an error of the
        // operating system.
        let metadata =
            std::fs::metadata(&path).map_err(|error| RegistryError::file(&path, format!("can't be read: {error}")))?;
        if metadata.is_dir() { walk(root, &path, found)? } else { add(root, &path, found)? }
    }
    Ok(())
}

fn add(root: &Path, path: &Path, found: &mut Vec<SourceFile>) -> Result<()> {
    if found.len() >= MAX_FILES {
        return Err(RegistryError::file(root, format!("it has more than {MAX_FILES} files; pack them into one")));
    }
    let within = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> = within.iter().map(|part| part.to_str()).collect();
    let parts = parts.ok_or_else(|| RegistryError::file(path, "its name is not UTF-8; rename it"))?;
    found.push(SourceFile { path: FilePath::try_from(parts.join("/"))?, from: path.to_owned() });
    Ok(())
}
