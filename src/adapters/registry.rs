//! The registry of models, as far as a rollout has to do with it: what is current where follows the traffic, and comes back
//! with it. Who may do what, and when, is the engine's and the registry's own; here one is translated into the other.

use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::ids::EffectId;
use bellwether_core::input::effect::ModelAct;
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_registry::point::{Mark, Promotion, Restoration};
use bellwether_registry::{Environment, Error, ModelName, Options, Registry, Version};
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::ports::Models;

/// A registry, and what time it is.
pub struct RegistryModels {
    options: Options,
    /// Opened when the first rollout brings a model: most daemons have none, and need none.
    registry: OnceCell<Registry>,
    clock: Arc<dyn Clock>,
}

impl RegistryModels {
    /// The models that `options` name.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> RegistryModels {
        RegistryModels { options, registry: OnceCell::new(), clock }
    }

    async fn act(&self, effect: &EffectId, environment: &str, model: &str, what: &ModelAct) -> Result<Outcome, Error> {
        let environment: Environment = environment.parse()?;
        let (name, version) = parts(model)?;
        let registry = self.registry.get_or_try_init(async || Registry::open(&self.options)).await?;
        match what {
            ModelAct::Verify => {
                registry.may(&environment, &name, &version, &[]).await?;
                Ok(Outcome::Done)
            }
            ModelAct::Point => {
                let mark = self.mark(effect, format!("{model} was promoted"));
                let promotion = Promotion { environment, name: name.clone(), version, require: Vec::new(), mark };
                let before = registry.promote(&promotion).await?.to.before;
                Ok(Outcome::Pointed { before: before.map(|version| format!("{name}@{version}")) })
            }
            ModelAct::Return { before } => {
                let stands = registry.current(&environment, &name).await?;
                // Somebody has moved on meanwhile, or it is back already.
                if stands.is_none_or(|stands| stands.version.as_ref() != Some(&version)) {
                    return Ok(Outcome::Done);
                }
                let mark = self.mark(effect, format!("{model} was rolled back"));
                match before {
                    Some(before) => {
                        let to = Some(parts(before)?.1);
                        registry.restore(&Restoration { environment, name, to, mark }).await?
                    }
                    None => registry.clear(&environment, &name, &mark).await?,
                };
                Ok(Outcome::Done)
            }
        }
    }

    fn mark(&self, effect: &EffectId, why: String) -> Mark {
        let effect = effect.0.clone();
        let by = format!("bellwether, by {effect}");
        Mark { by, why, at: self.clock.now(), effect: Some(effect), expected: None }
    }
}

/// `name@version`.
fn parts(model: &str) -> Result<(ModelName, Version), Error> {
    let Some((name, version)) = model.split_once('@') else {
        let why = "write NAME@VERSION, as in chat@1.3.0".to_owned();
        return Err(Error::Invalid { what: "model", value: model.to_owned(), why });
    };
    Ok((name.parse()?, version.parse()?))
}

#[async_trait]
impl Models for RegistryModels {
    async fn perform(&self, effect: &EffectId, environment: &str, model: &str, what: &ModelAct) -> Outcome {
        self.act(effect, environment, model, what).await.unwrap_or_else(|error| {
            let kind = match &error {
                Error::Store { .. } | Error::Contended { .. } | Error::Random(_) | Error::CutOff { .. } => {
                    FailureKind::Unavailable
                }
                Error::Moved { .. } => FailureKind::Conflict,
                Error::Invalid { .. }
                | Error::Options { .. }
                | Error::Exists(_)
                | Error::Absent { .. }
                | Error::File { .. }
                | Error::Checksum { .. }
                | Error::Damaged { .. }
                | Error::Collected { .. }
                | Error::Report { .. }
                | Error::Signature { .. }
                | Error::Refused { .. }
                | Error::Effect { .. }
                | Error::Json(_) => FailureKind::Refused,
            };
            Outcome::Failed(Failure { kind, message: error.to_string() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_written_with_its_version() {
        assert!(parts("chat@1.3.0").is_ok());
        for wrong in ["chat", "chat@", "@1.0.0", "chat@one", "Chat@1.0.0"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
