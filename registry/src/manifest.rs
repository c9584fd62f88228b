//! What is known of a version, for as long as there is one: the article's fields, and the files.

use std::collections::BTreeMap;

use jiff::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::Error;
use crate::name::{ModelName, Version};
use crate::{Registry, Result, keys, seal};

/// The form of manifests that this program writes, and the only one that it reads.
const SCHEMA: &str = "bellwether.dev/model/v1";

/// A version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// The form of all this.
    pub schema: String,
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// What people are told of it.
    pub description: String,
    /// What runs it.
    pub framework: String,
    /// Which version of that.
    pub framework_version: String,
    /// Bytes, of all files together.
    pub size: u64,
    /// The digest of the model (see [`Digest::of_model`]): what a gate report is about.
    pub checksum: Digest,
    /// When it was registered.
    pub created_at: Timestamp,
    /// By whom: what they said, not what was proven.
    pub created_by: String,
    /// How well it does, by the names of measures.
    pub performance_metrics: BTreeMap<String, f64>,
    /// What its makers found when they tried it. Gate reports are attached instead: these numbers open no gate.
    pub validation_results: BTreeMap<String, Value>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Its files, in the order of their paths.
    pub files: Vec<ModelFile>,
    /// The upload that the files are in.
    pub upload: String,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelFile {
    /// Where it lies within the model.
    pub path: FilePath,
    /// Bytes.
    pub size: u64,
    /// Its digest.
    pub checksum: Digest,
}

/// A path within a model: relative, and never out of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

impl FilePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FilePath {
    type Error = Error;

    fn try_from(path: String) -> Result<FilePath> {
        let odd = path.len() > 512 || path.chars().any(|c| c.is_control() || c == '\\');
        if odd || path.split('/').any(|part| part.is_empty() || part == "." || part == ".." || part.len() > 200) {
            return Err(Error::Invalid {
                what: "path of a model's file",
                value: path,
                why: "write a relative one of at most 512 characters, without `..`, backslashes and control characters"
                    .to_owned(),
            });
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
    /// The schema of what is written now.
    pub(crate) fn schema() -> String {
        SCHEMA.to_owned()
    }

    /// Where a file's bytes are.
    pub(crate) fn key(&self, at: usize) -> Path {
        keys::upload(&self.name, &self.version, &self.upload).join(at.to_string())
    }

    /// The digest that the files give together.
    pub fn digest(files: &[ModelFile]) -> Digest {
        Digest::of_model(files.iter().map(|file| (file.path.as_str(), file.checksum)))
    }

    fn is_of(&self, name: &ModelName, version: &Version) -> Result<(), &'static str> {
        if self.schema != SCHEMA {
            return Err("it is of another schema than this program reads");
        }
        if (&self.name, &self.version) != (name, version) {
            return Err("it belongs to another version");
        }
        if self.checksum != Manifest::digest(&self.files) {
            return Err("its files are not those of its checksum");
        }
        Ok(())
    }
}

impl Registry {
    /// The manifest of a version, verified.
    ///
    /// # Errors
    /// There is no such version, or what is there is damaged.
    pub async fn manifest(&self, name: &ModelName, version: &Version) -> Result<Manifest> {
        match self.find(name, version).await? {
            Some(manifest) => Ok(manifest),
            None => Err(self.absent(name, Some(version)).await),
        }
    }

    /// The same, or `None` if there is no such version.
    pub(crate) async fn find(&self, name: &ModelName, version: &Version) -> Result<Option<Manifest>> {
        let key = keys::manifest(name, version);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        let manifest: Manifest = seal::read(&key, &bytes)?;
        manifest.is_of(name, version).map_err(|why| Error::damaged(&key, why))?;
        Ok(Some(manifest))
    }

    /// The error for a version, or a whole model, that is not there: it says what is.
    pub(crate) async fn absent(&self, name: &ModelName, version: Option<&Version>) -> Error {
        let what = match version {
            Some(version) => format!("{name} {version} in {}", self.place()),
            None => format!("model {name} in {}", self.place()),
        };
        let known: Vec<String> = match self.versions(name).await {
            Ok(versions) if !versions.is_empty() => versions.iter().take(5).map(ToString::to_string).collect(),
            _ => {
                let models = self.store.names(&keys::models()).await.unwrap_or_default();
                let instead = if models.is_empty() {
                    "; nothing is registered there yet".to_owned()
                } else {
                    format!("; there are {}", shown(&models))
                };
                return Error::Absent { what, instead };
            }
        };
        Error::Absent { what, instead: format!("; its newest versions are {}", shown(&known)) }
    }
}

fn shown(names: &[String]) -> String {
    let more = if names.len() > 5 { ", …" } else { "" };
    names[..names.len().min(5)].join(", ") + more
}
