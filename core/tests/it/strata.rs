//! Strata: another mix of requests rolls no good version back and promotes no bad one, and the sentence names the endpoint.

use bellwether_core::judge::evidence::Evidence;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::measure::block::{Block, Reading, Sample, SmallMap};
use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::Policy;
use bellwether_core::time::Timestamp;
use serde_json::json;

use bellwether_sim::counting::is_above;
use bellwether_sim::dice::Dice;
use bellwether_sim::judged::setting;
use bellwether_sim::story::policy;

/// A route: its name, the requests of the canary and of the stable in a block, and the bad ones of each among 10,000.
type Route = (&'static str, [u64; 2], [u64; 2]);

/// The blocks of an hour.
const BLOCKS: i64 = 240;

fn checked() -> Policy {
    policy(json!({
        "step": [{ "weight": "50%", "min-time": "5m" }],
        "check": [{ "metric": "error-rate", "max": "10%" }],
    }))
}

/// Returns the evidence at the first regression or pass of a check that asks for a proof, or at the end of an hour, with or
/// without strata.
fn outcome(routes: &[Route], by_route: bool, seed: u64) -> Evidence {
    let policy = checked();
    let check = &policy.steps[0].checks[0];
    let strata_label = by_route.then(|| "route".to_owned());
    let metric = Metric { strata_label, ..policy.metrics["error-rate"].clone() };
    let mut run = CheckRun::new(Setting { proof: Proof::NonInferior, ..setting(check, &metric) });
    let (mut dice, at) = (Dice(seed), |n: i64| Timestamp::from_second(15 * n).unwrap());
    let mut evidence = None;
    for n in 0..BLOCKS {
        let mut strata = SmallMap::new();
        let mut sums = [(0, 0); 2];
        for (name, requests, bad) in routes {
            let counts: [(u64, u64); 2] = [0, 1].map(|arm| {
                let n: u64 = requests[arm];
                ((0..n).filter(|_| dice.below(10_000) < bad[arm]).count() as u64, n)
            });
            (0..2).for_each(|arm| sums[arm] = (sums[arm].0 + counts[arm].0, sums[arm].1 + counts[arm].1));
            strata.insert((*name).to_owned(), arms(counts));
        }
        let mut block = Block::new(at(n), at(n + 1), [("error-rate".to_owned(), arms(sums))]);
        block.strata.insert("error-rate".to_owned(), strata);
        evidence = run.look_at(block, &[], None).cloned();
        let verdict = evidence.as_ref().map(|evidence| evidence.verdict);
        if matches!(verdict, Some(Verdict::Regressed | Verdict::Pass)) {
            break;
        }
    }
    evidence.unwrap()
}

fn arms([canary, stable]: [(u64, u64); 2]) -> Sample {
    let ratio = |(hits, total)| (total > 0).then_some(Reading::Ratio { hits, total });
    Sample::Arms { canary: ratio(canary), stable: ratio(stable) }
}

/// Returns the numbers of regressions and of passes in `runs` runs.
fn counts(routes: &[Route], by_route: bool, runs: usize) -> (usize, usize) {
    let verdicts: Vec<Verdict> = (0..runs).map(|seed| outcome(routes, by_route, seed as u64).verdict).collect();
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    (count(Verdict::Regressed), count(Verdict::Pass))
}

/// Payments fail more often than pages in both versions. Callers in the cluster reach the stable only, and ask for pages.
#[test]
fn a_good_version_with_another_mix_is_not_rolled_back() {
    let routes = [("/page", [100, 900], [20, 20]), ("/pay", [100, 100], [500, 500])];
    let (without, with) = (counts(&routes, false, 200), counts(&routes, true, 200));
    println!("good, another mix: {without:?} regressed and passed of 200 together, {with:?} by route");
    assert!(without.0 > 190, "the mix rolls it back without strata: {without:?}");
    assert!(!is_above(0.01, with.0, 200), "{with:?}");
    assert!(with.1 > 150, "it is proven: {with:?}");
}

/// The canary fails three times as often on each route, and has fewer payments.
#[test]
fn a_bad_version_with_an_easier_mix_is_not_promoted() {
    let routes = [("/page", [190, 500], [60, 20]), ("/pay", [10, 500], [1500, 500])];
    let (without, with) = (counts(&routes, false, 200), counts(&routes, true, 200));
    println!("bad, an easier mix: {without:?} regressed and passed of 200 together, {with:?} by route");
    assert!(without.1 > 190, "the mix promotes it without strata: {without:?}");
    assert!(with.0 > 195 && !is_above(0.05, with.1, 200), "{with:?}");
}

#[test]
fn the_sentence_names_the_worst_route() {
    let routes = [("/page", [800, 800], [20, 20]), ("/pay", [100, 100], [600, 50]), ("/help", [20, 20], [0, 0])];
    let evidence = outcome(&routes, true, 3);
    assert_eq!(evidence.verdict, Verdict::Regressed);
    let sentence = evidence.to_string();
    assert!(sentence.contains("; worst in route=\"/pay\": "), "{sentence}");
}

/// A fault of one route in eight is found although the other routes have as many errors as before.
#[test]
fn a_fault_of_one_route_is_found() {
    const NAMES: [&str; 8] = ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"];
    let routes = NAMES.map(|name| (name, [50, 50], if name == "/c" { [1000, 100] } else { [100, 100] }));
    let (regressed, passed) = counts(&routes, true, 100);
    assert!(regressed > 95 && passed == 0, "{regressed} {passed}");
}

/// A new route has nothing to be compared with. The limit holds for it, and it delays no proof.
#[test]
fn a_new_route_is_held_against_the_limit() {
    let new = |bad| [("/page", [800, 800], [20, 20]), ("/new", [200, 0], [bad, 0])];
    assert_eq!(counts(&new(100), true, 50), (0, 50));
    let (regressed, passed) = counts(&new(9000), true, 50);
    assert_eq!((regressed, passed), (50, 0));
}

/// Routes with the same errors in both versions, and the same mix.
#[test]
fn strata_keep_the_error_rate_and_the_proof() {
    let routes = [("/a", [100, 100], [100, 100]), ("/b", [60, 60], [300, 300]), ("/c", [40, 40], [10, 10])];
    let (together, apart) = (counts(&routes, false, 400), counts(&routes, true, 400));
    println!("equal versions: {together:?} regressed and passed of 400 together, {apart:?} by route");
    assert!(!is_above(0.01, apart.0, 400), "{apart:?}");
}
