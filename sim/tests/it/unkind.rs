//! The unkind world: no row misses a bar that it kept before.

use std::collections::BTreeSet;

use bellwether_sim::unkind::{Bar, Defect, End, Row, Summary, run, run_with, story};

/// The rollouts of each row and kind of version, unless the environment names another number: 5,000 in all where the code
/// is compiled for speed.
const RUNS: u64 = if cfg!(debug_assertions) { 4 } else { 70 };

/// The rollouts that confirm a miss, so that no single seed decides about a share.
const CONFIRMING: u64 = 400;

/// The bars that are missed at present, by row and by whether the version is good, as `docs/figures-unkind.md` has them. A
/// row that keeps a bar leaves it out here.
const MISSED: &[(Row, bool, &[Bar])] = &[
    (Row::Restarts, true, &[Bar::Unserved]),
    (Row::Restarts, false, &[Bar::Serving]),
    (Row::ScaleToZero, true, &[Bar::Unserved]),
    (Row::NodeTypes, true, &[Bar::Blamed, Bar::Promoted]),
    (Row::HotTenants, true, &[Bar::Promoted]),
    (Row::HotTenants, false, &[Bar::Serving]),
    (Row::Clusters, true, &[Bar::Promoted, Bar::Late]),
    (Row::GatewayLying, true, &[Bar::Promoted, Bar::Unserved]),
];

fn summary(row: Row, good: bool, runs: u64) -> Summary {
    let mut summary = Summary::default();
    (0..runs).for_each(|seed| summary.add(run(row, good, seed)));
    summary
}

#[test]
fn no_row_misses_a_bar_that_it_kept_before() {
    let runs = std::env::var("BELLWETHER_UNKIND_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let known: BTreeSet<(Row, bool, Bar)> =
        MISSED.iter().flat_map(|(row, good, bars)| bars.iter().map(|bar| (*row, *good, *bar))).collect();
    let mut news = Vec::new();
    for row in Row::ALL {
        for good in [true, false] {
            let is_new = |bar: &Bar| !known.contains(&(*row, good, *bar));
            if Bar::missed(&summary(*row, good, runs)).iter().any(is_new) {
                let summary = summary(*row, good, runs.max(CONFIRMING));
                let reasons = summary.reasons().join("; ");
                let missed = Bar::missed(&summary).into_iter().filter(is_new);
                news.extend(missed.map(|bar| format!("{} misses {bar:?}: {reasons}", row.name())));
            }
        }
    }
    assert!(news.is_empty(), "{}", news.join("\n"));
}

#[test]
fn the_kind_world_promotes_every_good_version_in_a_median_of_23_minutes() {
    let summary = summary(Row::Kind, true, 10);
    assert!(summary.outcomes.iter().all(|outcome| outcome.end == End::Promoted));
    // The last step may take longer until both of its proofs are complete, without the requests of its cold pods.
    let median = summary.median_minutes(|_| true);
    assert!(median < 23.0, "{median} minutes");
    assert!(summary.outcomes.iter().all(|outcome| outcome.extra_failed < 1.0), "a good rollout fails no request");
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for row in [Row::Kind, Row::Evictions, Row::Clusters, Row::DaemonAway] {
        let ((one, first), (_, second)) = (story(row, false, 3), story(row, false, 3));
        assert_eq!(first, second, "{}", row.name());
        assert!(first.len() > 5 && run(row, false, 3).why == one.why, "a story changes nothing");
    }
}

/// Each rollout is held against the bar alone, as a row of one.
#[test]
fn each_planted_defect_breaks_its_bar() {
    for defect in Defect::ALL {
        let (row, good, bar) = defect.shows();
        let misses = |seed: &u64, defect| !bar.is_kept(&Summary { outcomes: vec![run_with(row, good, *seed, defect)] });
        let found = (0..200).find(|seed| misses(seed, Some(defect)));
        let seed = found.unwrap_or_else(|| panic!("{defect:?} was not found in 200 rollouts of {}", row.name()));
        assert!(!misses(&seed, None), "{defect:?}: {} misses the bar with seed {seed} without the defect", row.name());
    }
}

#[test]
fn an_outcome_misses_the_bars_that_it_breaks() {
    let missed = |good: bool, end: End, quarantined: bool, serves: bool, unready_secs: f64| {
        let outcome = bellwether_sim::unkind::Outcome {
            good,
            end,
            quarantined,
            serves,
            unready_secs,
            misplaced: false,
            ..run(Row::Kind, good, 0)
        };
        Bar::missed(&Summary { outcomes: vec![outcome] })
    };
    assert_eq!(missed(true, End::Promoted, false, true, 0.0), []);
    assert_eq!(missed(true, End::RolledBack, true, false, 0.0), [Bar::Blamed, Bar::Promoted]);
    assert_eq!(missed(true, End::GivenUp, false, false, 0.0), [Bar::Promoted]);
    assert_eq!(missed(true, End::Unended, false, false, 0.0), [Bar::Promoted, Bar::Unended]);
    assert_eq!(missed(false, End::RolledBack, true, false, 0.0), []);
    assert_eq!(missed(false, End::Promoted, false, true, 0.0), [Bar::BadPromoted, Bar::Serving]);
    assert_eq!(missed(false, End::GivenUp, false, true, 0.0), [Bar::Serving]);
    assert_eq!(missed(false, End::GivenUp, false, false, 3.0), [Bar::Unready]);
}
