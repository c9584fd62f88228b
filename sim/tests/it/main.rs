//! The simulator's tests: the invariants over many seeds, and the planted defects that it must find.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the seeds come from the environment")]

mod error_rates;
mod judge_rates;
mod long_paths;

use std::collections::BTreeMap;

use bellwether_sim::simulator::{Defect, Simulator};

#[test]
fn every_seed_keeps_the_invariants() {
    let one = std::env::var("BELLWETHER_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let many = std::env::var("BELLWETHER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    let seeds = one.map_or(0..many, |seed| seed..seed + 1);
    let mut ended = BTreeMap::new();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| Simulator::new(seed, None).run());
        match outcome {
            Ok(endings) => endings.into_iter().for_each(|ending| *ended.entry(ending).or_insert(0u32) += 1),
            Err(_) => panic!("seed={seed}; play it again with BELLWETHER_SEED={seed}"),
        }
    }
    println!("{ended:?}");
    if one.is_none() {
        for ending in ["promoted", "rolled back", "given up", "aborted", "superseded", "refused"] {
            assert!(ended.contains_key(ending), "the simulator never came to {ending:?}: {ended:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..3 {
        let bytes = || {
            let mut sim = Simulator::new(seed, None);
            sim.faulty_hour();
            serde_json::to_vec(&sim.kept().records).unwrap()
        };
        assert_eq!(bytes(), bytes(), "seed {seed}");
    }
}

/// Each defect is found, and by an assertion that is there for it. (An event that is taken twice either starts a rollout
/// twice, or makes a state or a decision that its journal does not: whichever comes first.)
#[test]
fn each_deliberate_defect_is_found() {
    let most = std::env::var("BELLWETHER_DEFECT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    for (defect, words) in [
        (Defect::SkipDedup, ["started twice", "restored otherwise", "of the record differs"].as_slice()),
        (Defect::ActBeforeCommit, &["nobody has committed"]),
        (Defect::NoFencing, &["wrote over epoch"]),
        (Defect::BlindPromotes, &["a pass on nothing that could be seen"]),
        (Defect::CountTwice, &["counts twice"]),
        (Defect::WrongRollbackTarget, &["restored another version"]),
    ] {
        let found = (0..most).find_map(|seed| {
            let end = std::panic::catch_unwind(|| Simulator::new(seed, Some(defect)).run());
            Some((seed, said(end.err()?.as_ref())))
        });
        let (seed, said) = found.unwrap_or_else(|| panic!("{defect:?} was not found in {most} seeds"));
        println!("{defect:?} was found at seed {seed}: {}", said.lines().next().unwrap_or_default());
        assert!(words.iter().any(|words| said.contains(words)), "{defect:?} at seed {seed}: {said}");
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
