//! Names and versions: whatever becomes a part of a key is checked once, here, and is of a type of its own afterwards.
//!
//! They are narrow on purpose. What has no slash, no upper case and no leading dot is one segment of a key in every store
//! and one file name on every disk; and a version without build metadata has one place in the order of all versions.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The longest name: with all that stands around it a key stays below what every store takes.
const LONGEST: usize = 128;

fn checked(what: &'static str, text: &str) -> Result<(), Error> {
    let invalid = |why: String| Error::Invalid { what, value: text.to_owned(), why };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.len() > LONGEST {
        return Err(invalid(format!("it is {} characters long, and {LONGEST} are allowed", text.len())));
    }
    if !text.starts_with(plain) || !text.ends_with(plain) || !text.chars().all(|c| plain(c) || "._-".contains(c)) {
        return Err(invalid(
            "write lower-case letters and digits, with `-`, `_` and `.` between them, as in summarizer-large"
                .to_owned(),
        ));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                checked($what, text)?;
                Ok($type(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                checked($what, &text)?;
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
    /// What a model is called.
    ModelName,
    "model name"
);
name!(
    /// Where a version is current: `staging`, `production`.
    Environment,
    "environment"
);
name!(
    /// A name for a version that can be moved: `champion`.
    Alias,
    "alias"
);
name!(
    /// A suite of gates, as its reports name it: `safety`.
    Suite,
    "suite of gates"
);

/// A model's version: semantic, without build metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

/// The longest version.
const LONGEST_VERSION: usize = 64;

impl Version {
    /// Whether it is one to try, as 2.0.0-rc.1 is. Such a one is never the latest.
    pub fn is_pre_release(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// Whether it is in a range such as `>=1.2, <2`.
    pub fn is_in(&self, range: &semver::VersionReq) -> bool {
        range.matches(&self.0)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Version, Error> {
        let invalid = |why: String| Error::Invalid { what: "version", value: text.to_owned(), why };
        if text.len() > LONGEST_VERSION {
            return Err(invalid(format!("it is {} characters long, and {LONGEST_VERSION} are allowed", text.len())));
        }
        let version = semver::Version::parse(text)
            .map_err(|error| invalid(format!("{error}; write a semantic version, as in 1.4.0 or 2.0.0-rc.1")))?;
        if !version.build.is_empty() {
            return Err(invalid("what follows a `+` has no place in the order of versions; leave it out".to_owned()));
        }
        // Two spellings of a pre-release that differ in case would be one file on some disks.
        if text.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(invalid("write it in lower case".to_owned()));
        }
        Ok(Version(version))
    }
}

impl TryFrom<String> for Version {
    type Error = Error;

    fn try_from(text: String) -> Result<Version, Error> {
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
        // So that columns can be padded.
        f.pad(&self.0.to_string())
    }
}

/// How a version is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// This one.
    Version(Version),
    /// The highest that is no pre-release.
    Latest,
    /// Where an alias points.
    Alias(Alias),
    /// What is current in an environment.
    Current(Environment),
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference, Error> {
        match text.strip_prefix('@') {
            Some(alias) => alias.parse().map(Reference::Alias),
            None if text == "latest" => Ok(Reference::Latest),
            None => text.parse().map(Reference::Version),
        }
    }
}
