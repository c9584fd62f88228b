//! The ledger of a partition: its engine, the journal entries that each step writes, and the restore from them.
//!
//! Per workload `W` (its canonical key) the journal holds `W/snap`, the state at its last decision; `W/block/<slot>`, the inputs
//! since then, in slots that are reused after the next snapshot and that name the snapshot which they follow; and
//! `W/template/<hash>`, the pod templates that may have to be restored. `seen/<hash>` remembers processed events, `answer/<hash>`
//! the answers to the events of a day, `past/W/<rollout>` earlier rollouts for people, `freeze/<scope>` the freezes, `epoch` the
//! number of the owner, and `cluster` the cluster that it acts in. A restore is the snapshot and then the inputs through the
//! ordinary `step`; a state comes about in no other way. Compaction keeps the last value of each key, and a restore reads nothing
//! else.
//!
//! An entry that can't be read, as after a downgrade, or that the journal does not take concerns as little as possible. A workload
//! with one is isolated: nothing of it is written or removed, and the others go on. A freeze holds until a person ends it, since its key
//! names the scope. An event is known
//! by its key. When an isolated workload can be read again, it is told of the freezes that have begun or ended meanwhile.
//!
//! At each snapshot the same inputs go to the decisions topic together with the decisions, so that they can be replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::engine::record::{AUDIT_SCHEMA, AuditRecord, ENGINE, RefusalRecord, requests_rollout};
use bellwether_core::engine::view::{AnswerView, RolloutView};
use bellwether_core::engine::{Disposition, Engine, Transition, WorkloadState};
use bellwether_core::ids::{Scope, TemplateHash, Workload};
use bellwether_core::input::effect::{Act, ClusterAct, Effect};
use bellwether_core::input::event::{Event, Input};
use bellwether_core::policy::Policy;
use bellwether_core::rollout::decision::Decision;
use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failpoints;
use crate::ports::{Batch, Epoch, JournalError, MAX_ENTRY_BYTES, PodTemplate};

mod answers;
pub mod followed;
mod packed;
mod past;
mod shared;

use packed::PackedEntries;
use shared::MissedFreeze;

/// The number of inputs between two snapshots: enough that snapshots are a small part of the journal, few enough that a restore reads
/// little.
const SNAPSHOT_EVERY: usize = 16;
/// The size of the inputs in bytes after which a snapshot follows, so that a decisions record with all of them is short enough.
const SNAPSHOT_BYTES: usize = MAX_ENTRY_BYTES / 4;

const EPOCH: &str = "epoch";
/// The key of the name of the cluster that the journal belongs to.
const CLUSTER: &str = "cluster";

/// The beginnings of keys that belong to no workload.
const OWN_BEGINNINGS: [&str; 4] = [answers::ANSWER, shared::FREEZE, past::PAST, shared::SEEN];

/// The format of the snapshots and inputs that this version writes. It is raised when an older version could lose or misread a part of
/// them.
const FORMAT: u32 = 1;

/// The part of a snapshot that every version can read.
#[derive(Debug, Deserialize)]
struct SnapshotHead {
    /// The snapshot's format; 0 for those from before formats were numbered.
    #[serde(default)]
    format: u32,
}

/// `W/snap`.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    /// [`FORMAT`] of the version that wrote it; 0 for those from before formats were numbered.
    #[serde(default)]
    format: u32,
    /// The number of the snapshot, which the blocks after it name.
    seq: u64,
    /// The number of the next decisions record.
    next_record: u64,
    state: WorkloadState,
}

/// `W/block/<slot>`.
#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    /// [`FORMAT`] of the version that wrote it; 0 for those from before formats were numbered.
    #[serde(default)]
    format: u32,
    follows: u64,
    input: Input,
}

/// The part of a slot that says whether the rest counts.
#[derive(Debug, Deserialize)]
struct SlotHead {
    #[serde(default)]
    format: u32,
    follows: u64,
}

