//! The `mann-whitney` judge: a rollout by it, what it says, and where it keeps still.

use bellwether_core::judge::check::Check;
use bellwether_core::judge::evidence::Evidence;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::run::CheckRun;
use bellwether_core::measure::block::{Gap, Reading, Sample};
use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::{Policy, RawPolicy};
use bellwether_core::rollout::decision::Ending;
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

/// What is said after blocks with these errors of 1000 requests each, canary and stable.
fn said(policy: &Policy, blocks: &[(u64, u64)], gap: bool) -> Evidence {
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
fn it_says_both_values_the_shift_and_how_many_values_there_are() {
    let bad = said(&ranked(json!({})), &BAD, false);
    assert_eq!(bad.verdict, Verdict::Regressed);
    assert_eq!(
        bad.to_string(),
        "error-rate 2.16 % is high beside the stable's 0.49 % at 4 looks in a row (11 values against 11 in 5m; shifted by 1.63 \
         points, with 98 % between 1.4 and 1.9)"
    );
    let good: Vec<(u64, u64)> = BAD.iter().map(|(_, stable)| (*stable, *stable)).collect();
    let good = said(&ranked(json!({})), &good, false);
    assert_eq!(good.verdict, Verdict::Pass);
    assert_eq!(
        good.to_string(),
        "error-rate 0.49 % is not high beside the stable's 0.49 % (11 values against 11 in 5m)"
    );
}

#[test]
fn a_version_that_is_better_passes_and_where_less_is_bad_it_does_not() {
    let better: Vec<(u64, u64)> = BAD.iter().map(|(canary, stable)| (*stable, *canary)).collect();
    assert_eq!(said(&ranked(json!({})), &better, false).verdict, Verdict::Pass);
    let least = policy(json!({ "check": [{ "metric": "error-rate", "judge": "mann-whitney", "min": "1%" }] }));
    assert_eq!(said(&least, &better, false).verdict, Verdict::Regressed);
    assert_eq!(said(&least, &BAD, false).verdict, Verdict::Pass);
}

#[test]
fn it_must_be_bad_so_many_looks_in_a_row() {
    let policy = ranked(json!({ "breaches": 3 }));
    // It looks after the blocks 1, 3, 5 (the first with five values), 7 and 9.
    let looks: Vec<Verdict> = [5, 7, 9].iter().map(|n| said(&policy, &BAD[..*n], false).verdict).collect();
    assert_eq!(looks, [Verdict::Insufficient, Verdict::Insufficient, Verdict::Regressed]);
    let second = said(&policy, &BAD[..7], false).to_string();
    assert!(second.contains("look 2 of 3"), "{second}");
    let third = said(&policy, &BAD[..9], false).to_string();
    assert!(third.contains("at 3 looks in a row"), "{third}");
}

/// Kayenta would let one value pass and call a quarter of the pairs of pairs different.
#[test]
fn of_few_values_and_of_none_nothing_is_said() {
    let few = said(&ranked(json!({})), &BAD[..3], false);
    assert_eq!(few.verdict, Verdict::Insufficient);
    assert_eq!(
        few.to_string(),
        "error-rate can't be ranked yet: 3 values against 3 in 5m, and it takes 5 on each side"
    );
    assert_eq!(said(&ranked(json!({})), &BAD[..10], true).verdict, Verdict::Blind);
    assert_eq!(said(&ranked(json!({ "min-requests": 1_000_000 })), &BAD, false).verdict, Verdict::Insufficient);
}

#[test]
fn where_there_is_nothing_to_rank_against_it_is_refused_with_the_way_out() {
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
