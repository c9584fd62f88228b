//! A partition that another process owns: its journal tells the same rollouts and answers as its owner, after each commit.

use bellwether::events::cdevents::{VERB, VERB_VERSION, wrap};
use bellwether::ledger::Ledger;
use bellwether::ledger::followed::FollowedPartition;
use bellwether::show::{ANSWERS_LAST, FollowedViews};
use bellwether_core::engine::Disposition;
use bellwether_core::engine::show;
use bellwether_core::engine::view::{AnswerView, FreezeView, RolloutView};
use bellwether_core::ids::EventId;
use serde_json::json;

use super::unreadable::{Entries, commanded, now, requested, requested_version};
use super::*;

/// The rollouts that go on, by id, and the newest ended one of each workload.
type Rollouts = BTreeMap<String, RolloutView>;

fn note(followed: &mut FollowedPartition, puts: &Puts) {
    puts.iter().for_each(|(key, value)| followed.note(key, value.as_deref()));
}

fn rollouts_of(views: FollowedViews) -> BTreeMap<String, Rollouts> {
    let by_id = |rollouts: Vec<RolloutView>| rollouts.into_iter().map(|shown| (shown.id.clone(), shown)).collect();
    views.workloads.into_iter().map(|(workload, rollouts)| (workload, by_id(rollouts))).collect()
}

