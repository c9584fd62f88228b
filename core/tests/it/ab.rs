//! A/B tests: a winner as soon as there is one, a draw when the time is over, and guard rails beside it. What is rewarded here
//! are the errors that the story's versions say they have.

use std::collections::BTreeMap;

use bellwether_core::ids::Weight;
use bellwether_core::judge::reward::{Leader, Reward};
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::measure::calibration::History;
use bellwether_core::policy::{AbTest, OnDraw, Policy, RawPolicy};
use bellwether_core::rollout::decision::Ending;
use bellwether_core::time::{Span, Timestamp};
use serde_json::{Value, json};

use bellwether_sim::counting::is_above;
use bellwether_sim::dice::Dice;
use bellwether_sim::story::{Story, images, metrics};

const HOUR: u64 = 3600;

fn raw(test: Value, changes: Value) -> RawPolicy {
    let mut json = json!({
        "name": "test",
        "strategy": "ab",
        "match": { "namespaces": ["shop"], "workloads": ["*"], "images": ["*"] },
        "ab": { "who": { "header": "x-bucket", "value": "b" }, "reward": "error-rate", "longest": "2h" },
        "check": [{ "metric": "response-time", "max": "1s" }],
    });
    json["ab"].as_object_mut().unwrap().extend(test.as_object().unwrap().clone());
    json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn policy(test: Value) -> Policy {
    raw(test, json!({})).check(&metrics()).unwrap()
}

#[test]
fn the_version_with_more_of_what_is_wanted_wins() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err8");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    let won =
        story.whys().into_iter().find(|why| why.starts_with("the canary has won: error-rate 8 % against")).unwrap();
    assert!(won.contains("needs 40 at 5 %"), "{won}");
    assert_eq!(story.running(), images("v2-err8"));
}

#[test]
fn the_version_with_less_of_it_loses_and_may_be_tried_again() {
    let mut story = Story::new(policy(json!({ "less": true, "shortest": "10m" })));
    story.request("v2-err8");
    assert_eq!(story.run(9 * 60), None, "not before the shortest time");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert!(story.whys().iter().any(|why| why.starts_with("the stable has won: error-rate 8 % against")));
    assert_eq!(story.running(), images("v1"));
    story.request("v2-err8-again");
    assert!(!story.whys().iter().any(|why| why.contains("quarantined")), "{:?}", story.whys());
}

#[test]
fn without_a_winner_it_is_a_draw_and_the_policy_says_who_stays() {
    for (on_draw, ending, running) in [("stable", Ending::GivenUp, "v1"), ("canary", Ending::Promoted, "v2")] {
        let mut story = Story::new(policy(json!({ "on-draw": on_draw, "longest": "1h" })));
        story.request("v2");
        for _ in 0..30 * 60 {
            story.second();
        }
        let waits = story.rollout().reason.to_string();
        assert!(waits.starts_with("no winner yet: error-rate 0 % against the stable's 0 %"), "{waits}");
        assert_eq!(story.run(HOUR), Some(ending));
        let draw = format!("a draw after 1h, and the {on_draw} stays: error-rate");
        assert!(story.whys().iter().any(|why| why.starts_with(&draw)), "{:?}", story.whys());
        assert_eq!(story.running(), images(running));
    }
}

#[test]
fn a_guard_rail_ends_it_whoever_is_ahead() {
    let mut story = Story::new(policy(json!({ "shortest": "1h" })));
    story.request("v2-err8-slow");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert!(story.whys().iter().any(|why| why.starts_with("response-time above 1 s")), "{:?}", story.whys());
}

#[test]
fn a_test_that_makes_no_sense_is_refused_in_words() {
    for (test, changes, words) in [
        (json!({ "reward": "response-time" }), json!({}), "a reward is a ratio"),
        (json!({ "reward": "joy" }), json!({}), "no metric \"joy\""),
        (json!({ "shortest": "3h" }), json!({}), "longer than `shortest`"),
        (json!({ "who": { "header": "x-bucket", "value": "b c" } }), json!({}), "letters, digits"),
        (json!({ "who": { "value": "b" } }), json!({}), "{ header, value } or { cookie, value }"),
        (json!({ "level": "70%" }), json!({}), "below 50 %"),
        (json!({}), json!({ "check": [] }), "guard rail"),
        (json!({}), json!({ "traffic": "replicas" }), "a router"),
        (json!({}), json!({ "step": [{ "weight": "10%", "min-time": "5m" }] }), "has no steps"),
        (
            json!({}),
            json!({ "strategy": "canary", "step": [{ "weight": "10%", "min-time": "5m" }] }),
            "strategy = \"ab\"",
        ),
    ] {
        let problems = raw(test.clone(), changes.clone()).check(&metrics()).unwrap_err();
        assert!(problems.iter().any(|problem| problem.message.contains(words)), "{test} {changes}: {problems:#?}");
    }
    assert_eq!(policy(json!({})).steps[0].weight, Weight::percent(50));
}

/// Who is ahead after each of many looks at most, of 100 requests a block and arm.
fn ends(shares: (u64, u64), seed: u64) -> Leader {
    let level = 0.05;
    let test = AbTest { reward: "r".to_owned(), less: false, level, longest: Span::ZERO, on_draw: OnDraw::Stable };
    let mut past = History::default();
    let (mut dice, at) = (Dice(seed), |n: i64| Timestamp::from_second(15 * n).unwrap());
    let mut ratio = |per_mille: u64, n: u64| Reading::Ratio {
        hits: (0..n).filter(|_| dice.below(1000) < per_mille).count() as u64,
        total: n,
    };
    for _ in 0..40 {
        let pods: Vec<_> = (0..2).map(|_| ratio(shares.1, 100)).collect();
        let tallies: Vec<_> = pods
            .iter()
            .map(|pod| match pod {
                Reading::Ratio { hits, total } => bellwether_core::stats::tally::Tally::of(*hits, *total).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        past.absorb(&tallies);
    }
    let mut reward = Reward::new(&past);
    for n in 0..200 {
        let sample = Sample::Arms { canary: Some(ratio(shares.0, 100)), stable: Some(ratio(shares.1, 100)) };
        reward.absorb(&Block::new(at(n), at(n + 1), BTreeMap::from([("r".to_owned(), sample)])), "r");
        let ahead = reward.score(&test).ahead;
        if ahead != Leader::None {
            return ahead;
        }
    }
    Leader::None
}

#[test]
fn of_equal_versions_one_is_called_the_winner_no_more_often_than_promised() {
    const RUNS: usize = 1000;
    let count = |shares, who| (0..RUNS).filter(|seed| ends(shares, *seed as u64) == who).count();
    for share in [20, 100, 400] {
        let won = count((share, share), Leader::Canary) + count((share, share), Leader::Stable);
        println!("{share} of 1000 in both arms: a winner in {won} of {RUNS} tests");
        assert!(!is_above(0.05, won, RUNS), "{share}: {won} of {RUNS}");
    }
    for (better, worse, least) in [(125, 100, 900), (450, 400, 900)] {
        let (right, wrong) = (count((better, worse), Leader::Canary), count((better, worse), Leader::Stable));
        println!("{better} against {worse} of 1000: right in {right}, wrong in {wrong} of {RUNS} tests");
        assert!(right > least && wrong < 10, "{better} against {worse}: {right}, {wrong}");
    }
}
