//! The pointers: the current version of a model in an environment, and the aliases of a model. Promotion past the gates,
//! restoration, and the history of each pointer.
//!
//! A restoration goes back only to a version where the pointer has been; any other version must be promoted. It asks no
//! gate, because a rollback must not wait for a report.

use jiff::Timestamp;

use crate::advance::MoveRequest;
pub use crate::advance::{MoveContext, MoveOutcome};
use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::keys;
use crate::line::{Action, Line, MoveEvidence, PointerMove};
use crate::name::{Alias, Environment, ModelName, SuiteName, Version};
use crate::registry::Registry;
use crate::report::Brought;

/// A request to make a version current in an environment.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// Environment in which the version becomes current.
    pub environment: Environment,
    /// The model's name.
    pub name: ModelName,
    /// The version that becomes current.
    pub version: Version,
    /// Suites that the version must have passed, in addition to those that the registry requires in the environment.
    pub require: Vec<SuiteName>,
    /// The parts that are brought with the version, which the reports must be about as well; `None` if they are not known.
    pub with: Option<Brought>,
    /// The author, reason and time, and the preconditions.
    pub context: MoveContext,
}

/// A request to go back to an earlier version in an environment.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// Environment in which the version becomes current again.
    pub environment: Environment,
    /// The model's name.
    pub name: ModelName,
    /// The version to go back to; `None`: the one before the current version.
    pub to: Option<Version>,
    /// The author, reason and time, and the preconditions.
    pub context: MoveContext,
}

fn environment_line(environment: &Environment, name: &ModelName) -> Line {
    Line { prefix: keys::environment(environment, name), title: format!("the current {name} in {environment}") }
}

fn alias_line(name: &ModelName, alias: &Alias) -> Line {
    Line { prefix: keys::alias(name, alias), title: format!("the alias @{alias} of {name}") }
}

impl Registry {
    /// Returns the last move of an environment's pointer, whose `version` is current; `None` if the pointer was never set.
    ///
    /// # Errors
    /// The last move is damaged, or the store fails.
    pub async fn current(&self, environment: &Environment, name: &ModelName) -> Result<Option<PointerMove>> {
        self.last_move(&environment_line(environment, name)).await
    }

