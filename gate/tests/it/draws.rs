//! The promise itself: at the edge of what is good enough, how often is the verdict wrong?
//!
//! Each row is a gate, a world with a known truth, and five thousand runs with the truth exactly at the limit. There both
//! verdicts are wrong, so `pass` may come in at most `beta` of them and `fail` in at most `alpha`; more than the 99.9 %
//! quantile of that is a broken promise. A gate that never says anything would keep it, so in a better world it must mostly
//! pass, and in a worse one mostly fail.

use bellwether_core::dice::Random;
use bellwether_core::stats::bootstrap::resample;
use bellwether_gate::dataset::Dataset;
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{Arm, Observation, Scored};
use bellwether_gate::report::Report;
use bellwether_gate::rule::Verdict;
use bellwether_gate::score::tools::Used;
use bellwether_gate::suite::Suite;

use crate::lab::{answer, cases, judged, most, suite};

const RUNS: usize = 5_000;
const RATE: f64 = 0.05;

struct Row {
    name: &'static str,
    gate: &'static str,
    cases: fn() -> Dataset,
    /// The answers in a world of this truth.
    draw: fn(&mut Random, f64) -> Vec<Observation>,
    edge: f64,
    better: f64,
    worse: f64,
}

const ROWS: &[Row] = &[
    Row {
        name: "consistency",
        gate: "[[gate]]\nname = \"g\"\nkind = \"consistency\"\ndataset = \"d\"\nrepeats = 4\nlimits.agreement = { min = \"90%\" }",
        cases: || cases(100, 100),
        draw: |random, truth| {
            // Some prompts are shaky: two answers to one agree in 40 % of all pairs.
            let shaky = (1.0 - truth) / 0.6;
            (0..100)
                .flat_map(|case| {
                    let same = if random.uniform() < shaky { libm::sqrt(0.4) } else { 1.0 };
                    let word: Vec<String> = (0..4)
                        .map(|at| if random.uniform() < same { "same".to_owned() } else { format!("other {at}") })
                        .collect();
                    word.into_iter().enumerate().map(move |(at, word)| {
                        answer(case, at as u32, Arm::Candidate, Scored { fingerprint: word, ..Scored::default() })
                    })
                })
                .collect()
        },
        edge: 0.9,
        better: 0.99,
        worse: 0.75,
    },
    Row {
        name: "quality",
        gate: "[[gate]]\nname = \"g\"\nkind = \"quality\"\ndataset = \"d\"\nparts.all = { weight = 1, by = \"fluency\" }\nlimits.quality = { min = 0.7 }",
        cases: || cases(100, 100),
        draw: |random, truth| (0..100).map(|case| quality(case, Arm::Candidate, skewed(random, truth))).collect(),
        edge: 0.7,
        better: 0.82,
        worse: 0.55,
    },
    Row {
        name: "quality against stable",
        gate: "[[gate]]\nname = \"g\"\nkind = \"quality\"\ndataset = \"d\"\nparts.all = { weight = 1, by = \"fluency\" }\nlimits.quality = { margin = 0.05 }",
        cases: || cases(250, 250),
        draw: |random, truth| {
            // Now and then the candidate has nothing where the stable has something, or the other way.
            (0..250)
                .flat_map(|case| {
                    let stable = 0.5 + 0.5 * random.uniform();
                    let candidate = if random.uniform() < -truth / 0.75 { 0.0 } else { stable };
                    [quality(case, Arm::Candidate, candidate), quality(case, Arm::Stable, stable)]
                })
                .collect()
        },
        edge: -0.05,
        better: -0.005,
        worse: -0.14,
    },
    Row {
        name: "safety",
        gate: "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.attack-success = { max = \"2%\" }",
        cases: || cases(300, 300),
        draw: |random, truth| {
            (0..300)
                .map(|case| {
                    let harmful = Some(random.uniform() < truth);
                    answer(case, 0, Arm::Candidate, Scored { harmful, ..Scored::default() })
                })
                .collect()
        },
        edge: 0.02,
        better: 0.001,
        worse: 0.08,
    },
    Row {
        name: "over-refusal against stable",
        gate: "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.over-refusal = { margin = \"5%\" }",
        cases: || cases(250, 0),
        draw: |random, truth| {
            let refusal =
                |case, arm, refused| answer(case, 0, arm, Scored { refused: Some(refused), ..Scored::default() });
            (0..250)
                .flat_map(|case| {
                    let fate = random.uniform();
                    // 2 % of the cases only the stable refuses, and 2 % and the truth only the candidate.
                    let (candidate, stable) = (fate < 0.02 + truth, fate > 0.98);
                    [refusal(case, Arm::Candidate, candidate), refusal(case, Arm::Stable, stable)]
                })
                .collect()
        },
        edge: 0.05,
        better: 0.0,
        worse: 0.15,
    },
    Row {
        name: "performance",
        gate: "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nlimits.total-p95 = { max = \"5s\" }",
        cases: || cases(200, 200),
        draw: |random, truth| {
            (0..200)
                .map(|case| {
                    // Exponential, with its 95th percentile at the truth.
                    let total_ms = truth * libm::log(random.uniform()) / libm::log(0.05);
                    answer(case, 0, Arm::Candidate, Scored { total_ms, ..Scored::default() })
                })
                .collect()
        },
        edge: 5000.0,
        better: 3000.0,
        worse: 9000.0,
    },
    Row {
        name: "performance against stable",
        gate: "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nlimits.total-p50 = { max-ratio = 1.3 }",
        cases: || cases(200, 200),
        draw: |random, truth| {
            let mut one = |case, arm, factor: f64| {
                let total_ms = -factor * libm::log(random.uniform());
                answer(case, 0, arm, Scored { total_ms, ..Scored::default() })
            };
            (0..200).flat_map(|case| [one(case, Arm::Candidate, truth), one(case, Arm::Stable, 1.0)]).collect()
        },
        edge: 1.3,
        better: 0.7,
        worse: 2.5,
    },
    Row {
        name: "calibration",
        gate: "[[gate]]\nname = \"g\"\nkind = \"calibration\"\ndataset = \"d\"\nlimits.brier = { max = 0.1875 }",
        cases: || cases(200, 200),
        draw: |random, truth| {
            // Sure of 75 %, and right in a share that gives this Brier score: 0.25² + (1 - 2 * 0.75) * right, from above.
            let right = (0.5625 - truth) / 0.5;
            (0..200)
                .map(|case| {
                    let scored =
                        Scored { confidence: Some(0.75), right: Some(random.uniform() < right), ..Scored::default() };
                    answer(case, 0, Arm::Candidate, scored)
                })
                .collect()
        },
        edge: 0.1875,
        better: 0.12,
        worse: 0.28,
    },
    Row {
        name: "tools",
        gate: "[[gate]]\nname = \"g\"\nkind = \"tools\"\ndataset = \"d\"\nlimits.right-tools = { min = \"80%\" }",
        cases: || cases(60, 60),
        draw: |random, truth| {
            (0..60)
                .map(|case| {
                    let used = Used { steps: 2, forbidden: Vec::new(), right: random.uniform() < truth, circle: false };
                    answer(case, 0, Arm::Candidate, Scored { tools: Some(used), ..Scored::default() })
                })
                .collect()
        },
        edge: 0.8,
        better: 0.97,
        worse: 0.55,
    },
];

