//! Plans: their medians agree with the judges, and the proposed weights suffice.

use std::collections::BTreeMap;

use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use bellwether_lab::plan::{CheckTraffic, Clusters, Detection, Fault, ProofPlan, RolloutForecast, RolloutPlan};
use serde_json::json;

use bellwether_sim::judged::{PhiLearning, alarm, sequential};
use bellwether_sim::polls::{POLL, worse_canaries};
use bellwether_sim::story::policy;

const BLOCK: Span = Span::from_secs(POLL as u64);

/// Returns the plan of a policy whose checks all have the same traffic.
fn plan(policy: &Policy, present: CheckTraffic) -> RolloutForecast {
    let checks = policy.steps.iter().flat_map(|step| &step.checks);
    let present: BTreeMap<String, CheckTraffic> = checks.map(|check| (check.name.clone(), present)).collect();
    RolloutForecast::new(policy, &present, BLOCK)
}

/// Returns traffic with unknown clusters.
fn traffic(rps: f64, share: f64) -> CheckTraffic {
    CheckTraffic::new(rps, share, None).unwrap()
}

/// Returns traffic with independent errors in five pods.
fn independent(rps: f64, share: f64) -> CheckTraffic {
    CheckTraffic::new(rps, share, Some(Clusters { phi: 1.0, pods: 5 })).unwrap()
}

/// Returns a policy with one step and one check of errors by the sequential judge.
fn one_step(weight: &str, min_time: &str) -> Policy {
    policy(json!({
        "step": [{ "weight": weight, "min-time": min_time }],
        "check": [{ "metric": "error-rate", "judge": "sequential", "max": "3%" }],
    }))
}

/// Returns the detection, at the first step, of a fault of `times` the current share.
fn detection(plan: &RolloutForecast, times: f64) -> Detection {
    let faults = &plan.checks[0].steps[0].faults;
    faults.iter().find(|(fault, _)| fault.times == Some(times)).map(|(_, detection)| *detection).unwrap()
}

