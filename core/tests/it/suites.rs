//! Required suites: a version gets no traffic before they have passed for its images or its model.

use bellwether_core::engine::Disposition;
use bellwether_core::ids::EventId;
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::input::event::Event;
use bellwether_core::input::report::{SuiteReport, SuiteResult};
use bellwether_core::rollout::ending::Ending;
use serde_json::json;

use bellwether_sim::story::{Story, images, policy, workload};

const HOUR: u64 = 3600;

fn story() -> Story {
    Story::new(policy(json!({ "require": ["behaviour"], "max-hold": "2h" })))
}

/// Sends a report on the images of `tag`, and on `model` if there is one, and returns its disposition.
fn report(story: &mut Story, id: &str, tag: &str, model: Option<&str>, result: SuiteResult) -> Disposition {
    let report = SuiteReport {
        suite: "behaviour".to_owned(),
        result,
        images: images(tag).into_values().collect(),
        model: model.map(str::to_owned),
        summary: Some("3 of 300 attacks succeeded".to_owned()),
        link: None,
        by: "/ci".to_owned(),
        at: story.now,
    };
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
