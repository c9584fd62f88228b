//! What people and programs are shown of a rollout: plain data, in words where words are what is wanted.
//!
//! The API, the CLI, the dashboard and the demo show this and nothing else, so that they cannot disagree; it is made
//! from the engine's state in one place and carries no rule of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Images, Weight, version};
use crate::time::{Span, Timestamp};

/// One rollout as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolloutView {
    /// Its id.
    pub id: String,
    /// The workload's canonical key.
    pub workload: String,
    /// The images before.
    pub from: Images,
    /// The images that it is to run.
    pub to: Images,
    /// The policy's name.
    pub policy: String,
    /// `enforce` or `observe`.
    pub mode: String,
    /// The phase's name; of a blue-green rollout `preview` for preparing and `switched` for stepping.
    pub phase: String,
    /// Which step of how many, counted from 1.
    pub step: Option<(usize, usize)>,
    /// The share of the traffic that was asked for.
    pub weight: Weight,
    /// The share that was seen, 0 to 1.
    pub observed: Option<f64>,
    /// Why it is held, if it is.
    pub held: Option<String>,
    /// How it ended: `promoted`, `rolled-back`, `given-up`, `aborted`, `superseded` or `refused`.
    pub outcome: Option<String>,
    /// Why it stands as it does, in one sentence.
    pub reason: String,
    /// What happens next.
    pub next: String,
    /// In this phase since.
    pub since: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What is looked at, and what was found at the last look.
    pub checks: Vec<CheckView>,
    /// What was decided so far, oldest first.
    pub history: Vec<DecisionView>,
}

/// One check at its last look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckView {
    /// The check's name.
    pub name: String,
    /// `pass`, `regressed`, `insufficient` or `blind`.
    pub verdict: String,
    /// The canary's value, with its unit.
    pub canary: Option<String>,
    /// Between which values the true one is, with 95 % confidence whenever one looks; where requests are counted as evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_between: Option<String>,
    /// The stable's.
    pub stable: Option<String>,
    /// The same of the stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_between: Option<String>,
    /// The limit, with its comparator and unit.
    pub limit: String,
    /// How many requests the value rests on.
    pub n: u64,
    /// Over how long a time.
    pub window: Span,
    /// All of it in one sentence.
    pub sentence: String,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecisionView {
    /// When.
    pub at: Timestamp,
    /// Which: `start`, `advance`, `hold`, …
    pub decision: String,
    /// Why, in one sentence.
    pub reason: String,
    /// At which step of how many.
    pub step: Option<(usize, usize)>,
}

impl RolloutView {
    /// The workload without its cluster and kind, `namespace/name`: what fits a column.
    pub fn short_workload(&self) -> String {
        match self.workload.split('/').collect::<Vec<_>>().as_slice() {
            [_, namespace, _, name] => format!("{namespace}/{name}"),
            _ => self.workload.clone(),
        }
    }

    /// `1.7.3 → 1.8.0`: the versions of the container that changes, or of the first one.
    pub fn versions(&self) -> String {
        let changed = self.to.iter().find(|(container, image)| self.from.get(*container) != Some(*image));
        let Some((container, to)) = changed.or_else(|| self.to.iter().next()) else { return "–".to_owned() };
        match self.from.get(container) {
            Some(from) => format!("{} → {}", version(from), version(to)),
            None => version(to).to_owned(),
        }
    }
}

/// Everything that is shown, published after each turn of the daemon's loop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatusView {
    /// The rollouts by id.
    pub rollouts: BTreeMap<String, RolloutView>,
}
