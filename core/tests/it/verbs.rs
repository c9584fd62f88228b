//! Verbs of people, and the rules that wait for people: approvals, change windows, freezes, quarantine and patience.

use bellwether_core::engine::view::RolloutView;
use bellwether_core::engine::{Disposition, Engine, show};
use bellwether_core::ids::{Images, Weight};
use bellwether_core::input::command::Verb;
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use serde_json::json;

use bellwether_sim::story::{Story, images, policy, workload};

const HOUR: u64 = 3600;

/// Returns two steps of five minutes each.
fn two_steps() -> serde_json::Value {
    json!([{ "weight": "10%", "min-time": "5m" }, { "weight": "50%", "min-time": "5m" }])
}

/// Returns a rollout of v2 one minute after its request, in its first step.
fn first_step(changes: serde_json::Value) -> Story {
    let mut story = Story::new(policy(changes));
    story.request("v2");
    story.run(60);
    assert_eq!(story.rollout().phase(), Phase::Stepping, "{:#?}", story.whys());
    story
}

#[test]
fn an_abort_returns_to_the_old_version_without_quarantine() {
    let mut story = first_step(json!({}));
    assert_eq!(story.say("abort", json!({ "reason": "wrong branch" })).0, Disposition::Changed);
    assert_eq!(story.run(60), Some(Ending::Aborted));
    assert_eq!(story.kinds(), ["start", "advance", "abort", "proceed", "finish"]);
    assert_eq!(story.whys()[2], "aborted by ann (wrong branch)");
    assert_eq!(story.messages[0].title, "test: web v1 → v2 aborted");
    assert_eq!(story.running(), images("v1"));
    story.ask("again", json!({ "images": images("v2") }));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn an_abort_after_the_promotion_restores_the_old_template() {
    let guard = json!({ "for": "30m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" }] });
    let mut story = Story::new(policy(json!({ "guard": guard })));
    story.request("v2");
    while story.running() != images("v2") || story.rollout().phase() != Phase::Guarding {
        story.second();
    }
    story.say("abort", json!({}));
    assert_eq!(story.run(60), Some(Ending::Aborted));
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn promote_advances_by_one_step_or_to_the_end_and_lists_the_skipped_conditions() {
    let mut story = first_step(json!({ "step": two_steps() }));
    story.say("promote", json!({ "reason": "INC-812" }));
    assert_eq!(story.whys()[2], "promoted by ann (INC-812); skipped: the rest of the step's 5m");
    story.run(30);
    assert_eq!(story.rollout().canary.weight, Weight::percent(50));
    story.say("promote", json!({ "full": true }));
    assert_eq!(story.run(60), Some(Ending::Promoted));

    let mut story = first_step(json!({ "step": two_steps(), "approval": [{ "name": "qa", "before": "promotion" }] }));
    story.rps = 0;
    story.say("promote", json!({ "full": true }));
    let why = story.whys()[2];
    assert_eq!(why, "promoted by ann; skipped: the rest of the step's 5m, step 2 at 50 %, approval qa");
    assert_eq!(story.run(60), Some(Ending::Promoted));
}

#[test]
fn promote_is_rejected_without_an_available_canary() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-neverready");
    story.run(60);
    let (disposition, answer) = story.say("promote", json!({ "full": true }));
    assert_eq!(disposition, Disposition::Rejected);
    assert!(answer.ends_with("its canary is not available, and traffic goes only to what is"), "{answer}");
}

#[test]
fn a_pause_lasts_until_it_is_resumed_or_the_hold_expires() {
    let mut story = first_step(json!({ "max-hold": "30m" }));
    story.say("pause", json!({ "reason": "demo at noon" }));
    assert_eq!(story.run(25 * 60), None);
    assert_eq!(story.whys()[2], "paused by ann (demo at noon)");
    assert_eq!(
        story.messages[0].command.as_deref(),
        Some("bellwether emit resume --workload test/shop/Deployment/web")
    );
    assert!(story.messages[0].now.ends_with("and is given up after 30m on hold."), "{}", story.messages[0].now);
    story.say("resume", json!({}));
    assert_eq!(story.run(60), Some(Ending::Promoted), "the step passed during the pause");

    let mut story = first_step(json!({ "max-hold": "30m" }));
    story.say("pause", json!({}));
    assert_eq!(story.run(HOUR), Some(Ending::GivenUp));
    assert_eq!(story.running(), images("v1"));
}

