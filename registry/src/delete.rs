//! Deleting versions, and the retention of old ones.
//!
//! A version that a pointer names, or that a rollback would go back to, is not deleted. A withdrawn version does not become
//! current, and a version can be deleted only [`MIN_AGE`] after it was yanked: a promotion that began before the yank is
//! over by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;
use serde::Serialize;

use crate::advance::MoveContext;
use crate::error::{RegistryError, Result};
use crate::gc::MIN_AGE;
use crate::invalid::InvalidValue;
use crate::keys;
use crate::lookup::CONCURRENT_READS;
use crate::manifest::Manifest;
use crate::name::{ModelName, Version};
use crate::registry::Registry;
use crate::withdraw::{Deletion, Withdrawal};

/// An act of the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pruning {
    /// The version is beyond the newest ones that are kept, and is yanked.
    Yank,
    /// The version was yanked long enough ago, and its files are deleted.
    Delete,
}

/// A version that the retention acts on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The version.
    pub version: Version,
    /// The act.
    pub act: Pruning,
    /// Size of all of the version's files, in bytes; other versions may share some.
    pub size: u64,
}

impl Registry {
    /// Deletes the files of a version that was yanked [`MIN_AGE`] ago or earlier, and returns the number of bytes that were
    /// removed. Files that other versions have too are kept. A deletion that was interrupted is completed.
    ///
    /// # Errors
    /// There is no such version, it is not yanked or not long enough, a pointer names it or would go back to it, a manifest
    /// of the model is damaged, or the store fails.
    pub async fn delete(&self, name: &ModelName, version: &Version, context: &MoveContext) -> Result<u64> {
        let manifest = self.manifest(name, version).await?;
        self.check_deletable(name, version, context.at).await?;
        let MoveContext { by, why, at, .. } = context.clone();
        self.mark_deleted(&Deletion { name: name.clone(), version: version.clone(), by, why, at }).await?;
        self.remove_files(&manifest).await
    }

    async fn check_deletable(&self, name: &ModelName, version: &Version, now: Timestamp) -> Result<()> {
        let refused =
            |reason: String| RegistryError::Undeletable { name: name.clone(), version: version.clone(), reason };
        match self.withdrawal(name, version).await? {
            Some(Withdrawal::Deleted(_)) => return Ok(()),
            Some(Withdrawal::Yanked(yank)) if !is_older(yank.at, MIN_AGE, now) => {
                let reason = "a promotion that began before may still be under way; try again an hour after that";
                return Err(refused(format!("it was yanked only at {:.0}, and {reason}", yank.at)));
            }
            Some(Withdrawal::Yanked(_)) => {}
            None => return Err(refused("it is in use; yank it first, and delete it an hour later".to_owned())),
        }
        match self.named_by(name).await?.get(version) {
            None => Ok(()),
            Some(pointers) => Err(refused(format!("{}; move that first", pointers.join(", and ")))),
        }
    }

    /// Returns the versions that the pointers of a model name or would go back to, each with clauses that say so.
    async fn named_by(&self, name: &ModelName) -> Result<BTreeMap<Version, Vec<String>>> {
        let mut named: BTreeMap<Version, Vec<String>> = BTreeMap::new();
        for (environment, last) in self.positions(name).await? {
            if let Some(version) = last.version {
                named.entry(version).or_default().push(format!("it is current in {environment}"));
            }
            if let Some(before) = last.before {
                let clause = format!("a rollback in {environment} would go back to it");
                named.entry(before).or_default().push(clause);
            }
        }
        for (alias, version) in self.aliases(name).await? {
            named.entry(version).or_default().push(format!("the alias @{alias} points to it"));
        }
        Ok(named)
    }

