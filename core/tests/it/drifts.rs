//! Drift checks: their false alarms and their power, their sentences, and warnings.

use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::run::CheckRun;
use bellwether_core::measure::block::{Reading, Sample};
use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::{Policy, RawPolicy};
use bellwether_core::rollout::decision::DecisionKind;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::Timestamp;
use bellwether_sim::judged::setting;
use serde_json::{Value, json};

use bellwether_sim::counting::is_above;
use bellwether_sim::dice::Dice;
use bellwether_sim::story::{Story, metrics};

const HOUR: u64 = 3600;
const BUCKETS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
/// The shares of ten buckets, a usual distribution of the lengths of answers.
const USUAL: [f64; 10] = [0.05, 0.15, 0.2, 0.2, 0.15, 0.1, 0.07, 0.04, 0.03, 0.01];
/// The shares of the same buckets for longer answers.
const LONGER: [f64; 10] = [0.02, 0.06, 0.1, 0.15, 0.2, 0.17, 0.13, 0.09, 0.05, 0.03];

fn drift(distance: &str, against: &str) -> Metric {
    serde_json::from_value(json!({
        "kind": "drift", "series": "answer_tokens", "unit": "number", "distance": distance, "against": against,
    }))
    .unwrap()
}

/// Returns a policy with a check of `metric`, changed by `changes`.
///
/// # Errors
/// The messages of all problems, joined.
fn drift_policy(metric: Metric, changes: Value) -> Result<Policy, String> {
    let mut all = metrics();
    all.insert("length".to_owned(), metric);
    let mut json = json!({
        "name": "test",
        "match": { "namespaces": ["shop"], "workloads": ["*"], "images": ["*"] },
        "step": [{ "weight": "10%", "min-time": "5m" }],
        "check": [{ "metric": "length", "max": 0.1, "min-requests": 200 }],
    });
    json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let raw: RawPolicy = serde_json::from_value(json).unwrap();
    raw.check(&all).map_err(|problems| problems.iter().map(|problem| problem.message.clone()).collect())
}

/// Returns a histogram of `n` answers whose buckets have these shares.
fn counts(dice: &mut Dice, shares: &[f64], n: u64) -> Reading {
    let mut counts = vec![0; shares.len()];
    for _ in 0..n {
        let mut position = dice.below(1 << 53) as f64 / (1u64 << 53) as f64;
        let bucket = shares.iter().position(|share| {
            position -= share;
            position < 0.0
        });
        counts[bucket.unwrap_or(shares.len() - 1)] += 1;
    }
    Reading::Histogram { edges: BUCKETS.to_vec(), counts }
}

/// Returns the verdict on `n` answers of a canary, whose buckets have these shares, against `m` answers of the stable,
/// with its sentence.
fn judged(distance: &str, shares: &[f64], n: u64, m: u64, seed: u64) -> (Verdict, String) {
    let policy = drift_policy(drift(distance, "stable"), json!({})).unwrap();
    let check = &policy.steps[0].checks[0];
    let mut dice = Dice(seed);
    let sample =
        Sample::Arms { canary: Some(counts(&mut dice, shares, n)), stable: Some(counts(&mut dice, &USUAL, m)) };
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut run = CheckRun::new(setting(check, &policy.metrics["length"]));
    let evidence = run.look((at(0), at(60)), sample, &[], None).unwrap();
    (evidence.verdict, evidence.to_string())
}

#[test]
fn chance_is_a_drift_in_at_most_one_of_a_thousand_looks_and_a_real_drift_is_found() {
    const RUNS: usize = 1000;
    println!("\nof {RUNS} looks: no drift, and answers half as long again\n\n| distance | n | m | alike | longer |");
    for distance in ["psi", "jensen-shannon", "kolmogorov-smirnov"] {
        for (n, m) in [(250, 2000), (1000, 10_000)] {
            let count_drifts = |shares: &[f64]| {
                let drifted = |seed: &usize| judged(distance, shares, n, m, *seed as u64).0 == Verdict::Regressed;
                (0..RUNS).filter(drifted).count()
            };
            let (alike, longer) = (count_drifts(&USUAL), count_drifts(&LONGER));
            println!("| {distance} | {n} | {m} | {alike} | {longer} |");
            assert!(!is_above(0.001, alike, RUNS), "{distance} {n}: {alike} of {RUNS}");
            assert!(longer * 10 > RUNS * 9, "{distance} {n}: {longer} of {RUNS}");
        }
    }
}

#[test]
fn the_sentence_has_the_distance_the_limit_and_the_part_of_chance() {
    let (verdict, sentence) = judged("psi", &LONGER, 1000, 10_000, 1);
    assert_eq!(verdict, Verdict::Regressed);
    assert!(sentence.starts_with("length has drifted from the stable's: PSI 0.3"), "{sentence}");
    assert!(
        sentence.ends_with("limit 0.1 (1000 requests in 5m against 10000; 0.0099 taken off for chance)"),
        "{sentence}"
    );
    let (verdict, sentence) = judged("psi", &LONGER, 100, 10_000, 1);
    assert_eq!(verdict, Verdict::Insufficient, "{sentence}");
    let (verdict, sentence) = judged("psi", &USUAL, 1000, 10_000, 1);
    assert_eq!(verdict, Verdict::Pass, "{sentence}");
}

#[test]
fn a_drift_that_cannot_be_compared_is_refused() {
    for (metric, changes, expected) in [
        (drift("psi", "stable"), json!({ "check": [{ "metric": "length", "min": 0.1 }] }), "write `max`"),
        (
            drift("psi", "stable"),
            json!({ "guard": { "for": "5m", "check": [{ "metric": "length", "max": 0.1 }] } }),
            "against = \"past\"",
        ),
        (
            drift("psi", "stable"),
            json!({ "check": [{ "metric": "length", "max": 0.1, "judge": "sequential" }] }),
            "counts requests",
        ),
    ] {
        let problems = drift_policy(metric, changes).unwrap_err();
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn a_check_that_only_warns_sends_one_warning_and_does_not_stop_the_rollout() {
    let check = |on_regressed: &str| {
        json!([
            { "metric": "error-rate", "max": "5%" },
            { "metric": "response-time", "max": "1s", "on-regressed": on_regressed, "name": "slow" },
        ])
    };
    let mut story = Story::new(bellwether_sim::story::policy(json!({ "check": check("warn") })));
    story.request("v2-slow");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    let warned: Vec<&str> = story.whys().into_iter().filter(|why| why.ends_with("; this check only warns")).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].starts_with("slow above 1 s "), "{warned:?}");
    assert_eq!(story.kinds().iter().filter(|kind| **kind == DecisionKind::Warn.name()).count(), 1);
    assert!(story.messages.iter().any(|message| message.title.ends_with("warned")));
    // A check that only warns takes no part of alpha.
    let deciding = story.rollout().policy.steps[0].checks[0].judge.sequential().unwrap();
    assert_eq!(deciding.level(), deciding.alpha);

    let mut story = Story::new(bellwether_sim::story::policy(json!({ "check": check("roll-back") })));
    story.request("v2-slow");
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
}
