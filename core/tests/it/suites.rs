//! Required suites: a version gets no traffic before they have passed for the combination that it brings.

use bellwether_core::engine::{Disposition, Engine};
use bellwether_core::ids::EventId;
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::input::event::Event;
use bellwether_core::input::report::{SuiteReport, SuiteResult};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::Span;
use serde_json::json;

use bellwether_sim::story::{Story, images, policy, workload};

const HOUR: u64 = 3600;

fn story() -> Story {
    Story::new(policy(json!({ "require": ["behaviour"], "max-hold": "2h" })))
}

/// Returns a report on the images of `tag`, and on `model` if there is one.
fn report_on(story: &Story, tag: &str, model: Option<&str>, result: SuiteResult) -> SuiteReport {
    SuiteReport {
        suite: "behaviour".to_owned(),
        result,
        images: images(tag).into_iter().map(|(_, image)| image).collect(),
        model: model.map(str::to_owned),
        prompt: None,
        tools: None,
        pin: None,
        summary: Some("3 of 300 attacks succeeded".to_owned()),
        link: None,
        by: "/ci".to_owned(),
        at: story.now,
    }
}

/// Sends a report on the images of `tag`, and on `model` if there is one, and returns its disposition.
fn report(story: &mut Story, id: &str, tag: &str, model: Option<&str>, result: SuiteResult) -> Disposition {
    let report = report_on(story, tag, model, result);
    send(story, id, report)
}

fn send(story: &mut Story, id: &str, report: SuiteReport) -> Disposition {
    let id = EventId { source: "/ci".to_owned(), id: id.to_owned() };
    story.tell(Event::Tested { id, workload: workload(), report })
}

fn had_traffic(story: &Story) -> bool {
    story.effects.iter().any(|effect| matches!(effect.act, Act::Cluster(ClusterAct::SetWeight { .. })))
}

