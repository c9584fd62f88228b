//! The sequential judge in whole rollouts: its verdicts, its sentences and its state.

use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::measure::block::{Block, Reading, Sample, SmallMap};
use bellwether_core::measure::window::Arm;
use bellwether_core::policy::RawPolicy;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::stats::tally::{Pair, Tally};
use bellwether_core::time::Timestamp;
use serde_json::json;

use bellwether_sim::judged::{HOUR, sample, sequential, setting};
use bellwether_sim::story::{Story, images, metrics, policy};

#[test]
fn the_sentence_has_the_counts_and_the_evidence() {
    let judged = |tag: &str| {
        let mut story = Story::new(sequential("5%"));
        story.request(tag);
        let ending = story.run(HOUR);
        let judged = |why: &&&str| why.starts_with("error-rate") && !why.contains("not shown");
        (ending, story.whys().iter().find(judged).map(|why| (*why).to_owned()).unwrap(), story.running())
    };
    let (ending, why, running) = judged("v2-err8");
    assert_eq!(ending, Some(Ending::RolledBack));
    assert_eq!(
        why,
        "error-rate 8 % > 1.25 times the stable's 0 % (24 of 300 requests in 30s against 0 of 2700; evidence 68935, needs 100 at \
         1 %, not calibrated)"
    );
    assert_eq!(running, images("v1"));
    let (ending, why, running) = judged("v2");
    assert_eq!(ending, Some(Ending::Promoted));
    assert_eq!(
        why,
        "error-rate 0 % is shown to be ≤ 5 % and within 1.25 times or 0.1 points of the stable's 0 % (0 of 6750 requests in 11m 15s; \
         stable 0 %; evidence 21, needs 20 at 5 %, not calibrated); watched for 11m 25s"
    );
    assert_eq!(running, images("v2"));
}

/// The canary's 2 % of errors are within margin and floor, but amount to many requests under much traffic.
#[test]
fn a_small_difference_is_rolled_back_when_the_harm_budget_is_spent() {
    let judged = |harm: Option<u32>| {
        let mut check = json!({ "metric": "error-rate", "max": "5%", "margin": 3.0, "floor": "3%" });
        if let Some(harm) = harm {
            check["harm"] = harm.into();
        }
        let mut story = Story::new(policy(
            json!({ "step": [{ "weight": "10%", "min-time": "10m", "proof": "no-alarm" }], "check": [check] }),
        ));
        story.request("v2-err2");
        (story.run(HOUR), story.whys().get(2).map(|why| (*why).to_owned()).unwrap_or_default())
    };
    assert_eq!(judged(None).0, Some(Ending::Promoted));
    let (ending, why) = judged(Some(30));
    assert_eq!(
        why,
        "error-rate 2 % has cost at least 35 requests that the stable's 0 % would not have, > 30 (69 of 3450 requests in 5m 45s \
         against 0 of 31050; evidence 137, needs 100 at 1 %, not calibrated)"
    );
    assert_eq!(ending, Some(Ending::RolledBack));
    let problems =
        raw(json!({ "guard": { "for": "5m", "check": [{ "metric": "error-rate", "max": "5%", "harm": 9 }] } }));
    let problems = problems.check(&metrics()).unwrap_err();
    assert_eq!(problems[0].path, ["guard", "check", "0", "harm"], "{problems:#?}");
}

/// A canary above the limit passes if its stable is, too; with `either`, a canary worse than its stable passes if it keeps
/// the limit.
#[test]
fn limit_and_comparison_must_both_be_kept_unless_the_check_says_either() {
    let judged = |either: bool, canary: u64, stable: u64| {
        let check = json!({ "metric": "error-rate", "max": "5%", "either": either });
        let policy = policy(json!({ "step": [{ "weight": "10%", "min-time": "10m" }], "check": [check] }));
        let check = &policy.steps[0].checks[0];
        let at = |n: i64| Timestamp::from_second(15 * n).unwrap();
        let mut run = CheckRun::new(setting(check, &policy.metrics["error-rate"]));
        let pair = Pair { canary: Tally::of(canary, 500).unwrap(), stable: Tally::of(stable, 500).unwrap() };
        let look = |n| run.look((at(n - 1), at(n)), sample(pair), &[], None).unwrap().clone();
        let evidence = (1..=20).map(look).last().unwrap();
        (evidence.verdict, evidence.to_string())
    };
    for (either, canary, stable, verdict) in [
        (false, 40, 40, Verdict::Pass),
        (true, 40, 40, Verdict::Pass),
        (false, 20, 5, Verdict::Regressed),
        (true, 20, 5, Verdict::Pass),
        (true, 60, 5, Verdict::Regressed),
        (false, 80, 40, Verdict::Regressed),
        (true, 80, 40, Verdict::Regressed),
    ] {
        let (found, why) = judged(either, canary, stable);
        assert_eq!(found, verdict, "{either} {canary} {stable}: {why}");
        assert!(!why.contains(" and > ") || either, "{why}");
    }
    let problems =
        raw(json!({ "guard": { "for": "5m", "check": [{ "metric": "error-rate", "max": "5%", "either": true }] } }));
    assert_eq!(problems.check(&metrics()).unwrap_err()[0].path, ["guard", "check", "0", "either"]);
}

