//! Changes during a rollout: edits of the workload, the canary and the route by other clients, a broken stable, and
//! newer requests.

use bellwether_core::engine::Disposition;
use bellwether_core::ids::{RolloutId, Weight};
use bellwether_core::input::command::Author;
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::rollout::cause::EndCause;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use serde_json::json;

use bellwether_sim::story::{Story, images, policy, workload};

const HOUR: u64 = 3600;

/// Returns a rollout of v2 one minute after its request, in its first step of 10 %. The second step of 50 % follows
/// after five minutes.
fn first_step() -> Story {
    let steps = json!([{ "weight": "10%", "min-time": "5m" }, { "weight": "50%", "min-time": "5m" }]);
    let mut story = Story::new(policy(json!({ "step": steps })));
    story.request("v2");
    story.run(60);
    assert_eq!(story.rollout().phase(), Phase::Stepping, "{:#?}", story.whys());
    story
}

/// Returns the sizes that the canary was given, in their order.
fn sizes(story: &Story) -> Vec<u32> {
    let size = |act: &Act| {
        if let Act::Cluster(ClusterAct::ApplyCanary { replicas, .. }) = act { Some(*replicas) } else { None }
    };
    story.effects.iter().filter_map(|effect| size(&effect.act)).collect()
}

#[test]
fn an_edit_of_the_workload_holds_the_rollout_and_is_not_reverted() {
    let mut story = first_step();
    story.model.set_images(&workload(), images("v9"), story.now);
    story.run_until_held("kubectl-edit has changed the workload's pod template during the rollout");
    assert_eq!(story.run(HOUR / 2), None);
    assert_eq!((story.running(), story.rollout().canary.weight), (images("v9"), Weight::percent(10)));
    story.say("abort", json!({}));
    assert_eq!(story.run(60), Some(Ending::Aborted));
    assert_eq!(story.running(), images("v9"), "the edit is not reverted");
    assert!(story.model.status(&workload(), story.now).canary.is_none());
}

#[test]
fn an_accepted_edit_starts_the_rollout_again_from_the_new_template() {
    let mut story = first_step();
    story.model.set_images(&workload(), images("v9"), story.now);
    story.run_until_held("pod template");
    story.say("resume", json!({ "reason": "that was me" }));
    assert!(story.whys().contains(&"ann (that was me) accepts the workload's new pod template"));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    let starts = story.kinds().iter().filter(|kind| *kind == "start").count();
    assert_eq!((starts, story.running()), (2, images("v2")));
    assert_eq!(story.rollout().basis.as_ref().unwrap().from, images("v9"));
}

#[test]
fn an_edit_that_is_taken_back_ends_its_hold() {
    let mut story = first_step();
    story.model.set_images(&workload(), images("v9"), story.now);
    story.run_until_held("pod template");
    story.model.set_images(&workload(), images("v1"), story.now);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn an_edit_during_the_promotion_holds_the_rollout_and_is_not_overwritten() {
    let mut story = first_step();
    while story.rollout().phase() != Phase::Promoting {
        story.second();
    }
    story.model.set_images(&workload(), images("v9"), story.now);
    story.run_until_held("pod template");
    let writes = story.model.changes.len();
    assert_eq!(story.run(3 * HOUR), None, "a hold during the promotion does not expire");
    assert_eq!(story.model.changes.len(), writes);
    story.say("resume", json!({}));
    while story.rollout().phase() != Phase::Guarding && story.rollout().ending() != Some(Ending::Promoted) {
        story.second();
    }
    assert_eq!(story.running(), images("v2"), "the rollout started again and was judged again");
}

#[test]
fn a_rollout_undo_during_the_guard_holds_the_rollout() {
    let guard = json!({ "for": "30m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" }] });
    let mut story = Story::new(policy(json!({ "guard": guard })));
    story.request("v2");
    while story.running() != images("v2") || story.rollout().phase() != Phase::Guarding {
        story.second();
    }
    story.model.set_images(&workload(), images("v1"), story.now);
    story.run_until_held("pod template");
    story.say("resume", json!({}));
    assert_eq!(story.run(60), Some(Ending::Superseded), "the person accepts the present template");
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn a_persons_scaling_holds_the_rollout_and_an_autoscalers_is_followed() {
    let mut story = first_step();
    story.model.scale(&workload(), 20, "kube-controller-manager", story.now);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(sizes(&story), [2, 20], "the second step follows the workload's new size");

    let mut story = first_step();
    story.model.scale(&workload(), 4, "kubectl", story.now);
    story.run_until_held("kubectl has scaled the workload from 10 to 4 during the rollout");
    story.say("resume", json!({}));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(sizes(&story), [2, 4]);
}

