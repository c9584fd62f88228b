//! An engine and its memory: what each step writes to the journal, and how the engine is made again from it.
//!
//! Per workload `W` (its canonical key) the journal holds `W/snap`, the state at its last decision; `W/block/<slot>`, the
//! inputs since, in slots that are used again after the next snapshot and that name the snapshot they follow; and
//! `W/template/<hash>`, the pod templates that may have to be put back. `seen/<hash>` remembers events, `freeze/<scope>` who
//! has frozen what, and `epoch` counts owners. Restoring is the snapshot, then the inputs through the ordinary `step`: there
//! is no second way in which a state can come about. Compaction keeps the last value of each key, which is all that
//! restoring reads.
//!
//! The same inputs, together with what was decided on them, go to the decisions topic at each snapshot, so that anybody
//! can replay them.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::engine::record::{AuditRecord, ENGINE, requests_rollout};
use bellwether_core::engine::{Disposition, Engine, Transition, WorkloadState};
use bellwether_core::ids::{EventId, Scope, TemplateHash, Workload, digest};
use bellwether_core::input::command::Freeze;
use bellwether_core::input::effect::{Act, Effect};
use bellwether_core::input::event::{Event, Input};
use bellwether_core::policy::Policy;
use bellwether_core::rollout::decision::Decision;
use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::{Batch, Epoch, JournalError, PodTemplate};

/// So many inputs are kept as blocks before a snapshot is taken: enough that snapshots are a small part of the journal,
/// few enough that restoring reads little.
const SNAPSHOT_EVERY: usize = 16;

const EPOCH: &str = "epoch";
const FREEZE: &str = "freeze/";

/// `W/snap`.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    /// Its number; blocks that follow it name it.
    seq: u64,
    /// The number of the next decisions record.
    next_record: u64,
    state: WorkloadState,
}

/// `W/block/<slot>`.
#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    follows: u64,
    input: Input,
}

/// `seen/<hash of source and id>`.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    event: EventId,
    until: Timestamp,
}

/// What happened to a workload since its last snapshot.
#[derive(Debug, Default)]
struct Tail {
    seq: u64,
    next_record: u64,
    inputs: Vec<Input>,
    decisions: Vec<Decision>,
    basis: Option<Box<WorkloadState>>,
    policies: Vec<Policy>,
}

/// An engine and its memory.
pub struct Ledger {
    engine: Engine,
    tails: BTreeMap<Workload, Tail>,
    templates: BTreeMap<Workload, BTreeMap<TemplateHash, PodTemplate>>,
}

impl Ledger {
    /// The engine that `entries` describe, and the epoch of whoever wrote them last. `blank` is an engine with the
    /// present configuration that knows nothing.
    ///
    /// # Errors
    /// An entry can't be read: naming it. Nothing is guessed.
    pub fn restore(entries: &BTreeMap<String, Vec<u8>>, blank: Engine) -> Result<(Ledger, Epoch), JournalError> {
        let mut ledger = Ledger { engine: blank.clone(), tails: BTreeMap::new(), templates: BTreeMap::new() };
        let mut epoch = Epoch(0);
        for (key, value) in entries {
            if key == EPOCH {
                epoch = Epoch(read(key, value)?);
            } else if key.starts_with("seen/") {
                let Seen { event, until } = read(key, value)?;
                ledger.engine.restore_seen(event, until);
            } else if let Some(scope) = key.strip_prefix(FREEZE) {
                let scope: Scope = scope.parse().map_err(|error| broken(key, &error))?;
                ledger.engine.restore_freeze(scope, read(key, value)?);
            } else if let Some(workload) = key.strip_suffix("/snap") {
                ledger.restore_workload(workload, read(key, value)?, entries, &blank)?;
            } else if let Some((workload, hash)) = key.split_once("/template/") {
                let workload: Workload = named(key, workload)?;
                let json = String::from_utf8(value.clone()).map_err(|error| broken(key, &error))?;
                let template = PodTemplate::new(TemplateHash(hash.to_owned()), json);
                ledger.templates.entry(workload).or_default().insert(template.hash.clone(), template);
            }
        }
        Ok((ledger, epoch))
    }

