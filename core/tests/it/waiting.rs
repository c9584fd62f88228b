//! Requests that wait for the running rollout or for the end of a freeze: their answers, and their ends without a beginning.

use bellwether_core::engine::{Disposition, show};
use bellwether_core::ids::{EventId, RolloutId};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use serde_json::json;

use bellwether_sim::story::{Story, images, policy, workload};

const HOUR: u64 = 3600;

/// Returns the id of the rollout that a request of the story asks for.
fn rollout_of(event: &str) -> RolloutId {
    RolloutId::of(&workload(), &EventId { source: "ci".into(), id: event.into() })
}

/// Returns a rollout of v2 in a phase, and v3 behind it.
fn behind(phase: Phase) -> Story {
    let guard = json!({ "for": "30m", "check": [{ "metric": "error-rate", "judge": "threshold", "max": "15%", "every": "30s" }] });
    let mut story = Story::new(policy(json!({ "guard": guard })));
    story.request("v2");
    for _ in 0..HOUR {
        if story.rollout().phase() == phase {
            assert_eq!(story.request("v3"), Disposition::Changed);
            return story;
        }
        story.second();
    }
    panic!("never {phase}: {:#?}", story.whys());
}

/// Returns kind and reason of each decision about the rollout of a request.
fn decided(story: &Story, event: &str) -> Vec<(String, String)> {
    let of_event = story.decisions.iter().filter(|decision| decision.rollout == rollout_of(event));
    of_event.map(|decision| (decision.kind.to_string(), decision.why.clone())).collect()
}

/// Runs for so many seconds, whatever ends meanwhile.
fn wait(story: &mut Story, seconds: u64) {
    (0..seconds).for_each(|_| story.second());
}

#[test]
fn a_request_behind_a_rollout_is_answered_and_shown_until_it_begins() {
    let mut story = behind(Phase::Guarding);
    let waits = format!("waits for the end of {}, which is guarding", rollout_of("v2"));
    assert_eq!(story.answer(), waits);
    let shown = show::queued(story.engine.state(&workload()).unwrap()).unwrap();
    assert_eq!((shown.id.as_str(), shown.phase.as_str()), (rollout_of("v3").to_string().as_str(), "queued"));
    assert_eq!((shown.reason.as_str(), shown.outcome, shown.to), (waits.as_str(), None, images("v3")));
    assert!(show::phases().any(|name| name == "queued"), "the metrics use the listed names");
    wait(&mut story, 31 * 60);
    assert_eq!(story.rollout().id, rollout_of("v3"), "{:#?}", story.whys());
    assert!(show::queued(story.engine.state(&workload()).unwrap()).is_none());
}

#[test]
fn a_replaced_request_ends_with_a_decision_of_its_own() {
    let mut story = behind(Phase::Promoting);
    story.request("v4");
    assert_eq!(decided(&story, "v3"), [("supersede".to_owned(), "event ci/v4 requests a newer version".to_owned())]);
    let last = story.decisions.iter().find(|decision| decision.rollout == rollout_of("v3")).unwrap();
    assert_eq!(last.ending, Some(Ending::Superseded));
    // The way back is a request, too.
    story.ask("back", json!({ "images": images("v1") }));
    assert_eq!(decided(&story, "v4"), [("supersede".to_owned(), "event ci/back requests a newer version".to_owned())]);
    assert_eq!(story.answer(), "event ci/back requests the version that the stable runs");
    assert_eq!(story.run(60), Some(Ending::Superseded), "{:#?}", story.whys());
}