/// Cold processes of a good version may be bad for a while; those of a version that answers nothing are not waited for.
#[test]
fn cold_processes_are_not_compared_but_more_than_half_of_their_requests_must_be_good() {
    let policy = sequential("5%");
    let check = &policy.steps[0].checks[0];
    let judged = |cold: u64, stable: u64| {
        let mut run = CheckRun::new(setting(check, &policy.metrics["error-rate"]));
        let at = |n: i64| Timestamp::from_second(15 * n).unwrap();
        let mut looks = 0;
        for n in 1..=4 {
            let [warm, cold] = [(0, 0), (cold, 100)].map(|(bad, n)| Pair {
                canary: Tally::of(bad, n).unwrap(),
                stable: Tally::of(if n == 0 { stable } else { 0 }, if n == 0 { 900 } else { 0 }).unwrap(),
            });
            let metrics = |pair| SmallMap::from_iter([("error-rate".to_owned(), sample(pair))]);
            let block = Block { cold: metrics(cold), ..Block::new(at(n - 1), at(n), metrics(warm)) };
            looks = n;
            if run.look_at(block, &[], None).unwrap().verdict == Verdict::Regressed {
                break;
            }
        }
        let evidence = run.look_at(Block::new(at(9), at(10), []), &[], None).unwrap().clone();
        (evidence.verdict, looks, evidence.to_string())
    };
    for (cold, stable) in [(0, 0), (40, 0), (50, 0), (100, 900)] {
        let (verdict, _, why) = judged(cold, stable);
        assert_eq!(verdict, Verdict::Insufficient, "{cold} of 100 beside {stable} of 900: {why}");
    }
    let (verdict, looks, why) = judged(100, 0);
    assert_eq!((verdict, looks), (Verdict::Regressed, 1), "{why}");
    assert_eq!(
        why,
        "error-rate 100 % > 50 % in cold processes (100 of 100 requests in 15s; stable 0 %; evidence over 1000000, needs 100 at 1 %, \
         not calibrated)"
    );
}

/// A rollout whose journaled evidence is of other alternatives is judged all the same, from its next block on.
#[test]
fn a_state_with_other_alternatives_starts_again() {
    let policy = sequential("5%");
    let check = &policy.steps[0].checks[0];
    let metric = &policy.metrics["error-rate"];
    let at = |n: i64| Timestamp::from_second(15 * n).unwrap();
    let pair = Pair { canary: Tally::of(40, 500).unwrap(), stable: Tally::of(5, 500).unwrap() };
    let mut run = CheckRun::new(setting(check, metric));
    run.look((at(0), at(1)), sample(pair), &[], None).unwrap();
    let mut old = serde_json::to_value(run.memory().unwrap()).unwrap();
    for mixture in [&["worse"][..], &["further", "mixture"], &["above"], &["proof"]] {
        let place = mixture.iter().fold(&mut old, |place, key| &mut place[*key]);
        assert!(place["r"].is_array(), "{place}");
        place["r"] = json!(vec![1.0; 8]);
    }
    let mut run = run.with_memory(serde_json::from_value(old).unwrap());
    let look = |n| run.look((at(n - 1), at(n)), sample(pair), &[], None).unwrap().clone();
    let evidence = (2..=20).map(look).last().unwrap();
    assert_eq!(evidence.verdict, Verdict::Regressed, "{evidence}");
}

