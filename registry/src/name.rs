//! Names and versions. Each becomes part of an object's key, so it is checked once, when it is parsed.
//!
//! The rules are narrow on purpose. A name without slashes, upper case and a leading dot is one segment of a key in every
//! store and one file name on every file system. Models are named as the hubs name them, with capitals and one slash; `keys`
//! writes those differently. A version without build metadata has exactly one place in the order of versions.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::invalid::InvalidValue;

/// Maximum length of a name in bytes. It keeps every key below the limit of every store.
const MAX_NAME_LEN: usize = 128;

/// Checks that `text` is a name; `kind` names it in the error.
fn check_name(kind: &'static str, text: &str) -> Result<(), InvalidValue> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.len() > MAX_NAME_LEN {
        let reason = format!("it is {} characters long, and {MAX_NAME_LEN} are allowed", text.len());
        return Err(InvalidValue::new(kind, text, reason));
    }
    if !text.starts_with(plain) || !text.ends_with(plain) || !text.chars().all(|c| plain(c) || "._-".contains(c)) {
        let reason = "write lower-case letters and digits, with `-`, `_` and `.` between them, as in summarizer-large";
        return Err(InvalidValue::new(kind, text, reason));
    }
    Ok(())
}

/// Checks that `text` is a model's name: one part, or two with a slash between them, of letters, digits, `.`, `_` and `-`.
fn check_model_name(kind: &'static str, text: &str) -> Result<(), InvalidValue> {
    if text.len() > MAX_NAME_LEN {
        let reason = format!("it is {} characters long, and {MAX_NAME_LEN} are allowed", text.len());
        return Err(InvalidValue::new(kind, text, reason));
    }
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric();
        part.starts_with(plain) && part.ends_with(plain) && part.chars().all(|c| plain(c) || "._-".contains(c))
    };
    if text.split('/').count() > 2 || !text.split('/').all(is_part) {
        let reason = "write letters and digits, with `-`, `_` and `.` between them, and at most one `/`, as in \
                      summarizer-large or org/Model-7B";
        return Err(InvalidValue::new(kind, text, reason));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl FromStr for $type {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                $check($kind, text)?;
                Ok($type(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, InvalidValue> {
                $check($kind, &text)?;
                Ok($type(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A model's name, as in `summarizer-large` or `org/Model-7B`.
    ModelName,
    "model name",
    check_model_name
);
name!(
    /// An environment in which one version of each model is current, as in `staging` or `production`.
    Environment,
    "environment",
    check_name
);
name!(
    /// A movable name for one version of a model, as in `champion`. On the command line it is written with a leading `@`.
    Alias,
    "alias",
    check_name
);
name!(
    /// The name of a gate's suite as its reports give it, as in `safety`.
    SuiteName,
    "suite of gates",
    check_name
);

/// A model's version: a semantic version without build metadata, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

/// Maximum length of a version in bytes.
const MAX_VERSION_LEN: usize = 64;

impl Version {
    /// Returns whether this is a pre-release, as in 2.0.0-rc.1. A pre-release is never the latest version.
    pub fn is_pre_release(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// Returns whether the version is in a range such as `>=1.2, <2`.
    pub fn is_in(&self, range: &semver::VersionReq) -> bool {
        range.matches(&self.0)
    }
}

impl FromStr for Version {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Version, InvalidValue> {
        let invalid = |reason: String| InvalidValue::new("version", text, reason);
        if text.len() > MAX_VERSION_LEN {
            return Err(invalid(format!("it is {} characters long, and {MAX_VERSION_LEN} are allowed", text.len())));
        }
        let version = semver::Version::parse(text)
            .map_err(|error| invalid(format!("{error}; write a semantic version, as in 1.4.0 or 2.0.0-rc.1")))?;
        if !version.build.is_empty() {
            return Err(invalid("build metadata (after `+`) does not order versions; leave it out".to_owned()));
        }
        // On a case-insensitive file system, two spellings of one pre-release would be the same file.
        if text.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(invalid("write it in lower case".to_owned()));
        }
        Ok(Version(version))
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Version, InvalidValue> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` honours the width of a format string.
        f.pad(&self.0.to_string())
    }
}

/// A way to refer to one version of a model. The registry resolves it to a [`Version`].
///
/// As text it is a version (`1.4.0`), `latest`, or an alias with a leading `@` (`@champion`). `Current` has no text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionReference {
    /// Exactly this version.
    Version(Version),
    /// The highest version that is neither a pre-release nor withdrawn.
    Latest,
    /// The version that an alias points to.
    Alias(Alias),
    /// The version that is current in an environment.
    Current(Environment),
}

impl FromStr for VersionReference {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<VersionReference, InvalidValue> {
        match text.strip_prefix('@') {
            Some(alias) => alias.parse().map(VersionReference::Alias),
            None if text == "latest" => Ok(VersionReference::Latest),
            None => text.parse().map(VersionReference::Version),
        }
    }
}
