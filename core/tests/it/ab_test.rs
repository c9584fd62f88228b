//! A/B tests: winners, draws, guard rails and error rates. The rewarded requests of these tests are the errors, whose
//! share a version's tag sets.

use std::collections::BTreeMap;

use bellwether_core::ids::Weight;
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::measure::calibration::History;
use bellwether_core::policy::{AbTest, OnDraw, Policy, RawPolicy};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::reward::{Leader, Reward};
use bellwether_core::time::{Span, Timestamp};
use serde_json::{Value, json};

use bellwether_sim::counting::is_above;
use bellwether_sim::dice::Dice;
use bellwether_sim::story::{Story, images, metrics};

const HOUR: u64 = 3600;

/// Returns an A/B policy whose test is changed by `test`, and the rest by `changes`.
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
fn the_version_with_more_rewards_wins() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err8");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    let won =
        story.whys().into_iter().find(|why| why.starts_with("the canary has won: error-rate 8 % against")).unwrap();
    assert!(won.contains("needs 40 at 5 %"), "{won}");
    assert_eq!(story.running(), images("v2-err8"));
}

#[test]
fn with_less_the_version_with_more_rewards_loses_and_is_not_quarantined() {
    let mut story = Story::new(policy(json!({ "less": true, "shortest": "10m" })));
    story.request("v2-err8");
    assert_eq!(story.run(9 * 60), None, "a winner does not end the test before its shortest time");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert!(story.whys().iter().any(|why| why.starts_with("the stable has won: error-rate 8 % against")));
    assert_eq!(story.running(), images("v1"));
    story.request("v2-err8-again");
    assert!(!story.whys().iter().any(|why| why.contains("quarantined")), "{:?}", story.whys());
    let last = &story.messages.last().unwrap().now;
    assert!(last.ends_with("The new one is not quarantined and may be requested again."), "{last}");
}

#[test]
fn a_test_without_a_winner_is_a_draw_and_the_policy_decides_which_version_stays() {
    for (on_draw, ending, running) in [("stable", Ending::GivenUp, "v1"), ("canary", Ending::Promoted, "v2")] {
        let mut story = Story::new(policy(json!({ "on-draw": on_draw, "longest": "1h" })));
        story.request("v2");
        for _ in 0..30 * 60 {
            story.second();
        }
        let reason = story.rollout().reason.to_string();
        assert!(reason.starts_with("no winner yet: error-rate 0 % against the stable's 0 %"), "{reason}");
        assert_eq!(story.run(HOUR), Some(ending));
        let draw = format!("a draw after 1h, and the {on_draw} stays: error-rate");
        assert!(story.whys().iter().any(|why| why.starts_with(&draw)), "{:?}", story.whys());
        assert_eq!(story.running(), images(running));
    }
}

#[test]
fn a_regressed_guard_rail_ends_the_test_although_the_canary_leads() {
    let mut story = Story::new(policy(json!({ "shortest": "1h" })));
    story.request("v2-err8-slow");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert!(story.whys().iter().any(|why| why.starts_with("response-time above 1 s")), "{:?}", story.whys());
}

#[test]
fn an_invalid_test_is_refused_with_its_problem() {
    for (test, changes, expected) in [
        (json!({ "reward": "response-time" }), json!({}), "a reward is a ratio"),
        (json!({ "reward": "joy" }), json!({}), "no metric \"joy\""),
        (json!({ "shortest": "3h" }), json!({}), "longer than `shortest`"),
        (json!({ "who": { "header": "x-bucket", "value": "b c" } }), json!({}), "letters, digits"),
        (json!({ "who": { "value": "b" } }), json!({}), "{ header, value } or { cookie, value }"),
        (json!({ "level": "70%" }), json!({}), "below 50 %"),
        (json!({ "design-effect": 0.5 }), json!({}), "at least 1"),
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
        assert!(problems.iter().any(|problem| problem.message.contains(expected)), "{test} {changes}: {problems:#?}");
    }
    assert_eq!(policy(json!({})).steps[0].weight, Weight::percent(50));
}

/// The sentence of a winner states the design effect.
#[test]
fn the_guard_rails_of_a_test_are_planned_for_its_longest_time() {
    assert_eq!(policy(json!({ "shortest": "10m" })).planned(false), Span::from_secs(2 * HOUR));
}

