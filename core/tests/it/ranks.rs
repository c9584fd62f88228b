//! The `mann-whitney` judge: its verdicts and sentences, and the checks that it refuses.

use bellwether_core::judge::check::Check;
use bellwether_core::judge::evidence::Evidence;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::run::CheckRun;
use bellwether_core::measure::block::{Gap, Reading, Sample};
use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::{Policy, RawPolicy};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::Timestamp;
use bellwether_sim::judged::setting;
use serde_json::json;

use bellwether_sim::story::{Story, images, metrics, policy};

fn ranked(changes: serde_json::Value) -> Policy {
    let mut check =
        json!({ "metric": "error-rate", "judge": "mann-whitney", "max": "1%", "window": "5m", "every": "30s" });
    check.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    policy(json!({ "step": [{ "weight": "10%", "min-time": "5m" }], "check": [check] }))
}

/// Returns the evidence after blocks of 1000 requests with these numbers of errors of the canary and the stable, and
/// after one more block without counts if `gap`.
fn evidence_of(policy: &Policy, blocks: &[(u64, u64)], gap: bool) -> Evidence {
    let check: &Check = &policy.steps[0].checks[0];
    let metric: &Metric = &policy.metrics["error-rate"];
    let at = |n: usize| Timestamp::from_second(15 * n as i64).unwrap();
    let mut run = CheckRun::new(setting(check, metric));
    let ratio = |hits: u64| Some(Reading::Ratio { hits, total: 1000 });
    let mut samples: Vec<Sample> =
        blocks.iter().map(|(c, s)| Sample::Arms { canary: ratio(*c), stable: ratio(*s) }).collect();
    samples.extend(gap.then_some(Sample::Gap(Gap::NoBaseline)));
    let look = |(n, sample)| run.look((at(n), at(n + 1)), sample, &[], None).cloned();
    samples.into_iter().enumerate().map(look).last().flatten().unwrap()
}

const BAD: [(u64, u64); 11] =
    [(21, 4), (19, 5), (25, 6), (18, 3), (22, 5), (24, 4), (20, 7), (23, 5), (19, 4), (26, 6), (21, 5)];

#[test]
fn a_worse_version_is_rolled_back_and_an_equal_one_is_promoted() {
    let ending = |tag: &str| {
        let mut story = Story::new(ranked(json!({})));
        story.request(tag);
        (story.run(3600), story.running())
    };
    assert_eq!(ending("v2-err8"), (Some(Ending::RolledBack), images("v1")));
    assert_eq!(ending("v2"), (Some(Ending::Promoted), images("v2")));
}

#[test]
fn the_sentence_has_both_values_the_shift_and_the_numbers_of_values() {
    let bad = evidence_of(&ranked(json!({})), &BAD, false);
    assert_eq!(bad.verdict, Verdict::Regressed);
    assert_eq!(
        bad.to_string(),
        "error-rate 2.16 % is high beside the stable's 0.49 % at 4 looks in a row (11 values against 11 in 5m; shifted by 1.63 \
         points, with 98 % between 1.4 and 1.9)"
    );
    let good: Vec<(u64, u64)> = BAD.iter().map(|(_, stable)| (*stable, *stable)).collect();
    let good = evidence_of(&ranked(json!({})), &good, false);
    assert_eq!(good.verdict, Verdict::Pass);
    assert_eq!(
        good.to_string(),
        "error-rate 0.49 % is not high beside the stable's 0.49 % (11 values against 11 in 5m)"
    );
}

#[test]
fn lower_values_pass_a_maximum_and_fail_a_minimum() {
    let better: Vec<(u64, u64)> = BAD.iter().map(|(canary, stable)| (*stable, *canary)).collect();
    assert_eq!(evidence_of(&ranked(json!({})), &better, false).verdict, Verdict::Pass);
    let least = policy(json!({ "check": [{ "metric": "error-rate", "judge": "mann-whitney", "min": "1%" }] }));
    assert_eq!(evidence_of(&least, &better, false).verdict, Verdict::Regressed);
    assert_eq!(evidence_of(&least, &BAD, false).verdict, Verdict::Pass);
}

#[test]
fn a_regression_needs_the_required_consecutive_looks() {
    let policy = ranked(json!({ "breaches": 3 }));
    // The judge looks after the blocks 1, 3, 5, 7 and 9; the look after block 5 is the first with five values.
    let looks: Vec<Verdict> = [5, 7, 9].iter().map(|n| evidence_of(&policy, &BAD[..*n], false).verdict).collect();
    assert_eq!(looks, [Verdict::Insufficient, Verdict::Insufficient, Verdict::Regressed]);
    let second = evidence_of(&policy, &BAD[..7], false).to_string();
    assert!(second.contains("look 2 of 3"), "{second}");
    let third = evidence_of(&policy, &BAD[..9], false).to_string();
    assert!(third.contains("at 3 looks in a row"), "{third}");
}

/// Kayenta ranks any number of values: it passes a single one, and calls two against two different in a quarter of all
/// cases.
#[test]
fn too_few_values_are_insufficient_and_a_gap_is_blind() {
    let few = evidence_of(&ranked(json!({})), &BAD[..3], false);
    assert_eq!(few.verdict, Verdict::Insufficient);
    assert_eq!(
        few.to_string(),
        "error-rate can't be ranked yet: 3 values against 3 in 5m, and it takes 5 on each side"
    );
    assert_eq!(evidence_of(&ranked(json!({})), &BAD[..10], true).verdict, Verdict::Blind);
    assert_eq!(evidence_of(&ranked(json!({ "min-requests": 1_000_000 })), &BAD, false).verdict, Verdict::Insufficient);
}

#[test]
fn the_judge_is_refused_where_there_is_no_second_arm_to_rank() {
    let check =
        |metric: &str, limit: &str, value: &str| json!([{ "metric": metric, "judge": "mann-whitney", limit: value }]);
    let matches = json!({ "namespaces": ["*"], "workloads": ["*"], "images": ["*"] });
    let threshold = json!([{ "metric": "error-rate", "max": "1%" }]);
    let step = json!([{ "weight": "10%", "min-time": "5m" }]);
    for (policy, path, why) in [
        (
            json!({ "step": step, "check": check("availability", "min", "90%") }),
            "check.0.judge",
            "compares values of both arms",
        ),
        (
            json!({ "step": step, "check": threshold, "guard": { "for": "5m", "check": check("error-rate", "max", "1%") } }),
            "guard.check.0.judge",
            "the guard has no stable beside it",
        ),
        (
            json!({ "strategy": "blue-green", "blue-green": { "keep-stable": "5m" }, "check": check("error-rate", "max", "1%") }),
            "check.0.judge",
            "after the switch the stable has no traffic",
        ),
    ] {
        let mut policy = policy;
        policy["name"] = json!("test");
        policy["match"] = matches.clone();
        let raw: RawPolicy = serde_json::from_value(policy).unwrap();
        let problems = raw.check(&metrics()).unwrap_err();
        let found = problems.iter().find(|problem| problem.path.join(".") == path);
        let found = found.unwrap_or_else(|| panic!("{problems:?}"));
        assert!(found.message.contains(why) && found.message.contains("set judge"), "{}", found.message);
    }
}
