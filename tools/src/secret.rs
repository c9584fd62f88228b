//! Secrets as they come in: from a file of their own, or from the environment. They are of a type that can't be printed.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// A secret that is a value of the configuration itself: only the environment may hold one.
#[derive(Debug, Clone)]
pub struct Secret(pub SecretString);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(|text| Secret(SecretString::from(text)))
    }
}

/// Why a secret can't be had. The name of its file is not secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("the secret in {path} can't be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("the file {0} is empty; it should hold the secret and nothing else")]
    Empty(PathBuf),
    /// The environment has none.
    #[error("the environment variable {0} is not set, or is empty")]
    Unset(String),
}

/// The secret that the environment variable `name` holds.
///
/// # Errors
/// If it holds none.
pub fn from_environment(name: &str) -> Result<SecretString, SecretError> {
    let value = std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    value.map(SecretString::from).ok_or_else(|| SecretError::Unset(name.to_owned()))
}

/// The content of `path` without the white space around it, which editors leave behind.
///
/// # Errors
/// If there is no such content.
pub fn read(path: &Path) -> Result<SecretString, SecretError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(SecretError::Empty(path.to_owned())),
        secret => Ok(SecretString::from(secret)),
    }
}