    fn restore_workload(
        &mut self,
        key: &str,
        snapshot: Snapshot,
        entries: &BTreeMap<String, Vec<u8>>,
        blank: &Engine,
    ) -> Result<(), JournalError> {
        let workload: Workload = named(key, key)?;
        let Snapshot { seq, next_record, state } = snapshot;
        // Alone in an engine, so that the inputs meet the clock that they met the first time.
        let mut engine = blank.clone();
        engine.restore(state);
        let mut tail = Tail { seq, next_record, ..Tail::default() };
        for slot in 0..SNAPSHOT_EVERY {
            let key = format!("{key}/block/{slot}");
            let Some(value) = entries.get(&key) else { break };
            let Slot { follows, input } = read(&key, value)?;
            if follows != seq {
                break;
            }
            // What it asked for is in the state, and is asked for again from there.
            let _ = engine.step(input.event.clone(), input.at);
            tail.inputs.push(input);
        }
        if let Some(state) = engine.state(&workload) {
            self.engine.restore(state.clone());
        }
        self.tails.insert(workload, tail);
        Ok(())
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// New policies, for rollouts that begin from now on.
    pub fn set_policies(&mut self, policies: Vec<Policy>) {
        self.engine.set_policies(policies);
    }

    /// Tells the engine of an event, and adds to `batch` what has to be remembered of it.
    ///
    /// # Errors
    /// A value can't be written as JSON, which is a fault of this program.
    pub fn step(&mut self, event: Event, now: Timestamp, batch: &mut Batch) -> Result<Vec<Transition>, JournalError> {
        let basis = self.basis(&event, batch)?;
        let transitions = self.engine.step(event, now);
        for transition in &transitions {
            remember_for_all(transition, batch)?;
            if let (Disposition::Changed, Some(workload)) = (transition.disposition, &transition.workload) {
                self.remember(workload, transition, basis.clone(), batch)?;
            }
        }
        Ok(transitions)
    }

    /// The state before an event that asks for a rollout: its record begins with it, so what came before is written
    /// to a record of its own.
    fn basis(&mut self, event: &Event, batch: &mut Batch) -> Result<Option<Box<WorkloadState>>, JournalError> {
        let workload = match event {
            Event::Requested { request, .. } => &request.workload,
            Event::Deployed { workload, .. } => workload,
            Event::Commanded { command, .. } => match command.scope.workload() {
                Some(workload) if requests_rollout(event) => workload,
                _ => return Ok(None),
            },
            Event::Tested { .. }
            | Event::Observed { .. }
            | Event::Measured { .. }
            | Event::Performed { .. }
            | Event::Tick => return Ok(None),
        };
        if self.tails.get(workload).is_some_and(|tail| !tail.inputs.is_empty()) {
            self.snapshot(workload, batch)?;
        }
        Ok(Some(Box::new(self.engine.basis(workload))))
    }

    fn remember(
        &mut self,
        workload: &Workload,
        transition: &Transition,
        basis: Option<Box<WorkloadState>>,
        batch: &mut Batch,
    ) -> Result<(), JournalError> {
        let tail = self.tails.entry(workload.clone()).or_default();
        let first = tail.seq == 0;
        tail.inputs.push(transition.input.clone());
        tail.decisions.extend(transition.decisions.iter().cloned());
        tail.policies.extend(transition.policy.clone());
        if requests_rollout(&transition.input.event) {
            tail.basis = basis;
        }
        let matters = !transition.decisions.is_empty() || !transition.effects.is_empty() || transition.seen.is_some();
        if first || matters || tail.inputs.len() >= SNAPSHOT_EVERY {
            return self.snapshot(workload, batch);
        }
        let slot = Slot { follows: tail.seq, input: transition.input.clone() };
        let key = format!("{workload}/block/{}", tail.inputs.len() - 1);
        batch.puts.push((key.clone(), Some(write(&key, &slot)?)));
        Ok(())
    }

    fn snapshot(&mut self, workload: &Workload, batch: &mut Batch) -> Result<(), JournalError> {
        let Some(state) = self.engine.state(workload) else { return Ok(()) };
        let tail = self.tails.entry(workload.clone()).or_default();
        let record = AuditRecord {
            engine: ENGINE.to_owned(),
            workload: workload.clone(),
            n: tail.next_record,
            basis: tail.basis.take(),
            policies: std::mem::take(&mut tail.policies),
            inputs: std::mem::take(&mut tail.inputs),
            decisions: std::mem::take(&mut tail.decisions),
        };
        let key = workload.to_string();
        batch.decisions.push((key.clone(), write(&key, &record)?));
        tail.seq += 1;
        tail.next_record += 1;
        let snapshot = Snapshot { seq: tail.seq, next_record: tail.next_record, state: state.clone() };
        let key = format!("{workload}/snap");
        batch.puts.push((key.clone(), Some(write(&key, &snapshot)?)));
        Ok(())
    }

    /// Keeps those of `templates` that may have to be put back, and lets go of those that no longer may.
    pub fn keep_templates(&mut self, workload: &Workload, templates: Vec<PodTemplate>, batch: &mut Batch) {
        let needed = self.needed_templates(workload);
        let kept = self.templates.entry(workload.clone()).or_default();
        for template in templates.into_iter().filter(|template| needed.contains(&template.hash)) {
            if !kept.contains_key(&template.hash) {
                let key = format!("{workload}/template/{}", template.hash);
                batch.puts.push((key, Some(template.expose().as_bytes().to_vec())));
                kept.insert(template.hash.clone(), template);
            }
        }
        let gone: Vec<TemplateHash> = kept.keys().filter(|hash| !needed.contains(*hash)).cloned().collect();
        for hash in gone {
            batch.puts.push((format!("{workload}/template/{hash}"), None));
            kept.remove(&hash);
        }
    }

    fn needed_templates(&self, workload: &Workload) -> BTreeSet<TemplateHash> {
        let Some(state) = self.engine.state(workload) else { return BTreeSet::new() };
        let rollout = state.rollout.as_ref();
        let stable = state.status.as_ref().and_then(|status| status.stable.as_ref());
        [
            state.last_good.as_ref().map(|good| good.template.clone()),
            rollout.and_then(|rollout| rollout.basis.as_ref()).map(|basis| basis.template.clone()),
            rollout.and_then(|rollout| rollout.restores.clone()),
            stable.map(|arm| arm.template.clone()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The content of the template that an effect names.
    pub fn template(&self, effect: &Effect) -> Option<PodTemplate> {
        match &effect.act {
            Act::Restore { template, .. } => self.templates.get(&effect.workload)?.get(template).cloned(),
            Act::Preflight { .. }
            | Act::Probe { .. }
            | Act::ApplyCanary { .. }
            | Act::SetWeight { .. }
            | Act::Promote { .. }
            | Act::RemoveCanary { .. }
            | Act::Model { .. }
            | Act::Notify { .. }
            | Act::Note { .. } => None,
        }
    }

    /// Forgets events that are older than the topic's retention (they can't come again), and freezes that are over.
    pub fn forget(&mut self, now: Timestamp, batch: &mut Batch) {
        for scope in self.engine.forget_freezes(now) {
            batch.puts.push((format!("{FREEZE}{scope}"), None));
        }
        for event in self.engine.forget_seen(now) {
            batch.puts.push((seen_key(&event), None));
        }
    }

    /// Puts a new owner's epoch into its first batch.
    ///
    /// # Errors
    /// Never in practice: a number can be written.
    pub fn raise_epoch(epoch: Epoch, batch: &mut Batch) -> Result<(), JournalError> {
        batch.puts.push((EPOCH.to_owned(), Some(write(EPOCH, &epoch.0)?)));
        Ok(())
    }
}

/// What is remembered of a transition whatever workload it is about: the event, and a freeze that begins or ends.
fn remember_for_all(transition: &Transition, batch: &mut Batch) -> Result<(), JournalError> {
    if let Some((event, until)) = &transition.seen {
        let key = seen_key(event);
        batch.puts.push((key.clone(), Some(write(&key, &Seen { event: event.clone(), until: *until })?)));
    }
    if let Some((scope, freeze)) = &transition.freeze {
        let key = format!("{FREEZE}{scope}");
        let value = freeze.as_ref().map(|freeze: &Freeze| write(&key, freeze)).transpose()?;
        batch.puts.push((key, value));
    }
    Ok(())
}

/// A source and an id may both contain slashes, so their hash is the key; the entry has them in full.
fn seen_key(event: &EventId) -> String {
    format!("seen/{}", digest(&[&event.source, &event.id]))
}

fn named(key: &str, workload: &str) -> Result<Workload, JournalError> {
    workload.parse().map_err(|error| broken(key, &error))
}

fn broken(key: &str, error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Broken(format!(
        "journal entry {key:?} can't be read: {error}; it was written by another version, or is damaged"
    ))
}

fn read<T: for<'de> Deserialize<'de>>(key: &str, value: &[u8]) -> Result<T, JournalError> {
    serde_json::from_slice(value).map_err(|error| broken(key, &error))
}

fn write<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, JournalError> {
    serde_json::to_vec(value).map_err(|error| JournalError::Broken(format!("entry {key:?} can't be written: {error}")))
}
