//! Which models and versions there are, in pages.
//!
//! The keys of a model's versions are read all (a thousand come with one request) and put into the order of versions, which
//! no store has; the manifests are read for one page only. A page ends with a token that says where the next one begins:
//! the last version that was looked at, so that what is registered meanwhile shifts nothing.

use futures::{StreamExt, stream};
pub use semver::VersionReq;
use serde::Serialize;

use crate::error::Error;
use crate::manifest::Manifest;
use crate::name::{ModelName, Reference, Version};
use crate::{Registry, Result, keys};

/// Manifests that are read at a time.
const AT_A_TIME: usize = 16;

/// Which versions are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those with all of these tags.
    pub tags: Vec<String>,
    /// Those of this framework.
    pub framework: Option<String>,
    /// Those in this range. By the rules of ranges, a pre-release is in none that does not name one.
    pub range: Option<VersionReq>,
}

impl Filter {
    /// By the version alone, for which no manifest has to be read.
    fn takes_version(&self, version: &Version) -> bool {
        self.range.as_ref().is_none_or(|range| version.is_in(range))
    }

    fn takes(&self, manifest: &Manifest) -> bool {
        self.tags.iter().all(|tag| manifest.tags.contains(tag))
            && self.framework.as_ref().is_none_or(|framework| *framework == manifest.framework)
    }
}

/// A part of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; `None`: this is the last.
    pub next: Option<String>,
}

/// A model in a list of models.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSummary {
    /// The model.
    pub name: ModelName,
    /// How many versions it has.
    pub versions: usize,
    /// The highest that is no pre-release.
    pub latest: Option<Version>,
}

impl Registry {
    /// All versions of a model, the highest first; none, if there is no such model.
    ///
    /// # Errors
    /// The store fails.
    pub async fn versions(&self, name: &ModelName) -> Result<Vec<Version>> {
        let objects = self.store.list(&keys::versions(name)).await?;
        let mut versions: Vec<Version> =
            objects.iter().filter_map(|object| keys::version_of(&object.location)).collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        Ok(versions)
    }

    /// The version that is asked for.
    ///
    /// # Errors
    /// There is none.
    pub async fn resolve(&self, name: &ModelName, reference: &Reference) -> Result<Version> {
        match reference {
            Reference::Version(version) => Ok(version.clone()),
            Reference::Latest => self.latest(name).await,
            Reference::Alias(alias) => {
                let found = self.alias(name, alias).await?.and_then(|moved| moved.version);
                found.ok_or_else(|| Error::Absent {
                    what: format!("alias @{alias} of {name} in {}", self.place()),
                    instead: "; set it with `bellwether model alias`".to_owned(),
                })
            }
            Reference::Current(environment) => {
                let found = self.current(environment, name).await?.and_then(|moved| moved.version);
                found.ok_or_else(|| Error::Absent {
                    what: format!("version of {name} that is current in {environment}"),
                    instead: "; make one so with `bellwether model promote`".to_owned(),
                })
            }
        }
    }

    async fn latest(&self, name: &ModelName) -> Result<Version> {
        let versions = self.versions(name).await?;
        if let Some(version) = versions.iter().find(|version| !version.is_pre_release()) {
            return Ok(version.clone());
        }
        match versions.first() {
            None => Err(self.absent(name, None).await),
            Some(highest) => Err(Error::Absent {
                what: format!("latest version of {name}"),
                instead: format!(": all of its versions are pre-releases; name one, such as {highest}"),
            }),
        }
    }

    /// A page of a model's versions, the highest first. `after` is what the page before has as `next`.
    ///
    /// # Errors
    /// There is no such model, the token is none, or a manifest is damaged.
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
        versions.retain(|version| after.as_ref().is_none_or(|after| version < after) && filter.takes_version(version));
        let last = versions.last().cloned();
        let mut read = stream::iter(versions)
            .map(|version| async move { self.manifest(name, &version).await })
            .buffered(AT_A_TIME);
        let mut items = Vec::new();
        while items.len() < limit.max(1) {
            match read.next().await.transpose()? {
                None => return Ok(Page { items, next: None }),
                Some(manifest) if filter.takes(&manifest) => items.push(manifest),
                Some(_) => {}
            }
        }
        let end = items.last().map(|manifest| manifest.version.clone());
        Ok(Page { items, next: end.filter(|end| Some(end) != last.as_ref()).map(|end| end.to_string()) })
    }

    /// A page of the models, in the order of their names.
    ///
    /// # Errors
    /// The store fails.
    pub async fn models(&self, limit: usize, after: Option<&str>) -> Result<Page<ModelSummary>> {
        let mut names = self.store.names(&keys::models()).await?;
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        let more = names.len() > limit.max(1);
        names.truncate(limit.max(1));
        let next = names.last().filter(|_| more).cloned();
        let mut items = Vec::new();
        for name in names.iter().filter_map(|name| name.parse::<ModelName>().ok()) {
            let versions = self.versions(&name).await?;
            let latest = versions.iter().find(|version| !version.is_pre_release()).cloned();
            items.push(ModelSummary { name, versions: versions.len(), latest });
        }
        Ok(Page { items, next })
    }
}