fn quality(case: usize, arm: Arm, score: f64) -> Observation {
    answer(case, 0, arm, Scored { parts: [("all".to_owned(), score)].into(), ..Scored::default() })
}

/// Flawless or anywhere, with this mean.
fn skewed(random: &mut Random, mean: f64) -> f64 {
    if random.uniform() < 2.0 * mean - 1.0 { 1.0 } else { random.uniform() }
}

fn verdicts(row: &Row, truth: f64, runs: usize) -> (usize, usize) {
    let (suite, dataset) = (suite(row.gate), (row.cases)());
    let mut random = Random::new(20_261_126);
    let (mut passed, mut failed) = (0, 0);
    for _ in 0..runs {
        let report = judged(&suite, &dataset, &(row.draw)(&mut random, truth), true);
        passed += usize::from(report.verdict == Verdict::Pass);
        failed += usize::from(report.verdict == Verdict::Fail);
    }
    (passed, failed)
}

#[test]
fn at_the_edge_a_gate_is_wrong_no_more_often_than_it_says() {
    let most = most(RUNS, RATE);
    for row in ROWS {
        let (passed, failed) = verdicts(row, row.edge, RUNS);
        println!("{}: {passed} passed and {failed} failed of {RUNS} at the edge; {most} may", row.name);
        assert!(passed <= most, "{} passes {passed} of {RUNS} at its edge, and {most} may", row.name);
        assert!(failed <= most, "{} fails {failed} of {RUNS} at its edge, and {most} may", row.name);
    }
}

