//! Reads secrets from files and from the environment into a type that can't be printed.

use std::path::{Path, PathBuf};

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
/// [`SecretError`] if the file can't be read or has no other characters.
pub fn read(path: &Path) -> Result<SecretString, SecretError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(SecretError::Empty(path.to_owned())),
        secret => Ok(SecretString::from(secret)),
    }
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
