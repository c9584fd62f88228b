//! Views: the public form of rollouts for the API, the CLI, the dashboard and the demo.
//!
//! All of them show the same views, so they can't disagree. [`show`](super::show) makes the views from the engine's
//! state.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Images, Weight, digest, is_same_repository, version};
use crate::input::report::SuiteReport;
use crate::time::{Span, Timestamp};

/// The present state of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolloutView {
    /// The rollout's id.
    pub id: String,
    /// The workload's canonical key.
    pub workload: String,
    /// The images before the rollout, by container.
    pub from: Images,
    /// The images after the rollout, by container.
    pub to: Images,
    /// The image that was requested, or the model if no image was; `None` for a guard of another tool's deployment. The containers
    /// that an image is for are known when the preflight has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// The policy's name and hash, `NAME@HASH`.
    pub policy: String,
    /// The policy's mode: `enforce` or `observe`.
    pub mode: String,
    /// The phase's name. In a blue-green rollout, preparing is called `preview` and stepping `switched`.
    /// A rollout that can't be read is [`UNREADABLE`](RolloutView::UNREADABLE), and one that waits is
    /// [`QUEUED`](RolloutView::QUEUED).
    pub phase: String,
    /// The present step, from 1, and the number of steps; `None` for a guard of another tool's deployment.
    pub step: Option<(usize, usize)>,
    /// The canary's requested weight.
    pub weight: Weight,
    /// The canary's share of the counted requests, 0 to 1; `None` if none were counted.
    pub observed: Option<f64>,
    /// The reason of the hold, or of a pause that was asked for before a phase that can be held on; `None` if there is neither.
    pub held: Option<String>,
    /// The ending: `promoted`, `rolled-back`, `given-up`, `aborted`, `superseded`, `refused` or `unchanged`; `None`
    /// while the rollout goes on.
    pub outcome: Option<String>,
    /// The reason of the present state, in one sentence.
    pub reason: String,
    /// The next event, with its condition.
    pub next: String,
    /// The start of the present phase.
    pub since: Timestamp,
    /// The start of the rollout.
    pub started: Timestamp,
    /// The end of the rollout; `None` while it goes on.
    pub ended: Option<Timestamp>,
    /// The checks of the present analysis, as of their last look; of an ended rollout, as of the decision about its end.
    pub checks: Vec<CheckView>,
    /// The decisions so far, oldest first.
    pub history: Vec<DecisionView>,
    /// The verbs that its state admits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<OfferView>,
    /// The age of this view: the time since the journal of the workload's partition was read to its end. `None` from the process
    /// that owns the partition, whose view is the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Span>,
}

/// Returns the canonical key of a workload without its cluster and kind, as `namespace/name`; another text as it is.
pub fn short_workload(key: &str) -> String {
    match key.split('/').collect::<Vec<_>>().as_slice() {
        [_, namespace, _, name] => format!("{namespace}/{name}"),
        _ => key.to_owned(),
    }
}

/// Returns whether `wanted` means the workload with a canonical key: it is the workload's name, `namespace/name`, or the key.
pub fn is_workload(key: &str, wanted: &str) -> bool {
    let short = short_workload(key);
    let name = short.split_once('/').map_or(&*short, |(_, name)| name);
    [name, &short, key].contains(&wanted)
}

/// The result of one check at its last look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckView {
    /// The check's name.
    pub name: String,
    /// The verdict: `pass`, `regressed`, `insufficient` or `blind`.
    pub verdict: String,
    /// The canary's value with its unit; `None` if it has none.
    pub canary: Option<String>,
    /// The 95 % confidence interval of the canary's value, valid at every look; `None` unless the sequential judge is
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_between: Option<String>,
    /// The stable's value with its unit; `None` if it has none.
    pub stable: Option<String>,
    /// The 95 % confidence interval of the stable's value, valid at every look; `None` unless the sequential judge is
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_between: Option<String>,
    /// The limit, with its comparator and unit.
    pub limit: String,
    /// The number of requests or pods that the canary's value is taken from.
    pub n: u64,
    /// The length of the window; zero for availability.
    pub window: Span,
    /// The evidence in one sentence.
    pub sentence: String,
}

/// One decision of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecisionView {
    /// The time of the decision.
    pub at: Timestamp,
    /// The decision's kind, such as `start`, `advance` or `hold`.
    pub decision: String,
    /// The reason, in one sentence.
    pub reason: String,
    /// The step, from 1, and the number of steps; `None` for a guard of another tool's deployment.
    pub step: Option<(usize, usize)>,
    /// The source of the event that asked for it; `None` if no person or tool did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A verb that the state of a rollout admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OfferView {
    /// The verb's name, as in `bellwether emit VERB`.
    pub verb: String,
    /// Whether a `promote` goes to the end, and not by one step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// The approval or suite that an `approve` gives or waives; `None` for other verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// The conditions that it skips, as phrases. A required suite and a closed change window are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skips: Vec<String>,
}

