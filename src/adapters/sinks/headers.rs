//! The further headers of requests to a service, from the configuration: plain ones, and secrets from files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use super::SinkError;
use crate::secret;

/// The headers that a configuration may not set.
const OWN_HEADERS: [&str; 6] =
    ["content-length", "content-type", "host", "webhook-id", "webhook-signature", "webhook-timestamp"];

/// Returns the problems of plain headers, and of the names of those with files.
pub(super) fn problems(
    plain: &BTreeMap<String, String>,
    files: &BTreeMap<String, PathBuf>,
) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    for (key, names) in
        [("headers", plain.keys().collect::<Vec<_>>()), ("header-files", files.keys().collect::<Vec<_>>())]
    {
        for name in names {
            if HeaderName::try_from(name).is_err() || OWN_HEADERS.contains(&name.to_lowercase().as_str()) {
                problems.push((key, format!("{name:?} is not the name of a header that can be set here")));
            }
        }
    }
    for (name, value) in plain {
        if HeaderValue::from_str(value).is_err() {
            problems.push(("headers", format!("the value of {name:?} has characters that no header can hold")));
        }
    }
    problems
}

/// Returns the headers, and the values of those with files, which are secrets.
///
/// # Errors
/// A file can't be read, or a header can't have its name or value.
pub(super) fn read(
    plain: &BTreeMap<String, String>,
    files: &BTreeMap<String, PathBuf>,
) -> Result<(HeaderMap, Vec<SecretString>), SinkError> {
    let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
    for (name, value) in plain {
        insert(&mut headers, name, value, false)?;
    }
    for (name, path) in files {
        let value = secret::read(path)?;
        insert(&mut headers, name, value.expose_secret(), true)?;
        secrets.push(value);
    }
    Ok((headers, secrets))
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str, is_secret: bool) -> Result<(), SinkError> {
    let unusable = || SinkError::Unusable(format!("the header {name:?} can't be set: its name or value is not valid"));
    let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
    value.set_sensitive(is_secret);
    headers.insert(HeaderName::try_from(name).map_err(|_| unusable())?, value);
    Ok(())
}
