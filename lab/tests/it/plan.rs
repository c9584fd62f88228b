//! The plan holds what it says: its medians are the judges' own, and what it proposes would do.

use std::collections::BTreeMap;

use bellwether_core::policy::Policy;
use bellwether_core::stats::slo::Ceiling;
use bellwether_core::time::Span;
use bellwether_lab::plan::{Clusters, Detection, Fault, Present, ProofPlan, RolloutForecast, RolloutPlan};
use serde_json::json;

use bellwether_sim::judged::{PhiLearning, alarm, sequential};
use bellwether_sim::polls::{POLL, worse_canaries};
use bellwether_sim::story::policy;

const BLOCK: Span = Span::from_secs(POLL as u64);

fn of(policy: &Policy, present: Present) -> RolloutForecast {
    let checks = policy.steps.iter().flat_map(|step| &step.checks);
    let present: BTreeMap<String, Present> = checks.map(|check| (check.name.clone(), present)).collect();
    RolloutForecast::new(policy, &present, BLOCK)
}

fn present(rps: f64, share: f64) -> Present {
    Present::new(rps, share, None).unwrap()
}

/// Pods whose errors come alone.
fn alone(rps: f64, share: f64) -> Present {
    Present::new(rps, share, Some(Clusters { phi: 1.0, pods: 5 })).unwrap()
}

/// One check of errors, by the sequential judge, at one step.
fn one_step(weight: &str, min_time: &str) -> Policy {
    policy(json!({
        "step": [{ "weight": weight, "min-time": min_time }],
        "check": [{ "metric": "error-rate", "judge": "sequential", "max": "3%" }],
    }))
}

/// What is found at the first step of a fault of so many times the present share.
fn found(plan: &RolloutForecast, times: f64) -> Detection {
    let faults = &plan.checks[0].steps[0].faults;
    faults.iter().find(|(fault, _)| fault.times == Some(times)).map(|(_, found)| *found).unwrap()
}

fn after(found: Detection) -> Option<Span> {
    match found {
        Detection::Within { after } => Some(after),
        Detection::Later { after, .. } => after,
        Detection::Allowed | Detection::Looks(_) => None,
    }
}

