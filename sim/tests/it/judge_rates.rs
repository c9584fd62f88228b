//! The sequential judge as the product runs it, with its calibration and both claims: its error rates on simulated rollouts.
//!
//! `BELLWETHER_RUNS=80000 cargo test --release -p bellwether-sim judge_rates -- --nocapture` prints the counts of 20,000
//! rollouts a row. Without it fewer are simulated.

use std::collections::BTreeMap;

use bellwether_core::policy::Policy;
use bellwether_sim::counting::is_above;
use bellwether_sim::judged::{Learns, alarm, sequential, strict};
use bellwether_sim::polls::{ALPHA, Delays, POLL, alike, runs, share, worse};

/// The product's judge, and what is done to it to see what that costs.
fn columns() -> [(&'static str, Policy, Learns); 4] {
    [
        ("φ from 20 minutes before", sequential("3%"), Learns::Before),
        ("the same, no margin", strict("3%"), Learns::Before),
        ("φ learnt on the way", sequential("3%"), Learns::OnTheWay),
        ("φ taken for 2", sequential("3%"), Learns::Never),
    ]
}

fn head(columns: &[(&str, Policy, Learns)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, ..)| *name).collect();
    format!("| rollout | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()))
}

#[test]
fn good_versions_are_rolled_back_no_more_often_than_promised() {
    let (runs, columns) = (runs() / 4, columns());
    println!("\nfalse rollbacks in {runs} rollouts, limit 3 % (99 % bound)\n");
    println!("{}", head(&columns));
    for row in alike() {
        let counts = columns
            .each_ref()
            .map(|(_, policy, learns)| (0..runs).filter(|run| alarm(policy, &row, *learns, *run).is_some()).count());
        println!("| {} | {} |", row.name, counts.map(|count| share(count, runs)).join(" | "));
        let [before, strict, on_the_way, never] = counts;
        for count in [before, strict] {
            assert!(!is_above(ALPHA, count, runs), "{}: {}", row.name, share(count, runs));
        }
        // What the pods have shown makes the evidence of clusters worth less.
        assert!(row.cluster <= 2 || 5 * on_the_way < never, "{}: {on_the_way} against {never} of {runs}", row.name);
        // Larger clusters than assumed are printed as they are, and promise nothing: that is what "not calibrated" says.
        assert!(row.cluster > 2 || !is_above(ALPHA, on_the_way, runs), "{}: {}", row.name, share(on_the_way, runs));
    }
}

#[test]
fn bad_versions_are_rolled_back() {
    let runs = runs() / 8;
    let [product, strict, on_the_way, _] = columns();
    let columns = [product, strict, on_the_way];
    println!("\nseconds from onset to rollback in {runs} rollouts, median (90th percentile); part within the hour\n");
    println!("{}", head(&columns));
    let mut medians = BTreeMap::new();
    for row in worse() {
        let all = columns.each_ref().map(|(_, policy, learns)| {
            let mut delays = Delays::default();
            for run in 0..runs {
                delays.add(&row, alarm(policy, &row, *learns, run).map(|poll| (poll + 1) as f64 * POLL));
            }
            delays
        });
        println!("| {} | {} |", row.name, all.each_ref().map(Delays::to_string).join(" | "));
        let [product, ..] = all;
        // Tenfold is never missed; the smallest differences are within the margin, and the floor of 0.1 points.
        medians.insert(row.name.clone(), product.at(0.5));
        assert!(!row.name.contains("0.1 → 1 %") || product.part() > 0.99, "{}: {product}", row.name);
    }
    for (late, median) in &medians {
        let Some(soon) = late.strip_suffix(" after 30 min").and_then(|name| medians.get(name)) else { continue };
        assert!(*median <= 2.0 * soon, "{late}: {median} s, and {soon} s from the start");
    }
}