/// The inputs and decisions of a workload since its last snapshot.
#[derive(Debug, Default)]
struct Tail {
    seq: u64,
    next_record: u64,
    /// The entries of the inputs: parsed, they take many times the memory.
    slots: PackedEntries,
    decisions: Vec<Decision>,
    basis: Option<Box<WorkloadState>>,
    policies: Vec<Arc<Policy>>,
}

/// An engine with its journal entries.
pub struct Ledger {
    engine: Engine,
    tails: BTreeMap<Workload, Tail>,
    templates: BTreeMap<Workload, BTreeMap<TemplateHash, PodTemplate>>,
    /// The isolated workloads by their key in the journal, each with the reason and the remedy.
    isolated: BTreeMap<String, String>,
    /// The freezes that can't be read, each as a sentence with its consequence and the remedy.
    problems: Vec<String>,
    /// The keys of freezes whose scope can't be read. They end with the freeze of the whole cluster that stands for them.
    unknown_freezes: Vec<String>,
    /// The freezes that a restored workload does not have as the journal has them.
    missed: BTreeMap<Scope, MissedFreeze>,
    /// The times of the answers in the journal, by the digest of their event.
    answers: BTreeMap<String, Timestamp>,
    /// The answers that were restored and not taken yet.
    restored_answers: Vec<AnswerView>,
    /// The ends of the earlier rollouts in the journal, by their key.
    past: BTreeMap<String, Timestamp>,
    /// The earlier rollouts that were restored and not taken yet.
    restored_past: Vec<RolloutView>,
}

/// The entries of a workload, as they are read from the journal.
struct RestoredWorkload {
    state: WorkloadState,
    tail: Tail,
    templates: BTreeMap<TemplateHash, PodTemplate>,
}

impl Ledger {
    /// Restores an engine from `entries`, and returns it with the epoch of their last writer. `blank` is an engine with the present
    /// configuration that knows no workload.
    ///
    /// A workload with an entry that can't be read is isolated: its entries stay as they are, and the engine refuses its events.
    ///
    /// # Errors
    /// The epoch or the cluster can't be read; the error names the entry.
    pub fn restore(entries: &BTreeMap<String, Vec<u8>>, blank: Engine) -> Result<(Ledger, Epoch), JournalError> {
        let epoch = Ledger::epoch(entries, blank.cluster())?;
        let mut ledger = Ledger {
            engine: blank.clone(),
            tails: BTreeMap::new(),
            templates: BTreeMap::new(),
            isolated: BTreeMap::new(),
            problems: Vec::new(),
            unknown_freezes: Vec::new(),
            missed: BTreeMap::new(),
            answers: BTreeMap::new(),
            restored_answers: Vec::new(),
            past: BTreeMap::new(),
            restored_past: Vec::new(),
        };
        let mut freezes = BTreeMap::new();
        for (key, value) in entries {
            if let Some(digest) = key.strip_prefix(shared::SEEN) {
                ledger.restore_seen(key, digest, value);
            } else if let Some(digest) = key.strip_prefix(answers::ANSWER) {
                ledger.restore_answer(key, digest, value);
            } else if key.starts_with(past::PAST) {
                ledger.restore_past(key, value);
            } else if let Some(scope) = key.strip_prefix(shared::FREEZE) {
                let (scope, freeze) = ledger.read_freeze(key, scope, value);
                freezes.insert(scope, freeze);
            } else if let Some(workload) = key.strip_suffix("/snap") {
                ledger.restore_workload(workload, entries, &blank);
            }
        }
        ledger.restore_freezes(freezes);
        Ok((ledger, epoch))
    }