#[test]
fn a_version_gets_no_traffic_before_its_suite_has_passed() {
    let mut story = story();
    story.request("v2");
    story.run_until_held("suite behaviour is required before the first traffic, and no report says that it passed");
    let message = story.messages.last().unwrap();
    assert_eq!(
        message.command.as_deref(),
        Some("bellwether emit approve --workload test/shop/Deployment/web --approval behaviour")
    );
    assert!(message.now.contains("It goes on when the suite has passed"), "{}", message.now);
    assert_eq!(story.run(HOUR), None);
    assert_eq!(
        report(&mut story, "1", "v3", None, SuiteResult::Pass),
        Disposition::Changed,
        "a report on another version"
    );
    assert_eq!(report(&mut story, "2", "v2", None, SuiteResult::Inconclusive), Disposition::Changed);
    story.run_until_held("and has not passed: behaviour: inconclusive, says /ci: 3 of 300 attacks succeeded");
    assert!(!had_traffic(&story));
    assert_eq!(report(&mut story, "3", "v2", None, SuiteResult::Pass), Disposition::Changed);
    assert_eq!(report(&mut story, "3", "v2", None, SuiteResult::Fail), Disposition::Duplicate, "the same event");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_report_may_come_before_the_request() {
    let mut story = story();
    assert_eq!(report(&mut story, "1", "v2", None, SuiteResult::Pass), Disposition::Changed);
    story.request("v2");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert!(!story.kinds().contains(&"hold".to_owned()), "{:?}", story.kinds());
}

#[test]
fn a_version_whose_suite_fails_ends_without_traffic_and_may_be_tried_again() {
    let mut story = story();
    story.request("v2");
    report(&mut story, "1", "v2", None, SuiteResult::Fail);
    assert_eq!(story.run(HOUR), Some(Ending::Refused));
    assert!(!had_traffic(&story));
    let last = story.whys().last().map(|why| (*why).to_owned());
    assert!(story.whys().contains(&"behaviour: fail, says /ci: 3 of 300 attacks succeeded"), "{last:?}");
    assert_eq!(story.running(), images("v1"));
    report(&mut story, "2", "v2", None, SuiteResult::Pass);
    assert_eq!(story.say("retry", json!({})).0, Disposition::Changed);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_suite_that_fails_during_the_rollout_takes_the_traffic_back() {
    let mut story = story();
    report(&mut story, "1", "v2", None, SuiteResult::Pass);
    story.request("v2");
    while !had_traffic(&story) {
        story.second();
    }
    report(&mut story, "2", "v2", None, SuiteResult::Fail);
    assert_ne!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(story.running(), images("v1"));
}

#[test]
fn a_report_with_another_model_does_not_count() {
    let mut story = story();
    report(&mut story, "1", "v2", Some("chat@1.2.0"), SuiteResult::Pass);
    story.ask("v2", json!({ "model": "chat@1.3.0" }));
    story.run_until_held("suite behaviour is required");
    report(&mut story, "2", "v2", Some("chat@1.3.0"), SuiteResult::Pass);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

/// A change of a report.
type Change = fn(SuiteReport) -> SuiteReport;

/// The suite has passed with the model in an earlier image, and a new image, prompt or set of tools is brought.
#[test]
fn a_report_on_a_part_of_the_combination_opens_nothing() {
    let (model, prompt, tools) = ("chat@1.3.0", "sha256:aa", "sha256:cc");
    let brought = json!({ "model": model, "prompt": prompt, "tools": tools });
    let whole = |story: &Story| SuiteReport {
        prompt: Some(prompt.to_owned()),
        tools: Some(tools.to_owned()),
        ..report_on(story, "v2", Some(model), SuiteResult::Pass)
    };
    let other = || Some("sha256:bb".to_owned());
    let rows: [(Change, &str); 6] = [
        (|report| SuiteReport { images: Vec::new(), ..report }, "it did not test"),
        (
            |report| SuiteReport { images: images("v1").into_iter().map(|(_, image)| image).collect(), ..report },
            "it did not test",
        ),
        (|report| SuiteReport { model: None, ..report }, "it names no model, and the request model chat@1.3.0"),
        (|report| SuiteReport { prompt: None, ..report }, "it names no prompt, and the request prompt sha256:aa"),
        (|report| SuiteReport { tools: None, ..report }, "it names no tools, and the request tools sha256:cc"),
        (|report| SuiteReport { tools: Some("sha256:bb".to_owned()), ..report }, "it names tools sha256:bb"),
    ];
    for (change, difference) in rows {
        let mut story = story();
        let part = change(whole(&story));
        send(&mut story, "1", part);
        story.ask("v2", brought.clone());
        story.run_until_held("suite behaviour is required before the first traffic, and no report on this combination");
        assert!(story.whys().last().is_some_and(|why| why.contains(difference)), "{difference}: {:?}", story.whys());
        assert_eq!((story.run(HOUR), had_traffic(&story)), (None, false), "{difference}");
        let mut all = whole(&story);
        all.at = story.now;
        send(&mut story, "2", all);
        assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{difference}");
    }
    // A rollout that says nothing of the prompt does not bring the one that was tested.
    let mut story = story();
    let tested = SuiteReport { prompt: other(), ..report_on(&story, "v2", None, SuiteResult::Pass) };
    send(&mut story, "1", tested);
    story.request("v2");
    story.run_until_held("it names prompt sha256:bb, and the request no prompt");
    assert!(!had_traffic(&story));
}

#[test]
fn a_report_of_another_test_than_the_pinned_one_opens_nothing() {
    let pin = "ab".repeat(32);
    let policy = policy(json!({ "require": ["behaviour"], "require-pins": { "behaviour": pin }, "max-hold": "4h" }));
    let mut story = Story::new(policy);
    let other = SuiteReport { pin: Some("cd".repeat(32)), ..report_on(&story, "v2", None, SuiteResult::Pass) };
    send(&mut story, "1", other);
    story.request("v2");
    story.run_until_held("it is of the test cdcd");
    assert_eq!((story.run(HOUR), had_traffic(&story)), (None, false));
    let pinned = SuiteReport { pin: Some(pin), ..report_on(&story, "v2", None, SuiteResult::Pass) };
    send(&mut story, "2", pinned);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_report_that_is_too_old_opens_nothing() {
    let policy = policy(json!({ "require": ["behaviour"], "require-max-age": "1h", "max-hold": "4h" }));
    let mut story = Story::new(policy);
    report(&mut story, "1", "v2", None, SuiteResult::Pass);
    let old = report_on(&story, "v2", None, SuiteResult::Pass);
    story.run(HOUR + 1);
    story.request("v2");
    story.run_until_held("is older than 1h (require-max-age); run the suite again");
    // The same run, sent once more, is as old as before.
    send(&mut story, "2", old);
    assert_eq!((story.run(HOUR), had_traffic(&story)), (None, false));
    report(&mut story, "3", "v2", None, SuiteResult::Pass);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_person_can_waive_a_suite_and_the_decision_says_so() {
    let mut story = story();
    story.request("v2");
    story.run_until_held("suite behaviour is required");
    let (disposition, answer) = story.say("resume", json!({}));
    assert_eq!(
        (disposition, answer.contains("`approve` with the suite's name")),
        (Disposition::Rejected, true),
        "{answer}"
    );
    assert_eq!(story.say("approve", json!({})).0, Disposition::Changed);
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert!(story.whys().contains(&"approval behaviour was given by ann"), "{:?}", story.whys());

    let mut story = self::story();
    story.request("v2");
    story.run_until_held("suite behaviour is required");
    story.say("promote", json!({}));
    let skipped = story.whys().iter().any(|why| why.ends_with("skipped: suite behaviour"));
    assert!(skipped, "{:?}", story.whys());
}

#[test]
fn a_replay_takes_a_report_in_without_the_policies_of_its_time() {
    let mut story = story();
    story.request("v2");
    story.run_until_held("suite behaviour is required");
    let before = story.engine.state(&workload()).unwrap().clone();
    let event = Event::Tested {
        id: EventId { source: "/ci".to_owned(), id: "1".to_owned() },
        workload: workload(),
        report: report_on(&story, "v2", None, SuiteResult::Pass),
    };
    let decided = story.engine.step(event, story.now);
    assert!(!decided[0].decisions.is_empty(), "{decided:#?}");
    let mut blank = Engine::new("test".into(), Vec::new(), Span::ZERO);
    blank.restore(before);
    assert_eq!(blank.replay(decided[0].input.clone())[0].decisions, decided[0].decisions);
}