    /// Removes the files of a deleted version that no other version has, and returns their size in bytes.
    async fn remove_files(&self, deleted: &Manifest) -> Result<u64> {
        let own = keys::upload(&deleted.name, &deleted.version, &deleted.upload);
        let named = keys_of(deleted);
        let kept = self.keys_of_others(deleted).await?;
        let mut removed = 0;
        for object in self.store.list(&keys::uploads_of(&deleted.name)).await? {
            let key = object.location;
            if (named.contains(&key) || key.prefix_matches(&own)) && !kept.contains(&key) {
                self.store.remove(&key).await?;
                removed += object.size;
            }
        }
        Ok(removed)
    }

    /// Returns the keys of the files of all other versions that were not deleted.
    async fn keys_of_others(&self, deleted: &Manifest) -> Result<BTreeSet<Path>> {
        let name = &deleted.name;
        let others = self.versions(name).await?.into_iter().filter(|version| *version != deleted.version);
        let read = |version: Version| async move {
            let keys = keys_of(&self.manifest(name, &version).await?);
            Ok(if self.deletion(name, &version).await?.is_some() { BTreeSet::new() } else { keys })
        };
        let mut read = std::pin::pin!(stream::iter(others).map(read).buffered(CONCURRENT_READS));
        let mut kept = BTreeSet::new();
        while let Some(keys) = read.next().await {
            let keys: Result<BTreeSet<Path>> = keys;
            kept.append(&mut keys?);
        }
        Ok(kept)
    }

    /// Applies the retention to a model: yanks the versions beyond the newest `keep`, and deletes those that were yanked
    /// `age` ago or earlier. Versions that a pointer names or would go back to are kept. Without `apply` it only returns the
    /// acts.
    ///
    /// # Errors
    /// `keep` is 0 or the age is below [`MIN_AGE`], there is no such model, a manifest or move is damaged, or the store
    /// fails.
    pub async fn prune(
        &self,
        name: &ModelName,
        keep: usize,
        age: Duration,
        apply: bool,
        context: &MoveContext,
    ) -> Result<Vec<Pruned>> {
        if keep == 0 {
            return Err(InvalidValue::new("number of versions to keep", "0", "write 1 or more").into());
        }
        if age < MIN_AGE {
            let reason = "a promotion may still be under way; write 1h or more";
            return Err(InvalidValue::new("age of a yank", format!("{age:?}"), reason).into());
        }
        let acts = self.prunings(name, keep, age, context.at).await?;
        let mut pruned = Vec::new();
        for (version, act) in acts {
            let size = self.manifest(name, &version).await?.size;
            match (apply, act) {
                (false, _) => {}
                (true, Pruning::Yank) => drop(self.yank(name, &version, context).await?),
                (true, Pruning::Delete) => drop(self.delete(name, &version, context).await?),
            }
            pruned.push(Pruned { version, act, size });
        }
        Ok(pruned)
    }

    async fn prunings(
        &self,
        name: &ModelName,
        keep: usize,
        age: Duration,
        now: Timestamp,
    ) -> Result<Vec<(Version, Pruning)>> {
        let versions = self.versions(name).await?;
        if versions.is_empty() {
            return Err(self.absent(name, None).await);
        }
        let (withdrawn, named) = (self.withdrawals(name).await?, self.named_by(name).await?);
        let (mut acts, mut newer) = (Vec::new(), 0);
        for version in versions {
            let act = match withdrawn.get(&version) {
                Some(Withdrawal::Deleted(_)) => None,
                Some(Withdrawal::Yanked(yank)) => is_older(yank.at, age, now).then_some(Pruning::Delete),
                None => {
                    newer += 1;
                    (newer > keep).then_some(Pruning::Yank)
                }
            };
            if let Some(act) = act.filter(|_| !named.contains_key(&version)) {
                acts.push((version, act));
            }
        }
        Ok(acts)
    }
}

fn keys_of(manifest: &Manifest) -> BTreeSet<Path> {
    (0..manifest.files.len()).map(|at| manifest.key(at)).collect()
}

/// Returns whether `then` is at least `age` before `now`.
fn is_older(then: Timestamp, age: Duration, now: Timestamp) -> bool {
    SignedDuration::try_from(age).is_ok_and(|age| now.duration_since(then) >= age)
}