#[test]
fn a_stated_design_effect_is_told() {
    let mut story = Story::new(policy(json!({ "design-effect": 3.5 })));
    story.request("v2-err8");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    let won = story.whys().into_iter().find(|why| why.starts_with("the canary has won")).unwrap();
    assert!(won.contains("design effect 3.5)"), "{won}");
}

fn test(level: f64, design_effect: Option<f64>) -> AbTest {
    let (reward, longest, on_draw) = ("r".to_owned(), Span::ZERO, OnDraw::Stable);
    AbTest { reward, less: false, level, design_effect, longest, on_draw }
}

/// Returns the winner of a test of at most 200 blocks with 100 requests of each arm. `shares` are the rewards per
/// thousand requests of the canary and the stable.
fn winner(shares: (u64, u64), seed: u64) -> Leader {
    let level = 0.05;
    let test = test(level, None);
    let mut history = History::default();
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
        history.absorb(&tallies);
    }
    let mut reward = Reward::new(&history);
    for n in 0..200 {
        let sample = Sample::Arms { canary: Some(ratio(shares.0, 100)), stable: Some(ratio(shares.1, 100)) };
        reward.absorb(&Block::new(at(n), at(n + 1), BTreeMap::from([("r".to_owned(), sample)])), &test);
        let leader = reward.score(&test).ahead;
        if leader != Leader::None {
            return leader;
        }
    }
    Leader::None
}

#[test]
fn equal_versions_get_a_winner_no_more_often_than_the_level() {
    const RUNS: usize = 1000;
    let count = |shares, leader| (0..RUNS).filter(|seed| winner(shares, *seed as u64) == leader).count();
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

/// The requests of each user in a test.
const PER_USER: u64 = 50;
/// The users of each arm.
const USERS: u64 = 400;
/// The correlation of the rewards of one user.
const ICC: f64 = 0.05;

/// Returns whether a test of two equal versions has a winner. Users are of two kinds, with shares of rewards around 10 %, and
/// make their requests at any time of the test, to any of two pods.
fn equal_versions_have_a_winner(design_effect: Option<f64>, seed: u64) -> bool {
    const BLOCKS: u64 = 200;
    let (test, at) = (test(0.05, design_effect), |n: u64| Timestamp::from_second(15 * n as i64).unwrap());
    let mut dice = Dice(seed);
    let deviation = 10_000.0 * (ICC * 0.1 * 0.9f64).sqrt();
    // The counts of two pods of the canary, and of two of the stable, in each block.
    let mut counts = vec![[(0u64, 0u64); 4]; BLOCKS as usize];
    for arm in [0, 2] {
        for _ in 0..USERS {
            let share = if dice.below(2) == 0 { 1000.0 - deviation } else { 1000.0 + deviation } as u64;
            for _ in 0..PER_USER {
                let pod = &mut counts[dice.below(BLOCKS) as usize][arm + dice.below(2) as usize];
                *pod = (pod.0 + u64::from(dice.below(10_000) < share), pod.1 + 1);
            }
        }
    }
    let mut reward = Reward::new(&History::default());
    (0..).zip(counts).any(|(n, pods)| {
        let [canary, stable] = [0, 2].map(|arm| {
            let (hits, total) = (pods[arm].0 + pods[arm + 1].0, pods[arm].1 + pods[arm + 1].1);
            Some(Reading::Ratio { hits, total })
        });
        let mut block =
            Block::new(at(n), at(n + 1), BTreeMap::from([("r".to_owned(), Sample::Arms { canary, stable })]));
        let pods = pods[2..].iter().map(|(hits, total)| Reading::Ratio { hits: *hits, total: *total });
        block.processes.insert("r".to_owned(), pods.collect());
        reward.absorb(&block, &test);
        reward.score(&test).ahead != Leader::None
    })
}

#[test]
fn equal_versions_get_a_winner_no_more_often_than_the_level_if_the_design_effect_is_stated() {
    const RUNS: usize = 1000;
    let winners = |effect| (0..RUNS).filter(|seed| equal_versions_have_a_winner(effect, *seed as u64)).count();
    let effect = 1.0 + (PER_USER - 1) as f64 * ICC;
    let (without, with) = (winners(None), winners(Some(effect)));
    println!(
        "{PER_USER} requests a user, correlation {ICC}: a winner in {without} of {RUNS} tests, with the effect {effect} in {with}"
    );
    assert!(is_above(0.05, without, RUNS), "requests of one user counted as independent: {without} of {RUNS}");
    assert!(!is_above(0.05, with, RUNS), "{with} of {RUNS}");
}