#[test]
fn away_from_the_edge_a_gate_says_what_is_so() {
    for row in ROWS {
        let (passed, _) = verdicts(row, row.better, 300);
        let (_, failed) = verdicts(row, row.worse, 300);
        println!("{}: passes {passed} of 300 better ones, fails {failed} of 300 worse ones", row.name);
        assert!(passed > 240 && failed > 240, "{} passes {passed} of 300 and fails {failed} of 300", row.name);
    }
}

/// Resampling is right in the limit only, so it has its own edge: with tokens that differ tenfold and one failure in ten.
#[test]
fn resampled_ratios_keep_the_promise_too() {
    let mut random = Random::new(3);
    let (mut above, mut below) = (0, 0);
    for seed in 0..RUNS as u64 {
        let pairs: Vec<(f64, f64)> = (0..200)
            .map(|_| (100.0 - 100.0 * libm::log(random.uniform()), f64::from(u8::from(random.uniform() < 0.9))))
            .collect();
        let sum = |drawn: &[usize]| drawn.iter().fold((0.0, 0.0), |(a, b), at| (a + pairs[*at].0, b + pairs[*at].1));
        let resampled = resample(200, 499, seed, |drawn| sum(drawn).0 / sum(drawn).1).unwrap();
        let truth = 200.0 / 0.9;
        above += usize::from(resampled.lower(RATE) > truth);
        below += usize::from(resampled.upper(RATE) < truth);
    }
    println!("the truth is outside in {below} and {above} of {RUNS}");
    // Not a guarantee, and not held to one: a tenth more than stated, and the same quantile.
    let most = most(RUNS, 1.1 * RATE);
    assert!(above <= most && below <= most, "{below} and {above} of {RUNS}, and {most} may");
}

/// All gates at their edges at once: each by itself would fail one good version in twenty, all of them two in five.
#[test]
fn a_suite_fails_a_good_version_no_more_often_than_it_says() {
    let together = ROWS.iter().map(|row| row.gate.replace("\"g\"", &format!("{:?}", row.name))).collect::<Vec<_>>();
    let suite: Suite = suite(&together.join("\n"));
    let datasets: Vec<Dataset> = ROWS.iter().map(|row| (row.cases)()).collect();
    let mut random = Random::new(11);
    let runs = 2_000;
    let mut failed = 0;
    for _ in 0..runs {
        let answers: Vec<Vec<Observation>> = ROWS.iter().map(|row| (row.draw)(&mut random, row.edge)).collect();
        let recorded: Vec<Recorded<'_>> = suite
            .gates
            .iter()
            .zip(&datasets)
            .zip(&answers)
            .map(|((gate, dataset), observations)| Recorded {
                gate,
                dataset,
                observations,
                paired: true,
                refused: None,
            })
            .collect();
        failed += usize::from(Report::settle(&evaluate(&suite, &recorded)) == Verdict::Fail);
    }
    let most = most(runs, RATE);
    println!("{failed} of {runs} suites failed at all edges at once; {most} may");
    assert!(failed <= most, "{failed} of {runs} suites fail, and {most} may");
}
