//! A workload with journal entries that can't be read, beside one whose entries can.

use bellwether::events::cdevents::{VERB, VERB_VERSION};
use bellwether::ledger::Ledger;
use bellwether_core::engine::Disposition;
use bellwether_core::engine::view::RolloutView;
use bellwether_core::ids::{EventId, Scope};
use bellwether_core::input::command::{Command as Order, Verb};
use bellwether_core::input::event::Input;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Timestamp;
use serde_json::{Value, json};

use super::*;

/// A change of a snapshot, after which it can't be read or gone on from.
type Damage = fn(&mut Value);

/// Returns the entries with a changed snapshot.
fn damaged(whole: &BTreeMap<String, Vec<u8>>, damage: Damage) -> BTreeMap<String, Vec<u8>> {
    let mut damaged = whole.clone();
    let snapshot = damaged.get_mut(&format!("{}/snap", workload())).unwrap();
    let mut value: Value = serde_json::from_slice(snapshot).unwrap();
    damage(&mut value);
    *snapshot = value.to_string().into_bytes();
    damaged
}

fn unknown_phase(snapshot: &mut Value) {
    let phase = &mut snapshot["state"]["rollout"]["current"]["phase"];
    assert_eq!(*phase, "stepping");
    *phase = "hovering".into();
}

