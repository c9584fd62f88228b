//! A model registry made of plain values: what is registered, and which version each environment's pointer is at.

use std::collections::{BTreeMap, BTreeSet};

use super::failed;
use bellwether_core::ids::EffectId;
use bellwether_core::input::effect::ModelAct;
use bellwether_core::input::event::{FailureKind, Outcome};

/// What is registered, and what is current where.
#[derive(Debug, Clone, Default)]
pub struct ModelRegistry {
    registered: BTreeSet<String>,
    /// By environment and model's name.
    moves: BTreeMap<(String, String), Vec<Move>>,
}

/// A pointer was moved.
#[derive(Debug, Clone)]
struct Move {
    by: EffectId,
    before: Option<String>,
    to: Option<String>,
}

impl ModelRegistry {
    /// Registers a version, written as `name@version`.
    pub fn register(&mut self, model: &str) {
        self.registered.insert(model.to_owned());
    }

    /// The version that is current in `environment`, of the model that is called `name`.
    pub fn current(&self, environment: &str, name: &str) -> Option<&str> {
        self.moves.get(&(environment.to_owned(), name.to_owned()))?.last()?.to.as_deref()
    }

    /// Somebody moves the pointer by hand.
    pub fn point(&mut self, environment: &str, model: &str) {
        let by = EffectId("by hand".to_owned());
        self.push(environment, model, by, Some(model.to_owned()));
    }

    /// Does what is asked, once.
    pub fn perform(&mut self, effect: &EffectId, environment: &str, model: &str, act: &ModelAct) -> Outcome {
        let refused = |message| failed(FailureKind::Refused, message);
        if !self.registered.contains(model) {
            return refused(format!("model {model} is not registered"));
        }
        match act {
            ModelAct::Verify => Outcome::Done,
            ModelAct::Point => {
                let moves = self.moves.get(&key(environment, model));
                let done = moves.into_iter().flatten().find(|moved| moved.by == *effect);
                let before = match done {
                    Some(moved) => moved.before.clone(),
                    None => self.push(environment, model, effect.clone(), Some(model.to_owned())),
                };
                Outcome::Pointed { before }
            }
            ModelAct::Return { before } => {
                if self.current(environment, &key(environment, model).1) == Some(model) {
                    self.push(environment, model, effect.clone(), before.clone());
                }
                Outcome::Done
            }
        }
    }

    fn push(&mut self, environment: &str, model: &str, by: EffectId, to: Option<String>) -> Option<String> {
        let moves = self.moves.entry(key(environment, model)).or_default();
        let before = moves.last().and_then(|moved| moved.to.clone());
        moves.push(Move { by, before: before.clone(), to });
        before
    }
}

fn key(environment: &str, model: &str) -> (String, String) {
    (environment.to_owned(), model.split_once('@').map_or(model, |(name, _)| name).to_owned())
}
