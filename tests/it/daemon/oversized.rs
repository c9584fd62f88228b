//! Inputs that are too large for the journal: each concerns the workload or the record that it belongs to, and nothing else.

use bellwether::ports::MAX_ENTRY_BYTES;
use bellwether_core::engine::view::RolloutView;
use bellwether_core::input::status::{PodProblem, WorkloadStatus};
use bellwether_core::input::text::MAX_TEXT_BYTES;
use bellwether_core::measure::block::{Block, Gap, Sample};
use bellwether_core::rollout::phase::Phase;

use super::unreadable::{Entries, api, now, requested};
use super::*;

/// Returns a status of the workload whose images alone are larger than an entry of the journal may be.
fn huge(status: WorkloadStatus) -> WorkloadStatus {
    let mut status = status;
    let images = &mut status.stable.as_mut().unwrap().images;
    images.extend((0..5).map(|n| (format!("sidecar-{n}"), "x".repeat(MAX_ENTRY_BYTES / 4))));
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_is_too_large_for_the_journal_is_isolated_and_the_others_go_on() {
    let mut setting = Setting::new();
    setting.world.deploy(&api(), images("1"), 4, 100);
    let mut daemon = setting.start().await;
    setting.request(&daemon, "a", "2").await;
    daemon.until(|decision| decision.to == Phase::Stepping).await;
    let record = setting.event_of(&api(), "b", "2", setting.offset);
    setting.offset += 1;
    assert!(matches!(daemon.send(record).await, Some(Receipt::Decided(_))));

    let status = Box::new(huge(setting.world.status(&workload())));
    daemon.wakes.send(Wake::Observed { workload: workload(), status, templates: Vec::new() }).await.unwrap();
    let Some(Receipt::Dead(why)) = setting.request(&daemon, "c", "3").await else { panic!("it is not refused") };
    assert!(why.contains("at most 4194304") && why.contains("restart Bellwether"), "{why}");
    let ended = daemon.until(|decision| ended(decision) && decision.workload == api()).await;
    assert_eq!(ended.last().unwrap().ending, Some(Ending::Promoted), "{ended:#?}");
    let shown: Vec<_> = daemon.view.borrow().rollouts.values().cloned().collect();
    let shown: Vec<_> =
        shown.iter().map(|shown| &**shown).filter(|shown| shown.workload == workload().to_string()).collect();
    let isolated = |shown: &&&RolloutView| shown.phase == RolloutView::UNREADABLE && shown.reason.contains("4194304");
    assert_eq!(shown.iter().filter(isolated).count(), 1, "{shown:#?}");
    assert!(!shown.iter().any(|shown| shown.is_running()), "{shown:#?}");
    daemon.stop().await;

    // The cause is gone, and the workload goes on from its last entry.
    let mut daemon = setting.start().await;
    let decisions = daemon.until(super::ended).await;
    assert_eq!(decisions.last().unwrap().ending, Some(Ending::Promoted), "{decisions:#?}");
    assert_eq!(setting.world.images(&workload()), Some(images("2")));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_with_6_mib_of_headers_is_answered_and_the_next_one_is_decided() {
    let mut setting = Setting::new();
    let mut daemon = setting.start().await;
    let mut bomb = setting.event("a", "2", setting.offset);
    setting.offset += 1;
    bomb.headers.extend((0..6).map(|n| (format!("ce_bomb{n}"), vec![b'x'; 1 << 20])));
    let receipt = daemon.send(bomb).await;
    assert!(matches!(receipt, Some(Receipt::Dead(_))), "{receipt:?}");
    assert!(matches!(setting.request(&daemon, "b", "2").await, Some(Receipt::Decided(_))));
    assert_eq!(daemon.until(ended).await.last().unwrap().ending, Some(Ending::Promoted));
    daemon.stop().await;
}

#[test]
fn a_text_from_outside_is_journaled_shortened() {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    journal.step(&mut ledger, requested(&workload(), "a"));
    let mut status = Setting::new().world.status(&workload());
    let text = "no ".repeat(MAX_ENTRY_BYTES / 3);
    let problem = PodProblem { object: "web-1".to_owned(), reason: "FailedCreate".to_owned(), message: text, pods: 1 };
    status.stable.as_mut().unwrap().problem = Some(problem);
    journal.step(&mut ledger, Event::Observed { workload: workload(), status: Box::new(status) });
    let state = ledger.engine().state(&workload()).expect("it is not isolated");
    let kept = state.status.as_ref().unwrap().stable.as_ref().unwrap().problem.as_ref().unwrap();
    assert_eq!(kept.message.len(), MAX_TEXT_BYTES);
    assert!(kept.message.ends_with('…'), "{}", kept.message);
}

#[test]
fn inputs_that_are_large_together_are_recorded_before_they_are_too_many() {
    let mut journal = Entries::new();
    let mut ledger = journal.restore();
    journal.step(&mut ledger, requested(&workload(), "a"));
    let status = Setting::new().world.status(&workload());
    journal.step(&mut ledger, Event::Observed { workload: workload(), status: Box::new(status) });
    for n in 0..64 {
        let mut status = Setting::new().world.status(&workload());
        let arm = status.stable.as_mut().unwrap();
        arm.images.insert("sidecar".to_owned(), format!("{n}-{}", "x".repeat(MAX_ENTRY_BYTES / 8)));
        journal.step(&mut ledger, Event::Observed { workload: workload(), status: Box::new(status) });
        assert!(ledger.engine().isolation(&workload()).is_none(), "{:?}", ledger.isolated());
    }
    assert_eq!(journal.restore().engine().state(&workload()), ledger.engine().state(&workload()));
    let largest = journal.decisions.iter().map(Vec::len).max().unwrap();
    assert!(largest > MAX_ENTRY_BYTES / 4 && largest < MAX_ENTRY_BYTES, "{largest}");
}

#[test]
fn the_texts_of_gaps_are_shortened() {
    let gap = Sample::Gap(Gap::Unanswered { error: "x".repeat(MAX_ENTRY_BYTES) });
    let at = now();
    let block = Block::new(Span::from_secs(15).before(at), at, BTreeMap::from([("errors".to_owned(), gap)]));
    let mut event = Event::Measured { workload: workload(), block };
    event.shorten_texts();
    let Event::Measured { block, .. } = event else { unreachable!() };
    let Sample::Gap(Gap::Unanswered { error }) = block.metrics.get("errors").unwrap() else { panic!("{block:?}") };
    assert_eq!(error.len(), MAX_TEXT_BYTES);
}