/// Returns the sentence of the regression of a version with two pods. Each pod has 250 requests and this number of
/// errors in every block.
fn rollback_sentence(side: Arm, errors: [u64; 2]) -> String {
    let policy = policy(json!({
        "check": [{ "metric": "error-rate", "max": "2%" }],
        "guard": { "for": "5m", "check": [{ "metric": "error-rate", "judge": "sequential", "max": "2%" }] },
    }));
    let guard = policy.guard.as_ref().unwrap();
    let check = if side == Arm::Stable { &guard.checks[0] } else { &policy.steps[0].checks[0] };
    let at = |n: i64| Timestamp::from_second(15 * n).unwrap();
    let mut run = CheckRun::new(Setting { arm: side, ..setting(check, &policy.metrics["error-rate"]) });
    let [one, other] = errors.map(|errors| Reading::Ratio { hits: errors, total: 250 });
    let judged = Reading::Ratio { hits: errors.iter().sum(), total: 500 };
    let stable = Reading::Ratio { hits: 5, total: 500 };
    let sample = match side {
        Arm::Canary => Sample::Arms { canary: Some(judged), stable: Some(stable) },
        Arm::Stable => Sample::Arms { canary: None, stable: Some(judged) },
    };
    let pods = SmallMap::from_iter([("web-canary-a".to_owned(), one), ("web-canary-b".to_owned(), other)]);
    let mut evidence =
        (1..=40).map(|n| run.look((at(n - 1), at(n)), sample.clone(), &[], Some(&pods)).unwrap().clone());
    let evidence = evidence.find(|evidence| evidence.verdict == Verdict::Regressed).unwrap();
    evidence.to_string()
}

#[test]
fn a_bad_pod_is_told_from_a_bad_version() {
    let blamed = "it or its node may be at fault, not the version";
    let why = rollback_sentence(Arm::Canary, [24, 1]);
    assert!(why.ends_with(&format!("; pod web-canary-a has 120 of 1250, the others 5 of 1250: {blamed}")), "{why}");
    let why = rollback_sentence(Arm::Stable, [3, 40]);
    assert!(why.contains("; pod web-canary-b has "), "a pod of the promoted version is named, too: {why}");
    for (errors, case) in [([13, 12], "both pods are bad"), ([40, 14], "one pod is worse, and the other is bad")] {
        for side in [Arm::Canary, Arm::Stable] {
            let why = rollback_sentence(side, errors);
            assert!(!why.contains(blamed), "{case}: {why}");
        }
    }
}

/// The past had single errors alone, so φ is 1. The canary's burst of 80 errors in one pod is 70 times what its requests lead one to
/// expect.
#[test]
fn a_burst_of_errors_in_one_pod_decides_nothing_until_there_is_a_second_one() {
    let policy = policy(json!({ "check": [{ "metric": "error-rate", "max": "5%" }] }));
    let at = |n: i64| Timestamp::from_second(15 * n).unwrap();
    let ratio = |hits, total| Reading::Ratio { hits, total };
    let first_alarm = |bursts: &[i64], names_pods: bool| {
        let mut run = CheckRun::new(setting(&policy.steps[0].checks[0], &policy.metrics["error-rate"]));
        (1..=60i64).find(|n| {
            let (stable, quiet) = (vec![ratio(1, 500); 8], ratio(n.unsigned_abs() % 2, 500));
            let loud = if bursts.contains(n) { ratio(80, 500) } else { quiet.clone() };
            let Reading::Ratio { hits, .. } = loud else { return false };
            let sample =
                Sample::Arms { canary: Some(ratio(hits + n.unsigned_abs() % 2, 1000)), stable: Some(ratio(8, 4000)) };
            let pods = SmallMap::from_iter([("web-canary-a".to_owned(), loud), ("web-canary-b".to_owned(), quiet)]);
            let pods = names_pods.then_some(&pods);
            let opinion = run.look((at(n - 1), at(*n)), sample, &stable, pods).unwrap();
            opinion.verdict == Verdict::Regressed
        })
    };
    assert_eq!(first_alarm(&[30], true), None, "one burst");
    assert_eq!(first_alarm(&[30, 40], true), Some(40), "a second burst is no chance");
    assert_eq!(first_alarm(&[30], false), Some(30), "without counts of single pods a burst can't be told from others");
}

/// A check of one hour, with twenty pods whose names have the maximum length.
#[test]
fn the_state_of_three_checks_fits_in_five_kilobytes() {
    let policy = policy(json!({ "check": [{ "metric": "error-rate", "max": "2%", "harm": 100 }] }));
    let check = &policy.steps[0].checks[0];
    let at = |n: i64| Timestamp::from_second(1_700_000_000 + 15 * n).unwrap();
    let setting = Setting { proof: Proof::NonInferior, ..setting(check, &policy.metrics["error-rate"]) };
    let mut run = CheckRun::new(setting);
    for n in 0..240i64 {
        let bad = u64::try_from(n % 3).unwrap();
        let pod = |pod: u64| (format!("web-{:059}", pod), Reading::Ratio { hits: (bad + pod) % 3, total: 100 });
        let pods: SmallMap<Reading> = (0..20).map(pod).collect();
        let processes = vec![Reading::Ratio { hits: bad, total: 997 }; 5];
        let arm = |hits, total| Some(Reading::Ratio { hits, total });
        let sample = Sample::Arms { canary: arm(20, 2000), stable: arm(5 * bad, 4985) };
        run.look((at(n), at(n + 1)), sample, &processes, Some(&pods)).unwrap();
    }
    let size = serde_json::to_string(run.memory().unwrap()).unwrap().len();
    println!("the state of a check: {size} bytes of JSON");
    assert!(3 * size <= 5 * 1024, "{size} bytes of each of three checks");
}

