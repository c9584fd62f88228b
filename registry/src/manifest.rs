//! The manifest: the permanent description of a version and the list of its files.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::invalid::InvalidValue;
use crate::keys;
use crate::name::{ModelName, Version};
use crate::risk::Risk;

/// The schema of manifests that this program writes, and the only one that it reads.
const SCHEMA: &str = "bellwether.dev/model/v1";

/// The manifest of one version of a model. It is written once and never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// The schema's name: `bellwether.dev/model/v1`.
    pub schema: String,
    /// The model's name.
    pub name: ModelName,
    /// The registered version.
    pub version: Version,
    /// Free text for readers; may be empty.
    pub description: String,
    /// Framework that runs the model, as in `pytorch`; may be empty.
    pub framework: String,
    /// Version of the framework; may be empty.
    pub framework_version: String,
    /// Size of all files together, in bytes.
    pub size: u64,
    /// Digest of the model (see [`Digest::of_model`]). A gate report names it as its subject.
    pub checksum: Digest,
    /// Time of the registration.
    pub created_at: Timestamp,
    /// Name that the registering person or program gave; it is not authenticated.
    pub created_by: String,
    /// Measurements of the model's quality, by the metric's name; all finite.
    pub performance_metrics: BTreeMap<String, f64>,
    /// Results of the developers' own validation, as free-form JSON. They open no gate; attached gate reports do.
    pub validation_results: BTreeMap<String, Value>,
    /// Search tags, sorted and without duplicates.
    pub tags: Vec<String>,
    /// Origin of the version.
    pub provenance: Provenance,
    /// Risks of the files that the registering side accepted.
    pub accepted: Vec<FoundRisk>,
    /// The model's files, in the order of their paths.
    pub files: Vec<ModelFile>,
    /// Id of the upload that holds the files: 32 hexadecimal digits.
    pub upload: String,
}

/// The origin of a version, as its makers state it; it is not verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Provenance {
    /// Models that the version was made from, as in `org/Base-7B@1.0.0` or a URL.
    pub base: Vec<String>,
    /// Licence of the version as an SPDX expression, as in `Apache-2.0`; may be empty.
    pub license: String,
    /// Data sets that it was trained or tuned with, by name or URL.
    pub datasets: Vec<String>,
    /// Commit of the code that made it; may be empty.
    pub commit: String,
}

impl Provenance {
    /// Returns all texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &String> {
        [&self.license, &self.commit].into_iter().chain(&self.base).chain(&self.datasets)
    }
}

/// A risk that was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundRisk {
    /// The kind of the risk.
    pub risk: Risk,
    /// The file's path within the model.
    pub path: FilePath,
    /// The fault, as in `it imports os.system`.
    pub detail: String,
}

impl fmt::Display for FoundRisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path.as_str(), self.detail, self.risk)
    }
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelFile {
    /// The file's path within the model.
    pub path: FilePath,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the file's bytes.
    pub checksum: Digest,
    /// Place of the bytes in the upload of an earlier version; `None`: they are in the version's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedFile>,
}

/// A file in the upload of a version of the same model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SharedFile {
    /// The version that was registered with the upload.
    pub version: Version,
    /// Id of the upload: 32 hexadecimal digits.
    pub upload: String,
    /// Number of the file in the upload, counted from 0.
    pub number: usize,
}

impl SharedFile {
    /// Returns the key of the object with the file's bytes.
    pub(crate) fn key(&self, name: &ModelName) -> Path {
        keys::file(&keys::upload(name, &self.version, &self.upload), self.number)
    }
}

/// A file's path within a model: relative, with `/` between its parts, and never leading out of the model's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

impl FilePath {
    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FilePath {
    type Error = InvalidValue;

    fn try_from(path: String) -> Result<FilePath, InvalidValue> {
        let odd = path.len() > 512 || path.chars().any(|c| c.is_control() || c == '\\');
        if odd || path.split('/').any(|part| part.is_empty() || part == "." || part == ".." || part.len() > 200) {
            let reason =
                "write a relative one of at most 512 characters, without `..`, backslashes and control characters";
            return Err(InvalidValue::new("path of a model's file", path, reason));
        }
        Ok(FilePath(path))
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> String {
        path.0
    }
}

impl Manifest {
    /// Returns the name of the schema that is written.
    pub(crate) fn schema() -> String {
        SCHEMA.to_owned()
    }

    /// Returns the key of the object with the bytes of file number `at`.
    pub(crate) fn key(&self, at: usize) -> Path {
        match self.files.get(at).and_then(|file| file.shared.as_ref()) {
            Some(shared) => shared.key(&self.name),
            None => keys::file(&keys::upload(&self.name, &self.version, &self.upload), at),
        }
    }

    /// Computes the digest of a model of these files, which must be in the order of their paths.
    pub fn digest(files: &[ModelFile]) -> Digest {
        Digest::of_model(files.iter().map(|file| (file.path.as_str(), file.checksum)))
    }

    /// Checks that this is the manifest of the given version, and consistent in itself; the error is the contradiction.
    pub(crate) fn check(&self, name: &ModelName, version: &Version) -> Result<(), &'static str> {
        if self.schema != SCHEMA {
            return Err("its schema is not the one that this program reads");
        }
        if (&self.name, &self.version) != (name, version) {
            return Err("it belongs to another version");
        }
        if self.checksum != Manifest::digest(&self.files) {
            return Err("its checksum does not match its files");
        }
        Ok(())
    }
}
