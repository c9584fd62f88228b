//! The daemon, the API server or Prometheus is away for longer than any deadline. Afterwards a rollout looks first, and decides then.

use bellwether_core::engine::Engine;
use bellwether_core::input::event::Event;
use bellwether_core::measure::block::{Block, Sample};
use bellwether_core::rollout::cause::HoldCause;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use bellwether_sim::story::{Story, images, policy, workload};
use serde_json::json;

/// Lets the daemon be away for this time, while the cluster goes on. Its successor restores the state.
fn restart_after(story: &mut Story, seconds: u64) {
    let state = story.engine.state(&workload()).unwrap().clone();
    story.now = Span::from_secs(seconds).after(story.now);
    story.engine = Engine::new("test".into(), vec![policy(json!({}))], Span::from_secs(86_400));
    story.engine.restore(state);
    // The wake-ups that were missed are due before the first status arrives.
    story.tell(Event::Tick);
}

fn run_until(story: &mut Story, phase: Phase) {
    for _ in 0..3600 {
        if story.rollout().phase() == phase {
            return;
        }
        story.second();
    }
    panic!("never {phase}: {:#?}", story.whys());
}

#[test]
fn a_daemon_that_comes_back_after_the_deadline_of_a_finished_promotion_goes_on() {
    let mut story = Story::new(policy(json!({ "promote-within": "2m" })));
    story.request("v2");
    run_until(&mut story, Phase::Promoting);
    restart_after(&mut story, 3600);
    assert_eq!(story.rollout().phase(), Phase::Promoting, "it decided before it looked: {:#?}", story.whys());
    story.reobserve();
    assert_eq!(story.run(60).map(|ending| ending.to_string()).as_deref(), Some("promoted"), "{:#?}", story.whys());
}

#[test]
fn a_version_that_turned_bad_while_the_daemon_was_away_is_not_promoted() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    run_until(&mut story, Phase::Stepping);
    for _ in 0..120 {
        story.second();
    }
    // From now on every third request of the canary fails.
    story.behaves_as("err33");
    restart_after(&mut story, 3600);
    assert_eq!(story.rollout().phase(), Phase::Stepping, "promoted on old counts: {:#?}", story.whys());
    story.reobserve();
    assert_eq!(story.run(900).map(|ending| ending.to_string()).as_deref(), Some("rolled back"), "{:#?}", story.whys());
}

#[test]
fn an_api_server_that_is_away_for_an_hour_passes_no_deadline() {
    for phase in [Phase::Preparing, Phase::Stepping, Phase::Promoting] {
        let mut story = Story::new(policy(json!({ "promote-within": "2m", "ready-within": "2m" })));
        story.request("v2");
        run_until(&mut story, phase);
        story.api_away = true;
        let decided = story.decisions.len();
        assert_eq!(story.run(3600), None, "{phase}: {:#?}", story.whys());
        assert_eq!(story.decisions.len(), decided, "{phase}: {:#?}", story.whys());
        story.api_away = false;
        let ending = story.run(900).map(|ending| ending.to_string());
        assert_eq!(ending.as_deref(), Some("promoted"), "{phase}: {:#?}", story.whys());
    }
}

#[test]
fn a_bad_version_is_rolled_back_while_the_api_server_is_away() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err20");
    run_until(&mut story, Phase::Stepping);
    story.api_away = true;
    for _ in 0..600 {
        story.second();
    }
    assert_eq!(story.rollout().phase(), Phase::Draining, "{:#?}", story.whys());
    story.api_away = false;
    // The pause before the next attempt has grown to 30 s by now; the first sight makes the attempt due.
    story.run(5);
    assert_eq!(story.rollout().phase(), Phase::Removing, "weight 0 still waits: {:#?}", story.whys());
    assert_eq!(story.run(120).map(|ending| ending.to_string()).as_deref(), Some("rolled back"));
}

#[test]
fn a_pass_on_old_blocks_promotes_nothing() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    run_until(&mut story, Phase::Stepping);
    for _ in 0..200 {
        story.second();
    }
    // The sampler hangs: neither counts nor gaps arrive.
    story.silent = true;
    assert_eq!(story.run(600), None);
    assert_eq!(story.rollout().phase(), Phase::Stepping, "{:#?}", story.whys());
    story.silent = false;
    assert_eq!(story.run(120).map(|ending| ending.to_string()).as_deref(), Some("promoted"), "{:#?}", story.whys());
}

