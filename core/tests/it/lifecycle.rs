//! Whole rollouts, from their request to their end.

use bellwether_core::engine::{Disposition, show};
use bellwether_core::ids::{EventId, Weight};
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::input::event::Event;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::rollout::cause::HoldCause;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use serde_json::json;

use bellwether_sim::story::{Story, images, policy, workload};

const HOUR: u64 = 3600;

#[test]
fn the_checks_of_an_ended_rollout_are_those_of_the_decision_about_its_end() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err8");
    while story.rollout().conclusion.is_none() {
        story.second();
    }
    let decided = show::view(story.rollout()).checks;
    assert!(decided.iter().any(|check| check.verdict == "regressed"), "{decided:#?}");
    assert_eq!(story.run(600), Some(Ending::RolledBack));
    let shown = show::view(story.rollout());
    assert!(shown.ended.is_some() && shown.checks == decided, "{shown:#?}");

    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    story.say("abort", json!({}));
    assert_eq!(story.run(60), Some(Ending::Aborted));
    assert_eq!(show::view(story.rollout()).checks, [], "no check has looked");
}

#[test]
fn a_good_version_is_promoted() {
    let mut story = Story::new(policy(json!({})));
    assert_eq!(story.request("v2"), Disposition::Changed);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(story.kinds(), ["start", "advance", "promote", "proceed", "proceed", "proceed", "finish"]);
    assert_eq!(story.running(), images("v2"));
    let status = story.model.status(&workload(), story.now);
    assert!(status.canary.is_none() && status.route.is_none(), "the canary and its place in the route are gone");
    assert_eq!(
        story.whys()[2],
        "error-rate 0 % ≤ 5 % (0 of 2850 requests in 5m; stable 0 %); \
         response-time p95 238 ms ≤ 1 s (2850 requests in 5m; stable 238 ms); watched for 5m"
    );
    assert_eq!(story.messages.len(), 1);
    assert_eq!(story.messages[0].title, "test: web v1 → v2 promoted");
}

#[test]
fn three_steps_go_up_one_after_the_other() {
    let steps = json!([
        { "weight": "5%", "min-time": "1m" }, { "weight": "25%", "min-time": "1m", "pause": "30s" }, { "weight": "50%", "min-time": "1m" }]);
    let mut story = Story::new(policy(json!({ "step": steps })));
    story.request("v2");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    let weights: Vec<Weight> = story
        .effects
        .iter()
        .filter_map(|effect| {
            if let Act::Cluster(ClusterAct::SetWeight { weight, .. }) = &effect.act { Some(*weight) } else { None }
        })
        .collect();
    assert_eq!(weights, [5, 25, 50, 0].map(Weight::percent));
    let sizes: Vec<u32> = story
        .effects
        .iter()
        .filter_map(|effect| {
            if let Act::Cluster(ClusterAct::ApplyCanary { replicas, .. }) = effect.act { Some(replicas) } else { None }
        })
        .collect();
    assert_eq!(sizes, [2, 4, 10], "the canary is scaled for each step");
}

#[test]
fn a_version_with_errors_is_rolled_back() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err8");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.kinds(), ["start", "advance", "roll back", "proceed", "finish"]);
    assert_eq!(story.whys()[2], "error-rate 8 % > 5 % (12 of 150 requests in 5m; stable 0 %)");
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn a_canary_without_traffic_is_removed_after_the_drain_time() {
    for drain in [0, 30] {
        let mut story = Story::new(policy(json!({ "drain": format!("{drain}s") })));
        story.request("v2-err50");
        story.run(HOUR);
        let [.., emptied, gone] = story.decisions.as_slice() else { panic!("{:?}", story.kinds()) };
        assert_eq!((emptied.to, gone.to), (Phase::Removing, Phase::Ended));
        let took = Span::between(emptied.at, gone.at);
        assert!(took >= Span::from_secs(drain) && took < Span::from_secs(drain + 10), "{took} with {drain} s");
    }
}

#[test]
fn a_slow_version_is_rolled_back() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-slow");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.whys()[2], "response-time p95 4 s > 1 s (150 requests in 5m; stable 238 ms)");
}