#[test]
fn a_changed_share_is_reverted_twice_and_then_holds_the_rollout() {
    for weight in [Some(Weight::percent(40)), None] {
        let mut story = first_step();
        for _ in 0..2 {
            story.model.edit_route(&workload(), weight);
            story.run(10);
            let route = story.model.status(&workload(), story.now).route.unwrap();
            assert_eq!(route.weight, Weight::percent(10), "{:#?}", story.whys());
        }
        story.model.edit_route(&workload(), weight);
        story.run_until_held("kubectl-patch has changed the canary's share of the route again after 2 reverts");
        let writes = story.model.changes.len();
        story.run(600);
        assert_eq!(story.model.changes.len(), writes, "a held rollout writes nothing");
        story.say("resume", json!({}));
        assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    }
}

#[test]
fn traffic_that_a_person_gave_to_the_stable_ends_the_rollout_as_aborted() {
    for absence in [Span::ZERO, Span::from_secs(600)] {
        let mut story = first_step();
        let decided = story.decisions.len();
        story.model.release(&workload(), story.rollout().id.clone(), anna());
        story.now = absence.after(story.now);
        assert_eq!(story.run(HOUR), Some(Ending::Aborted), "{:#?}", story.whys());
        let why = "released by anna (no daemon): all traffic was given to the stable without the daemon";
        assert_eq!(story.decisions[decided].why, why, "nothing is decided before");
        assert_eq!(story.decisions[decided].cause, Some(EndCause::Aborted));
        let weights = story.effects.iter().filter_map(|effect| match &effect.act {
            Act::Cluster(ClusterAct::SetWeight { weight, .. }) => Some(*weight),
            _ => None,
        });
        assert_eq!(weights.collect::<Vec<_>>(), [Weight::percent(10), Weight::ZERO]);
        assert!(story.model.status(&workload(), story.now).has_no_rollout_objects());
        assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
    }
}