#[test]
fn a_rollout_without_any_block_is_held_as_blind_and_goes_on_with_the_next_one() {
    let guard = json!({ "for": "30m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" }] });
    for phase in [Phase::Stepping, Phase::Guarding] {
        for before_silence in [0, 120, 200] {
            let mut story = Story::new(policy(json!({ "guard": guard, "patience": { "blind": "5m" } })));
            story.request("v2");
            run_until(&mut story, phase);
            (0..before_silence).for_each(|_| story.second());
            story.silent = true;
            // A minute until the newest block is too old, five of patience, and a block's time before.
            assert_eq!(story.run(60 + 300 + 20), None, "{phase}: {:#?}", story.whys());
            let hold = story.rollout().current.hold.as_ref();
            assert_eq!(hold.map(|hold| &hold.cause), Some(&HoldCause::Blind), "{phase} after {before_silence} s");
            let why = story.rollout().reason.to_string();
            assert!(why.starts_with("no counts have arrived since"), "{phase} after {before_silence} s: {why}");
            story.silent = false;
            assert_eq!(story.run(3600), Some(Ending::Promoted), "{phase}: {:#?}", story.whys());
        }
    }
}

#[test]
fn a_canary_that_grows_while_it_is_not_measured_gets_no_more_traffic_until_it_is() {
    let steps = json!([{ "weight": "20%", "min-time": "2m" }, { "weight": "60%", "min-time": "2m" }]);
    for silent in [true, false] {
        let mut story = Story::new(policy(json!({ "step": steps, "patience": { "blind": "1m" } })));
        story.model.deploy(workload(), images("v1"), 10, Span::from_secs(240));
        story.request("v2");
        run_until(&mut story, Phase::Growing);
        story.silent = silent;
        (0..250).for_each(|_| story.second());
        let expected = if silent { Phase::Growing } else { Phase::Stepping };
        assert_eq!(story.rollout().phase(), expected, "{:#?}", story.whys());
        let cause = story.rollout().current.hold.as_ref().map(|hold| hold.cause.clone());
        assert_eq!(cause, silent.then_some(HoldCause::Blind), "{:#?}", story.whys());
        story.silent = false;
        assert_eq!(story.run(3600), Some(Ending::Promoted), "{:#?}", story.whys());
    }
}

#[test]
fn an_analysis_that_begins_before_the_cluster_is_seen_again_counts_its_own_time() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    run_until(&mut story, Phase::Preparing);
    story.acts_hang = true;
    run_until(&mut story, Phase::Stepping);
    // The daemon is stopped for an hour while the weight is written, and learns of that before it sees the cluster again.
    story.now = Span::from_secs(3600).after(story.now);
    story.acts_hang = false;
    story.tell(Event::Tick);
    assert_eq!(story.rollout().current.done, 1, "the weight is not written: {:#?}", story.whys());
    assert_eq!(story.run(600), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_rollout_that_begins_on_a_clock_an_hour_ahead_is_measured_when_the_clock_is_right_again() {
    let mut story = Story::new(policy(json!({})));
    let hour = Span::from_secs(3600);
    story.now = hour.after(story.now);
    // The cluster's clock is right, so nothing is created in its future.
    story.acts_fail = true;
    story.request("v2");
    (0..20).for_each(|_| story.second());
    story.now = hour.before(story.now);
    story.acts_fail = false;
    story.second();
    assert!(story.rollout().started <= story.now, "it began at {}, and it is {}", story.rollout().started, story.now);
    run_until(&mut story, Phase::Stepping);
    let watches = story.engine.watches();
    assert!(watches[0].since <= story.now, "nothing is measured before {}", watches[0].since);
    assert_eq!(story.run(900), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_clock_that_jumps_an_hour_forward_and_back_passes_no_deadline_and_freezes_nothing() {
    for phase in [Phase::Preparing, Phase::Stepping] {
        let mut story = Story::new(policy(json!({ "ready-within": "2m" })));
        story.request(if phase == Phase::Preparing { "v2-nonode" } else { "v2" });
        run_until(&mut story, phase);
        (0..30).for_each(|_| story.second());
        let hour = Span::from_secs(3600);
        story.now = hour.after(story.now);
        (0..40).for_each(|_| story.second());
        assert_eq!(story.rollout().phase(), phase, "{:#?}", story.whys());
        assert!(story.rollout().current.hold.is_none(), "{:#?}", story.whys());
        story.now = hour.before(story.now);
        story.behaves_as("err50");
        let ending = story.run(240).map(|ending| ending.to_string());
        let (expected, held) = if phase == Phase::Preparing { (None, true) } else { (Some("rolled back"), false) };
        assert_eq!(ending.as_deref(), expected, "{phase}: {:#?}", story.whys());
        assert_eq!(story.rollout().current.hold.is_some(), held, "{phase}: {:#?}", story.whys());
    }
}

#[test]
fn a_block_that_was_read_while_the_clock_ran_ahead_is_not_counted() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    run_until(&mut story, Phase::Stepping);
    (0..30).for_each(|_| story.second());
    let before = story.engine.watches()[0].last;
    let ahead = Span::from_secs(86_400).after(story.now);
    let metrics = [("errors".to_owned(), Sample::Arms { canary: None, stable: None })];
    let block = Block::new(before.unwrap_or(story.now), ahead, metrics);
    story.tell(Event::Measured { workload: workload(), block });
    assert_eq!(story.engine.watches()[0].last, before);
    assert_eq!(story.run(900), Some(Ending::Promoted), "{:#?}", story.whys());
}
