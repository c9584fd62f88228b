//! The error rates of the sequential judge as the daemon runs it, with its calibration and both claims.
//!
//! `BELLWETHER_RUNS=80000 cargo test --release -p bellwether-sim judge_rates -- --nocapture` prints the tables of
//! `docs/figures-judges.md`, of 20,000 good and 10,000 bad rollouts per row. Without the variable fewer are simulated.

use std::collections::BTreeMap;

use bellwether_core::policy::Policy;
use bellwether_sim::counting::is_above;
use bellwether_sim::judged::{PhiLearning, alarm, sequential, strict};
use bellwether_sim::polls::{ALPHA, Delays, POLL, equal_arms, percent, runs, worse_canaries};

/// The number of rollouts per row in a build with debug assertions. With fewer the medians of late faults scatter too
/// much for the assertions.
const DEBUG_ROLLOUTS: usize = 100;

/// The daemon's judge, and variants of it.
fn columns() -> [(&'static str, Policy, PhiLearning); 4] {
    [
        ("φ from 20 minutes before", sequential("3%"), PhiLearning::BeforeRollout),
        ("the same, no margin", strict("3%"), PhiLearning::BeforeRollout),
        ("φ learnt on the way", sequential("3%"), PhiLearning::DuringRollout),
        ("φ taken for 2", sequential("3%"), PhiLearning::Never),
    ]
}

fn head(columns: &[(&str, Policy, PhiLearning)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, ..)| *name).collect();
    format!("| rollout | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()))
}

#[test]
fn good_versions_are_rolled_back_no_more_often_than_promised() {
    let (runs, columns) = (runs(4 * DEBUG_ROLLOUTS) / 4, columns());
    println!("\nfalse rollbacks in {runs} rollouts, limit 3 % (99 % bound)\n");
    println!("{}", head(&columns));
    for scenario in equal_arms() {
        let rolled_back = |(_, policy, learning): &(&str, Policy, PhiLearning)| {
            (0..runs).filter(|run| alarm(policy, &scenario, *learning, *run).is_some()).count()
        };
        let counts = columns.each_ref().map(rolled_back);
        let name = &scenario.name;
        println!("| {name} | {} |", counts.map(|count| percent(count, runs)).join(" | "));
        let [before, strict, during, never] = counts;
        for count in [before, strict] {
            assert!(!is_above(ALPHA, count, runs), "{name}: {}", percent(count, runs));
        }
        // A φ learnt during the rollout reduces the false rollbacks by clustered errors.
        assert!(scenario.cluster <= 2 || 5 * during < never, "{name}: {during} against {never} of {runs}");
        // With larger clusters than the assumed φ there is no promise, and decisions say "not calibrated".
        assert!(scenario.cluster > 2 || !is_above(ALPHA, during, runs), "{name}: {}", percent(during, runs));
    }
}

#[test]
fn tenfold_faults_are_rolled_back_and_late_faults_take_at_most_twice_as_long() {
    let runs = runs(8 * DEBUG_ROLLOUTS) / 8;
    let [product, strict, during, _] = columns();
    let columns = [product, strict, during];
    println!("\nseconds from onset to rollback in {runs} rollouts, median (90th percentile); share within the hour\n");
    println!("{}", head(&columns));
    let mut medians = BTreeMap::new();
    for scenario in worse_canaries() {
        let all = columns.each_ref().map(|(_, policy, learning)| {
            let mut delays = Delays::default();
            for run in 0..runs {
                let poll = alarm(policy, &scenario, *learning, run);
                delays.add(&scenario, poll.map(|poll| (poll + 1) as f64 * POLL));
            }
            delays
        });
        println!("| {} | {} |", scenario.name, all.each_ref().map(Delays::to_string).join(" | "));
        let [product, ..] = all;
        medians.insert(scenario.name.clone(), product.quantile(0.5));
        // A tenfold fault is always found. Small ones are allowed by the margin or by the floor of 0.1 points.
        assert!(!scenario.name.contains("0.1 → 1 %") || product.share() > 0.99, "{}: {product}", scenario.name);
    }
    for (name, median) in &medians {
        let Some(early) = name.strip_suffix(" after 30 min").and_then(|name| medians.get(name)) else { continue };
        // Evidence against the limit counts only as far as it is also evidence against the stable, which costs a late fault a
        // poll.
        assert!(*median <= 2.0 * early + POLL, "{name}: {median} s, and {early} s for a fault from the start");
    }
}