impl RolloutView {
    /// The value of [`phase`](RolloutView::phase) for a rollout whose journal entries can't be read.
    pub const UNREADABLE: &'static str = "unreadable";
    /// The value of [`phase`](RolloutView::phase) for a requested rollout that waits for its beginning.
    pub const QUEUED: &'static str = "queued";

    /// Returns whether a daemon drives the rollout.
    pub fn is_running(&self) -> bool {
        self.ended.is_none() && ![RolloutView::UNREADABLE, RolloutView::QUEUED].contains(&self.phase.as_str())
    }

    /// Returns the state in one word: the outcome of a rollout that has ended, `held` for one that a daemon drives and that is held,
    /// and else the phase.
    pub fn state(&self) -> &str {
        let held = self.held.as_ref().filter(|_| self.is_running()).map(|_| "held");
        self.outcome.as_deref().or(held).unwrap_or(&self.phase)
    }

    /// Returns the workload without its cluster and kind, as `namespace/name`.
    pub fn short_workload(&self) -> String {
        short_workload(&self.workload)
    }

    /// Returns the versions of the first container that changes, as in `1.7.3 → 1.8.0`. If none is known to change, it is the requested
    /// version, beside the one that it would replace if that is known; `–` if nothing is known.
    pub fn versions(&self) -> String {
        let changed = self.to.iter().find(|(container, image)| self.from.get(*container) != Some(*image));
        let requested = self
            .requested
            .as_ref()
            .map(|requested| (self.from.values().find(|from| is_same_repository(from, requested)), requested));
        let of_container = |(container, to)| (self.from.get(container), to);
        match changed.map(of_container).or(requested).or_else(|| self.to.iter().next().map(of_container)) {
            Some((Some(from), to)) => format!("{} → {}", version(from), version(to)),
            Some((None, to)) => version(to).to_owned(),
            None => "–".to_owned(),
        }
    }
}

/// The answer to one event of a person or a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AnswerView {
    /// The event's source.
    pub source: String,
    /// The event's id.
    pub id: String,
    /// The result: [`taken`](AnswerView::TAKEN), [`waiting`](AnswerView::WAITING), [`ignored`](AnswerView::IGNORED) or
    /// [`refused`](AnswerView::REFUSED).
    pub result: String,
    /// The explanation, in one sentence.
    pub reason: String,
    /// The id of the rollout that the event requests; `None` for an event that requests none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// The time of the answer.
    pub at: Timestamp,
}

impl AnswerView {
    /// The result of an event that was carried out.
    pub const TAKEN: &'static str = "taken";
    /// The result of a request that waits for its beginning.
    pub const WAITING: &'static str = "waiting";
    /// The result of an event that changes nothing, such as a repeated, late or expired one.
    pub const IGNORED: &'static str = "ignored";
    /// The result of an event that can't be carried out. Its sender has to correct it.
    pub const REFUSED: &'static str = "refused";

    /// Returns the [digest](crate::ids::EventId::digest) of the event.
    pub fn event_digest(&self) -> String {
        digest(&[&self.source, &self.id])
    }

    /// Whether the event has the effect that it asks for, now or later.
    pub fn is_taken(&self) -> bool {
        [AnswerView::TAKEN, AnswerView::WAITING].contains(&self.result.as_str())
    }
}

/// A freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FreezeView {
    /// The scope: a cluster, a namespace or a workload.
    pub scope: String,
    /// The source of the event that began it.
    pub by: String,
    /// The author's reason; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The start; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The end; `None` if it lasts until an unfreeze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The views of all rollouts. The daemon keeps it up to date; a reader takes the few views that it needs out of it, since none may
/// change while it is read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatusView {
    /// The rollouts of this process's own partitions, by id.
    pub rollouts: BTreeMap<String, Arc<RolloutView>>,
    /// The rollouts of the partitions of other processes, by id, as the journals have them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub followed: BTreeMap<String, Arc<RolloutView>>,
    /// The answers to the newest events, by the [digest](crate::ids::EventId::digest) of source and id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, AnswerView>,
    /// The suite reports about each workload, by its key, oldest first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<String, Arc<[SuiteReport]>>,
    /// The freezes that each partition knows. One of a cluster or a namespace is known to all partitions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub freezes: BTreeMap<i32, Arc<[FreezeView]>>,
}

impl StatusView {
    /// Returns the freezes in force at `now`, each scope once, in the order of the scopes.
    pub fn frozen(&self, now: Timestamp) -> Vec<FreezeView> {
        let in_force = self.freezes.values().flat_map(|freezes| freezes.iter());
        let in_force = in_force.filter(|freeze| freeze.until.is_none_or(|until| now < until));
        // A partition may not know of a change yet that another one knows.
        let mut newest: BTreeMap<&str, &FreezeView> = BTreeMap::new();
        for freeze in in_force {
            let known = newest.entry(&freeze.scope).or_insert(freeze);
            if known.since < freeze.since {
                *known = freeze;
            }
        }
        newest.into_values().cloned().collect()
    }
}