/// An engine whose effects have no outcome, so that the preflight does not end.
struct Unanswered(Engine);

impl Unanswered {
    fn ask(changes: serde_json::Value) -> Unanswered {
        let mut engine = Unanswered(Engine::new("test".to_owned(), vec![policy(json!({}))], Span::from_secs(HOUR)));
        let mut request = json!({ "workload": workload() });
        request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let id = json!({ "source": "ci", "id": "a" });
        engine.tell(json!({ "event": "requested", "id": id, "time": null, "request": request }));
        engine
    }

    fn say(&mut self, verb: &str) {
        let id = json!({ "source": "ann", "id": format!("{verb}{}", self.shown().history.len()) });
        let command =
            json!({ "scope": "test/shop/Deployment/web", "verb": { "verb": verb }, "reason": "demo at noon" });
        self.tell(json!({ "event": "commanded", "id": id, "time": null, "command": command }));
    }

    fn tell(&mut self, event: serde_json::Value) {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let transitions = self.0.step(serde_json::from_value(event).unwrap(), now);
        assert!(transitions.iter().all(|transition| transition.disposition == Disposition::Changed), "{transitions:?}");
    }

    fn shown(&self) -> RolloutView {
        show::view(self.0.state(&workload()).unwrap().rollout.as_ref().unwrap())
    }
}

#[test]
fn a_pause_during_the_preflight_is_shown_at_once() {
    let mut engine = Unanswered::ask(json!({ "images": images("v2") }));
    assert_eq!((engine.shown().state(), engine.shown().held), ("preflight", None));
    engine.say("pause");
    let shown = engine.shown();
    assert_eq!((shown.phase.as_str(), shown.state()), ("preflight", "held"));
    assert_eq!(shown.held.as_deref(), Some("paused by ann (demo at noon)"));
    assert_eq!(shown.reason, "paused by ann (demo at noon)");
    assert_eq!(shown.next, "is held at the end of preflight, until a person resumes it");
    engine.say("abort");
    assert_eq!(engine.shown().held, None, "an end is not paused");

    let mut engine = Unanswered::ask(json!({ "images": images("v2") }));
    engine.say("pause");
    engine.say("resume");
    assert_eq!(engine.shown().held, None);
}

#[test]
fn the_requested_version_is_shown_before_the_preflight_has_ended_and_after_a_refusal() {
    for (request, expected) in [
        (json!({ "images": images("v2") }), "v2"),
        (json!({ "image": "registry.test/shop/web:v3" }), "v3"),
        (json!({ "image": "registry.test/shop/web@sha256:0123456789abcdef" }), "0123456789ab"),
    ] {
        let shown = Unanswered::ask(request).shown();
        assert_eq!((shown.phase.as_str(), shown.versions().as_str()), ("preflight", expected));
    }
    let mut story = Story::new(policy(json!({})));
    story.ask("v2", json!({ "images": {}, "image": "registry.test/shop/web:v2" }));
    assert_eq!(show::view(story.rollout()).versions(), "v1 → v2");
    let mut story = Story::new(policy(json!({})));
    story.ask("v2", json!({ "expectedCurrent": images("v0") }));
    assert_eq!(story.run(60), Some(Ending::Refused));
    assert_eq!(show::view(story.rollout()).versions(), "v1 → v2");
}

#[test]
fn a_version_that_regresses_during_a_pause_is_rolled_back() {
    let mut story = Story::new(policy(json!({ "step": two_steps() })));
    story.request("v2-err8");
    story.say("pause", json!({}));
    assert_eq!(story.run(2 * HOUR), Some(Ending::GivenUp), "it was paused before it had traffic");
    let mut story = Story::new(policy(json!({})));
    story.rps = 1;
    story.request("v2-err8");
    story.run(60);
    story.say("pause", json!({}));
    story.rps = 100;
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
}