fn after(detection: Detection) -> Option<Span> {
    match detection {
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

/// The plan uses growing blocks and its own traffic, while the simulated judge looks at every poll.
#[test]
fn a_planned_median_agrees_with_the_simulated_judge_within_a_fifth() {
    for (name, rps, share, times) in [
        ("5/95 rps, 0.1 → 1 %", 100.0, 0.001, 10.0),
        ("50/950 rps, 0.1 → 0.5 %", 1000.0, 0.001, 5.0),
        ("50/950 rps, 1 → 2 %", 1000.0, 0.01, 2.0),
        ("5/95 rps, 0.1 → 0.2 % (hard)", 100.0, 0.001, 2.0),
    ] {
        let scenario = worse_canaries().into_iter().find(|scenario| scenario.name == name).unwrap();
        let judge = sequential("3%");
        let mut polls: Vec<usize> = (0..201)
            .map(|run| alarm(&judge, &scenario, PhiLearning::BeforeRollout, run).map_or(usize::MAX, |poll| poll + 1))
            .collect();
        polls.sort_unstable();
        let simulated = (polls[100] != usize::MAX).then(|| polls[100] as f64 * POLL);
        // As long as the simulated rollout, so that the same reserve is held back for late faults.
        let plan = plan(&one_step("5%", "1h"), independent(rps, share));
        let planned = after(detection(&plan, times)).map(Span::as_secs_f64);
        println!("{name}: {simulated:?} s, planned {planned:?} s");
        match (simulated, planned) {
            // Medians of 101 and of 201 runs differ by chance, and both are whole polls.
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
fn more_weight_more_traffic_larger_faults_and_smaller_clusters_are_found_sooner() {
    let time = |weight: &str, traffic: CheckTraffic, times: f64| {
        let plan = plan(&one_step(weight, "15m"), traffic);
        after(detection(&plan, times)).unwrap_or(Span::from_secs(86_400)).as_secs_f64()
    };
    let at = |weight: &str| time(weight, traffic(100.0, 0.005), 5.0);
    assert!(at("2%") > at("5%") && at("5%") > at("10%") && at("10%") > at("40%"));
    assert!(time("5%", traffic(10.0, 0.005), 5.0) > at("5%"));
    assert!(time("5%", traffic(100.0, 0.005), 10.0) < at("5%"));
    let clusters = |phi: f64| CheckTraffic::new(100.0, 0.005, Some(Clusters { phi, pods: 5 })).unwrap();
    assert!(time("5%", clusters(1.0), 5.0) < time("5%", clusters(6.0), 5.0));
}

#[test]
fn the_same_question_gets_the_same_answer() {
    let ask = || plan(&one_step("10%", "5m"), traffic(30.0, 0.002));
    assert_eq!(ask(), ask());
}

#[test]
fn a_fault_that_the_policy_allows_is_not_planned_for() {
    // 0.1 % and 0.15 % differ by less than the floor of 0.1 points, and both are below the limit.
    let plan = plan(&one_step("10%", "5m"), traffic(100.0, 0.001));
    assert_eq!(detection(&plan, 1.5), Detection::Allowed);
    assert!(after(detection(&plan, 5.0)).is_some());
    let RolloutPlan::Evidence { faults, .. } = &plan.checks[0].rollout else { panic!() };
    assert!(faults.iter().all(|(fault, ..)| fault.times != Some(1.5)));
}

#[test]
fn a_proposed_weight_suffices_and_half_of_it_does_not() {
    let at_weight = |weight: &str| plan(&one_step(weight, "5m"), traffic(400.0, 0.005));
    let now = detection(&at_weight("5%"), 2.0);
    let Detection::Later { weight: Some(weight), after: Some(after) } = now else { panic!("{now:?}") };
    assert!(after > Span::from_secs(300), "{after}");
    let at = |points: u16| detection(&at_weight(&format!("{}%", f64::from(points) / 100.0)), 2.0);
    let points = weight.as_basis_points();
    assert!(matches!(at(points), Detection::Within { .. }), "{weight}: {:?}", at(points));
    assert!(matches!(at(points / 2), Detection::Later { .. }), "half of {weight}: {:?}", at(points / 2));
}

#[test]
fn a_fault_that_no_weight_finds_in_time_is_reported_as_such() {
    let plan = plan(&one_step("5%", "1m"), traffic(1.0, 0.005));
    let text = detection(&plan, 5.0).to_string();
    assert!(text.contains("no weight up to 50 % would do"), "{text}");
}

/// Each request without an error gives `-ln(1 - floor)` nats that the share is not `floor` above that of a stable without
/// errors. With unknown clusters φ is 2, so twice as many requests are needed as for independent errors.
#[test]
fn a_version_without_errors_is_proven_after_the_number_of_requests_of_the_closed_form() {
    let rps = 20.0;
    let plan = plan(&one_step("10%", "1m"), traffic(rps, 0.0));
    // ln 20 over -ln(1 - 0.001).
    let requests = 2994.2;
    let expected = 2.0 * requests / (0.1 * rps);
    let planned = proof(&plan).after.unwrap().as_secs_f64();
    assert!((1.0..1.2).contains(&(planned / expected)), "{planned} s, and {expected} s by the closed form");
}

#[test]
fn a_share_near_the_limit_takes_longer_to_prove() {
    let proof_of = |share: f64| proof(&plan(&one_step("10%", "10m"), traffic(1000.0, share)));
    let (clean, near) = (proof_of(0.001), proof_of(0.028));
    assert!(clean.within && clean.weight.is_none(), "{clean:?}");
    assert!(near.after.is_none_or(|after| after > clean.after.unwrap()), "{near:?}");
    assert!(!near.within, "{near:?}");
}

#[test]
fn a_current_share_above_the_limit_is_reported() {
    assert!(plan(&one_step("10%", "5m"), traffic(50.0, 0.04)).checks[0].broken_now);
    assert!(!plan(&one_step("10%", "5m"), traffic(50.0, 0.02)).checks[0].broken_now);
}

/// By hand: of 150 requests with 2 % bad ones, 5 or more are above 3 %. A Poisson number with a mean of 3 is 5 or more
/// with 18.5 %.
#[test]
fn one_look_of_a_window_is_wrong_as_often_as_computed_by_hand() {
    let check = json!([{ "metric": "error-rate", "judge": "threshold", "max": "3%", "window": "15s", "every": "15s" }]);
    let policy = policy(json!({ "step": [{ "weight": "10%", "min-time": "15s" }], "check": check }));
    let plan = plan(&policy, independent(100.0, 0.02));
    let RolloutPlan::Looks { healthy, faults } = &plan.checks[0].rollout else { panic!("{plan:?}") };
    assert!((healthy - 0.185).abs() < 0.06, "{healthy}");
    let bad = faults.iter().find(|(fault, _)| fault.times == Some(10.0)).unwrap();
    assert!(bad.1 > 0.99, "{bad:?}");
}

#[test]
fn rollbacks_add_up_over_steps_and_too_little_traffic_is_reported() {
    let check = json!([{ "metric": "error-rate", "judge": "threshold", "max": "3%", "window": "15s", "every": "15s" }]);
    let steps = json!([{ "weight": "10%", "min-time": "15s" }, { "weight": "20%", "min-time": "5m" }]);
    let policy = policy(json!({ "step": steps, "check": check }));
    let large = plan(&policy, independent(100.0, 0.01));
    let RolloutPlan::Looks { faults, .. } = &large.checks[0].rollout else { panic!("{large:?}") };
    for (index, (_, share)) in faults.iter().enumerate() {
        for step in &large.checks[0].steps {
            let Detection::Looks(steps) = step.faults[index].1 else { panic!() };
            assert!(*share >= steps.rolled_back - 1e-12);
        }
    }
    let small = plan(&policy, independent(1.0, 0.01));
    let Detection::Looks(steps) = small.checks[0].steps[0].faults[0].1 else { panic!() };
    assert!(steps.undecided > 0.99 && steps.to_string().contains("too few requests"), "{steps}");
}

#[test]
fn a_check_that_counts_no_requests_has_no_plan_but_a_reason() {
    let policy = policy(json!({ "check": [{ "metric": "availability", "judge": "threshold", "min": "90%" }] }));
    let plan = plan(&policy, traffic(100.0, 0.01));
    let RolloutPlan::Unknown(why) = &plan.checks[0].rollout else { panic!("{plan:?}") };
    assert_eq!(why, "availability counts no requests that are good or bad");
}

#[test]
fn traffic_out_of_range_is_refused_with_the_value() {
    let clusters = |phi, pods| Some(Clusters { phi, pods });
    for (rps, share, clusters, expected) in [
        (0.0, 0.1, None, "0 requests a second"),
        (f64::NAN, 0.1, None, "NaN requests a second"),
        (1.0, 1.1, None, "a share of 1.1"),
        (1.0, 0.1, clusters(0.5, 3), "a φ of 0.5 from 3 pods"),
        (1.0, 0.1, clusters(2.0, 1), "a φ of 2 from 1 pods"),
    ] {
        let error = CheckTraffic::new(rps, share, clusters).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_fault_names_the_share_that_it_is_a_multiple_of() {
    assert_eq!(Fault { share: 0.002, times: Some(2.0) }.to_string(), "0.2 % (2x)");
    assert_eq!(Fault { share: 0.02, times: None }.to_string(), "2 % (limit x2)");
}

#[test]
fn the_mann_whitney_judge_is_planned_like_any_judge_of_windows() {
    let present = BTreeMap::from([("error-rate".to_owned(), CheckTraffic::new(1000.0, 0.005, None).unwrap())]);
    let check = json!({ "metric": "error-rate", "judge": "mann-whitney", "max": "1%", "window": "5m", "every": "30s" });
    let ranked = policy(json!({ "step": [{ "weight": "10%", "min-time": "5m" }], "check": [check] }));
    let plan = RolloutForecast::new(&ranked, &present, Span::from_secs(15));
    let rolled_back = |index: usize| match plan.checks[0].steps[0].faults[index].1 {
        Detection::Looks(steps) => steps.rolled_back,
        other => panic!("{other:?}"),
    };
    assert!(rolled_back(3) > 0.99, "tenfold: {}", rolled_back(3));
}