fn proof(plan: &RolloutForecast) -> ProofPlan {
    match &plan.checks[0].rollout {
        RolloutPlan::Evidence { proof, .. } => proof.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The blocks of the plan grow with time and its traffic is its own; the judge of the figures looks at every poll.
#[test]
fn a_median_is_that_of_the_judge_itself_to_a_fifth() {
    for (name, rps, share, times) in [
        ("5/95 rps, 0.1 → 1 %", 100.0, 0.001, 10.0),
        ("50/950 rps, 0.1 → 0.5 %", 1000.0, 0.001, 5.0),
        ("50/950 rps, 1 → 2 %", 1000.0, 0.01, 2.0),
        ("5/95 rps, 0.1 → 0.2 % (hard)", 100.0, 0.001, 2.0),
    ] {
        let row = worse_canaries().into_iter().find(|row| row.name == name).unwrap();
        let judge = sequential("3%");
        let mut polls: Vec<usize> = (0..201)
            .map(|run| alarm(&judge, &row, PhiLearning::BeforeRollout, run).map_or(usize::MAX, |poll| poll + 1))
            .collect();
        polls.sort_unstable();
        let simulated = (polls[100] != usize::MAX).then(|| polls[100] as f64 * POLL);
        // As long as the simulation's, so that as much is held back for late faults.
        let plan = of(&one_step("5%", "1h"), alone(rps, share));
        let planned = after(found(&plan, times)).map(Span::as_secs_f64);
        println!("{name}: {simulated:?} s, planned {planned:?} s");
        match (simulated, planned) {
            // A median of 101 runs and of 201 are apart by chance, and both are whole polls.
            (Some(simulated), Some(planned)) => {
                let ratio = planned / simulated;
                assert!((0.8..=1.25).contains(&ratio) || (planned - simulated).abs() <= POLL, "{name}: {ratio}");
            }
            (None, planned) => assert!(planned.is_none_or(|planned| planned > 2700.0), "{name}: {planned:?}"),
            (Some(_), None) => panic!("{name}: {simulated:?}"),
        }
    }
}

#[test]
fn more_weight_more_traffic_larger_faults_and_smaller_clusters_are_sooner() {
    let time = |weight: &str, present: Present, times: f64| {
        after(found(&of(&one_step(weight, "15m"), present), times)).unwrap_or(Span::from_secs(86_400)).as_secs_f64()
    };
    let at = |weight: &str| time(weight, present(100.0, 0.005), 5.0);
    assert!(at("2%") > at("5%") && at("5%") > at("10%") && at("10%") > at("40%"));
    assert!(time("5%", present(10.0, 0.005), 5.0) > at("5%"));
    assert!(time("5%", present(100.0, 0.005), 10.0) < at("5%"));
    let clusters = |phi: f64| Present::new(100.0, 0.005, Some(Clusters { phi, pods: 5 })).unwrap();
    assert!(time("5%", clusters(1.0), 5.0) < time("5%", clusters(6.0), 5.0));
}

#[test]
fn the_same_question_gets_the_same_answer() {
    let ask = || of(&one_step("10%", "5m"), present(30.0, 0.002));
    assert_eq!(ask(), ask());
}

#[test]
fn what_the_policy_allows_is_not_looked_for() {
    // 0.1 % and 1.5 times of it are less than 0.1 points apart, and both are below the limit.
    let plan = of(&one_step("10%", "5m"), present(100.0, 0.001));
    assert_eq!(found(&plan, 1.5), Detection::Allowed);
    assert!(after(found(&plan, 5.0)).is_some());
    let RolloutPlan::Evidence { faults, .. } = &plan.checks[0].rollout else { panic!() };
    assert!(faults.iter().all(|(fault, ..)| fault.times != Some(1.5)));
}

#[test]
fn a_weight_that_is_proposed_does_and_half_of_it_does_not() {
    let plan = |weight: &str| of(&one_step(weight, "5m"), present(400.0, 0.005));
    let now = found(&plan("5%"), 2.0);
    let Detection::Later { weight: Some(weight), after: Some(after) } = now else { panic!("{now:?}") };
    assert!(after > Span::from_secs(300), "{after}");
    let at = |points: u16| found(&plan(&format!("{}%", f64::from(points) / 100.0)), 2.0);
    let points = weight.as_basis_points();
    assert!(matches!(at(points), Detection::Within { .. }), "{weight}: {:?}", at(points));
    assert!(matches!(at(points / 2), Detection::Later { .. }), "half of {weight}: {:?}", at(points / 2));
}

#[test]
fn where_no_weight_would_do_it_is_said_with_the_time() {
    let plan = of(&one_step("5%", "1m"), present(1.0, 0.005));
    let said = found(&plan, 5.0).to_string();
    assert!(said.contains("no weight up to 50 % would do"), "{said}");
}

/// With no bad request φ has nothing to divide but the good ones: twice as many are needed as of independent ones.
#[test]
fn a_version_without_errors_is_proven_after_as_many_requests_as_the_limit_asks_for() {
    let rps = 20.0;
    let plan = of(&one_step("10%", "1m"), present(rps, 0.0));
    let requests = Ceiling::new(0.03).unwrap().requests_to_show(0.0, 0.05).unwrap().unwrap();
    let expected = 2.0 * requests as f64 / (0.1 * rps);
    let planned = proof(&plan).after.unwrap().as_secs_f64();
    assert!((planned / expected - 1.0).abs() < 0.15, "{planned} s, and {expected} s by the closed form");
}

#[test]
fn a_share_near_the_limit_takes_longer_to_prove_and_may_take_a_weight() {
    let time = |share: f64| proof(&of(&one_step("10%", "10m"), present(50.0, share)));
    let (clean, near) = (time(0.001), time(0.02));
    assert!(clean.within && clean.weight.is_none(), "{clean:?}");
    assert!(near.after.is_none_or(|after| after > clean.after.unwrap()), "{near:?}");
    assert!(!near.within, "{near:?}");
}

#[test]
fn a_present_share_above_the_limit_is_said() {
    assert!(of(&one_step("10%", "5m"), present(50.0, 0.04)).checks[0].broken_now);
    assert!(!of(&one_step("10%", "5m"), present(50.0, 0.02)).checks[0].broken_now);
}

/// By hand: 150 requests, each bad with 2 %, are above 3 % if 5 or more are; of a Poisson number with a mean of 3 that are
/// 18.5 %.
#[test]
fn one_look_of_a_window_is_wrong_as_often_as_a_binomial_says() {
    let check = json!([{ "metric": "error-rate", "judge": "threshold", "max": "3%", "window": "15s", "every": "15s" }]);
    let policy = policy(json!({ "step": [{ "weight": "10%", "min-time": "15s" }], "check": check }));
    let plan = of(&policy, alone(100.0, 0.02));
    let RolloutPlan::Looks { healthy, faults } = &plan.checks[0].rollout else { panic!("{plan:?}") };
    assert!((healthy - 0.185).abs() < 0.06, "{healthy}");
    let bad = faults.iter().find(|(fault, _)| fault.times == Some(10.0)).unwrap();
    assert!(bad.1 > 0.99, "{bad:?}");
}

#[test]
fn steps_add_up_by_looks_and_too_little_traffic_is_said() {
    let check = json!([{ "metric": "error-rate", "judge": "threshold", "max": "3%", "window": "15s", "every": "15s" }]);
    let steps = json!([{ "weight": "10%", "min-time": "15s" }, { "weight": "20%", "min-time": "5m" }]);
    let policy = policy(json!({ "step": steps, "check": check }));
    let plan = of(&policy, alone(100.0, 0.01));
    let RolloutPlan::Looks { faults, .. } = &plan.checks[0].rollout else { panic!("{plan:?}") };
    for (index, (_, part)) in faults.iter().enumerate() {
        for step in &plan.checks[0].steps {
            let Detection::Looks(looks) = step.faults[index].1 else { panic!() };
            assert!(*part >= looks.rolled_back - 1e-12);
        }
    }
    let small = of(&policy, alone(1.0, 0.01));
    let Detection::Looks(looks) = small.checks[0].steps[0].faults[0].1 else { panic!() };
    assert!(looks.unsaid > 0.99 && looks.to_string().contains("too few requests"), "{looks}");
}

#[test]
fn what_counts_no_requests_is_left_alone_with_the_reason() {
    let policy = policy(json!({ "check": [{ "metric": "availability", "judge": "threshold", "min": "90%" }] }));
    let plan = of(&policy, present(100.0, 0.01));
    let RolloutPlan::Unsaid(why) = &plan.checks[0].rollout else { panic!("{plan:?}") };
    assert_eq!(why, "availability counts no requests that are good or bad");
}

#[test]
fn what_is_no_traffic_is_refused_by_name() {
    let clusters = |phi, pods| Some(Clusters { phi, pods });
    for (rps, share, clusters, expected) in [
        (0.0, 0.1, None, "0 requests a second"),
        (f64::NAN, 0.1, None, "NaN requests a second"),
        (1.0, 1.1, None, "a share of 1.1"),
        (1.0, 0.1, clusters(0.5, 3), "a φ of 0.5 from 3 pods"),
        (1.0, 0.1, clusters(2.0, 1), "a φ of 2 from 1 pods"),
    ] {
        let error = Present::new(rps, share, clusters).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_fault_says_what_it_is_a_multiple_of() {
    assert_eq!(Fault { share: 0.002, times: Some(2.0) }.to_string(), "0.2 % (2x)");
    assert_eq!(Fault { share: 0.02, times: None }.to_string(), "2 % (limit x2)");
}

#[test]
fn a_plan_runs_it_ahead_like_any_judge_of_windows() {
    let present = BTreeMap::from([("error-rate".to_owned(), Present::new(1000.0, 0.005, None).unwrap())]);
    let check = json!({ "metric": "error-rate", "judge": "mann-whitney", "max": "1%", "window": "5m", "every": "30s" });
    let ranked = policy(json!({ "step": [{ "weight": "10%", "min-time": "5m" }], "check": [check] }));
    let plan = RolloutForecast::new(&ranked, &present, Span::from_secs(15));
    let found = |index: usize| match plan.checks[0].steps[0].faults[index].1 {
        Detection::Looks(looks) => looks.rolled_back,
        other => panic!("{other:?}"),
    };
    assert!(found(3) > 0.99, "tenfold: {}", found(3));
}