/// Returns the rollouts of each workload as a restored owner shows them.
fn owned(entries: &BTreeMap<String, Vec<u8>>, policies: &[Policy]) -> BTreeMap<String, Rollouts> {
    let blank = Engine::new("test".to_owned(), policies.to_vec(), Span::from_secs(86_400));
    let (ledger, _) = Ledger::restore(entries, blank).unwrap();
    let states = ledger.engine().states();
    let views = states.map(|state| {
        let rollouts = state.rollout.as_deref().into_iter().map(show::view).chain(show::queued(state));
        (state.workload.to_string(), rollouts.map(|shown| (shown.id.clone(), shown)).collect())
    });
    views.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_commit_a_follower_shows_the_rollouts_of_the_owner() {
    let mut setting = Setting::new();
    let mut daemon = setting.start().await;
    setting.request(&daemon, "a", "2").await;
    // The second request waits for the first rollout or replaces it.
    setting.request(&daemon, "b", "3-err20").await;
    let decisions = daemon.until(|decision| decision.ending == Some(Ending::RolledBack)).await;
    assert!(decisions.len() > 4, "{:?}", described(&decisions));
    // A decision is published before the view of its rollout.
    let has_ended = |view: &StatusView| view.rollouts.values().all(|shown| shown.ended.is_some());
    let shown = tokio::time::timeout(LONG, daemon.view.wait_for(has_ended)).await;
    let shown_by_owner = shown.expect("the end is not shown in time").unwrap().clone();
    let courses_by_owner = daemon.courses.clone();
    daemon.stop().await;

    let batches = setting.records.batches.lock().unwrap().clone();
    let inputs = batches.iter().flatten().filter(|(key, value)| key.contains("/block/") && value.is_some()).count();
    assert!(inputs > 5, "{inputs} inputs lie between the snapshots");
    let mut entries = BTreeMap::new();
    let (mut steady, mut shown) = (FollowedPartition::new("test"), BTreeMap::new());
    let courses_by_follower = Courses::default();
    for (n, puts) in batches.iter().enumerate() {
        for (key, value) in puts {
            match value {
                Some(value) => drop(entries.insert(key.clone(), value.clone())),
                None => drop(entries.remove(key)),
            }
        }
        note(&mut steady, puts);
        let views = steady.apply(now());
        assert_eq!(views.is_all, n == 0);
        for (rollout, has_ended, detail) in views.details.clone() {
            courses_by_follower.note(&rollout, has_ended, detail);
        }
        shown.extend(rollouts_of(views));
        let expected = owned(&entries, &setting.policies);
        assert_eq!(shown, expected, "after commit {n}, one by one");

        let mut fresh = FollowedPartition::new("test");
        batches[..=n].iter().for_each(|puts| note(&mut fresh, puts));
        assert_eq!(rollouts_of(fresh.apply(now())), expected, "after commit {n}, at once");
    }
    for (id, rollout) in shown.into_values().flatten() {
        assert_eq!(shown_by_owner.rollouts.get(&id).map(|shown| &**shown), Some(&rollout), "as the owner has shown it");
        let (by_owner, by_follower) = (courses_by_owner.of(&id).unwrap(), courses_by_follower.of(&id).unwrap());
        assert_eq!(by_owner.shares, by_follower.shares, "{id}");
        assert_eq!(by_owner.checks, by_follower.checks, "{id}");
        assert!(by_owner.shares.points().iter().any(|(_, shares)| shares.asked > 0.0 && shares.seen.is_some()), "{id}");
        let looked = by_owner.checks.values().flat_map(|check| check.series.points());
        assert!(looked.clone().any(|(_, point)| point.subject.is_some()), "{id}");
        assert!(!by_owner.detail.steps.is_empty() && !by_owner.detail.arms.is_empty(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_known_after_a_restart_and_to_a_follower() {
    let mut setting = Setting::new();
    let daemon = setting.start().await;
    setting.request(&daemon, "a", "2").await;
    // One that the engine refuses, and one that it does not see.
    let elsewhere = setting.event_of(&"test/elsewhere/Deployment/web".parse().unwrap(), "b", "2", setting.offset);
    let empty = wrap(REQUESTED, "/test", "c", now(), &workload().to_string(), serde_json::json!({}));
    let empty = EventRecord { partition: 0, offset: setting.offset + 1, ..empty.to_record(&workload().to_string()) };
    setting.offset += 2;
    for refused in [elsewhere, empty] {
        let receipt = daemon.send(refused).await;
        assert!(matches!(receipt, Some(Receipt::Dead(_))), "{receipt:?}");
    }
    setting.request(&daemon, "a", "2").await;
    let before = daemon.view.borrow().answers.clone();
    let results: BTreeMap<&str, &str> =
        before.values().map(|answer| (answer.id.as_str(), answer.result.as_str())).collect();
    assert_eq!(
        results,
        BTreeMap::from([("a", AnswerView::TAKEN), ("b", AnswerView::REFUSED), ("c", AnswerView::REFUSED)])
    );
    daemon.stop().await;

    let mut followed = FollowedPartition::new("test");
    setting.records.batches.lock().unwrap().iter().for_each(|puts| note(&mut followed, puts));
    let told = followed.apply(now()).answers;
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|answer| before.values().any(|known| known == answer)), "{told:#?}");

    let mut daemon = setting.start().await;
    daemon.until(|_| true).await;
    assert_eq!(daemon.view.borrow().answers, before);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rollouts_before_the_last_one_are_known_after_a_restart_and_to_a_follower() {
    let mut setting = Setting::new();
    let mut daemon = setting.start().await;
    for version in ["2", "3", "4"] {
        setting.request(&daemon, version, version).await;
        daemon.until(|decision| decision.ending == Some(Ending::Promoted)).await;
    }
    let has_all = |view: &StatusView| view.rollouts.values().filter(|shown| shown.ended.is_some()).count() == 3;
    let shown = tokio::time::timeout(LONG, daemon.view.wait_for(has_all)).await;
    let before = shown.expect("the ends are not shown in time").unwrap().rollouts.clone();
    daemon.stop().await;

    let mut followed = FollowedPartition::new("test");
    setting.records.batches.lock().unwrap().iter().for_each(|puts| note(&mut followed, puts));
    let views = followed.apply(now());
    let told: Vec<_> = views.past.into_iter().chain(views.workloads.into_values().flatten()).collect();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|shown| before.get(&shown.id).is_some_and(|known| **known == *shown)), "{told:#?}");

    let daemon = setting.start().await;
    let mut view = daemon.view.clone();
    let restored = tokio::time::timeout(LONG, view.wait_for(|view| view.rollouts == before)).await;
    assert!(restored.is_ok(), "{:#?}", daemon.view.borrow().rollouts);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_freezes_are_known_while_they_hold_after_a_restart_and_to_a_follower() {
    let mut setting = Setting::new();
    let mut followed = FollowedPartition::new("test");
    for (verb, scopes) in [("freeze", vec!["test", "test/shop"]), ("unfreeze", vec!["test"])] {
        let daemon = setting.start().await;
        for scope in scopes {
            let content = json!({ "scope": scope, "reason": "a sale" });
            let ty = format!("{VERB}{verb}{VERB_VERSION}");
            let event = wrap(&ty, "/ann", &format!("{verb} {scope}"), setting.clock.now(), scope, content);
            let record = EventRecord { offset: setting.offset, ..event.to_record(scope) };
            setting.offset += 1;
            assert!(matches!(daemon.send(record).await, Some(Receipt::Decided(_))));
        }
        daemon.stop().await;
    }
    let daemon = setting.start().await;
    let mut view = daemon.view.clone();
    let restored = tokio::time::timeout(LONG, view.wait_for(|view| !view.freezes.is_empty())).await;
    let frozen = restored.expect("no freeze is shown in time").unwrap().frozen(setting.clock.now());
    daemon.stop().await;
    let [freeze] = frozen.as_slice() else { panic!("{frozen:#?}") };
    assert_eq!(
        (freeze.scope.as_str(), freeze.by.as_str(), freeze.why.as_deref()),
        ("test/shop", "/ann", Some("a sale"))
    );

    let mut told = Vec::new();
    setting.records.batches.lock().unwrap().iter().for_each(|puts| {
        note(&mut followed, puts);
        told.extend(followed.apply(now()).freezes);
    });
    let scopes = |freezes: &[FreezeView]| freezes.iter().map(|freeze| freeze.scope.clone()).collect::<Vec<_>>();
    let told_scopes: Vec<_> = told.iter().map(|freezes| scopes(freezes)).filter(|scopes| !scopes.is_empty()).collect();
    assert_eq!(told_scopes, [vec!["test"], vec!["test", "test/shop"], vec!["test/shop"]]);
    assert_eq!(told.last(), Some(&frozen));
}

#[test]
fn ten_earlier_rollouts_of_a_workload_are_kept_for_90_days() {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    journal.step(&mut ledger, requested(&super::unreadable::api(), "of another"));
    journal.step(&mut ledger, requested_version(&super::unreadable::api(), "the next of another", "3"));
    for n in 0..15 {
        let version = n.to_string();
        let (disposition, why) = journal.step(&mut ledger, requested_version(&workload(), &version, &version));
        assert_eq!(disposition, Disposition::Changed, "{why}");
    }
    let kept = |of: &Workload| {
        let beginning = format!("past/{of}/");
        journal.entries().keys().filter(|key| key.starts_with(&beginning)).count()
    };
    assert_eq!((kept(&workload()), kept(&super::unreadable::api())), (10, 1));
    let mut ledger = journal.restore();
    let restored = ledger.take_past();
    assert!(restored.len() == 11 && restored.iter().all(|shown| shown.ended.is_some()), "{restored:#?}");
    let forgotten = [89, 91].map(|days| {
        let mut batch = Batch::default();
        ledger.forget(Span::from_secs(days * 86_400).after(now()), &mut batch);
        batch.puts.iter().filter(|(key, value)| key.starts_with("past/") && value.is_none()).count()
    });
    assert_eq!(forgotten, [0, 11]);
}

#[test]
fn the_answers_of_a_day_are_kept_and_of_many_the_newest() {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    let answer = |n: u64| AnswerView {
        source: "/test".to_owned(),
        id: n.to_string(),
        result: AnswerView::TAKEN.to_owned(),
        reason: String::new(),
        rollout: None,
        at: Span::from_secs(n).after(now()),
    };
    let key = |n: u64| format!("answer/{}", EventId { source: "/test".to_owned(), id: n.to_string() }.digest());
    let mut batch = Batch::default();
    for n in 0..5_002 {
        ledger.answered(&answer(n), false, &mut batch);
    }
    let removed: Vec<String> =
        batch.puts.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.clone()).collect();
    assert_eq!(removed, [key(0), key(1)]);
    let mut batch = Batch::default();
    ledger.answered(&AnswerView { at: answer(9).at, ..answer(2) }, true, &mut batch);
    assert!(batch.is_empty(), "an answer to an event that comes again");
    ledger.forget(ANSWERS_LAST.after(Span::from_secs(4).after(now())), &mut batch);
    let removed: Vec<&String> = batch.puts.iter().map(|(key, _)| key).collect();
    assert_eq!(removed.len(), 2, "those of the seconds 2 and 3");
    assert!(removed.contains(&&key(2)) && removed.contains(&&key(3)), "{removed:?}");
    assert_eq!(journal.step(&mut ledger, requested(&workload(), "a")).0, Disposition::Changed);
}

#[test]
fn a_follower_names_the_workload_that_it_can_not_read_and_shows_the_others() {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    journal.step(&mut ledger, requested(&workload(), "a"));
    journal.step(&mut ledger, requested(&super::unreadable::api(), "b"));
    journal.step(&mut ledger, commanded("freeze", "test/shop"));
    let newer = format!("{}/snap", workload());
    let mut followed = FollowedPartition::new("test");
    for (key, value) in journal.entries() {
        let value = if *key == newer { br#"{"format":99}"#.as_slice() } else { value };
        followed.note(key, Some(value));
    }
    let views = followed.apply(now());
    let phases: Vec<(&str, &str)> =
        views.workloads.values().flatten().map(|shown| (shown.workload.as_str(), shown.phase.as_str())).collect();
    assert_eq!(phases.len(), 2, "{phases:?}");
    let unreadable: Vec<&RolloutView> =
        views.workloads.values().flatten().filter(|shown| shown.phase == RolloutView::UNREADABLE).collect();
    let [shown] = unreadable.as_slice() else { panic!("{phases:?}") };
    assert_eq!(shown.workload, workload().to_string());
    assert!(shown.reason.contains("it has format 99") && shown.reason.contains("the one that owns"), "{shown:#?}");
    // It is told once, and gone with its entries.
    followed.note(&newer, Some(br#"{"format":99}"#));
    assert!(followed.apply(now()).workloads.is_empty());
    followed.note(&newer, None);
    assert_eq!(followed.apply(now()).workloads, BTreeMap::from([(workload().to_string(), Vec::new())]));
}

#[test]
fn a_follower_is_not_misled_by_the_names_of_namespaces_and_keeps_no_template() {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    let odd: Workload = "test/block/Deployment/snap".parse().unwrap();
    let mut policy = setting_policy();
    policy.matches.namespaces = vec!["block".to_owned()];
    ledger.set_policies(vec![policy]);
    let (disposition, why) = journal.step(&mut ledger, requested(&odd, "a"));
    assert_eq!(disposition, Disposition::Changed, "{why}");
    let mut followed = FollowedPartition::new("test");
    journal.entries().iter().for_each(|(key, value)| followed.note(key, Some(value)));
    followed.note(&format!("{odd}/template/0"), Some(b"a secret"));
    assert_eq!(
        followed.unapplied(),
        journal.entries().keys().filter(|key| key.ends_with("/snap") || key.starts_with("answer/")).count()
    );
    assert_eq!(followed.apply(now()).workloads.into_keys().collect::<Vec<_>>(), [odd.to_string()]);
}

fn setting_policy() -> Policy {
    Setting::new().policies.remove(0)
}
