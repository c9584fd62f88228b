//! What is current where: promotion past the gates, the way back, aliases, and the history of each.
//!
//! A way back leads only to where the pointer has been: what was never current somewhere is promoted. And it never asks a
//! gate: a rollback that has to wait for a report is none.

use crate::digest::Digest;
use crate::error::Error;
pub use crate::line::Mark;
use crate::line::{Action, Aim, Evidence, Line, Move, Moved, Target};
use crate::name::{Alias, Environment, ModelName, Suite, Version};
use crate::{Registry, Result};

/// A wish to make a version current.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// Where.
    pub environment: Environment,
    /// Of which model.
    pub name: ModelName,
    /// Which.
    pub version: Version,
    /// The suites that it must have passed, besides those that the registry itself requires there.
    pub require: Vec<Suite>,
    /// Who, why and when.
    pub mark: Mark,
}

/// A wish to go back.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// Where.
    pub environment: Environment,
    /// Of which model.
    pub name: ModelName,
    /// To which version; without it to the one before the one that is current.
    pub to: Option<Version>,
    /// Who, why and when.
    pub mark: Mark,
}

fn environment_line(environment: &Environment, name: &ModelName) -> Line {
    let place = object_store::path::Path::from("environments").join(environment.to_string()).join(name.to_string());
    Line { place, title: format!("the current {name} in {environment}") }
}

fn alias_line(name: &ModelName, alias: &Alias) -> Line {
    let place = object_store::path::Path::from("aliases").join(name.to_string()).join(alias.to_string());
    Line { place, title: format!("the alias @{alias} of {name}") }
}

impl Registry {
    /// What is current in an environment, and since which move; `None`: nothing ever was.
    ///
    /// # Errors
    /// The last move is damaged, or the store fails.
    pub async fn current(&self, environment: &Environment, name: &ModelName) -> Result<Option<Move>> {
        self.stands(&environment_line(environment, name)).await
    }

