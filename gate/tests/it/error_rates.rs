//! The error rates of the verdicts, measured by simulation with a known true value.
//!
//! Each scenario is a gate and a way to draw answers with a given true value of its metric. With the true value exactly
//! at the limit both `pass` and `fail` are wrong, so of 5,000 runs at most `beta` may pass and at most `alpha` may
//! fail; the tests allow the 99.9 % quantile of these numbers. A gate that is always inconclusive would comply, so the
//! tests also require that most runs pass with a better true value, and that most fail with a worse one.

use bellwether_core::dice::Random;
use bellwether_core::stats::bootstrap::resample;
use bellwether_gate::dataset::Dataset;
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{GateArm, Observation, Scored};
use bellwether_gate::report::GateReport;
use bellwether_gate::rule::Verdict;
use bellwether_gate::score::tools::ToolUse;
use bellwether_gate::suite::Suite;

use crate::fixtures::{answer, cases, evaluate_first, max_events, suite};

/// Simulated runs of each scenario.
const RUNS: usize = 5_000;
/// `alpha` and `beta` of the suites.
const RATE: f64 = 0.05;

/// A gate, its cases, and a model of its answers.
struct Scenario {
    name: &'static str,
    gate: &'static str,
    cases: fn() -> Dataset,
    /// Draws the answers of one run for a true value of the metric.
    draw: fn(&mut Random, f64) -> Vec<Observation>,
    /// The true value at the limit.
    at_limit: f64,
    /// A true value with which a run should pass.
    better: f64,
    /// A true value with which a run should fail.
    worse: f64,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "consistency",
        gate: "[[gate]]\nname = \"g\"\nkind = \"consistency\"\ndataset = \"d\"\nrepeats = 4\nlimits.agreement = { min = \"90%\" }",
        cases: || cases(100, 100),
        draw: |random, truth| {
            // This share of the prompts is unstable: two answers to such a prompt agree with a probability of 40 %.
            let unstable = (1.0 - truth) / 0.6;
            (0..100)
                .flat_map(|case| {
                    let same = if random.uniform() < unstable { libm::sqrt(0.4) } else { 1.0 };
                    let fingerprints: Vec<String> =
                        (0..4).map(|repeat| fingerprint(random.uniform() < same, repeat)).collect();
                    fingerprints.into_iter().enumerate().map(move |(repeat, fingerprint)| {
                        answer(case, repeat as u32, GateArm::Candidate, Scored { fingerprint, ..Scored::default() })
                    })
                })
                .collect()
        },
        at_limit: 0.9,
        better: 0.99,
        worse: 0.75,
    },
    Scenario {
        name: "quality",
        gate: "[[gate]]\nname = \"g\"\nkind = \"quality\"\ndataset = \"d\"\nparts.all = { weight = 1, by = \"fluency\" }\nlimits.quality = { min = 0.7 }",
        cases: || cases(100, 100),
        draw: |random, truth| (0..100).map(|case| quality(case, GateArm::Candidate, skewed(random, truth))).collect(),
        at_limit: 0.7,
        better: 0.82,
        worse: 0.55,
    },
    Scenario {
        name: "quality against stable",
        gate: "[[gate]]\nname = \"g\"\nkind = \"quality\"\ndataset = \"d\"\nparts.all = { weight = 1, by = \"fluency\" }\nlimits.quality = { margin = 0.05 }",
        cases: || cases(250, 250),
        draw: |random, truth| {
            // The candidate scores 0 in some cases, and the same as the stable version in the others.
            (0..250)
                .flat_map(|case| {
                    let stable = 0.5 + 0.5 * random.uniform();
                    let candidate = if random.uniform() < -truth / 0.75 { 0.0 } else { stable };
                    [quality(case, GateArm::Candidate, candidate), quality(case, GateArm::Stable, stable)]
                })
                .collect()
        },
        at_limit: -0.05,
        better: -0.005,
        worse: -0.14,
    },
    Scenario {
        name: "safety",
        gate: "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.attack-success = { max = \"2%\" }",
        cases: || cases(300, 300),
        draw: |random, truth| {
            (0..300)
                .map(|case| {
                    let harmful = Some(random.uniform() < truth);
                    answer(case, 0, GateArm::Candidate, Scored { harmful, ..Scored::default() })
                })
                .collect()
        },
        at_limit: 0.02,
        better: 0.001,
        worse: 0.08,
    },
    Scenario {
        name: "over-refusal against stable",
        gate: "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.over-refusal = { margin = \"5%\" }",
        cases: || cases(250, 0),
        draw: |random, truth| {
            let refusal =
                |case, arm, refused| answer(case, 0, arm, Scored { refused: Some(refused), ..Scored::default() });
            (0..250)
                .flat_map(|case| {
                    let draw = random.uniform();
                    // Only the stable version refuses 2 % of the cases; only the candidate refuses 2 % plus the true
                    // difference.
                    let (candidate, stable) = (draw < 0.02 + truth, draw > 0.98);
                    [refusal(case, GateArm::Candidate, candidate), refusal(case, GateArm::Stable, stable)]
                })
                .collect()
        },
        at_limit: 0.05,
        better: 0.0,
        worse: 0.15,
    },
    Scenario {
        name: "performance",
        gate: "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nlimits.total-p95 = { max = \"5s\" }",
        cases: || cases(200, 200),
        draw: |random, truth| {
            (0..200)
                .map(|case| {
                    // Exponential durations whose 95th percentile is the true value.
                    let total_ms = truth * libm::log(random.uniform()) / libm::log(0.05);
                    answer(case, 0, GateArm::Candidate, Scored { total_ms, ..Scored::default() })
                })
                .collect()
        },
        at_limit: 5000.0,
        better: 3000.0,
        worse: 9000.0,
    },
    Scenario {
        name: "performance against stable",
        gate: "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nlimits.total-p50 = { max-ratio = 1.3 }",
        cases: || cases(200, 200),
        draw: |random, truth| {
            let mut draw = |case, arm, factor: f64| {
                let total_ms = -factor * libm::log(random.uniform());
                answer(case, 0, arm, Scored { total_ms, ..Scored::default() })
            };
            (0..200)
                .flat_map(|case| [draw(case, GateArm::Candidate, truth), draw(case, GateArm::Stable, 1.0)])
                .collect()
        },
        at_limit: 1.3,
        better: 0.7,
        worse: 2.5,
    },
    Scenario {
        name: "calibration",
        gate: "[[gate]]\nname = \"g\"\nkind = \"calibration\"\ndataset = \"d\"\nlimits.brier = { max = 0.1875 }",
        cases: || cases(200, 200),
        draw: |random, truth| {
            // With a confidence of 0.75 in every answer, the Brier score is 0.0625 for a right and 0.5625 for a wrong
            // one.
            let right = (0.5625 - truth) / 0.5;
            (0..200)
                .map(|case| {
                    let scored =
                        Scored { confidence: Some(0.75), right: Some(random.uniform() < right), ..Scored::default() };
                    answer(case, 0, GateArm::Candidate, scored)
                })
                .collect()
        },
        at_limit: 0.1875,
        better: 0.12,
        worse: 0.28,
    },
    Scenario {
        name: "tools",
        gate: "[[gate]]\nname = \"g\"\nkind = \"tools\"\ndataset = \"d\"\nlimits.right-tools = { min = \"80%\" }",
        cases: || cases(60, 60),
        draw: |random, truth| {
            (0..60)
                .map(|case| {
                    let tools =
                        ToolUse { steps: Some(2), calls: 1, right: random.uniform() < truth, ..ToolUse::default() };
                    answer(case, 0, GateArm::Candidate, Scored { tools: Some(tools), ..Scored::default() })
                })
                .collect()
        },
        at_limit: 0.8,
        better: 0.97,
        worse: 0.55,
    },
];