    /// Restores a workload, or isolates it if one of its entries can't be read.
    fn restore_workload(&mut self, key: &str, entries: &BTreeMap<String, Vec<u8>>, blank: &Engine) {
        let workload: Result<Workload, _> = key.parse();
        let restored = workload.as_ref().map_err(|error| unreadable(key, error));
        match restored.and_then(|workload| Ok((workload, read_workload(workload, entries, blank)?))) {
            Ok((workload, RestoredWorkload { state, tail, templates })) => {
                self.engine.restore(state);
                self.tails.insert(workload.clone(), tail);
                self.templates.insert(workload.clone(), templates);
            }
            Err(error) => {
                let why = format!(
                    "{error}; its rollout stays as it is: start the version of Bellwether that wrote the entry, or run \
                     `bellwether release {key}` and `bellwether journal forget {key}`"
                );
                if let Ok(workload) = workload {
                    self.engine.isolate(workload, why.clone());
                }
                self.isolated.insert(key.to_owned(), why);
            }
        }
    }

    /// Returns the isolated workloads by their key in the journal, each with the reason and the remedy.
    pub fn isolated(&self) -> &BTreeMap<String, String> {
        &self.isolated
    }

    /// Returns the epoch of the last writer of `entries`.
    ///
    /// # Errors
    /// An entry can't be read, or the journal belongs to another cluster than `cluster`.
    pub fn epoch(entries: &BTreeMap<String, Vec<u8>>, cluster: &str) -> Result<Epoch, JournalError> {
        check_cluster(entries, cluster)?;
        entries.get(EPOCH).map_or(Ok(Epoch(0)), |value| Ok(Epoch(read(EPOCH, value).map_err(broken)?)))
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Notes that every change of the cluster up to `at` was sent.
    pub fn sighted(&mut self, at: Timestamp) {
        self.engine.sighted(at);
    }

    /// Replaces the policies, for rollouts that begin from now on.
    pub fn set_policies(&mut self, policies: Vec<Policy>) {
        self.engine.set_policies(policies);
    }

    /// Lets the engine take an event in, and adds the journal entries of the step to `batch`. A workload with an entry that the
    /// journal does not take, or whose step panics, is isolated: its earlier entries stay, and the event is refused.
    ///
    /// # Errors
    /// An entry that belongs to no workload can't be written, which is a defect of this program.
    pub fn step(
        &mut self,
        mut event: Event,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Vec<Transition>, JournalError> {
        event.shorten_texts();
        let basis = self.basis(&event, batch);
        let mut committed = Vec::new();
        for transition in self.engine.step(event, now) {
            if let (Some(defect), Some(workload)) = (&transition.defect, &transition.workload) {
                self.set_aside(workload, defect);
                committed.extend(self.engine.refused(&transition.input));
                continue;
            }
            if let (Disposition::Changed, Some(workload)) = (transition.disposition, &transition.workload)
                && let Err(problem) = self.remember(workload, &transition, basis.clone(), batch)
            {
                self.set_aside(workload, &problem);
                committed.extend(self.engine.refused(&transition.input));
                continue;
            }
            self.write_shared_entries(&transition, batch)?;
            committed.push(transition);
        }
        committed.iter().filter_map(RefusalRecord::of).for_each(|refusal| audit(&refusal, batch));
        Ok(committed)
    }

    /// Adds the record of an event that was not admitted to `batch`.
    pub fn not_admitted(mut event: Event, now: Timestamp, why: &str, batch: &mut Batch) {
        event.shorten_texts();
        if let Some(refusal) = RefusalRecord::new(&event, now, AnswerView::REFUSED, why) {
            audit(&refusal, batch);
        }
    }

    /// Isolates a workload with an entry that the journal does not take.
    fn set_aside(&mut self, workload: &Workload, problem: &str) {
        let why = format!(
            "{problem}; its rollout stays as it is, and so do its earlier entries: remove the cause and restart Bellwether, which \
             goes on from them, or run `bellwether release {workload}`"
        );
        self.tails.remove(workload);
        self.templates.remove(workload);
        self.engine.isolate(workload.clone(), why.clone());
        self.isolated.insert(workload.to_string(), why);
    }

    /// Returns the state before an event that asks for a rollout; `None` for another event. A record begins with such an event,
    /// so the earlier inputs are written to a record of their own.
    fn basis(&mut self, event: &Event, batch: &mut Batch) -> Option<Box<WorkloadState>> {
        let workload = match event {
            Event::Requested { request, .. } => &request.workload,
            Event::Deployed { workload, .. } => workload,
            Event::Commanded { command, .. } => match command.scope.workload() {
                Some(workload) if requests_rollout(event) => workload,
                _ => return None,
            },
            Event::Tested { .. }
            | Event::Observed { .. }
            | Event::Measured { .. }
            | Event::Performed { .. }
            | Event::Uncovered { .. }
            | Event::Tick => return None,
        };
        if self.tails.get(workload).is_some_and(|tail| !tail.slots.is_empty())
            && let Err(problem) = self.snapshot(workload, batch)
        {
            self.set_aside(workload, &problem);
        }
        Some(Box::new(self.engine.basis(workload)))
    }

    fn remember(
        &mut self,
        workload: &Workload,
        transition: &Transition,
        basis: Option<Box<WorkloadState>>,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let tail = self.tails.entry(workload.clone()).or_default();
        let first = tail.seq == 0;
        tail.decisions.extend(transition.decisions.iter().cloned());
        tail.policies.extend(transition.policy.clone());
        if requests_rollout(&transition.input.event) {
            tail.basis = basis;
        }
        let matters = !transition.decisions.is_empty() || !transition.effects.is_empty() || transition.seen.is_some();
        let slot = Slot { format: format_of(workload), follows: tail.seq, input: transition.input.clone() };
        let key = slot_key(workload, tail.slots.len());
        let value = write(&key, &slot)?;
        tail.slots.push(&value);
        if first || matters || tail.slots.len() >= SNAPSHOT_EVERY || tail.slots.bytes() > SNAPSHOT_BYTES {
            return self.snapshot(workload, batch);
        }
        batch.puts.push((key, Some(value)));
        Ok(())
    }

    /// Adds a snapshot and the decisions record of the inputs before it to `batch`, or nothing of both.
    fn snapshot(&mut self, workload: &Workload, batch: &mut Batch) -> Result<(), String> {
        let Some(state) = self.engine.state(workload) else { return Ok(()) };
        let tail = self.tails.entry(workload.clone()).or_default();
        let slots = std::mem::take(&mut tail.slots).entries()?;
        let read_input = |(slot, value): (usize, &Vec<u8>)| Ok(read::<Slot>(&slot_key(workload, slot), value)?.input);
        let inputs = slots.iter().enumerate().map(read_input);
        let record = AuditRecord {
            schema: AUDIT_SCHEMA,
            engine: ENGINE.to_owned(),
            workload: workload.clone(),
            n: tail.next_record,
            basis: tail.basis.take(),
            policies: std::mem::take(&mut tail.policies),
            inputs: inputs.collect::<Result<_, String>>()?,
            decisions: std::mem::take(&mut tail.decisions),
        };
        tail.seq += 1;
        tail.next_record += 1;
        let format = format_of(workload);
        let snapshot = Snapshot { format, seq: tail.seq, next_record: tail.next_record, state: state.clone() };
        let (decisions, entry) = (workload.to_string(), format!("{workload}/snap"));
        let (record, snapshot) = (write(&decisions, &record)?, write(&entry, &snapshot)?);
        batch.decisions.push((decisions, record));
        batch.puts.push((entry, Some(snapshot)));
        Ok(())
    }

    /// Keeps the templates that may have to be restored, and removes those that no longer may.
    pub fn keep_templates(&mut self, workload: &Workload, templates: Vec<PodTemplate>, batch: &mut Batch) {
        if self.engine.isolation(workload).is_some() {
            return;
        }
        let needed = self.needed_templates(workload);
        let kept = self.templates.entry(workload.clone()).or_default();
        for template in templates.into_iter().filter(|template| needed.contains(&template.hash)) {
            if !kept.contains_key(&template.hash) {
                let key = format!("{workload}/template/{}", template.hash);
                if let Err(problem) = check_size(&key, template.expose().len()) {
                    return self.set_aside(workload, &problem);
                }
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

    /// Removes the entries of a workload that the engine has forgotten.
    fn remove(&mut self, workload: &Workload, batch: &mut Batch) {
        self.tails.remove(workload);
        let templates = self.templates.remove(workload).unwrap_or_default();
        let templates = templates.into_keys().map(|hash| format!("{workload}/template/{hash}"));
        let slots = (0..SNAPSHOT_EVERY).map(|slot| slot_key(workload, slot));
        let keys = slots.chain(templates).chain([format!("{workload}/snap")]);
        batch.puts.extend(keys.map(|key| (key, None)));
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

    /// Returns the content of the template that an effect names.
    pub fn template(&self, effect: &Effect) -> Option<PodTemplate> {
        let Act::Cluster(ClusterAct::Restore { template, .. }) = &effect.act else { return None };
        self.templates.get(&effect.workload)?.get(template).cloned()
    }

    /// Adds the epoch and the cluster of a new owner to its first batch.
    ///
    /// # Errors
    /// They can't be written as JSON, which is a defect of this program.
    pub fn raise_epoch(epoch: Epoch, cluster: &str, batch: &mut Batch) -> Result<(), JournalError> {
        batch.puts.push((CLUSTER.to_owned(), Some(write(CLUSTER, &cluster).map_err(broken)?)));
        batch.puts.push((EPOCH.to_owned(), Some(write(EPOCH, &epoch.0).map_err(broken)?)));
        Ok(())
    }
}

/// Adds the record of a refused act to `batch`. One that the journal does not take is left out: nothing rests on it.
fn audit(refusal: &RefusalRecord, batch: &mut Batch) {
    let key = refusal.scope.to_string();
    match write(&key, refusal) {
        Ok(record) => batch.decisions.push((key, record)),
        Err(problem) => tracing::warn!(problem, "a refused act is not recorded"),
    }
}

/// Checks that the journal belongs to the cluster `own`: by its entry, or for an older journal by its workloads.
fn check_cluster(entries: &BTreeMap<String, Vec<u8>>, own: &str) -> Result<(), JournalError> {
    let named: Option<String> = entries.get(CLUSTER).map(|value| read(CLUSTER, value).map_err(broken)).transpose()?;
    let of_workloads = || {
        let workloads = entries.keys().filter_map(|key| key.strip_suffix("/snap")?.parse::<Workload>().ok());
        workloads.map(|workload| workload.cluster).find(|cluster| cluster != own)
    };
    match named.or_else(of_workloads) {
        Some(other) if other != own => Err(JournalError::Broken(format!(
            "the journal belongs to cluster {other}, and this daemon acts in cluster {own}; give each cluster its own \
             kafka.journal-topic and kafka.group (or journal.path), or set `cluster` to the journal's"
        ))),
        _ => Ok(()),
    }
}

/// Reads the entries of a workload: its snapshot, the inputs since then, and its templates.
///
/// # Errors
/// One of them can't be read; the text names it.
fn read_workload(
    workload: &Workload,
    entries: &BTreeMap<String, Vec<u8>>,
    blank: &Engine,
) -> Result<RestoredWorkload, String> {
    let value = entries.get(&format!("{workload}/snap")).map(Vec::as_slice).unwrap_or_default();
    let Snapshot { seq, next_record, state, .. } = read_snapshot(workload, value)?;
    // In an engine of its own, so that the inputs meet the same clock as the first time.
    let mut engine = blank.clone();
    engine.restore(state);
    let mut tail = Tail { seq, next_record, ..Tail::default() };
    for slot in 0..SNAPSHOT_EVERY {
        let key = slot_key(workload, slot);
        let Some(value) = entries.get(&key) else { break };
        let Some(input) = read_slot(workload, &key, value, seq)? else { break };
        // The effects of the step are in the state, and are asked for again from there.
        let _ = engine.replay(input.clone());
        tail.slots.push(value);
    }
    if let Some(defect) = engine.isolation(workload) {
        return Err(format!("the inputs of {workload} can't be taken in again: {defect}"));
    }
    let state = engine.basis(workload);
    Ok(RestoredWorkload { state, tail, templates: read_templates(workload, entries)? })
}

/// Reads the snapshot of a workload.
///
/// # Errors
/// It can't be read; the text names it.
fn read_snapshot(workload: &Workload, value: &[u8]) -> Result<Snapshot, String> {
    let key = format!("{workload}/snap");
    let SnapshotHead { format } = read(&key, value)?;
    check_format(workload, &key, format)?;
    read(&key, value)
}

/// Reads the input in a slot of a workload; `None` if it does not follow the snapshot with the number `seq`.
///
/// # Errors
/// It can't be read; the text names it.
fn read_slot(workload: &Workload, key: &str, value: &[u8], seq: u64) -> Result<Option<Input>, String> {
    let SlotHead { format, follows } = read(key, value)?;
    if follows != seq {
        return Ok(None);
    }
    check_format(workload, key, format)?;
    let Slot { input, .. } = read(key, value)?;
    Ok(Some(input))
}

/// Returns the key of a slot of a workload.
fn slot_key(workload: &Workload, slot: usize) -> String {
    format!("{workload}/block/{slot}")
}

fn read_templates(
    workload: &Workload,
    entries: &BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<TemplateHash, PodTemplate>, String> {
    let prefix = format!("{workload}/template/");
    let of_workload = entries.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
    let template = |(key, value): (&String, &Vec<u8>)| {
        let json = String::from_utf8(value.clone()).map_err(|error| unreadable(key, &error))?;
        let hash = TemplateHash(key[prefix.len()..].to_owned());
        Ok((hash.clone(), PodTemplate::new(hash, json)))
    };
    of_workload.map(template).collect()
}

/// Returns the format of the entries of a workload: [`FORMAT`], but in a test of two versions.
fn format_of(workload: &Workload) -> u32 {
    failpoints::format_of(&workload.to_string(), FORMAT)
}

/// Checks that an entry of a workload was not written by a newer version.
fn check_format(workload: &Workload, key: &str, format: u32) -> Result<(), String> {
    let newest = format_of(workload);
    if format <= newest {
        return Ok(());
    }
    Err(unreadable(key, &format!("it has format {format}, and this version reads up to {newest}")))
}

/// Returns the problem of an entry as text.
fn unreadable(key: &str, error: &dyn std::fmt::Display) -> String {
    format!("journal entry {key:?} can't be read: {error}; it was written by another version, or is damaged")
}

/// Returns the error for a problem that a person has to look at.
fn broken(problem: String) -> JournalError {
    JournalError::Broken(problem)
}

fn read<T: for<'de> Deserialize<'de>>(key: &str, value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| unreadable(key, &error))
}

/// Returns the value of an entry.
///
/// # Errors
/// It can't be written as JSON, which is a defect of this program, or it is too long for a journal.
fn write<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, String> {
    let value =
        serde_json::to_vec(value).map_err(|error| format!("journal entry {key:?} can't be written: {error}"))?;
    check_size(key, value.len())?;
    Ok(value)
}

/// Returns whether a cluster can't have this name: the keys of its workloads begin with it, and would be taken for others.
pub fn is_reserved(cluster: &str) -> bool {
    OWN_BEGINNINGS.contains(&format!("{cluster}/").as_str())
}

/// Removes the entries with a time before `since` from `times` and from the journal, where `key` returns their key.
fn forget_before(
    times: &mut BTreeMap<String, Timestamp>,
    since: Timestamp,
    key: impl Fn(&str) -> String,
    batch: &mut Batch,
) {
    times.retain(|entry, at| {
        let is_kept = *at >= since;
        if !is_kept {
            batch.puts.push((key(entry), None));
        }
        is_kept
    });
}

/// Checks that an entry is short enough for a journal.
fn check_size(key: &str, value_bytes: usize) -> Result<(), String> {
    let bytes = key.len() + value_bytes;
    if bytes <= MAX_ENTRY_BYTES {
        return Ok(());
    }
    Err(format!("journal entry {key:?} would have {bytes} bytes, and a journal takes at most {MAX_ENTRY_BYTES}"))
}