#[test]
fn an_abort_ends_the_running_rollout_and_the_one_that_waits() {
    let mut story = behind(Phase::Guarding);
    let (disposition, answer) = story.say("abort", json!({ "reason": "wrong branch" }));
    let expected = format!(
        "aborted by ann (wrong branch); the workload goes back (v1 → v2 is undone); {}, which waited for it, does not begin",
        rollout_of("v3")
    );
    assert_eq!((disposition, answer), (Disposition::Changed, expected));
    let why = "aborted by ann (wrong branch) before it began".to_owned();
    assert_eq!(decided(&story, "v3"), [("abort".to_owned(), why)]);
    wait(&mut story, HOUR);
    assert_eq!((story.rollout().ending(), story.running()), (Some(Ending::Aborted), images("v1")));
    assert_eq!(story.rollout().id, rollout_of("v2"), "nothing began after it: {:#?}", story.whys());
    let titles: Vec<&str> = story.messages.iter().map(|message| message.title.as_str()).collect();
    assert_eq!(titles, ["test: web was not rolled out", "test: web v1 → v2 aborted"]);
}

#[test]
fn an_abort_that_names_a_rollout_ends_that_one_alone() {
    let mut story = behind(Phase::Guarding);
    assert_eq!(story.say("abort", json!({ "rollout": rollout_of("v2") })).0, Disposition::Changed);
    wait(&mut story, 120);
    assert_eq!(story.rollout().id, rollout_of("v3"), "{:#?}", story.whys());

    let mut story = behind(Phase::Guarding);
    let (disposition, answer) = story.say("abort", json!({ "rollout": rollout_of("v3") }));
    assert_eq!((disposition, answer.as_str()), (Disposition::Changed, "aborted by ann before it began"));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
    assert_eq!((story.rollout().id.clone(), story.running()), (rollout_of("v2"), images("v2")));

    let mut story = behind(Phase::Guarding);
    let before = story.engine.state(&workload()).unwrap().clone();
    assert_eq!(story.say("abort", json!({ "rollout": "web-other" })).0, Disposition::Rejected);
    assert_eq!(*story.engine.state(&workload()).unwrap(), before);
}

#[test]
fn an_abort_ends_the_waiting_rollout_while_the_old_version_returns() {
    // v3 supersedes v2, whose traffic returns.
    let mut story = behind(Phase::Stepping);
    let (disposition, answer) = story.say("abort", json!({}));
    let expected = "the old version is on its way back already";
    assert_eq!((disposition, answer.ends_with(expected)), (Disposition::Changed, true), "{answer}");
    wait(&mut story, HOUR);
    assert_eq!((story.rollout().id.clone(), story.running()), (rollout_of("v2"), images("v1")));
}

#[test]
fn an_abort_ends_a_request_that_waits_for_the_end_of_a_freeze() {
    let mut story = Story::new(policy(json!({})));
    story.say("freeze", json!({}));
    story.request("v2");
    assert!(story.answer().contains("is frozen by ann"), "{}", story.answer());
    let (disposition, answer) = story.say("abort", json!({}));
    assert_eq!((disposition, answer.as_str()), (Disposition::Changed, "aborted by ann before it began"));
    story.say("unfreeze", json!({}));
    wait(&mut story, HOUR);
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn a_request_behind_a_freeze_without_an_end_is_given_up_after_the_longest_hold() {
    let mut story = Story::new(policy(json!({ "max-hold": "30m" })));
    story.say("freeze", json!({ "reason": "peak night" }));
    wait(&mut story, HOUR);
    story.request("v2");
    wait(&mut story, 30 * 60 - 1);
    assert!(story.decisions.is_empty(), "{:#?}", story.whys());
    story.second();
    let why = "held for 30m without a decision: test/shop/Deployment/web is frozen by ann (peak night): nothing starts, \
               and no weight rises";
    assert_eq!(decided(&story, "v2"), [("give up".to_owned(), why.to_owned())]);
    assert_eq!(story.messages.len(), 1, "people are told");
    story.say("unfreeze", json!({}));
    wait(&mut story, HOUR);
    assert_eq!(story.running(), images("v1"));

    // A freeze with an end is waited for.
    let mut story = Story::new(policy(json!({ "max-hold": "30m" })));
    let until = bellwether_core::time::Span::from_secs(2 * HOUR).after(story.now);
    story.say("freeze", json!({ "until": until.to_string() }));
    story.request("v2");
    wait(&mut story, 3 * HOUR);
    assert_eq!(story.running(), images("v2"), "{:#?}", story.whys());
}