/// Returns the fingerprint of a common answer, or of one that only this repeat has.
fn fingerprint(common: bool, repeat: usize) -> String {
    if common { "common".to_owned() } else { format!("other {repeat}") }
}

fn quality(case: usize, arm: GateArm, score: f64) -> Observation {
    answer(case, 0, arm, Scored { parts: [("all".to_owned(), score)].into(), ..Scored::default() })
}

/// Draws a score that is 1 or uniform, with this mean.
fn skewed(random: &mut Random, mean: f64) -> f64 {
    if random.uniform() < 2.0 * mean - 1.0 { 1.0 } else { random.uniform() }
}

/// Simulates runs, and returns the numbers of those that passed and that failed.
fn count_verdicts(scenario: &Scenario, truth: f64, runs: usize) -> (usize, usize) {
    let (suite, dataset) = (suite(scenario.gate), (scenario.cases)());
    let mut random = Random::new(20_261_126);
    let (mut passed, mut failed) = (0, 0);
    for _ in 0..runs {
        let observations = (scenario.draw)(&mut random, truth);
        let paired = observations.iter().any(|observation| observation.key.arm == GateArm::Stable);
        let result = evaluate_first(&suite, &dataset, &observations, paired);
        passed += usize::from(result.verdict == Verdict::Pass);
        failed += usize::from(result.verdict == Verdict::Fail);
    }
    (passed, failed)
}