#[test]
fn the_time_on_hold_does_not_count_against_a_deadline() {
    let mut story = Story::new(policy(json!({ "ready-within": "2m" })));
    story.request("v2");
    story.say("pause", json!({}));
    story.run(30 * 60);
    story.say("resume", json!({}));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

/// The act of the phase fails all the time, so that the rollout is held once the phase has had its time.
#[test]
fn the_time_of_a_freeze_that_ends_by_itself_does_not_count_against_a_deadline() {
    let mut story = first_step(json!({ "ready-within": "2m", "step": two_steps() }));
    story.acts_fail = true;
    while story.rollout().phase() != Phase::Growing {
        story.second();
    }
    let until = Span::from_secs(1800).after(story.now);
    story.say("freeze", json!({ "scope": "test/shop", "until": until.to_string() }));
    assert_eq!(story.run(1800 + 60), None);
    assert_eq!(story.rollout().current.hold, None, "{:?}", story.whys());
    assert_eq!(story.kinds().iter().filter(|kind| *kind == "hold").count(), 1, "{:?}", story.whys());
    story.run_until_held(" fails, ");
    assert!(Span::between(until, story.now) >= Span::from_secs(100), "{:?}", story.whys());
}

#[test]
fn a_resume_renews_the_patience() {
    let mut story = Story::new(policy(json!({})));
    story.rps = 0;
    story.request("v2");
    story.run_until_held("0 requests");
    story.say("resume", json!({}));
    assert!(story.rollout().current.hold.is_none());
    assert_eq!(story.run(9 * 60), None);
    assert!(story.rollout().current.hold.is_none(), "the patience starts again");
    story.run_until_held("0 requests");
}

#[test]
fn a_version_that_failed_is_quarantined_until_it_is_retried() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err8");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    story.ask("again", json!({ "images": images("v2-err8") }));
    assert_eq!(story.run(1), Some(Ending::Refused));
    let why = story.whys().pop().unwrap().to_owned();
    assert!(why.starts_with("v2-err8 is quarantined since "), "{why}");
    assert!(why.contains("failed: error-rate 8 % > 5 %"), "{why}");
    assert!(why.ends_with("`bellwether emit retry` lifts it"), "{why}");
    story.ask("other", json!({ "images": images("v3") }));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "another version is not quarantined");

    let mut story = Story::new(policy(json!({})));
    story.request("v2-err8");
    story.run(HOUR);
    let failed = story.rollout().id.clone();
    assert_eq!(story.say("retry", json!({ "reason": "the database was down" })).0, Disposition::Changed);
    assert_ne!(story.rollout().id, failed);
    let retried = format!("{failed} is retried by ann (the database was down)");
    assert!(story.whys().contains(&retried.as_str()), "{:#?}", story.whys());
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack), "a retried version is judged as usual");
}