#[test]
fn checks_without_a_sequential_test_are_refused_with_the_remedy() {
    for (check, expected) in [
        (json!({ "metric": "availability", "min": "95%" }), "counts requests"),
        (json!({ "metric": "response-time", "min": "1s" }), "write `max`"),
        (json!({ "metric": "error-rate", "max": "0%" }), "must be above 0"),
        (json!({ "metric": "error-rate", "max": "1%", "margin": 0.5 }), "at least 1"),
        (json!({ "metric": "error-rate", "max": "1%", "floor": 0.1 }), "a percentage"),
    ] {
        let mut check = check;
        check["judge"] = "sequential".into();
        let problems = raw(json!({ "check": [check] })).check(&metrics()).unwrap_err();
        assert!(problems.iter().any(|problem| problem.message.contains(expected)), "{check}: {problems:#?}");
    }
    let equal = json!({ "metric": "error-rate", "max": "1%", "margin": 1.0, "floor": "0%" });
    let problems = raw(json!({ "check": [equal] })).check(&metrics()).unwrap_err();
    assert_eq!(problems[0].path, ["step", "0", "proof"], "{problems:#?}");
    for (key, rate) in [("alpha", "0%"), ("alpha", "100%"), ("beta", "60%"), ("beta", "much")] {
        let problems = raw(json!({ key: rate })).check(&metrics()).unwrap_err();
        assert_eq!(problems[0].path, [key], "{problems:#?}");
    }
}

#[test]
fn alpha_is_shared_by_all_checks_that_may_roll_back() {
    let check = json!({ "metric": "error-rate", "judge": "sequential", "max": "5%" });
    let slow = json!({ "metric": "response-time", "judge": "sequential", "max": "1s" });
    let policy = policy(json!({ "alpha": "2%", "check": [check, slow], "guard": { "for": "5m", "check": [check] } }));
    let guard = policy.guard.iter().flat_map(|guard| &guard.checks);
    let levels: Vec<f64> =
        policy.steps[0].checks.iter().chain(guard).map(|check| check.judge.sequential().unwrap().level()).collect();
    assert_eq!(levels, [0.02 / 3.0; 3], "two checks of the steps and one of the guard");
}

fn raw(changes: serde_json::Value) -> RawPolicy {
    let mut json = json!({
        "name": "test",
        "match": { "namespaces": ["shop"], "workloads": ["*"], "images": ["*"] },
        "step": [{ "weight": "10%", "min-time": "5m" }],
        "check": [{ "metric": "error-rate", "max": "5%" }],
    });
    json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_block_without_a_bucket_at_the_limit_counts_for_neither_arm() {
    let policy = policy(json!({ "check": [{ "metric": "response-time", "max": "297.3ms" }] }));
    let (check, metric) = (&policy.steps[0].checks[0], &policy.metrics["response-time"]);
    let edge = |schema, index| bellwether_core::stats::histogram::native_edge(schema, index);
    let fine = || Some(Reading::Histogram { edges: vec![0.25, edge(2, -7), 0.5], counts: vec![50, 40, 9, 1] });
    let coarse = || Some(Reading::Histogram { edges: vec![0.25, 0.5], counts: vec![50, 49, 1] });
    let at = |n: i64| Timestamp::from_second(n * 15).unwrap();
    let mut run = CheckRun::new(setting(check, metric));
    for (n, (canary, stable, counted, wanted)) in [
        (fine(), fine(), 100, None),
        (coarse(), fine(), 100, Some("no bucket of response-time ends at 297.3 ms")),
        (fine(), coarse(), 100, Some("no bucket of response-time ends at 297.3 ms")),
        (None, fine(), 100, None),
        (fine(), None, 200, None),
    ]
    .into_iter()
    .enumerate()
    {
        let sample = Sample::Arms { canary, stable };
        let evidence = run.look((at(n as i64), at(n as i64 + 1)), sample, &[], None).unwrap();
        assert_eq!(evidence.gap.as_ref().map(ToString::to_string).as_deref(), wanted, "{n}");
        let subject = evidence.subject.clone().unwrap();
        assert_eq!((subject.n, subject.hits), (counted, Some(counted / 10)), "{n}");
    }
}