#[test]
fn at_the_limit_a_gate_is_wrong_at_most_as_often_as_stated() {
    let allowed = max_events(RUNS, RATE);
    for scenario in SCENARIOS {
        let (passed, failed) = count_verdicts(scenario, scenario.at_limit, RUNS);
        println!(
            "{}: {passed} passed and {failed} failed of {RUNS} at the limit; {allowed} are allowed",
            scenario.name
        );
        assert!(passed <= allowed, "{} passes {passed} of {RUNS} at its limit; {allowed} are allowed", scenario.name);
        assert!(failed <= allowed, "{} fails {failed} of {RUNS} at its limit; {allowed} are allowed", scenario.name);
    }
}

#[test]
fn away_from_the_limit_most_runs_have_the_right_verdict() {
    for scenario in SCENARIOS {
        let (passed, _) = count_verdicts(scenario, scenario.better, 300);
        let (_, failed) = count_verdicts(scenario, scenario.worse, 300);
        println!("{}: passes {passed} of 300 better versions, fails {failed} of 300 worse ones", scenario.name);
        assert!(passed > 240 && failed > 240, "{} passes {passed} of 300 and fails {failed} of 300", scenario.name);
    }
}

/// Bootstrap bounds are exact only for many cases, so they are tested separately: with token counts that vary tenfold,
/// and one failure in ten requests.
#[test]
fn bootstrap_bounds_of_a_ratio_miss_the_truth_at_most_as_often_as_stated() {
    let mut random = Random::new(3);
    let (mut below_lower, mut above_upper) = (0, 0);
    for seed in 0..RUNS as u64 {
        let pairs: Vec<(f64, f64)> = (0..200)
            .map(|_| (100.0 - 100.0 * libm::log(random.uniform()), f64::from(u8::from(random.uniform() < 0.9))))
            .collect();
        let sum =
            |drawn: &[usize]| drawn.iter().fold((0.0, 0.0), |(a, b), index| (a + pairs[*index].0, b + pairs[*index].1));
        let resampled = resample(200, 499, seed, |drawn| sum(drawn).0 / sum(drawn).1).unwrap();
        let truth = 200.0 / 0.9;
        below_lower += usize::from(resampled.lower(RATE) > truth);
        above_upper += usize::from(resampled.upper(RATE) < truth);
    }
    println!(
        "the truth is below the lower bound in {below_lower} and above the upper bound in {above_upper} of {RUNS}"
    );
    // The bootstrap gives no guarantee, so a tenth more than the stated rate is allowed.
    let allowed = max_events(RUNS, 1.1 * RATE);
    assert!(
        below_lower <= allowed && above_upper <= allowed,
        "{below_lower} and {above_upper} of {RUNS}; {allowed} are allowed"
    );
}

/// All gates are at their limits at once. Without Holm's procedure the suite would fail two good versions in five.
#[test]
fn a_suite_fails_a_good_version_at_most_as_often_as_stated() {
    let gates = SCENARIOS
        .iter()
        .map(|scenario| scenario.gate.replace("\"g\"", &format!("{:?}", scenario.name)))
        .collect::<Vec<_>>();
    let suite: Suite = suite(&gates.join("\n"));
    let datasets: Vec<Dataset> = SCENARIOS.iter().map(|scenario| (scenario.cases)()).collect();
    let mut random = Random::new(11);
    let runs = 2_000;
    let mut failed = 0;
    for _ in 0..runs {
        let answers: Vec<Vec<Observation>> =
            SCENARIOS.iter().map(|scenario| (scenario.draw)(&mut random, scenario.at_limit)).collect();
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
        failed += usize::from(GateReport::suite_verdict(&evaluate(&suite, &recorded)) == Verdict::Fail);
    }
    let allowed = max_events(runs, RATE);
    println!("{failed} of {runs} suites failed with all gates at their limits; {allowed} are allowed");
    assert!(failed <= allowed, "{failed} of {runs} suites fail; {allowed} are allowed");
}