#[test]
fn a_version_that_was_given_up_is_not_quarantined() {
    let mut story = Story::new(policy(json!({ "max-hold": "1m" })));
    story.rps = 0;
    story.request("v2");
    assert_eq!(story.run(HOUR), Some(Ending::GivenUp));
    story.rps = 100;
    story.ask("again", json!({ "images": images("v2") }));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn during_a_freeze_nothing_starts_and_the_newest_request_waits() {
    for scope in ["test", "test/shop", "test/shop/Deployment/web"] {
        let mut story = Story::new(policy(json!({ "max-hold": "2h" })));
        story.say("freeze", json!({ "scope": scope, "reason": "peak night" }));
        story.request("v2");
        story.request("v3");
        assert_eq!(story.run(HOUR), None);
        assert!(story.kinds() == ["supersede"] && story.model.changes.is_empty(), "{:#?}", story.whys());
        story.say("unfreeze", json!({ "scope": scope }));
        assert_eq!(story.run(HOUR), Some(Ending::Promoted));
        assert_eq!(story.running(), images("v3"));
    }
}

#[test]
fn a_freeze_with_an_end_ends_by_itself() {
    let mut story = Story::new(policy(json!({})));
    let until = bellwether_core::time::Span::from_secs(HOUR).after(story.now);
    story.say("freeze", json!({ "scope": "test/shop", "until": until.to_string() }));
    story.request("v2");
    assert_eq!(story.run(HOUR - 1), None);
    assert!(story.decisions.is_empty());
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_freeze_keeps_the_weight_and_allows_an_abort() {
    let mut story = first_step(json!({ "step": two_steps() }));
    story.say("freeze", json!({ "scope": "test/shop" }));
    assert_eq!(story.run(30 * 60), None);
    assert_eq!(story.rollout().canary.weight, Weight::percent(10));
    let (disposition, answer) = story.say("promote", json!({}));
    assert_eq!((disposition, answer.ends_with("`unfreeze` first")), (Disposition::Rejected, true), "{answer}");
    assert_eq!(story.say("abort", json!({})).0, Disposition::Changed);
    assert_eq!(story.run(60), Some(Ending::Aborted));
}

#[test]
fn an_approval_before_the_first_traffic_is_asked_for_and_given_by_name() {
    let approvals = json!([{ "name": "qa", "before": "traffic", "patience": "2h" }]);
    let mut story = Story::new(policy(json!({ "approval": approvals })));
    story.request("v2");
    story.run_until_held("approval qa is required before the first traffic, and has not been given");
    let command = story.messages[0].command.clone().unwrap();
    assert_eq!(command, "bellwether emit approve --workload test/shop/Deployment/web --approval qa");
    assert_eq!(story.run(HOUR), None, "the approval's patience is longer than ready-within and max-hold");
    assert!(!story.effects.iter().any(|effect| matches!(effect.act, Act::Cluster(ClusterAct::SetWeight { .. }))));
    let (disposition, answer) = story.say("approve", json!({ "approval": "legal" }));
    assert_eq!(
        (disposition, answer.contains("no approval \"legal\" of") && answer.contains("is missing; name one of qa")),
        (Disposition::Rejected, true),
        "{answer}"
    );
    story.say("approve", json!({}));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert!(story.whys().contains(&"approval qa was given by ann"));
}

#[test]
fn no_sender_approves_their_own_request_or_promotes_it_past_an_approval() {
    let approvals = json!([{ "name": "qa", "before": "traffic" }]);
    let mut story = Story::new(policy(json!({ "approval": approvals, "require": ["behaviour"] })));
    story.request("v2");
    story.run_until_held("suite behaviour is required");
    for (verb, changes) in [
        ("approve", json!({ "approval": "qa" })),
        ("approve", json!({ "approval": "behaviour" })),
        ("promote", json!({})),
        ("promote", json!({ "full": true })),
    ] {
        let (disposition, answer) = story.say_as("ci", verb, changes);
        assert_eq!(disposition, Disposition::Rejected, "{answer}");
        assert!(answer.contains("ci asked for web-") && answer.contains("another"), "{answer}");
    }
    assert_eq!(story.say("approve", json!({ "approval": "behaviour" })).0, Disposition::Changed);
    assert_eq!(story.say("approve", json!({ "approval": "qa" })).0, Disposition::Changed);
    story.run(60);
    assert_eq!(story.rollout().phase(), Phase::Stepping);
    // With nothing left to approve, the sender of the request may promote like any other.
    assert_eq!(story.say_as("ci", "promote", json!({ "full": true })).0, Disposition::Changed);
}

#[test]
fn an_identified_sender_is_the_same_under_any_source() {
    let same = bellwether_core::ids::is_same_sender;
    assert!(same("/a#user=jane", "/b#user=jane") && same("/a#key=ci", "/b#key=ci"));
    assert!(!same("/a#user=jane", "/a#user=bob") && !same("/a#user=ci", "/a#key=ci"));
    // Without two identities the texts of the producers are all that there is.
    assert!(same("/a", "/a") && same("/a", "/a#user=jane") && !same("/b", "/a#user=jane"));
}

#[test]
fn a_rollout_without_its_approval_before_the_promotion_is_given_up() {
    let approvals = json!([{ "name": "release", "before": "promotion", "patience": "20m" }]);
    let mut story = Story::new(policy(json!({ "approval": approvals })));
    story.request("v2");
    story.run_until_held("approval release is required before the promotion, and has not been given");
    assert_eq!(story.run(HOUR), Some(Ending::GivenUp));
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn outside_the_change_window_no_weight_rises_and_a_bad_version_is_rolled_back() {
    // The story begins on a Friday at 8:00 UTC, which is 9:00 in Berlin.
    let window = json!({ "days": ["fri"], "from": "11:00", "to": "17:00", "zone": "Europe/Berlin" });
    let mut story = Story::new(policy(json!({ "window": window })));
    story.request("v2");
    story.run_until_held(
        "outside the change window (Fri 11:00–17:00 Europe/Berlin), which opens at 2027-01-15T10:00:00Z",
    );
    assert_eq!(story.rollout().phase(), Phase::Preparing);
    assert_eq!(
        story.run(HOUR + 1800),
        None,
        "a hold for the window lasts longer than max-hold, because it ends by itself"
    );
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));

    let mut story = Story::new(policy(json!({ "window": { "from": "07:00", "to": "08:02" }, "step": two_steps() })));
    story.request("v2-err8");
    story.run(HOUR);
    assert_eq!(story.rollout().ending(), Some(Ending::RolledBack));
}

#[test]
fn the_policy_decides_the_action_after_blindness() {
    for (then, ending) in [("give-up", Ending::GivenUp), ("roll-back", Ending::RolledBack)] {
        let patience = json!({ "blind": "2m", "on-blind": then });
        let mut story = first_step(json!({ "patience": patience }));
        story.away = true;
        assert_eq!(story.run(5 * 60), Some(ending));
        assert!(story.whys()[2].starts_with("blind since "), "{}", story.whys()[2]);
        assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty(), "no regression was found");
    }
}

