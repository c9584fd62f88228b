//! Lists models and versions in pages, and resolves a [`VersionReference`].
//!
//! The keys of all of a model's versions are listed (a request returns about a thousand) and sorted as versions, an order
//! that no store has. Manifests are read for one page only. A page ends with a token for the next one: the last item's
//! version or name. So items that are registered meanwhile shift nothing.

use futures::{StreamExt, stream};
pub use semver::VersionReq;
use serde::Serialize;

use crate::error::{RegistryError, Result};
use crate::keys;
use crate::lookup::CONCURRENT_READS;
use crate::manifest::Manifest;
use crate::name::{ModelName, Version, VersionReference};
use crate::registry::Registry;

/// A filter of versions. Each condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Tags that a version must have, all of them.
    pub tags: Vec<String>,
    /// Framework that a version must have.
    pub framework: Option<String>,
    /// Range that a version must be in. By semver's rules a pre-release is only in a range that names a pre-release.
    pub range: Option<VersionReq>,
}

impl Filter {
    /// Checks the condition for which no manifest has to be read.
    fn matches_version(&self, version: &Version) -> bool {
        self.range.as_ref().is_none_or(|range| version.is_in(range))
    }

    /// Checks the conditions for which the manifest has to be read.
    fn matches_manifest(&self, manifest: &Manifest) -> bool {
        self.tags.iter().all(|tag| manifest.tags.contains(tag))
            && self.framework.as_ref().is_none_or(|framework| *framework == manifest.framework)
    }
}

/// A page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// Items of the page, at most as many as requested.
    pub items: Vec<T>,
    /// Token of the next page; `None`: this is the last one.
    pub next: Option<String>,
}

/// The summary of a model in a list of models.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSummary {
    /// The model's name.
    pub name: ModelName,
    /// Number of the model's versions.
    pub versions: usize,
    /// The highest version that is neither a pre-release nor withdrawn; `None`: there is no such version.
    pub latest: Option<Version>,
}

impl Registry {
    /// Finds the version that a reference means. It reads no manifest: a version that is given literally need not exist.
    ///
    /// # Errors
    /// The reference means no version, a move is damaged, or the store fails.
    pub async fn resolve(&self, name: &ModelName, reference: &VersionReference) -> Result<Version> {
        match reference {
            VersionReference::Version(version) => Ok(version.clone()),
            VersionReference::Latest => self.latest(name).await,
            VersionReference::Alias(alias) => {
                let found = self.alias(name, alias).await?.and_then(|last| last.version);
                found.ok_or_else(|| RegistryError::Absent {
                    thing: format!("alias @{alias} of {name} in {}", self.place()),
                    hint: "; set it with `bellwether model alias`".to_owned(),
                })
            }
            VersionReference::Current(environment) => {
                let found = self.current(environment, name).await?.and_then(|last| last.version);
                found.ok_or_else(|| RegistryError::Absent {
                    thing: format!("version of {name} that is current in {environment}"),
                    hint: "; make one so with `bellwether model promote`".to_owned(),
                })
            }
        }
    }

    async fn latest(&self, name: &ModelName) -> Result<Version> {
        let versions = self.versions(name).await?;
        let withdrawn = self.withdrawals(name).await?;
        if let Some(version) =
            versions.iter().find(|version| !version.is_pre_release() && !withdrawn.contains_key(*version))
        {
            return Ok(version.clone());
        }
        match versions.first() {
            None => Err(self.absent(name, None).await),
            Some(highest) => Err(RegistryError::Absent {
                thing: format!("latest version of {name}"),
                hint: format!(": all of its versions are pre-releases or withdrawn; name one, such as {highest}"),
            }),
        }
    }

    /// Lists at most `limit` of a model's versions that match the filter, the highest first. `after` is the previous page's
    /// `next`; `None`: the first page.
    ///
    /// # Errors
    /// There is no such model, `after` is not a token, a manifest is damaged, or the store fails.
    pub async fn list(
        &self,
        name: &ModelName,
        filter: &Filter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<Manifest>> {
        let after = after.map(str::parse::<Version>).transpose()?;
        let mut versions = self.versions(name).await?;
        if versions.is_empty() {
            return Err(self.absent(name, None).await);
        }
        versions
            .retain(|version| after.as_ref().is_none_or(|after| version < after) && filter.matches_version(version));
        let last = versions.last().cloned();
        let mut manifests = stream::iter(versions)
            .map(|version| async move { self.manifest(name, &version).await })
            .buffered(CONCURRENT_READS);
        let mut items = Vec::new();
        while items.len() < limit.max(1) {
            match manifests.next().await.transpose()? {
                None => return Ok(Page { items, next: None }),
                Some(manifest) if filter.matches_manifest(&manifest) => items.push(manifest),
                Some(_) => {}
            }
        }
        let end = items.last().map(|manifest| manifest.version.clone());
        Ok(Page { items, next: end.filter(|end| Some(end) != last.as_ref()).map(|end| end.to_string()) })
    }

    /// Lists at most `limit` models in the order of their names. `after` is the previous page's `next`; `None`: the first
    /// page.
    ///
    /// # Errors
    /// `after` is not a token, or the store fails.
    pub async fn models(&self, limit: usize, after: Option<&str>) -> Result<Page<ModelSummary>> {
        let after = after.map(str::parse::<ModelName>).transpose()?;
        let names = self.store.names(&keys::models()).await?;
        let mut names: Vec<ModelName> = names.iter().filter_map(|name| keys::name_of(name)).collect();
        names.sort_unstable();
        names.retain(|name| after.as_ref().is_none_or(|after| name > after));
        let more = names.len() > limit.max(1);
        names.truncate(limit.max(1));
        let next = names.last().filter(|_| more).map(ToString::to_string);
        let mut items = Vec::new();
        for name in names {
            let versions = self.versions(&name).await?;
            // A folder without a manifest is no model.
            if versions.is_empty() {
                continue;
            }
            let withdrawn = self.withdrawals(&name).await?;
            let is_latest = |version: &&Version| !version.is_pre_release() && !withdrawn.contains_key(*version);
            let latest = versions.iter().find(is_latest).cloned();
            items.push(ModelSummary { name, versions: versions.len(), latest });
        }
        Ok(Page { items, next })
    }
}