    /// Returns all moves of an environment's pointer, the newest first.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn history(&self, environment: &Environment, name: &ModelName) -> Result<Vec<PointerMove>> {
        self.moves(&environment_line(environment, name)).await
    }

    /// Makes a version current that has passed its gates. If it is current already, nothing is written, unless the request
    /// has an effect id.
    ///
    /// # Errors
    /// The version is not registered or may not become current (see [`Registry::check_promotable`]), the pointer is not at
    /// the expected move, the effect id was used for another request, or the store fails.
    pub async fn promote(&self, promotion: &Promotion) -> Result<MoveOutcome> {
        let Promotion { environment, name, version, require, with, context } = promotion;
        let line = environment_line(environment, name);
        // A repeated effect is answered before the gates are asked: its move stands, even if a later report says otherwise.
        let last = if context.effect.is_some() { self.last_move(&line).await? } else { None };
        if let Some(done) = self.repeated_effect(&line, last.as_ref(), context, Action::Promote, Some(version)).await? {
            return Ok(done);
        }
        // The reports of a rollout's effect were new enough before its first traffic.
        let at = context.effect.is_none().then_some(context.at);
        let (checksum, reports) = self.check_promotable(environment, name, version, require, with.as_ref(), at).await?;
        let request = MoveRequest::To { action: Action::Promote, version: version.clone(), checksum, reports };
        self.advance(&line, &request, context).await
    }

    /// Checks that a version may become current in an environment: it is registered and not withdrawn, it has a valid signature if the
    /// registry has a key, and it has passed the suites that the registry requires in the environment and those in
    /// `require`, together with the parts `with` if they are known, and not too long before `at` if that is known. Returns
    /// the digest of its files, and the reports by which it passed.
    ///
    /// # Errors
    /// One of these conditions does not hold, or the store fails.
    pub async fn check_promotable(
        &self,
        environment: &Environment,
        name: &ModelName,
        version: &Version,
        require: &[SuiteName],
        with: Option<&Brought>,
        at: Option<Timestamp>,
    ) -> Result<(Digest, Vec<MoveEvidence>)> {
        let manifest = self.manifest(name, version).await?;
        self.check_given_out(name, version, false).await?;
        if let Some(key) = &self.key {
            self.verify_signature(&manifest, key).await?;
        }
        let mut suites: Vec<SuiteName> =
            self.require.get(environment).into_iter().flatten().chain(require).cloned().collect();
        suites.sort_unstable();
        suites.dedup();
        let passed = self.check_suites(&manifest, &suites, (with, at), environment.to_string().as_str()).await?;
        let evidence = passed.into_iter().map(|report| MoveEvidence { suite: report.suite, report: report.digest });
        Ok((manifest.checksum, evidence.collect()))
    }

    /// Makes no version current, as before the first promotion.
    ///
    /// # Errors
    /// The pointer is not at the expected move, the effect id was used for another request, or the store fails.
    pub async fn clear(
        &self,
        environment: &Environment,
        name: &ModelName,
        context: &MoveContext,
    ) -> Result<MoveOutcome> {
        self.advance(&environment_line(environment, name), &MoveRequest::Clear, context).await
    }

    /// Goes back to a version that was current before. Gates are not asked.
    ///
    /// # Errors
    /// There is no earlier version, the version was never current there or is not registered any more, the pointer is not
    /// at the expected move, the effect id was used for another request, or the store fails.
    pub async fn restore(&self, restoration: &Restoration) -> Result<MoveOutcome> {
        let Restoration { environment, name, to, context } = restoration;
        let line = environment_line(environment, name);
        self.advance(&line, &MoveRequest::Back { name: name.clone(), to: to.clone() }, context).await
    }

    /// Returns the last move of an alias, whose `version` it points to; `None` if the alias was never set.
    ///
    /// # Errors
    /// The last move is damaged, or the store fails.
    pub async fn alias(&self, name: &ModelName, alias: &Alias) -> Result<Option<PointerMove>> {
        self.last_move(&alias_line(name, alias)).await
    }

    /// Returns the aliases of a model that point to a version, each with that version.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn aliases(&self, name: &ModelName) -> Result<Vec<(Alias, Version)>> {
        let mut aliases = Vec::new();
        for alias in
            self.store.names(&keys::aliases(name)).await?.iter().filter_map(|alias| alias.parse::<Alias>().ok())
        {
            if let Some(version) = self.alias(name, &alias).await?.and_then(|last| last.version) {
                aliases.push((alias, version));
            }
        }
        Ok(aliases)
    }

    /// Returns the environments in which a version of a model is current, each with that version.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn environments(&self, name: &ModelName) -> Result<Vec<(Environment, Version)>> {
        let positions = self.positions(name).await?.into_iter();
        Ok(positions.filter_map(|(environment, last)| Some((environment, last.version?))).collect())
    }

    /// Returns the last move of a model's pointer in each environment that has one.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn positions(&self, name: &ModelName) -> Result<Vec<(Environment, PointerMove)>> {
        let known = self.store.names(&keys::environments()).await?;
        let mut positions = Vec::new();
        for environment in known.iter().filter_map(|name| name.parse::<Environment>().ok()) {
            if let Some(last) = self.current(&environment, name).await? {
                positions.push((environment, last));
            }
        }
        Ok(positions)
    }

    /// Returns all moves of an alias, the newest first.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn alias_history(&self, name: &ModelName, alias: &Alias) -> Result<Vec<PointerMove>> {
        self.moves(&alias_line(name, alias)).await
    }

    /// Points an alias to a version, or to nothing if `version` is `None`.
    ///
    /// # Errors
    /// The version is not registered or is withdrawn, an alias to be removed was never set, the alias is not at the expected move, the
    /// effect id was used for another request, or the store fails.
    pub async fn set_alias(
        &self,
        name: &ModelName,
        alias: &Alias,
        version: Option<&Version>,
        context: &MoveContext,
    ) -> Result<MoveOutcome> {
        let manifest = match version {
            Some(version) => Some(self.manifest(name, version).await?),
            None => None,
        };
        if let Some(version) = version {
            self.check_given_out(name, version, false).await?;
        }
        let line = alias_line(name, alias);
        if version.is_none() && self.last_move(&line).await?.is_none() {
            let hint = "; it was never set".to_owned();
            return Err(RegistryError::Absent { thing: format!("alias @{alias} of {name}"), hint });
        }
        let request = match manifest {
            Some(manifest) => {
                let (version, checksum) = (manifest.version, manifest.checksum);
                MoveRequest::To { action: Action::Set, version, checksum, reports: Vec::new() }
            }
            None => MoveRequest::Clear,
        };
        self.advance(&line, &request, context).await
    }
}