#[test]
fn a_request_for_the_stables_images_returns_to_them_at_once() {
    let mut story = first_step(json!({}));
    story.ask("back", json!({ "images": images("v1") }));
    assert_eq!(story.run(30), Some(Ending::Superseded));
    assert_eq!(story.whys()[2], "event ci/back requests the version that the stable runs");

    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    while story.rollout().phase() != Phase::Promoting {
        story.second();
    }
    story.ask("back", json!({ "images": images("v1") }));
    assert_eq!(story.run(60), Some(Ending::Superseded));
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn an_impossible_verb_is_rejected_with_the_present_state() {
    let mut story = Story::new(policy(json!({})));
    let none = "no rollout of test/shop/Deployment/web is known; `bellwether emit request` asks for one";
    for verb in ["abort", "promote", "pause", "resume", "retry", "approve"] {
        assert_eq!(story.say(verb, json!({})), (Disposition::Rejected, format!("can't {verb}: {none}")));
    }
    let (_, answer) = story.say("unfreeze", json!({ "scope": "test/shop" }));
    assert_eq!(answer, "can't unfreeze: test/shop is not frozen; nothing is");
    let (_, answer) = story.say("abort", json!({ "scope": "test/shop" }));
    assert_eq!(answer, "can't abort: test/shop is no workload; name cluster/namespace/Deployment/name");

    let mut story = first_step(json!({}));
    let id = story.rollout().id.to_string();
    for (verb, changes, answer) in [
        ("resume", json!({}), format!("can't resume: {id} is stepping; it is not held")),
        ("approve", json!({}), format!("can't approve: no approval of {id} is missing")),
        (
            "abort",
            json!({ "rollout": "web-0" }),
            format!("can't abort: it is meant for web-0, and {id} is the rollout now"),
        ),
        (
            "retry",
            json!({}),
            format!("can't retry: {id} is stepping; a retry is for what has ended; abort this one first, or wait"),
        ),
    ] {
        assert_eq!(story.say(verb, changes), (Disposition::Rejected, answer));
    }
    assert_eq!(story.say("abort", json!({ "rollout": id })).0, Disposition::Changed);
    let (_, answer) = story.say("abort", json!({}));
    assert!(answer.ends_with("the old version is on its way back already"), "{answer}");
}

#[test]
fn a_verb_older_than_the_last_request_is_ignored() {
    let mut story = first_step(json!({}));
    let before = story.now;
    story.second();
    story.request("v3");
    story.run(30);
    story.now = before;
    assert_eq!(story.say("abort", json!({})).0, Disposition::Ignored);
    story.now = bellwether_core::time::Span::from_secs(60).after(before);
    assert_eq!(story.say("abort", json!({})).0, Disposition::Changed);
}

#[test]
fn a_retry_lifts_the_quarantine_of_a_bare_image() {
    let mut story = Story::new(policy(json!({})));
    let image = images("v2-err8").get("app").unwrap().clone();
    story.ask("bare", json!({ "images": Images::new(), "image": image }));
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(story.engine.state(&workload()).unwrap().quarantine.len(), 1);
    story.say("retry", json!({}));
    assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
}

/// Returns the verbs of a rollout that are offered and refused, and those that are carried out although they are not offered.
fn wrongly_offered(story: &mut Story) -> Vec<String> {
    let offers = story.rollout().offers();
    let mut wrong = Vec::new();
    let of = |verb: &Verb| match verb {
        Verb::Promote { full } => json!({ "full": full }),
        Verb::Approve { approval } => json!({ "approval": approval }),
        _ => json!({}),
    };
    let all = [Verb::Resume, Verb::Promote { full: false }, Verb::Abort, Verb::Retry];
    let others = all.into_iter().filter(|verb| !offers.iter().any(|offer| offer.verb == *verb));
    let others: Vec<Verb> = others.collect();
    for (verb, offered) in offers.iter().map(|offer| (&offer.verb, true)).chain(others.iter().map(|verb| (verb, false)))
    {
        let event = story.command(verb.name(), of(verb));
        let transitions = story.engine.clone().step(event, story.now);
        let answer = transitions[0].reason.to_string();
        // The cluster decides this, and not the rollout's state.
        let is_unavailable = answer.ends_with("its canary is not available, and traffic goes only to what is");
        if offered != (transitions[0].disposition == Disposition::Changed) && !is_unavailable {
            wrong.push(format!("{} {verb:?}, offered: {offered}: {answer}", story.rollout().phase()));
        }
    }
    wrong
}

#[test]
fn the_offered_verbs_are_those_that_are_carried_out() {
    let guard = json!({ "for": "2m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" }] });
    let approvals = json!([{ "name": "qa", "before": "traffic" }, { "name": "owner", "before": "promotion" }]);
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for (tag, changes, away) in [
        ("v2", json!({ "guard": guard, "step": two_steps() }), None),
        ("v2-err30", json!({}), None),
        ("v2-neverready", json!({ "max-hold": "10m" }), None),
        ("v2", json!({ "approval": approvals, "max-hold": "10m" }), None),
        ("v2", json!({ "max-hold": "10m", "patience": { "blind": "1m" } }), Some(100..1500)),
        ("v2", json!({ "window": { "from": "07:00", "to": "08:02" }, "max-hold": "10m" }), None),
    ] {
        let mut story = Story::new(policy(changes));
        story.request(tag);
        for second in 0..1800 {
            story.away = away.as_ref().is_some_and(|away| away.contains(&second));
            story.second();
            match second {
                60 => drop(story.say("pause", json!({}))),
                90 => drop(story.say("resume", json!({}))),
                100 => drop(story.say("freeze", json!({ "scope": "test/shop" }))),
                130 => drop(story.say("unfreeze", json!({ "scope": "test/shop" }))),
                400 => drop(story.say("approve", json!({ "approval": "qa" }))),
                _ => {}
            }
            let wrong = wrongly_offered(&mut story);
            assert!(wrong.is_empty(), "{tag} after {second} s: {wrong:#?}, {:#?}", story.whys());
            for offer in story.rollout().offers() {
                *seen.entry(offer.verb.name().to_owned()).or_default() += 1;
            }
        }
    }
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, ["abort", "approve", "pause", "promote", "resume", "retry"]);
}