#[test]
fn a_version_is_rolled_back_after_the_required_consecutive_breaches() {
    let check = json!([{ "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "5m", "every": "30s", "breaches": 3 }]);
    let mut story = Story::new(policy(json!({ "check": check })));
    story.request("v2-err8");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.whys()[2], "error-rate 8 % > 5 % at 3 looks in a row (60 of 750 requests in 5m; stable 0 %)");
}

#[test]
fn a_rollout_without_traffic_is_held_and_then_given_up() {
    let mut story = Story::new(policy(json!({})));
    story.rps = 0;
    story.request("v2");
    assert_eq!(story.run(HOUR / 2), None);
    let rollout = story.engine.state(&workload()).unwrap().rollout.as_ref().unwrap();
    assert!(rollout.current.hold.is_some());
    assert_eq!(
        story.whys()[2],
        "error-rate: 0 requests in 5m, need at least 100 to judge it (limit 5 %); \
         response-time p95: 0 requests in 5m, need at least 100 to judge it (limit 1 s)"
    );
    assert_eq!(story.run(2 * HOUR), Some(Ending::GivenUp));
    assert_eq!(story.kinds(), ["start", "advance", "hold", "give up", "proceed", "finish"]);
    assert_eq!(story.running(), images("v1"));
    assert_eq!(story.messages.len(), 2);
}

#[test]
fn traffic_that_comes_back_resumes_a_held_rollout() {
    let mut story = Story::new(policy(json!({})));
    story.rps = 0;
    story.request("v2");
    story.run(HOUR / 3);
    story.rps = 100;
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert!(story.kinds().contains(&"resume".to_owned()));
}

/// Argo Rollouts and Flagger roll a healthy canary back if their metrics are missing for one or two minutes.
#[test]
fn ten_minutes_without_prometheus_roll_nothing_back() {
    let mut story = Story::new(policy(json!({ "patience": { "blind": "2m" } })));
    story.request("v2");
    story.run(60);
    story.away = true;
    assert_eq!(story.run(600), None);
    assert_eq!(story.kinds(), ["start", "advance", "hold"]);
    assert!(story.whys()[2].starts_with("blind since "), "{}", story.whys()[2]);
    assert!(story.whys()[2].ends_with("nothing is judged and nothing is changed"), "{}", story.whys()[2]);
    story.away = false;
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_version_that_turns_bad_after_promotion_is_rolled_back_by_the_guard() {
    let guard = json!({ "for": "5m", "check": [
        { "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" },
        { "metric": "availability", "judge": "threshold", "min": "95%", "every": "30s" }] });
    let mut story = Story::new(policy(json!({ "guard": guard })));
    story.request("v2-late");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.running(), images("v1"));
    assert!(story.whys().contains(&"error-rate 50 % > 15 % (750 of 1500 requests in 5m)"), "{:#?}", story.whys());
    assert_eq!(story.engine.state(&workload()).unwrap().last_good.as_ref().unwrap().images, images("v1"));
}

#[test]
fn a_version_that_passes_its_guard_becomes_the_last_good_one() {
    let guard = json!({ "for": "5m", "check": [{ "metric": "availability", "judge": "threshold", "min": "95%", "every": "30s" }] });
    let mut story = Story::new(policy(json!({ "guard": guard })));
    story.request("v2");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(story.engine.state(&workload()).unwrap().last_good.as_ref().unwrap().images, images("v2"));
    assert!(story.whys().last().unwrap().contains("availability 100 % ≥ 95 % (10 of 10 pods ready)"));
}

#[test]
fn a_version_deployed_by_another_tool_is_guarded_and_rolled_back() {
    let guard = json!({ "for": "5m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" }] });
    let mut story = Story::new(policy(json!({ "guard": guard })));
    story.second();
    story.model.set_images(&workload(), images("v2-late"), story.now);
    let id = EventId { source: "argo".into(), id: "1".into() };
    let time = Some(story.now);
    story.tell(Event::Deployed { id, time, workload: workload(), artifact: None });
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn an_image_that_cannot_be_pulled_is_rolled_back_after_a_grace_with_the_pods_message() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-nopull");
    assert_eq!(story.run(60), None);
    assert_eq!(story.run(30), Some(Ending::RolledBack));
    assert_eq!(
        story.whys()[1],
        "the canary can't run: pod pod-0 ImagePullBackOff: Back-off pulling image \"registry.test/shop/web:v2-nopull\""
    );
}

