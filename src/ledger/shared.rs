//! The entries that belong to no workload: processed events, and freezes.

use std::collections::BTreeMap;

use bellwether_core::engine::view::FreezeView;
use bellwether_core::engine::{Transition, show};
use bellwether_core::ids::{EventId, Scope};
use bellwether_core::input::command::{Author, Command, Freeze, Verb};
use bellwether_core::input::event::Event;
use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Ledger, broken, read, unreadable, write};
use crate::ports::{Batch, JournalError};

/// The beginning of the keys of freezes, before the scope.
pub(super) const FREEZE: &str = "freeze/";
/// The beginning of the keys of processed events, before the digest of source and id.
pub(super) const SEEN: &str = "seen/";

/// `seen/<hash of source and id>`.
#[derive(Debug, Serialize, Deserialize)]
struct SeenEvent {
    event: EventId,
    until: Timestamp,
}

/// A freeze that began or ended while a workload that it covers was isolated.
#[derive(Debug)]
pub(super) struct MissedFreeze {
    freeze: Freeze,
    /// Whether it has ended.
    is_over: bool,
}

impl MissedFreeze {
    /// Returns the command that begins the freeze, or ends it, as an event of its author.
    fn event(self, scope: Scope) -> Event {
        let MissedFreeze { freeze: Freeze { author, since, until }, is_over } = self;
        let (verb, source, reason) = if is_over {
            let reason = "it ended while a workload that it covers was isolated";
            (Verb::Unfreeze, "bellwether".to_owned(), Some(reason.to_owned()))
        } else {
            (Verb::Freeze { until }, author.by, author.why)
        };
        let id = EventId { source, id: format!("missed {} of {scope} since {since}", verb.name()) };
        Event::Commanded { id, time: None, command: Command { scope, verb, rollout: None, reason } }
    }
}

impl Ledger {
    /// Restores a processed event. Its key is enough to know it again; without a readable value it is remembered for as long as
    /// a new one.
    pub(super) fn restore_seen(&mut self, key: &str, digest: &str, value: &[u8]) {
        let seen: Option<SeenEvent> = read(key, value).ok();
        self.engine.restore_seen(digest.to_owned(), seen.map(|seen| seen.until));
    }

    /// Reads a freeze. One without a readable end lasts until a person ends it, and one without a readable scope covers the
    /// cluster.
    pub(super) fn read_freeze(&mut self, key: &str, scope: &str, value: &[u8]) -> (Scope, Freeze) {
        let named: Result<Scope, _> = scope.parse();
        let (scope, problem) = match (named, read(key, value)) {
            (Ok(scope), Ok(freeze)) => return (scope, freeze),
            (Ok(scope), Err(problem)) => (scope, problem),
            (Err(error), _) => {
                self.unknown_freezes.push(key.to_owned());
                (Scope::Cluster(self.engine.cluster().to_owned()), unreadable(key, &error))
            }
        };
        let remedy = format!("`bellwether emit unfreeze --scope {scope}` ends the freeze");
        self.problems.push(format!("{problem}; {scope} counts as frozen: {remedy}"));
        (scope, unknown_freeze(remedy))
    }

    /// Restores the freezes, and notes those that a workload does not have in the same way.
    pub(super) fn restore_freezes(&mut self, freezes: BTreeMap<Scope, Freeze>) {
        for state in self.engine.states() {
            let covering = freezes.iter().filter(|(scope, _)| scope.covers(&state.workload));
            let begun = covering.filter(|(scope, freeze)| state.freezes.get(*scope) != Some(*freeze));
            let over = state.freezes.iter().filter(|(scope, _)| !freezes.contains_key(*scope));
            let missed = begun.map(|freeze| (freeze, false)).chain(over.map(|freeze| (freeze, true)));
            let missed = missed
                .map(|((scope, freeze), is_over)| (scope.clone(), MissedFreeze { freeze: freeze.clone(), is_over }));
            self.missed.extend(missed);
        }
        for (scope, freeze) in freezes {
            self.engine.restore_freeze(scope, freeze);
        }
    }

    /// Takes the events that tell restored workloads of the freezes in force at `now` which they have missed, and of the ends
    /// of those that they still have.
    pub fn missed_freezes(&mut self, now: Timestamp) -> Vec<Event> {
        let missed = std::mem::take(&mut self.missed).into_iter();
        missed.filter(|(_, missed)| missed.freeze.holds(now)).map(|(scope, missed)| missed.event(scope)).collect()
    }

    /// Returns the freezes that can't be read, each as a sentence with its consequence and the remedy.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Adds the entries of a transition that don't belong to a workload: the processed event, and a freeze that begins or ends.
    pub(super) fn write_shared_entries(
        &mut self,
        transition: &Transition,
        batch: &mut Batch,
    ) -> Result<(), JournalError> {
        if let Some((event, until)) = &transition.seen {
            let key = seen_key(&event.digest());
            let seen = SeenEvent { event: event.clone(), until: *until };
            batch.puts.push((key.clone(), Some(write(&key, &seen).map_err(broken)?)));
        }
        if let Some((scope, freeze)) = &transition.freeze {
            let key = format!("{FREEZE}{scope}");
            let value = freeze.as_ref().map(|freeze: &Freeze| write(&key, freeze)).transpose().map_err(broken)?;
            if value.is_none() && matches!(scope, Scope::Cluster(_)) {
                batch.puts.extend(self.unknown_freezes.drain(..).map(|key| (key, None)));
            }
            batch.puts.push((key, value));
        }
        Ok(())
    }

    /// Forgets the events that are older than the topic's retention and can't be delivered again, the freezes that have ended,
    /// the answers that are no longer shown, the rollouts of long ago, and the workloads that are gone.
    pub fn forget(&mut self, now: Timestamp, batch: &mut Batch) {
        for scope in self.engine.forget_freezes(now) {
            batch.puts.push((format!("{FREEZE}{scope}"), None));
        }
        for workload in self.engine.forget_workloads(now) {
            self.remove(&workload, batch);
        }
        for digest in self.engine.forget_seen(now) {
            batch.puts.push((seen_key(&digest), None));
        }
        self.forget_answers(now, batch);
        self.forget_past(now, batch);
    }
}

/// Returns the freeze in place of one that can't be read.
fn unknown_freeze(remedy: String) -> Freeze {
    let author = Author { by: "a person who is not known".to_owned(), why: Some(remedy) };
    Freeze { author, since: Timestamp::MIN, until: None }
}

/// Returns the view of an entry of another process's partition, whose key has this scope. One that can't be read holds there, and
/// is shown as in force.
pub(super) fn followed_freeze(key: &str, scope: &str, value: &[u8]) -> FreezeView {
    let freeze: Result<Freeze, _> = read(key, value);
    let freeze = freeze.unwrap_or_else(|_| unknown_freeze("its entry in the journal can't be read".to_owned()));
    FreezeView { scope: scope.to_owned(), ..show::freeze(&Scope::Cluster(String::new()), &freeze) }
}

/// Returns the key of a processed event: its digest, because source and id may contain slashes. The entry holds both in full.
fn seen_key(digest: &str) -> String {
    format!("{SEEN}{digest}")
}
