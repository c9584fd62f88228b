//! Whose fault it is when pods do not run, and what follows while the canary has traffic.

use bellwether_core::engine::show;
use bellwether_core::ids::Weight;
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use bellwether_sim::story::{Story, images, policy, workload};
use serde_json::json;

const HOUR: u64 = 3600;

fn run_until(story: &mut Story, is_met: impl Fn(&Story) -> bool) {
    for _ in 0..HOUR {
        if is_met(story) {
            return;
        }
        story.second();
    }
    panic!("not in an hour: {:#?}", story.whys());
}

#[test]
fn a_canary_without_a_node_is_held_and_given_up_and_its_version_is_not_quarantined() {
    let mut story = Story::new(policy(json!({ "max-hold": "20m" })));
    story.request("v2-nonode");
    story.run_until_held("0/26 nodes are available");
    assert!(story.whys()[1].ends_with("nothing is held against the version"), "{:#?}", story.whys());
    assert_eq!(story.run(HOUR), Some(Ending::GivenUp));
    assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
}

const REFUSAL: &str = "RefNotPermitted: Service web-canary is in another namespace";

#[test]
fn a_route_that_the_gateway_refuses_brings_the_canary_no_traffic_and_the_version_no_blame() {
    let mut story = Story::new(policy(json!({ "max-hold": "20m" })));
    story.model.gateway_refuses = Some(REFUSAL.to_owned());
    story.request("v2");
    story.run_until_held(REFUSAL);
    assert_eq!(story.rollout().phase(), Phase::Preparing, "{:#?}", story.whys());
    assert_eq!(story.run(HOUR), Some(Ending::GivenUp), "{:#?}", story.whys());
    let raised = story.effects.iter().any(|effect| {
        matches!(&effect.act,
        Act::Cluster(ClusterAct::SetWeight { weight, .. }) if *weight > Weight::ZERO)
    });
    assert!(!raised, "the canary got traffic: {:#?}", story.whys());
    assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
}

#[test]
fn a_rollout_goes_on_when_the_gateway_accepts_the_route_after_all() {
    let mut story = Story::new(policy(json!({})));
    story.model.gateway_refuses = Some(REFUSAL.to_owned());
    story.request("v2");
    story.run_until_held(REFUSAL);
    story.model.gateway_refuses = None;
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_probe_that_fails_beyond_the_deadline_is_not_held_against_the_version() {
    let mut story = Story::new(policy(json!({ "max-hold": "20m" })));
    story.request("v2");
    run_until(&mut story, |story| story.rollout().phase() == Phase::Preparing);
    story.acts_fail = true;
    assert_eq!(story.run(HOUR), None, "the failing removal of the canary holds it");
    assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty(), "{:#?}", story.whys());
}

#[test]
fn a_hold_names_the_verb_that_is_refused_after_it_has_begun() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    run_until(&mut story, |story| story.rollout().phase() == Phase::Stepping);
    story.acts_fail = true;
    story.run_until_held("connection refused");
    assert_eq!(story.rollout().phase(), Phase::Promoting, "{:#?}", story.whys());
    let since = |story: &Story| story.rollout().current.hold.as_ref().map(|hold| hold.since);
    let began = since(&story);
    let refused = "User \"bellwether\" cannot patch resource \"deployments\"";
    story.failure = Failure { kind: FailureKind::Forbidden, message: refused.to_owned() };
    (0..60).for_each(|_| story.second());
    let shown = show::view(story.rollout());
    assert!(
        shown.held.as_ref().is_some_and(|held| held.contains(refused)) && shown.reason.contains(refused),
        "{shown:#?}"
    );
    assert_eq!(since(&story), began, "it is the same hold");
    story.acts_fail = false;
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_canary_whose_pods_turn_unready_loses_its_traffic_and_gets_it_back() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    run_until(&mut story, |story| story.rollout().canary.weight > Weight::ZERO);
    let now = story.now;
    story.model.break_canary(&workload(), Span::from_secs(60), now);
    story.second();
    story.second();
    assert_eq!(story.rollout().phase(), Phase::Withdrawn, "{:#?}", story.whys());
    assert_eq!(story.model.share(&workload(), story.now), 0.0);
    run_until(&mut story, |story| story.rollout().canary.weight > Weight::ZERO);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_canary_whose_pods_stay_unready_is_rolled_back_without_traffic() {
    let mut story = Story::new(policy(json!({ "ready-within": "3m" })));
    story.request("v2");
    run_until(&mut story, |story| story.rollout().canary.weight > Weight::ZERO);
    let now = story.now;
    story.model.break_canary(&workload(), Span::from_secs(86_400), now);
    story.second();
    story.second();
    assert_eq!(story.model.share(&workload(), story.now), 0.0);
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack), "{:#?}", story.whys());
}

#[test]
fn a_guard_restores_the_version_that_ran_before_this_rollout() {
    let mut story = Story::new(policy(json!({
        "guard": { "for": "10m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "1m", "every": "30s" }] },
    })));
    // A hotfix by other hands, after the version that is known as the last good one.
    let now = story.now;
    story.model.set_images(&workload(), images("hotfix"), now);
    (0..60).for_each(|_| story.second());
    story.request("v3-late");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack), "{:#?}", story.whys());
    assert_eq!(story.running(), images("hotfix"));
}