#[test]
fn an_offered_promotion_names_the_conditions_that_it_skips() {
    let approval = json!([{ "name": "qa", "before": "promotion" }]);
    let mut story = first_step(json!({ "step": two_steps(), "approval": approval }));
    let skips = |story: &Story, full| {
        let offers = story.rollout().offers();
        let offer = offers.into_iter().find(|offer| offer.verb == Verb::Promote { full });
        offer.map(|offer| offer.skips.join(", "))
    };
    assert_eq!(skips(&story, false).as_deref(), Some("the rest of the step's 5m"));
    let told = skips(&story, true).unwrap();
    assert_eq!(told, "the rest of the step's 5m, step 2 at 50 %, approval qa");
    story.say("promote", json!({ "full": true }));
    assert_eq!(story.whys()[2], format!("promoted by ann; skipped: {told}"));
    assert_eq!(skips(&story, false), None, "nothing rises any more");
}

#[test]
fn a_decision_knows_the_person_or_tool_that_asked_for_it() {
    let mut story = first_step(json!({}));
    story.say("abort", json!({}));
    story.run(60);
    let by: Vec<Option<&str>> = story.rollout().history.iter().map(|entry| entry.by.as_deref()).collect();
    assert_eq!(by, [None, None, Some("ann"), None, None]);
    let of = bellwether_core::ids::sender_name;
    assert_eq!((of("/console#user=jane"), of("/ci#key=ci"), of("/cli/ann")), ("jane", "ci", "/cli/ann"));
}
