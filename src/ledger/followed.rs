//! A partition that another process owns, as its journal tells: the views of its rollouts, and the answers to its events. Nothing is
//! decided and nothing is written here.

use std::collections::BTreeMap;

use bellwether_core::engine::view::{FreezeView, RolloutView};
use bellwether_core::engine::{Engine, WorkloadState, detail, show};
use bellwether_core::ids::Workload;
use bellwether_core::time::{Span, Timestamp};

use super::answers::ANSWER;
use super::past::PAST;
use super::shared::{FREEZE, followed_freeze};
use super::{SNAPSHOT_EVERY, Snapshot, read, read_slot, read_snapshot, unreadable};
use crate::show::FollowedViews;

/// A partition of another process.
pub struct FollowedPartition {
    /// An engine that knows no workload and no policy: an input that is not in a snapshot begins no rollout.
    blank: Engine,
    /// Whether its first entries were not applied yet.
    is_new: bool,
    /// The entries that were read and not applied yet: the last value of each key.
    unapplied: BTreeMap<String, Option<Vec<u8>>>,
    /// The workloads with a rollout that goes on or waits, by their key in the journal.
    going: BTreeMap<String, FollowedWorkload>,
    /// The workloads that can't be read, each with the reason.
    unreadable: BTreeMap<String, String>,
    /// The freezes, by their key in the journal.
    freezes: BTreeMap<String, FreezeView>,
}

/// A workload of another process's partition.
struct FollowedWorkload {
    /// The number of its snapshot.
    seq: u64,
    /// The number of inputs since the snapshot that were taken in.
    inputs: usize,
    state: WorkloadState,
}

impl FollowedPartition {
    /// Returns a partition of the cluster's journal of which nothing was read yet.
    pub fn new(cluster: &str) -> FollowedPartition {
        FollowedPartition {
            blank: Engine::new(cluster.to_owned(), Vec::new(), Span::ZERO),
            is_new: true,
            unapplied: BTreeMap::new(),
            going: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            freezes: BTreeMap::new(),
        }
    }

    /// Notes an entry. Templates, which may hold secrets, and all that is not shown are dropped at once.
    pub fn note(&mut self, key: &str, value: Option<&[u8]>) {
        if [ANSWER, PAST, FREEZE].iter().any(|start| key.starts_with(start)) || workload_of(key).is_some() {
            self.unapplied.insert(key.to_owned(), value.map(<[u8]>::to_vec));
        }
    }

    /// Returns the number of entries that were noted and not applied yet.
    pub fn unapplied(&self) -> usize {
        self.unapplied.len()
    }

    /// Applies the entries that were noted, and returns the views of all that has changed at the time `now`.
    pub fn apply(&mut self, now: Timestamp) -> FollowedViews {
        let entries = std::mem::take(&mut self.unapplied);
        let mut views = FollowedViews { is_all: std::mem::take(&mut self.is_new), ..FollowedViews::default() };
        for (key, value) in &entries {
            if key.starts_with(ANSWER) {
                // An answer of a newer version is left out, and so is an earlier rollout.
                views.answers.extend(value.as_ref().and_then(|value| read(key, value).ok()));
            } else if key.starts_with(PAST) {
                views.past.extend(value.as_ref().and_then(|value| read(key, value).ok()));
            } else if let Some(scope) = key.strip_prefix(FREEZE) {
                match value {
                    Some(value) => self.freezes.insert(key.clone(), followed_freeze(key, scope, value)),
                    None => self.freezes.remove(key),
                };
            } else if let Some(workload) = workload_of(key)
                && !views.workloads.contains_key(workload)
                && let Some(rollouts) = self.follow(workload, &entries, now, &mut views)
            {
                views.workloads.insert(workload.to_owned(), rollouts);
            }
        }
        let have_changed = views.is_all || entries.keys().any(|key| key.starts_with(FREEZE));
        views.freezes = have_changed.then(|| self.freezes.values().cloned().collect());
        views
    }

    /// Follows a workload, adds the details of its rollout and its reports to `views`, and returns its rollouts; `None` if nothing
    /// that is shown has changed.
    fn follow(
        &mut self,
        key: &str,
        entries: &BTreeMap<String, Option<Vec<u8>>>,
        now: Timestamp,
        views: &mut FollowedViews,
    ) -> Option<Vec<RolloutView>> {
        let earlier = self.going.remove(key);
        let followed = match entries.get(&format!("{key}/snap")) {
            Some(None) => {
                self.unreadable.remove(key);
                views.reports.insert(key.to_owned(), Vec::new());
                return Some(Vec::new());
            }
            Some(Some(value)) => read_workload(key, value),
            None => Ok(earlier?),
        };
        match followed.and_then(|followed| self.take_inputs(key, followed, entries)) {
            Ok(FollowedWorkload { state, seq, inputs }) => {
                self.unreadable.remove(key);
                if let (Some(rollout), Some(detail)) = (&state.rollout, detail::detail(&state)) {
                    views.details.push((rollout.id.to_string(), rollout.ended.is_some(), detail));
                }
                views.reports.insert(key.to_owned(), state.reports.clone());
                let rollouts =
                    state.rollout.as_deref().into_iter().map(show::view).chain(show::queued(&state)).collect();
                if state.active().is_some() || state.queued.is_some() {
                    self.going.insert(key.to_owned(), FollowedWorkload { seq, inputs, state });
                }
                Some(rollouts)
            }
            Err(problem) => {
                let why =
                    format!("{problem}; this replica can't show its rollout, and the one that owns its partition may");
                let known = self.unreadable.insert(key.to_owned(), why.clone());
                (known.as_ref() != Some(&why)).then(|| vec![show::unreadable(key, &why, now)])
            }
        }
    }

    /// Takes the inputs in that follow the snapshot of a workload.
    fn take_inputs(
        &self,
        key: &str,
        followed: FollowedWorkload,
        entries: &BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<FollowedWorkload, String> {
        let FollowedWorkload { seq, mut inputs, state } = followed;
        // In an engine of its own, so that the inputs meet the same clock as at the owner.
        let (mut engine, workload) = (self.blank.clone(), state.workload.clone());
        engine.restore(state);
        while inputs < SNAPSHOT_EVERY {
            let key = format!("{key}/block/{inputs}");
            let Some(Some(value)) = entries.get(&key) else { break };
            let Some(input) = read_slot(&workload, &key, value, seq)? else { break };
            // Its effects are the owner's.
            let _ = engine.replay(input);
            inputs += 1;
        }
        if let Some(defect) = engine.isolation(&workload) {
            return Err(format!("the inputs of {workload} can't be taken in: {defect}"));
        }
        let state = engine.basis(&workload);
        Ok(FollowedWorkload { seq, inputs, state })
    }
}

/// Returns the workload of the key of a snapshot or an input; `None` for another key.
fn workload_of(key: &str) -> Option<&str> {
    let of_input = || {
        let (workload, slot) = key.rsplit_once("/block/")?;
        slot.parse::<usize>().is_ok().then_some(workload)
    };
    key.strip_suffix("/snap").or_else(of_input)
}

/// Reads the snapshot of a workload, by its key in the journal.
///
/// # Errors
/// It can't be read; the text names it.
fn read_workload(key: &str, value: &[u8]) -> Result<FollowedWorkload, String> {
    let workload: Workload = key.parse().map_err(|error| unreadable(key, &error))?;
    let Snapshot { seq, state, .. } = read_snapshot(&workload, value)?;
    Ok(FollowedWorkload { seq, inputs: 0, state })
}
