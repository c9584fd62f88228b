//! The unkind world: no row misses a bar that it kept before.

use std::collections::BTreeSet;

use bellwether_sim::unkind::{Bar, End, Row, Summary, run, story};

/// The rollouts of each row and kind of version, unless the environment names another number.
const RUNS: u64 = 4;

/// The bars that are missed at present, by row and by whether the version is good, as `docs/figures-unkind.md` has them. A
/// row that keeps a bar leaves it out here.
const MISSED: &[(Row, bool, &[Bar])] = &[];

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
            let summary = summary(*row, good, runs);
            for bar in Bar::missed(&summary).into_iter().filter(|bar| !known.contains(&(*row, good, *bar))) {
                news.push(format!("{} misses {bar:?}: {}", row.name(), summary.reasons().join("; ")));
            }
        }
    }
    assert!(news.is_empty(), "{}", news.join("\n"));
}

#[test]
fn the_kind_world_promotes_every_good_version_in_22_minutes() {
    let summary = summary(Row::Kind, true, 2 * RUNS);
    assert!(summary.outcomes.iter().all(|outcome| outcome.end == End::Promoted && outcome.minutes < 22.0));
    assert!(summary.outcomes.iter().all(|outcome| outcome.extra_failed < 1.0), "a good rollout fails no request");
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for row in [Row::Kind, Row::Evictions, Row::Clusters, Row::DaemonAway] {
        let ((one, first), (_, second)) = (story(row, false, 3), story(row, false, 3));
        assert_eq!(first, second, "{}", row.name());
        assert!(first.len() > 50 && run(row, false, 3).why == one.why, "a story changes nothing");
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
