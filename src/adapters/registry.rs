//! The adapter of the port [`Models`] for `bellwether-registry`: a rollout that brings a model moves its environment's
//! pointer forward when it is promoted, and back when it is rolled back.
//!
//! The adapter decides nothing. The engine decides when a pointer moves, and the registry whether it may.

use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::ids::EffectId;
use bellwether_core::input::effect::{BroughtParts, ModelAct, RegistryAct};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_registry::point::{MoveContext, Promotion, Restoration};
use bellwether_registry::report::Brought;
use bellwether_registry::{Environment, InvalidValue, ModelName, Options, Registry, RegistryError, Version};
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::ports::Models;

pub mod directory;

/// A registry that is opened when it is first needed, with the clock for its moves.
pub struct RegistryModels {
    options: Options,
    /// The registry; empty until the first rollout brings a model. Most daemons have no models, and need no registry.
    registry: OnceCell<Registry>,
    clock: Arc<dyn Clock>,
}

impl RegistryModels {
    /// Creates the adapter for the registry that `options` name. It is not opened yet.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> RegistryModels {
        RegistryModels { options, registry: OnceCell::new(), clock }
    }

    /// Returns the registry, which is opened if it was not before.
    async fn registry(&self) -> Result<&Registry, RegistryError> {
        let open = async || {
            let registry = Registry::open(&self.options)?;
            registry.check_root().await.map(|()| registry)
        };
        self.registry.get_or_try_init(open).await
    }

    async fn act(&self, effect: &EffectId, act: &RegistryAct) -> Result<Outcome, RegistryError> {
        let RegistryAct { environment, model, what } = act;
        let environment: Environment = environment.parse()?;
        let (name, version) = name_and_version(model)?;
        let registry = self.registry().await?;
        match what {
            ModelAct::Verify { with: BroughtParts { images, prompt, tools } } => {
                let text = |digest: &Option<String>| digest.clone().unwrap_or_default();
                let images = images.values().cloned().collect();
                let brought = Brought { images, prompt: text(prompt), tools: text(tools) };
                let now = Some(self.clock.now());
                registry.check_promotable(&environment, &name, &version, &[], Some(&brought), now).await?;
                Ok(Outcome::Done)
            }
            ModelAct::Point => {
                let context = self.context(effect, format!("{model} was promoted"));
                let require = Vec::new();
                // The combination was verified before the first traffic.
                let promotion = Promotion { environment, name: name.clone(), version, require, with: None, context };
                let before = registry.promote(&promotion).await?.entry.before;
                Ok(Outcome::Pointed { before: before.map(|version| format!("{name}@{version}")) })
            }
            ModelAct::Return { before } => {
                let current = registry.current(&environment, &name).await?;
                // If another version is current, the pointer is back already, or a later move must not be undone.
                if current.is_none_or(|current| current.version.as_ref() != Some(&version)) {
                    return Ok(Outcome::Done);
                }
                let context = self.context(effect, format!("{model} was rolled back"));
                match before {
                    Some(before) => {
                        let to = Some(name_and_version(before)?.1);
                        registry.restore(&Restoration { environment, name, to, context }).await?
                    }
                    None => registry.clear(&environment, &name, &context).await?,
                };
                Ok(Outcome::Done)
            }
        }
    }

    fn context(&self, effect: &EffectId, why: String) -> MoveContext {
        let effect = effect.0.clone();
        let by = format!("bellwether, by {effect}");
        MoveContext { by, why, at: self.clock.now(), effect: Some(effect), expected: None }
    }
}

/// Parses a model that is written as `name@version`.
fn name_and_version(model: &str) -> Result<(ModelName, Version), InvalidValue> {
    let Some((name, version)) = model.split_once('@') else {
        return Err(InvalidValue::new("model", model, "write NAME@VERSION, as in chat@1.3.0"));
    };
    Ok((name.parse()?, version.parse()?))
}

#[async_trait]
impl Models for RegistryModels {
    async fn perform(&self, effect: &EffectId, act: &RegistryAct) -> Outcome {
        self.act(effect, act).await.unwrap_or_else(|error| {
            let kind = match &error {
                RegistryError::Store { .. }
                | RegistryError::Contended { .. }
                | RegistryError::Busy { .. }
                | RegistryError::Random(_)
                | RegistryError::Interrupted { .. } => FailureKind::Unavailable,
                RegistryError::Moved { .. } => FailureKind::Conflict,
                RegistryError::Invalid(_)
                | RegistryError::Options { .. }
                | RegistryError::Unconditional { .. }
                | RegistryError::Risky(_)
                | RegistryError::Exists(_)
                | RegistryError::Absent { .. }
                | RegistryError::File { .. }
                | RegistryError::Checksum { .. }
                | RegistryError::Damaged { .. }
                | RegistryError::Collected { .. }
                | RegistryError::Withdrawn { .. }
                | RegistryError::Undeletable { .. }
                | RegistryError::Report { .. }
                | RegistryError::Ledger { .. }
                | RegistryError::Signature { .. }
                | RegistryError::Refused { .. }
                | RegistryError::Effect { .. }
                | RegistryError::Json(_) => FailureKind::Refused,
            };
            Outcome::Failed(Failure { kind, message: error.to_string() })
        })
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::input::report::SuiteResult;
    use bellwether_registry::report::ReportResult;

    use super::*;

    #[test]
    fn only_a_name_and_a_version_are_parsed_as_a_model() {
        for right in ["chat@1.3.0", "org/Chat-7B@1.3.0"] {
            assert!(name_and_version(right).is_ok(), "{right}");
        }
        for wrong in ["chat", "chat@", "@1.0.0", "chat@one", "-chat@1.0.0"] {
            assert!(name_and_version(wrong).is_err(), "{wrong}");
        }
    }

    /// `bellwether gate run` writes the core's word into a report, and the registry reads it.
    #[test]
    fn the_registry_and_the_core_have_the_same_words_for_a_report_result() {
        for (result, tested) in [
            (ReportResult::Pass, SuiteResult::Pass),
            (ReportResult::Fail, SuiteResult::Fail),
            (ReportResult::Inconclusive, SuiteResult::Inconclusive),
            (ReportResult::Error, SuiteResult::Error),
            (ReportResult::Skipped, SuiteResult::Skipped),
        ] {
            assert_eq!(serde_json::to_value(result).unwrap(), serde_json::to_value(tested).unwrap());
            assert_eq!(result.to_string(), tested.to_string());
        }
    }
}
