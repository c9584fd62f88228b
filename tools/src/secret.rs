//! Reads secrets from files and from the environment into a type that can't be printed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

/// A secret that is itself a value of the configuration, not a path. The configuration accepts it from the environment
/// only.
#[derive(Debug, Clone)]
pub struct Secret(pub SecretString);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(|text| Secret(SecretString::from(text)))
    }
}

/// The reason why a secret can't be read. The path of its file is not secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("the secret in {path} can't be read: {source}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file is empty or holds white space alone.
    #[error("the file {0} is empty; it should hold the secret and nothing else")]
    Empty(PathBuf),
    /// The secret has several lines.
    #[error("{0} has a line break within the secret; write the secret alone into it, in one line")]
    Lines(PathBuf),
    /// The environment variable is not set or is empty.
    #[error("the environment variable {0} is not set, or is empty")]
    Unset(String),
}

/// Returns the value of the environment variable `name` without surrounding white space.
///
/// # Errors
/// [`SecretError::Unset`] if the variable is not set or has no other characters.
pub fn from_environment(name: &str) -> Result<SecretString, SecretError> {
    let value = std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    value.map(SecretString::from).ok_or_else(|| SecretError::Unset(name.to_owned()))
}

/// Returns the content of the file at `path` without surrounding white space, such as the line break that editors add.
///
/// # Errors
/// [`SecretError`] if the file can't be read, has no other characters, or has a line break between them.
pub fn read(path: &Path) -> Result<SecretString, SecretError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(SecretError::Empty(path.to_owned())),
        lines if lines.contains(['\n', '\r']) => Err(SecretError::Lines(path.to_owned())),
        secret => Ok(SecretString::from(secret)),
    }
}

/// A secret in a file that is replaced when the secret is rotated. It is read again when the file's modification time changes.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    /// The file's modification time when it was read, and the secret.
    read: Mutex<(SystemTime, SecretString)>,
}

impl SecretFile {
    /// Reads the file for the first time, so that a wrong path is an error at the start.
    ///
    /// # Errors
    /// Those of [`read`].
    pub fn open(path: PathBuf) -> Result<SecretFile, SecretError> {
        let first = (modified(&path)?, read(&path)?);
        Ok(SecretFile { path, read: Mutex::new(first) })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the present secret. While the file can't be read it is the last one: the file may be about to be replaced.
    ///
    /// # Errors
    /// The new content is empty or has several lines.
    pub fn get(&self) -> Result<SecretString, SecretError> {
        // Poisoning is harmless: both values change at once.
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(at) = modified(&self.path)
            && at != last.0
        {
            match read(&self.path) {
                Ok(secret) => *last = (at, secret),
                Err(SecretError::Unreadable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(last.1.clone())
    }
}

fn modified(path: &Path) -> Result<SystemTime, SecretError> {
    let modified = std::fs::metadata(path).and_then(|data| data.modified());
    modified.map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })
}

/// The error of a token that can't be in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token has characters that can't be in a header")]
pub struct BadToken;

/// Returns the value of the header `Authorization` with the bearer token, marked as sensitive, so that it can't be
/// printed.
///
/// # Errors
/// [`BadToken`] if the token has characters that a header can't hold.
pub fn bearer(token: &SecretString) -> Result<HeaderValue, BadToken> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| BadToken)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_the_white_space_around_it_is_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            read(file.path()).map(|secret| secret.expose_secret().to_owned()).map_err(|error| error.to_string())
        };
        for text in ["open sesame", "open sesame\n", "open sesame\r\n\r\n", " open sesame \t\n"] {
            assert_eq!(of(text).as_deref(), Ok("open sesame"), "{text:?}");
        }
        let path = file.path().display().to_string();
        for text in ["open\nsesame", "open\rsesame\n", "first\n\nsecond\n"] {
            let error = of(text).unwrap_err();
            let remedy = "write the secret alone into it, in one line";
            assert_eq!(error, format!("{path} has a line break within the secret; {remedy}"), "{text:?}");
        }
        assert!(of(" \n").unwrap_err().contains("is empty"));
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_its_last_secret_stays_while_it_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = |text: &str, second: u64| {
            std::fs::write(&path, text).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        };
        assert!(SecretFile::open(path.clone()).unwrap_err().to_string().contains("can't be read"));
        write("first\n", 1);
        let file = SecretFile::open(path.clone()).unwrap();
        let get = || file.get().map(|secret| secret.expose_secret().to_owned()).map_err(|error| error.to_string());
        write("second\n", 2);
        assert_eq!(get().as_deref(), Ok("second"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(get().as_deref(), Ok("second"));
        write("third\nfourth\n", 3);
        assert!(get().unwrap_err().contains("has a line break"));
    }
}