#[test]
fn a_canary_that_never_becomes_ready_is_rolled_back_after_its_deadline() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-neverready");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.whys()[1], "0 of 2 canary pods were available within 5m");
}

#[test]
fn a_stable_that_cannot_run_the_version_is_restored_before_its_traffic_returns() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-nevertaken");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    let acts: Vec<&str> =
        story.effects.iter().map(|effect| effect.act.name()).filter(|name| *name != "notify").collect();
    let restore = acts.iter().position(|name| *name == "restore").unwrap();
    assert_eq!(acts[restore..], ["restore", "set-weight", "remove-canary"]);
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn a_duplicate_event_is_one_rollout() {
    let mut story = Story::new(policy(json!({})));
    assert_eq!(story.request("v2"), Disposition::Changed);
    assert_eq!(story.request("v2"), Disposition::Duplicate);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(story.request("v2"), Disposition::Duplicate);
    assert_eq!(story.kinds().iter().filter(|kind| *kind == "start").count(), 1);
}

#[test]
fn a_newer_version_replaces_one_that_is_not_promoted_yet() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    story.run(60);
    story.request("v3");
    while story.running() != images("v3") {
        story.second();
    }
    assert_eq!(story.kinds()[..6], ["start", "advance", "supersede", "proceed", "finish", "start"]);
    assert_eq!(story.whys()[2], "event ci/v3 requests a newer version");
}

#[test]
fn observe_only_decides_and_writes_nothing() {
    let mut story = Story::new(policy(json!({ "mode": "observe" })));
    story.request("v2");
    assert_eq!(story.run(3 * HOUR), Some(Ending::GivenUp));
    assert!(story.effects.iter().all(|effect| !effect.act.writes()), "{:#?}", story.effects);
    assert!(story.decisions.iter().all(|decision| decision.observed_only));
    assert!(story.model.changes.is_empty());
}

#[test]
fn invalid_requests_are_rejected_with_the_remedy() {
    for (changes, disposition, why) in [
        (
            json!({ "images": {} }),
            Disposition::Rejected,
            "the event names no image; give `image`, or `images` by container",
        ),
        (
            json!({ "images": { "app": "evil.test/x:1" } }),
            Disposition::Rejected,
            "policy test does not allow image evil.test/x:1 (it allows registry.test/shop/*); add its repository to match.images",
        ),
        (
            json!({ "policy": "other" }),
            Disposition::Rejected,
            "no policy \"other\" covers test/shop/Deployment/web; leave the policy out of the request, or extend its match",
        ),
    ] {
        let mut story = Story::new(policy(json!({})));
        let mut json = json!({ "workload": workload(), "images": images("v2") });
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let id = EventId { source: "ci".into(), id: "1".into() };
        let event = Event::Requested { id, time: None, request: serde_json::from_value(json).unwrap() };
        let transitions = story.engine.step(event, story.now);
        assert_eq!(transitions[0].disposition, disposition);
        assert_eq!(transitions[0].reason.to_string(), why);
        assert!(transitions[0].effects.is_empty());
    }
}

#[test]
fn a_request_that_does_not_fit_the_workload_ends_before_anything_is_written() {
    for (changes, why) in [
        (
            json!({ "images": { "side": "registry.test/shop/web:v2" } }),
            "the workload has no container \"side\"; it has app",
        ),
        (
            json!({ "expectedCurrent": images("v0") }),
            "container app runs registry.test/shop/web:v1, and the event expects registry.test/shop/web:v0; check the workload, then request it again",
        ),
        (json!({ "images": images("v1") }), "the workload runs these images already"),
        (
            json!({ "images": {}, "image": "registry.test/shop/other:v2" }),
            "no container runs an image of the repository of registry.test/shop/other:v2 (the containers are app); name the container in `images`",
        ),
    ] {
        let mut story = Story::new(policy(json!({})));
        story.ask("v2", changes);
        assert_eq!(story.whys(), [why]);
        assert!(story.model.changes.is_empty());
    }
}