fn newer_format(snapshot: &mut Value) {
    snapshot["format"] = 2.into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_can_not_be_read_is_isolated_and_the_others_go_on() {
    for damage in [unknown_phase as Damage, newer_format] {
        let mut setting = Setting::new();
        setting.world.deploy(&api(), images("1"), 4, 100);
        let whole = setting.killed_in_a_step().await;
        let damaged = damaged(&whole, damage);
        setting.write(&damaged).await;

        let mut daemon = setting.start().await;
        let Some(Receipt::Dead(why)) = setting.request(&daemon, "b", "3").await else { panic!("it is not refused") };
        let remedy = format!("`bellwether journal forget {}`", workload());
        assert!(why.contains("can't be read") && why.contains(&remedy), "{why}");
        setting.promotes_another(&mut daemon).await;
        let view = daemon.view.borrow().clone();
        let shown = view.rollouts.values().find(|shown| shown.phase == RolloutView::UNREADABLE).unwrap();
        assert_eq!(shown.workload, workload().to_string());
        assert!(shown.reason.contains(&remedy) && !shown.is_running(), "{shown:#?}");
        daemon.stop().await;
        assert_eq!(setting.entries().await, damaged, "its entries stay as they are");

        // The version that can read them comes back.
        setting.write(&whole).await;
        let mut daemon = setting.start().await;
        let decisions = daemon.until(ended).await;
        assert_eq!(decisions.last().unwrap().ending, Some(Ending::Promoted), "{decisions:#?}");
        assert_eq!(setting.world.images(&workload()), Some(images("2")));
        daemon.stop().await;
    }
}

/// Changes a snapshot so that the number of the rollout's next decision overflows, which panics.
fn no_number_is_left(snapshot: &mut Value) {
    snapshot["state"]["rollout"]["decisions"] = u32::MAX.into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_whose_step_panics_is_isolated_and_the_others_go_on() {
    let mut setting = Setting::new();
    setting.world.deploy(&api(), images("1"), 4, 100);
    let whole = setting.killed_in_a_step().await;
    setting.write(&damaged(&whole, no_number_is_left)).await;

    let mut daemon = setting.start().await;
    let Some(Receipt::Dead(why)) = setting.request(&daemon, "b", "3").await else { panic!("it is not refused") };
    assert!(why.contains("a defect of Bellwether: attempt to add with overflow"), "{why}");
    setting.promotes_another(&mut daemon).await;
    daemon.stop().await;

    // A version without the defect goes on from the entries before it.
    setting.write(&whole).await;
    let mut daemon = setting.start().await;
    assert_eq!(daemon.until(ended).await.last().unwrap().ending, Some(Ending::Promoted));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_whose_restore_panics_is_isolated() {
    let mut setting = Setting::new();
    let mut entries = damaged(&setting.killed_in_a_step().await, no_number_is_left);
    let snapshot: Value = serde_json::from_slice(&entries[&format!("{}/snap", workload())]).unwrap();
    let command = Order { scope: Scope::Workload(workload()), verb: Verb::Abort, rollout: None, reason: None };
    let id = EventId { source: "/test".to_owned(), id: "b".to_owned() };
    let input = Input { at: now(), sight: None, event: Event::Commanded { id, time: None, command } };
    let slot = json!({ "format": 1, "follows": snapshot["seq"], "input": input });
    entries.insert(format!("{}/block/0", workload()), slot.to_string().into_bytes());
    let blank = Engine::new("test".to_owned(), setting.policies.clone(), Span::ZERO);
    let (ledger, _) = Ledger::restore(&entries, blank).unwrap();
    let why = &ledger.isolated()[&workload().to_string()];
    assert!(why.contains("attempt to add with overflow") && why.contains("journal forget"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_entry_of_a_workload_can_isolate_it_but_for_an_input_before_the_snapshot() {
    let mut setting = Setting::new();
    let whole = setting.killed_in_a_step().await;
    let snapshot: Value = serde_json::from_slice(&whole[&format!("{}/snap", workload())]).unwrap();
    let seq = snapshot["seq"].as_u64().unwrap();
    let input = |follows: u64| json!({ "follows": follows, "input": "of another version" }).to_string().into_bytes();
    for (key, value, isolates) in [
        ("snap", b"{}".to_vec(), true),
        ("block/0", input(seq), true),
        ("block/0", input(seq - 1), false),
        ("block/0", json!({ "format": 2, "follows": seq }).to_string().into_bytes(), true),
        ("template/0", vec![0xff], true),
    ] {
        let mut entries = whole.clone();
        entries.insert(format!("{}/{key}", workload()), value);
        let blank = Engine::new("test".to_owned(), setting.policies.clone(), Span::ZERO);
        let (ledger, _) = Ledger::restore(&entries, blank).unwrap();
        assert_eq!(ledger.isolated().contains_key(&workload().to_string()), isolates, "{key}");
        assert_eq!(ledger.engine().state(&workload()).is_none(), isolates, "{key}");
    }
}

pub(super) fn api() -> Workload {
    "test/shop/Deployment/api".parse().unwrap()
}

impl Setting {
    /// Kills a daemon in the first step of a rollout, and returns the workload's entries in the journal.
    async fn killed_in_a_step(&mut self) -> BTreeMap<String, Vec<u8>> {
        let mut daemon = self.start().await;
        self.request(&daemon, "a", "2").await;
        daemon.until(|decision| decision.to == Phase::Stepping).await;
        daemon.kill();
        self.entries().await
    }

    /// Requests a rollout of the workload `api`, and checks that it is promoted and that nothing is decided about another.
    async fn promotes_another(&mut self, daemon: &mut RunningDaemon) {
        let record = self.event_of(&api(), "c", "2", self.offset);
        self.offset += 1;
        assert!(matches!(daemon.send(record).await, Some(Receipt::Decided(_))));
        let decisions = daemon.until(ended).await;
        assert!(decisions.iter().all(|decision| decision.workload == api()), "{decisions:#?}");
        assert_eq!(decisions.last().unwrap().ending, Some(Ending::Promoted));
    }

    /// Returns the workload's entries in the journal.
    async fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = self.journal().await.open(0).await.unwrap().restore().await.unwrap();
        let prefix = format!("{}/", workload());
        entries.into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect()
    }

    async fn write(&self, entries: &BTreeMap<String, Vec<u8>>) {
        let mut journal = self.journal().await.open(0).await.unwrap();
        journal.restore().await.unwrap();
        let puts = entries.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        journal.commit(Batch { puts, ..Batch::default() }).await.unwrap();
    }
}

/// A journal without a daemon: the entries that a ledger writes, and the next one restores.
pub(super) struct Entries {
    policies: Vec<Policy>,
    entries: BTreeMap<String, Vec<u8>>,
    /// The decisions records.
    pub(super) decisions: Vec<Vec<u8>>,
}

impl Entries {
    pub(super) fn new() -> Entries {
        Entries { policies: Setting::new().policies, entries: BTreeMap::new(), decisions: Vec::new() }
    }

    pub(super) fn entries(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.entries
    }

    pub(super) fn restore(&self) -> Ledger {
        let blank = Engine::new("test".to_owned(), self.policies.clone(), Span::from_secs(86_400));
        Ledger::restore(&self.entries, blank).unwrap().0
    }

    /// Takes an event in, and returns its disposition and the reason.
    pub(super) fn step(&mut self, ledger: &mut Ledger, event: Event) -> (Disposition, String) {
        let mut batch = Batch::default();
        let transitions = ledger.step(event, now(), &mut batch).unwrap();
        transitions.iter().for_each(|transition| ledger.keep_past(transition, &mut batch));
        for (key, value) in batch.puts {
            match value {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
        self.decisions.extend(batch.decisions.into_iter().map(|(_, record)| record));
        (transitions[0].disposition, transitions[0].reason.to_string())
    }
}

pub(super) fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

fn event_id(id: &str) -> EventId {
    EventId { source: "/test".to_owned(), id: id.to_owned() }
}

pub(super) fn requested(workload: &Workload, id: &str) -> Event {
    requested_version(workload, id, "2")
}

pub(super) fn requested_version(workload: &Workload, id: &str, version: &str) -> Event {
    let request = json!({ "workload": workload, "images": images(version) });
    Event::Requested { id: event_id(id), time: None, request: serde_json::from_value(request).unwrap() }
}

pub(super) fn commanded(verb: &str, scope: &str) -> Event {
    let command = json!({ "scope": scope.parse::<Scope>().unwrap(), "verb": { "verb": verb } });
    Event::Commanded { id: event_id(verb), time: None, command: serde_json::from_value(command).unwrap() }
}

#[test]
fn an_unreadable_event_is_known_by_its_key_and_an_unreadable_freeze_holds_until_a_person_ends_it() {
    for (key, scope) in [("freeze/test/shop", "test/shop"), ("freeze/of/a/newer/version", "test")] {
        let mut journal = Entries::new();
        for key in [key.to_owned(), format!("seen/{}", event_id("a").digest())] {
            journal.entries.insert(key, b"{}".to_vec());
        }
        let mut ledger = journal.restore();
        assert_eq!(journal.step(&mut ledger, requested(&workload(), "a")).0, Disposition::Duplicate);
        let [problem] = ledger.problems() else { panic!("{:?}", ledger.problems()) };
        assert!(problem.contains(key) && problem.contains(&format!("{scope} counts as frozen")), "{problem}");
        let (disposition, why) = journal.step(&mut ledger, requested(&workload(), "b"));
        assert_eq!(disposition, Disposition::Changed);
        assert!(why.contains(&format!("`bellwether emit unfreeze --scope {scope}` ends the freeze")), "{why}");
        assert_eq!(journal.step(&mut ledger, commanded("unfreeze", scope)).0, Disposition::Changed);
        assert!(journal.restore().problems().is_empty(), "{:?}", journal.entries.keys());
        // It is remembered for a day, as a new one.
        let event = format!("seen/{}", event_id("a").digest());
        let forgotten = [1, 2].map(|days| {
            let mut batch = Batch::default();
            ledger.forget(Span::from_secs(days * 86_400).after(now()), &mut batch);
            batch.puts.contains(&(event.clone(), None))
        });
        assert_eq!(forgotten, [false, true]);
    }
}

#[test]
fn a_workload_that_can_be_read_again_is_told_of_the_freezes_that_began_or_ended_meanwhile() {
    for begins in [true, false] {
        let mut journal = Entries::new();
        let mut ledger = journal.restore();
        if !begins {
            journal.step(&mut ledger, commanded("freeze", "test/shop"));
        }
        journal.step(&mut ledger, requested(&workload(), "a"));
        let snapshot = format!("{}/snap", workload());
        let whole = journal.entries.insert(snapshot.clone(), b"{}".to_vec()).unwrap();
        let mut ledger = journal.restore();
        assert!(ledger.engine().isolation(&workload()).is_some());
        journal.step(&mut ledger, commanded(if begins { "freeze" } else { "unfreeze" }, "test/shop"));

        journal.entries.insert(snapshot, whole);
        let mut ledger = journal.restore();
        for event in ledger.missed_freezes(now()) {
            assert_eq!(journal.step(&mut ledger, event).0, Disposition::Changed);
        }
        assert_eq!(ledger.engine().state(&workload()).unwrap().freezes.len(), usize::from(begins));
        assert_eq!(journal.entries.contains_key("freeze/test/shop"), begins);
        let (_, why) = journal.step(&mut ledger, requested(&api(), "b"));
        assert_eq!(why.contains("test/shop is frozen by /test"), begins, "{why}");
        assert!(journal.restore().missed_freezes(now()).is_empty(), "they are told once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_holds_a_workload_that_can_be_read_again_by_a_freeze_of_its_namespace() {
    let mut setting = Setting::new();
    let whole = setting.killed_in_a_step().await;
    let mut damaged = whole.clone();
    damaged.insert(format!("{}/snap", workload()), b"{}".to_vec());
    setting.write(&damaged).await;

    let daemon = setting.start().await;
    let at = "2026-01-31T12:00:00Z".parse().unwrap();
    let freeze =
        wrap(&format!("{VERB}freeze{VERB_VERSION}"), "/anna", "f", at, "test/shop", json!({ "scope": "test/shop" }));
    let record = EventRecord { partition: 0, offset: setting.offset, ..freeze.to_record("test/shop") };
    setting.offset += 1;
    let receipt = daemon.send(record).await;
    assert!(matches!(receipt, Some(Receipt::Decided(_))), "{receipt:?}");
    daemon.stop().await;

    setting.write(&whole).await;
    let mut daemon = setting.start().await;
    let decisions = daemon.until(|decision| decision.why.contains("test/shop is frozen by /anna")).await;
    assert!(decisions.iter().all(|decision| decision.to == Phase::Stepping), "{:#?}", described(&decisions));
    daemon.stop().await;
}
