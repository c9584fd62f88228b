//! Finding versions and their manifests.

use crate::error::{RegistryError, Result};
use crate::manifest::Manifest;
use crate::name::{ModelName, Version};
use crate::registry::Registry;
use crate::{keys, seal};

/// Number of manifests or marks that are read at a time.
pub(crate) const CONCURRENT_READS: usize = 16;

/// Maximum number of existing names in a message about a missing one.
const MAX_SUGGESTIONS: usize = 5;

impl Registry {
    /// Lists all versions of a model, the highest first. The list is empty if there is no such model.
    ///
    /// # Errors
    /// The store fails.
    pub async fn versions(&self, name: &ModelName) -> Result<Vec<Version>> {
        let objects = self.store.list(&keys::versions(name)).await?;
        let mut versions: Vec<Version> =
            objects.iter().filter_map(|object| keys::version_of(name, &object.location)).collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        Ok(versions)
    }

    /// Reads and verifies the manifest of a version.
    ///
    /// # Errors
    /// There is no such version, its manifest is damaged, or the store fails.
    pub async fn manifest(&self, name: &ModelName, version: &Version) -> Result<Manifest> {
        match self.find(name, version).await? {
            Some(manifest) => Ok(manifest),
            None => Err(self.absent(name, Some(version)).await),
        }
    }

    /// Reads and verifies the manifest of a version; `None` if there is no such version.
    pub(crate) async fn find(&self, name: &ModelName, version: &Version) -> Result<Option<Manifest>> {
        let key = keys::manifest(name, version);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        let manifest: Manifest = seal::read(&key, &bytes)?;
        manifest.check(name, version).map_err(|reason| RegistryError::damaged(&key, reason))?;
        Ok(Some(manifest))
    }

    /// Creates the error for a missing version, or for a missing model if `version` is `None`. It lists existing ones.
    pub(crate) async fn absent(&self, name: &ModelName, version: Option<&Version>) -> RegistryError {
        let thing = match version {
            Some(version) => format!("{name} {version} in {}", self.place()),
            None => format!("model {name} in {}", self.place()),
        };
        let known: Vec<String> = match self.versions(name).await {
            Ok(versions) if !versions.is_empty() => {
                versions.iter().take(MAX_SUGGESTIONS).map(ToString::to_string).collect()
            }
            _ => {
                let models = self.store.names(&keys::models()).await.unwrap_or_default();
                let names = models.iter().filter_map(|name| keys::name_of(name));
                let models: Vec<String> = names.map(|name| name.to_string()).collect();
                let hint = if models.is_empty() {
                    "; nothing is registered there yet".to_owned()
                } else {
                    format!("; there are {}", shortened(&models))
                };
                return RegistryError::Absent { thing, hint };
            }
        };
        RegistryError::Absent { thing, hint: format!("; its newest versions are {}", shortened(&known)) }
    }
}

/// Joins the first names, with an ellipsis if there are more.
fn shortened(names: &[String]) -> String {
    let more = if names.len() > MAX_SUGGESTIONS { ", …" } else { "" };
    names[..names.len().min(MAX_SUGGESTIONS)].join(", ") + more
}
