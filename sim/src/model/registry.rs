//! A model of the registry: the registered versions, and the current version of each environment's pointer.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::failed;
use bellwether_core::ids::EffectId;
use bellwether_core::input::effect::{ModelAct, RegistryAct};
use bellwether_core::input::event::{FailureKind, Outcome};

/// A model of the registry.
#[derive(Debug, Clone, Default)]
pub struct ModelRegistry {
    /// The registered versions, as `name@version`.
    registered: BTreeSet<String>,
    /// The moves of each pointer in order, by environment and the model's name.
    moves: BTreeMap<(String, String), Vec<Move>>,
}

/// One move of a pointer.
#[derive(Debug, Clone)]
struct Move {
    /// The effect that moved the pointer.
    by: EffectId,
    /// The version before the move.
    before: Option<String>,
    /// The version after the move.
    to: Option<String>,
}

impl ModelRegistry {
    /// Registers a version, written as `name@version`.
    pub fn register(&mut self, model: &str) {
        self.registered.insert(model.to_owned());
    }

    /// Returns the current version of the model `name` in an environment, as `name@version`; `None` if there is none.
    pub fn current(&self, environment: &str, name: &str) -> Option<&str> {
        self.moves.get(&(environment.to_owned(), name.to_owned()))?.last()?.to.as_deref()
    }

    /// Moves the pointer of an environment to `model`, given as `name@version`, as a person would.
    pub fn point(&mut self, environment: &str, model: &str) {
        let by = EffectId("by hand".to_owned());
        self.push(environment, model, by, Some(model.to_owned()));
    }

    /// Performs an act of an effect and returns its outcome. A pointer that the same effect has moved is not moved
    /// again.
    pub fn perform(&mut self, effect: &EffectId, act: &RegistryAct) -> Outcome {
        let RegistryAct { environment, model, what } = act;
        let refused = |message| failed(FailureKind::Refused, message);
        if !self.registered.contains(model) {
            return refused(format!("model {model} is not registered"));
        }
        match what {
            ModelAct::Verify { .. } => Outcome::Done,
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

    /// Records a move and returns the version before it.
    fn push(&mut self, environment: &str, model: &str, by: EffectId, to: Option<String>) -> Option<String> {
        let moves = self.moves.entry(key(environment, model)).or_default();
        let before = moves.last().and_then(|moved| moved.to.clone());
        moves.push(Move { by, before: before.clone(), to });
        before
    }
}

/// Returns the key of a pointer: the environment and the model's name without its version.
fn key(environment: &str, model: &str) -> (String, String) {
    (environment.to_owned(), model.split_once('@').map_or(model, |(name, _)| name).to_owned())
}