    /// All that was ever current in an environment, the newest first.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn history(&self, environment: &Environment, name: &ModelName) -> Result<Vec<Move>> {
        self.steps(&environment_line(environment, name)).await
    }

    /// Makes a version current that has passed its gates. If it is current already, that is said and nothing is written.
    ///
    /// # Errors
    /// It is not registered, has not passed, or somebody has moved the pointer away from where it was expected.
    pub async fn promote(&self, promotion: &Promotion) -> Result<Moved> {
        let Promotion { environment, name, version, require, mark } = promotion;
        let line = environment_line(environment, name);
        // Before the gates: what is done is done, also if a later report says something else.
        let stands = if mark.effect.is_some() { self.stands(&line).await? } else { None };
        if let Some(done) = self.turn(&line, stands.as_ref(), mark, Action::Promote, Some(version)).await? {
            return Ok(done);
        }
        let (checksum, reports) = self.may(environment, name, version, require).await?;
        let aim = Aim::To { action: Action::Promote, version: version.clone(), checksum, reports };
        self.advance(&line, &aim, mark).await
    }

    /// Whether a version may become current: it is registered, signed where that is asked for, and has passed what the
    /// environment and `require` name. Its digest, and the reports.
    ///
    /// # Errors
    /// Why it may not, or the store fails.
    pub async fn may(
        &self,
        environment: &Environment,
        name: &ModelName,
        version: &Version,
        require: &[Suite],
    ) -> Result<(Digest, Vec<Evidence>)> {
        let manifest = self.manifest(name, version).await?;
        if let Some(key) = &self.key {
            self.verify_signature(&manifest, key).await?;
        }
        let mut suites: Vec<Suite> =
            self.require.get(environment).into_iter().flatten().chain(require).cloned().collect();
        suites.sort_unstable();
        suites.dedup();
        let passed = self.passed(&manifest, &suites, environment.to_string().as_str()).await?;
        let evidence = passed.into_iter().map(|report| Evidence { suite: report.suite, report: report.digest });
        Ok((manifest.checksum, evidence.collect()))
    }

    /// Makes nothing current, as it was before the first promotion.
    ///
    /// # Errors
    /// Somebody has moved the pointer away from where it was expected, or the store fails.
    pub async fn clear(&self, environment: &Environment, name: &ModelName, mark: &Mark) -> Result<Moved> {
        self.advance(&environment_line(environment, name), &Aim::Nowhere, mark).await
    }

    /// Goes back to a version that has been current, or to the one before.
    ///
    /// # Errors
    /// There is none, it was never current there, or it is not registered any more.
    pub async fn restore(&self, restoration: &Restoration) -> Result<Moved> {
        let Restoration { environment, name, to, mark } = restoration;
        let line = environment_line(environment, name);
        self.advance(&line, &Aim::Back { name: name.clone(), to: to.clone() }, mark).await
    }

    /// Where an aim leads from here.
    pub(crate) async fn target(&self, line: &Line, aim: &Aim, stands: Option<&Move>) -> Result<Target> {
        let from = stands.and_then(|stands| stands.version.clone());
        Ok(match aim {
            Aim::To { action, version, checksum, reports } => {
                // A version that is promoted onto itself is not what it would go back to.
                let itself = from.as_ref() == Some(version);
                let before = if itself { stands.and_then(|stands| stands.before.clone()) } else { from };
                let (version, checksum) = (Some(version.clone()), Some(*checksum));
                Target { action: *action, version, checksum, before, reports: reports.clone() }
            }
            Aim::Back { name, to } => self.way_back(line, name, to.as_ref(), stands).await?,
            Aim::Nowhere => {
                Target { action: Action::Remove, version: None, checksum: None, before: from, reports: Vec::new() }
            }
        })
    }

    async fn way_back(
        &self,
        line: &Line,
        name: &ModelName,
        to: Option<&Version>,
        stands: Option<&Move>,
    ) -> Result<Target> {
        let to = to.or_else(|| stands.and_then(|stands| stands.before.as_ref())).ok_or_else(|| Error::Absent {
            what: format!("version before {}", line.title),
            instead: " to go back to; promote one".to_owned(),
        })?;
        let history = self.steps(line).await?;
        // From where it came then: so going back twice goes back further, and not to and fro.
        let been = history.iter().find(|moved| moved.version.as_ref() == Some(to)).ok_or_else(|| Error::Absent {
            what: format!("move of {} to {to}", line.title),
            instead: ": it was never current there; promote it".to_owned(),
        })?;
        let manifest = self.manifest(name, to).await?;
        let (version, checksum) = (Some(to.clone()), Some(manifest.checksum));
        Ok(Target { action: Action::Restore, version, checksum, before: been.before.clone(), reports: Vec::new() })
    }

    /// Where an alias points; `None`: it was never set.
    ///
    /// # Errors
    /// The last move is damaged, or the store fails.
    pub async fn alias(&self, name: &ModelName, alias: &Alias) -> Result<Option<Move>> {
        self.stands(&alias_line(name, alias)).await
    }

    /// The aliases of a model that point somewhere, and where.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn aliases(&self, name: &ModelName) -> Result<Vec<(Alias, Version)>> {
        let place = object_store::path::Path::from("aliases").join(name.to_string());
        let mut aliases = Vec::new();
        for alias in self.store.names(&place).await?.iter().filter_map(|alias| alias.parse::<Alias>().ok()) {
            if let Some(version) = self.alias(name, &alias).await?.and_then(|moved| moved.version) {
                aliases.push((alias, version));
            }
        }
        Ok(aliases)
    }

    /// The environments in which a version of a model is current, and which.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn environments(&self, name: &ModelName) -> Result<Vec<(Environment, Version)>> {
        let place = object_store::path::Path::from("environments");
        let mut environments = Vec::new();
        for environment in self.store.names(&place).await?.iter().filter_map(|name| name.parse::<Environment>().ok()) {
            if let Some(version) = self.current(&environment, name).await?.and_then(|moved| moved.version) {
                environments.push((environment, version));
            }
        }
        Ok(environments)
    }

    /// All moves of an alias, the newest first.
    ///
    /// # Errors
    /// A move is damaged, or the store fails.
    pub async fn alias_history(&self, name: &ModelName, alias: &Alias) -> Result<Vec<Move>> {
        self.steps(&alias_line(name, alias)).await
    }

    /// Points an alias to a version, or to nothing.
    ///
    /// # Errors
    /// The version is not registered, or somebody has moved the alias away from where it was expected.
    pub async fn set_alias(
        &self,
        name: &ModelName,
        alias: &Alias,
        version: Option<&Version>,
        mark: &Mark,
    ) -> Result<Moved> {
        let manifest = match version {
            Some(version) => Some(self.manifest(name, version).await?),
            None => None,
        };
        let line = alias_line(name, alias);
        if version.is_none() && self.stands(&line).await?.is_none() {
            let instead = "; it was never set".to_owned();
            return Err(Error::Absent { what: format!("alias @{alias} of {name}"), instead });
        }
        let aim = match manifest {
            Some(manifest) => {
                let (version, checksum) = (manifest.version, manifest.checksum);
                Aim::To { action: Action::Set, version, checksum, reports: Vec::new() }
            }
            None => Aim::Nowhere,
        };
        self.advance(&line, &aim, mark).await
    }
}