#[test]
fn the_release_of_an_earlier_rollout_is_a_change_of_the_share_like_any_other() {
    let mut story = first_step();
    story.model.release(&workload(), RolloutId("web-earlier".to_owned()), anna());
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_promotion_goes_on_when_its_traffic_is_given_to_the_stable() {
    let mut story = first_step();
    while story.rollout().phase() != Phase::Promoting {
        story.second();
    }
    story.model.release(&workload(), story.rollout().id.clone(), anna());
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
}

fn anna() -> Author {
    Author { by: "anna".to_owned(), why: Some("no daemon".to_owned()) }
}

#[test]
fn an_edited_canary_is_reverted_and_a_deleted_one_gives_the_rollout_up() {
    let mut story = first_step();
    story.model.edit_canary(&workload(), images("v8"), story.now);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert!(
        story.whys().contains(&"kubectl-edit has changed the canary; the change is reverted"),
        "{:#?}",
        story.whys()
    );

    let mut story = first_step();
    story.model.delete_canary(&workload());
    assert_eq!(story.run(60), Some(Ending::GivenUp));
    assert!(story.whys().contains(&"an unknown client has deleted the canary"));
    assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
}

#[test]
fn a_broken_stable_holds_the_rollout_and_the_canary_keeps_its_traffic() {
    let mut story = first_step();
    story.model.break_stable(&workload(), story.now);
    story.run_until_held(
        "none of the workload's 10 pods is available with the old version, and the canary keeps its traffic",
    );
    assert_eq!(story.run(3 * HOUR), None, "giving up would send the traffic to a stable without pods");
    assert_eq!(story.model.share(&workload(), story.now), 0.1);
    assert_eq!(story.say("promote", json!({ "full": true })).0, Disposition::Changed);
    story.model.mend_stable(&workload(), Span::from_secs(5));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_restored_template_that_cannot_run_holds_the_rollout_at_once() {
    let mut story = Story::new(policy(json!({})));
    story.model.deploy(workload(), images("v1-nopull"), 10, Span::from_secs(5));
    story.request("v2-nevertaken");
    while story.rollout().phase() != Phase::Restoring {
        story.second();
    }
    story.run_until_held("the version to restore can't run either: pod pod-0 ImagePullBackOff");
    assert_eq!(story.rollout().phase(), Phase::Restoring);
}

#[test]
fn a_newer_version_gets_no_traffic_before_its_own_first_step() {
    let mut story = first_step();
    story.request("v3");
    while story.rollout().phase() != Phase::Stepping || story.rollout().changes() != images("v3") {
        let canary = story.model.status(&workload(), story.now).canary;
        if canary.is_some_and(|canary| canary.images == images("v3")) && story.rollout().phase() != Phase::Stepping {
            assert_eq!(story.model.share(&workload(), story.now), 0.0);
        }
        story.second();
    }
}

#[test]
fn only_the_newest_request_waits_for_a_promotion() {
    let mut story = first_step();
    while story.rollout().phase() != Phase::Promoting {
        story.second();
    }
    story.request("v3");
    story.request("v4");
    assert_eq!(story.run(60), None, "v4 starts as soon as v2 is promoted");
    assert_eq!(story.rollout().changes(), images("v4"));
    assert_eq!(story.running(), images("v2"));
}

/// Brings a story into the state that a request meets.
type SetUp = fn(&mut Story);

/// Requests that can't be carried out on a workload whose only container is `app`, each with its refusal.
fn impossible_requests() -> [(serde_json::Value, &'static str); 4] {
    let typo = json!({ "aap": "registry.test/shop/web:v3" });
    [
        (json!({ "images": typo }), "the workload has no container \"aap\"; it has app"),
        (
            json!({ "images": {}, "image": "registry.test/shop/other:v3" }),
            "no container runs an image of the repository",
        ),
        (json!({ "expectedCurrent": images("v7") }), "and the event expects registry.test/shop/web:v7"),
        (json!({ "images": images("v0-err50") }), "is quarantined since"),
    ]
}

#[test]
fn a_request_that_can_not_be_carried_out_ends_no_rollout_and_replaces_no_request() {
    let in_step: SetUp = |story| {
        while story.rollout().phase() != Phase::Stepping {
            story.second()
        }
    };
    let behind_promotion: SetUp = |story| {
        while story.rollout().phase() != Phase::Promoting {
            story.second();
        }
        story.request("v3");
    };
    let behind_freeze: SetUp = |story| {
        assert_eq!(story.run(HOUR), Some(Ending::Promoted));
        story.say("freeze", json!({}));
        story.request("v3");
    };
    for (set_up, expected) in [(in_step, "v2"), (behind_promotion, "v3"), (behind_freeze, "v3")] {
        for (changes, refusal) in impossible_requests() {
            let mut story = Story::new(policy(json!({})));
            story.request("v0-err50");
            assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
            story.request("v2");
            set_up(&mut story);
            let before = story.engine.state(&workload()).unwrap().clone();
            let disposition = story.ask("impossible", changes);
            assert_eq!(disposition, Disposition::Rejected, "{refusal}: {:#?}", story.whys());
            assert!(story.answer().contains(refusal), "{}", story.answer());
            assert_eq!(*story.engine.state(&workload()).unwrap(), before, "{refusal}");
            story.say("unfreeze", json!({}));
            for _ in 0..HOUR {
                story.second();
            }
            assert_eq!(story.running(), images(expected), "{refusal}: {:#?}", story.whys());
        }
    }
}

#[test]
fn a_request_that_fits_the_version_under_promotion_waits_for_it() {
    let mut story = first_step();
    while story.rollout().phase() != Phase::Promoting {
        story.second();
    }
    let disposition = story.ask("v3", json!({ "expectedCurrent": images("v2") }));
    assert_eq!(disposition, Disposition::Changed, "{}", story.answer());
    assert_eq!(story.run(60), None);
    assert_eq!(story.rollout().changes(), images("v3"));
}

#[test]
fn a_recreated_workload_gives_its_rollout_up() {
    let mut story = first_step();
    story.model.delete(&workload());
    story.second();
    story.model.deploy(workload(), images("v1"), 3, Span::from_secs(5));
    assert_eq!(story.run(60), Some(Ending::GivenUp));
}

#[test]
fn blue_green_switches_all_traffic_at_once_and_back() {
    let blue_green = |tag: &str| {
        let changes = json!({ "strategy": "blue-green", "step": [], "blue-green": { "keep-stable": "10m" } });
        let mut story = Story::new(policy(changes));
        story.request(tag);
        story
    };
    let mut story = blue_green("v2");
    story.run(60);
    assert_eq!((sizes(&story), story.model.share(&workload(), story.now)), (vec![10], 1.0));
    assert_eq!(story.running(), images("v1"), "the stable is not changed by the switch");
    assert_eq!(bellwether_core::engine::show::view(story.rollout()).phase, "switched");
    assert!(bellwether_core::engine::show::phases().any(|name| name == "switched"), "the metrics use the listed names");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(story.running(), images("v2"));

    let mut story = blue_green("v2-err8");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.kinds(), ["start", "advance", "roll back", "proceed", "finish"]);
    assert!(!story.effects.iter().any(|effect| matches!(
        effect.act,
        Act::Cluster(ClusterAct::Restore { .. }) | Act::Cluster(ClusterAct::Promote { .. })
    )));
}

#[test]
fn an_invalid_blue_green_policy_is_refused_with_its_problem() {
    let first_problem = |changes: serde_json::Value| {
        let mut json = json!({
            "name": "x", "match": { "namespaces": ["*"], "workloads": ["*"], "images": ["*"] },
            "strategy": "blue-green", "check": [{ "metric": "error-rate", "max": "5%" }] });
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let raw: bellwether_core::policy::RawPolicy = serde_json::from_value(json).unwrap();
        raw.check(&bellwether_sim::story::metrics())
            .map(|_| String::new())
            .unwrap_or_else(|problems| problems[0].message.clone())
    };
    let kept = json!({ "keep-stable": "10m" });
    for (changes, expected) in [
        (json!({ "blue-green": kept }), ""),
        (json!({}), "say how long the old version stands by"),
        (json!({ "blue-green": kept, "traffic": "replicas" }), "needs a router"),
        (json!({ "blue-green": kept, "step": [{ "weight": "10%", "min-time": "1m" }] }), "switches once"),
        (json!({ "blue-green": kept, "window": { "from": "9", "to": "17:00" } }), "not a time of day"),
        (
            json!({ "blue-green": kept, "window": { "from": "09:00", "to": "17:00", "zone": "Mars" } }),
            "not a time zone",
        ),
        (
            json!({ "blue-green": kept, "approval": [{ "name": "a", "before": "traffic" }, { "name": "a", "before": "promotion" }] }),
            "two approvals \"a\"",
        ),
        (
            json!({ "strategy": "canary", "blue-green": kept, "step": [{ "weight": "10%", "min-time": "1m" }] }),
            "is for strategy = \"blue-green\"",
        ),
    ] {
        let found = first_problem(changes.clone());
        assert!(found.contains(expected), "{changes}: {found}");
    }
}