#[test]
fn a_preflight_that_fails_holds_the_rollout_until_it_succeeds_or_the_hold_expires() {
    for recovers in [true, false] {
        let mut story = Story::new(policy(json!({ "max-hold": "30m" })));
        story.acts_fail = true;
        story.request("v2");
        assert_eq!(story.run(600), None, "{:?}", story.whys());
        assert!(story.whys()[0].starts_with("preflight fails, "), "{:?}", story.whys());
        assert_eq!(story.rollout().current.hold.as_ref().map(|hold| &hold.cause), Some(&HoldCause::Slow));
        assert!(story.model.changes.is_empty());
        story.acts_fail = !recovers;
        let ending = if recovers { Ending::Promoted } else { Ending::GivenUp };
        assert_eq!(story.run(3600), Some(ending), "{:?}", story.whys());
    }
}

#[test]
fn a_preflight_issue_refuses_the_rollout() {
    let mut story = Story::new(policy(json!({})));
    story.model.obstruct(&workload(), vec![PreflightIssue::ReadWriteOnceVolume { claim: "data".into() }]);
    story.request("v2");
    assert!(story.whys()[0].starts_with("volume claim data is ReadWriteOnce"), "{:?}", story.whys());
    assert!(story.model.changes.is_empty());
}

/// The tool was told to ignore the image. If it takes the promotion back all the same, that is seen as any other change.
#[test]
fn an_owner_that_the_policy_names_refuses_nothing() {
    let owner = PreflightIssue::OwnedByGitOps { manager: "argocd-controller".into() };
    for (owned_by, is_refused) in [(json!([]), true), (json!(["argocd-controller"]), false)] {
        let guard = json!({ "for": "5m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" }] });
        let mut story = Story::new(policy(json!({ "owned-by": owned_by, "guard": guard })));
        story.model.obstruct(&workload(), vec![owner.clone()]);
        story.request("v2");
        if is_refused {
            assert_eq!(story.run(HOUR), Some(Ending::Refused), "{:#?}", story.whys());
            assert!(story.whys()[0].contains("owned-by = [\"argocd-controller\"]"), "{:?}", story.whys());
        } else {
            while story.rollout().phase() != Phase::Guarding {
                assert_eq!(story.rollout().ending(), None, "{:#?}", story.whys());
                story.second();
            }
            story.model.set_images(&workload(), images("v1"), story.now);
            story.run_until_held("has changed the workload's pod template");
        }
    }
}

#[test]
fn a_deleted_workload_gives_its_rollout_up() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    story.run(60);
    story.model.delete(&workload());
    let (asked, deleted) = (story.effects.len(), story.now);
    assert_eq!(story.run(2), None);
    let last = story.effects[asked..].iter().map(|effect| &effect.act).collect::<Vec<_>>();
    let is_empty = |act: &Act| matches!(act, Act::Cluster(ClusterAct::SetWeight { weight: Weight::ZERO, .. }));
    assert!(last.iter().any(|act| is_empty(act)), "its pods are deleted with it, so the route comes first: {last:?}");
    assert_eq!(story.run(60), Some(Ending::GivenUp));
    assert!(Span::between(deleted, story.now) >= Span::from_secs(10), "its objects go after the drain");
}

#[test]
fn by_replicas_the_canarys_size_is_the_nearest_to_its_share() {
    let mut story = Story::new(policy(json!({ "traffic": "replicas" })));
    story.request("v2");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    let sizes: Vec<u32> = story
        .effects
        .iter()
        .filter_map(|effect| {
            if let Act::Cluster(ClusterAct::ApplyCanary { replicas, .. }) = effect.act { Some(replicas) } else { None }
        })
        .collect();
    assert_eq!(sizes, [1], "1 pod of 11 is the nearest to 10 %");
}

#[test]
fn a_rollout_whose_policy_is_removed_says_so_once_and_goes_on() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    while story.rollout().phase() != Phase::Stepping {
        story.second();
    }
    assert_eq!(story.engine.uncovered(), []);
    story.engine.set_policies(Vec::new());
    for event in story.engine.uncovered() {
        assert_eq!(story.tell(event.clone()), Disposition::Changed);
        assert_eq!(story.tell(event), Disposition::Ignored, "told once");
    }
    assert_eq!(story.engine.uncovered(), []);
    let why = story.whys().pop().unwrap().to_owned();
    assert!(why.starts_with("no policy covers the workload any more: policy test was removed"), "{why}");
    assert_eq!(story.messages.len(), 1, "people are told");
    assert_eq!(story.run(900), Some(Ending::Promoted), "{:#?}", story.whys());
}
