//! A workload with journal entries that can't be read, beside one whose entries can.

use bellwether::ledger::Ledger;
use bellwether_core::engine::view::RolloutView;
use bellwether_core::rollout::phase::Phase;
use serde_json::{Value, json};

use super::*;

/// A change of a snapshot after which it can't be read.
type Damage = fn(&mut Value);

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
        let mut daemon = setting.start().await;
        setting.request(&daemon, "a", "2").await;
        daemon.until(|decision| decision.to == Phase::Stepping).await;
        daemon.kill();
        let whole = setting.entries().await;
        let mut damaged = whole.clone();
        let snapshot = damaged.get_mut(&format!("{}/snap", workload())).unwrap();
        let mut value: Value = serde_json::from_slice(snapshot).unwrap();
        damage(&mut value);
        *snapshot = value.to_string().into_bytes();
        setting.write(&damaged).await;

        let mut daemon = setting.start().await;
        let Some(Receipt::Dead(why)) = setting.request(&daemon, "b", "3").await else { panic!("it is not refused") };
        let remedy = format!("`bellwether journal forget {}`", workload());
        assert!(why.contains("can't be read") && why.contains(&remedy), "{why}");
        let record = setting.event_of(&api(), "c", "2", setting.offset);
        setting.offset += 1;
        assert!(matches!(daemon.send(record).await, Some(Receipt::Decided(_))));
        let decisions = daemon.until(ended).await;
        assert!(decisions.iter().all(|decision| decision.workload == api()), "{decisions:#?}");
        assert_eq!(decisions.last().unwrap().ending, Some(Ending::Promoted));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_entry_of_a_workload_can_isolate_it_but_for_an_input_before_the_snapshot() {
    let mut setting = Setting::new();
    let mut daemon = setting.start().await;
    setting.request(&daemon, "a", "2").await;
    daemon.until(|decision| decision.to == Phase::Stepping).await;
    daemon.kill();
    let whole = setting.entries().await;
    let snapshot: Value = serde_json::from_slice(&whole[&format!("{}/snap", workload())]).unwrap();
    let seq = snapshot["seq"].as_u64().unwrap();
    let input = |follows: u64| json!({ "follows": follows, "input": "of another version" }).to_string().into_bytes();
    for (key, value, isolates) in [
        ("snap", b"{}".to_vec(), true),
        ("block/0", input(seq), true),
        ("block/0", input(seq - 1), false),
        ("template/0", vec![0xff], true),
    ] {
        let mut entries = whole.clone();
        entries.insert(format!("{}/{key}", workload()), value);
        let blank = Engine::new("test".to_owned(), setting.policies.clone(), Span::ZERO);
        let (ledger, _) = Ledger::restore(&entries, blank).unwrap();
        assert_eq!(ledger.unreadable().contains_key(&workload().to_string()), isolates, "{key}");
        assert_eq!(ledger.engine().state(&workload()).is_none(), isolates, "{key}");
    }
}

fn api() -> Workload {
    "test/shop/Deployment/api".parse().unwrap()
}

impl Setting {
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
