//! The files that are registered as a model, and under which paths.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::Error;
use crate::manifest::FilePath;

/// More files than this are an archive that somebody has forgotten to pack.
const MOST: usize = 10_000;

/// A file to be registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFile {
    /// Its path within the model.
    pub path: FilePath,
    /// Where it is now.
    pub from: PathBuf,
}

/// The files at these places, in the order of their paths: a file is called what it is called, and the files of a
/// directory have their paths within it.
///
/// # Errors
/// A place can't be read, there is nothing in it, or two files would have the same path.
pub fn files(places: &[PathBuf]) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for place in places {
        let before = found.len();
        let metadata =
            std::fs::metadata(place).map_err(|error| Error::file(place, format!("can't be read: {error}")))?;
        if metadata.is_dir() {
            walk(place, place, &mut found)?;
        } else {
            add(place.parent().unwrap_or(Path::new("")), place, &mut found)?;
        }
        if found.len() == before {
            return Err(Error::file(
                place,
                "there is no file in it; name the model's file, or the directory that it is in",
            ));
        }
    }
    found.sort();
    if let Some(twice) = found.windows(2).find(|pair| pair[0].path == pair[1].path) {
        let why = format!("it would have the same path in the model as {}; rename one", twice[0].from.display());
        return Err(Error::file(&twice[1].from, why));
    }
    Ok(found)
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<SourceFile>) -> Result<()> {
    let unreadable = |error: std::io::Error| Error::file(directory, format!("can't be read: {error}"));
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // Followed: the caches of model hubs are made of links. A ring of them ends at the system's own limit.
        let metadata =
            std::fs::metadata(&path).map_err(|error| Error::file(&path, format!("can't be read: {error}")))?;
        if metadata.is_dir() { walk(root, &path, found)? } else { add(root, &path, found)? }
    }
    Ok(())
}

fn add(root: &Path, path: &Path, found: &mut Vec<SourceFile>) -> Result<()> {
    if found.len() >= MOST {
        return Err(Error::file(root, format!("it has more than {MOST} files; pack them into one")));
    }
    let within = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> = within.iter().map(|part| part.to_str()).collect();
    let parts = parts.ok_or_else(|| Error::file(path, "its name is not UTF-8; rename it"))?;
    found.push(SourceFile { path: FilePath::try_from(parts.join("/"))?, from: path.to_owned() });
    Ok(())
}
