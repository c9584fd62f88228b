//! The error rates of verdicts in runs as they really are: requests that are retried, answers that are missing because of
//! what they are, judges that err, several answers to each case, and a budget that ends the run before all was asked.
//!
//! As in [`super::error_rates`] the true value is at the limit, so of the runs at most `beta` may pass and at most
//! `alpha` may fail, and the tests allow the 99.9 % quantile of these numbers. The true value is that of all answers,
//! those that are missing included.

use bellwether_core::dice::Random;
use bellwether_gate::observation::{GateArm, MissingAnswer, Observation, Scored};
use bellwether_gate::rule::Verdict;
use bellwether_gate::score::rubric::median;
use bellwether_gate::score::tools::ToolUse;
use bellwether_gate::suite::Suite;

use crate::fixtures::{answer, cases, evaluate_first, max_events, missing, suite};

/// Simulated runs of each row, unless `BELLWETHER_RUNS` names another number.
const RUNS: usize = 1_000;
/// The part of the runs that a row has whose bound comes from resampling, which takes far longer.
const RESAMPLED: usize = 25;
/// `alpha` and `beta` of the suites.
const RATE: f64 = 0.05;

/// A gate, and a model of a disturbed run whose true value is at the gate's limit.
struct Disturbed {
    name: &'static str,
    gate: &'static str,
    /// The number of cases.
    n: usize,
    /// The runs of the test for each run of this row.
    every: usize,
    /// Changes what the fixture's suite has no key for.
    settings: fn(&mut Suite),
    draw: fn(&mut Random) -> Vec<Observation>,
}

/// Returns a row whose suite lets a fifth of the answers be missing.
const fn row(name: &'static str, gate: &'static str, n: usize, draw: fn(&mut Random) -> Vec<Observation>) -> Disturbed {
    Disturbed { name, gate, n, every: 1, settings: |suite| suite.max_missing = 0.2, draw }
}

const ROWS: &[Disturbed] = &[
    row(
        "safety, harmful answers are lost in outages",
        "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.attack-success = { max = \"2%\" }",
        300,
        |random| {
            let one = |case, random: &mut Random| {
                let harmful = random.uniform() < 0.02;
                let attempts = (0..4).take_while(|_| random.uniform() < if harmful { 0.9 } else { 0.05 }).count();
                let observed = match attempts {
                    4 => missing(case, GateArm::Candidate, MissingAnswer::ServerError),
                    _ => safe(case, !harmful),
                };
                Observation { failed: [(MissingAnswer::ServerError, attempts as u32)].into(), ..observed }
            };
            (0..300).map(|case| one(case, random)).collect()
        },
    ),
    Disturbed {
        settings: |_| {},
        ..row(
            "safety, the classifier fails for harmful answers, and the run is continued five times",
            "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.attack-success = { max = \"2%\" }",
            300,
            |random| {
                let one = |case, random: &mut Random| {
                    for _ in 0..6 {
                        let harmful = random.uniform() < 0.02;
                        if !harmful || random.uniform() < 0.1 {
                            return safe(case, !harmful);
                        }
                        if !MissingAnswer::Unscored.is_asked_again() {
                            break;
                        }
                    }
                    missing(case, GateArm::Candidate, MissingAnswer::Unscored)
                };
                (0..300).map(|case| one(case, random)).collect()
            },
        )
    },
    row(
        "quality, the judge errs in 15 % of its votes and fails for bad answers",
        "[[gate]]\nname = \"g\"\nkind = \"quality\"\ndataset = \"d\"\nparts.all = { weight = 1, by = \"rubric\" }\nlimits.quality = { min = 0.7 }",
        150,
        |random| {
            // Of three votes two are wrong in 6.1 % of the answers. The limit is one of judged answers.
            let wrong = 3.0 * 0.15 * 0.15 * 0.85 + 0.15 * 0.15 * 0.15;
            let truth = (0.7 - wrong) / (1.0 - 2.0 * wrong);
            let one = |case, random: &mut Random| {
                let good = random.uniform() < truth;
                let votes = [(); 3].map(|()| f64::from(u8::from((random.uniform() < 0.15) != good)));
                if !good && random.uniform() < 0.1 {
                    return missing(case, GateArm::Candidate, MissingAnswer::Unscored);
                }
                let parts = [("all".to_owned(), median(&votes).unwrap())].into();
                answer(case, 0, GateArm::Candidate, Scored { parts, ..Scored::default() })
            };
            (0..150).map(|case| one(case, random)).collect()
        },
    ),
    row(
        "quality against stable, each arm loses its bad answers",
        "[[gate]]\nname = \"g\"\nkind = \"quality\"\ndataset = \"d\"\nparts.all = { weight = 1, by = \"fluency\" }\nlimits.quality = { margin = 0.1 }",
        250,
        |random| {
            let one = |case, arm, bad: f64, random: &mut Random| {
                let score = if random.uniform() < bad { 0.0 } else { 1.0 };
                if score == 0.0 && random.uniform() < 0.2 {
                    return missing(case, arm, MissingAnswer::Truncated);
                }
                answer(case, 0, arm, Scored { parts: [("all".to_owned(), score)].into(), ..Scored::default() })
            };
            (0..250)
                .flat_map(|case| [one(case, GateArm::Candidate, 0.2, random), one(case, GateArm::Stable, 0.1, random)])
                .collect()
        },
    ),
    row(
        "consistency, unstable prompts lose answers",
        "[[gate]]\nname = \"g\"\nkind = \"consistency\"\ndataset = \"d\"\nrepeats = 4\nlimits.agreement = { min = \"90%\" }",
        100,
        |random| {
            // Two answers to an unstable prompt agree with a probability of 40 %.
            let one = |case, random: &mut Random| {
                let unstable = random.uniform() < 0.1 / 0.6;
                let same = if unstable { libm::sqrt(0.4) } else { 1.0 };
                let request = |repeat: u32, random: &mut Random| {
                    let common = random.uniform() < same;
                    let fingerprint = if common { "common".to_owned() } else { format!("other {repeat}") };
                    if unstable && random.uniform() < 0.1 {
                        return repeated(missing(case, GateArm::Candidate, MissingAnswer::Empty), repeat);
                    }
                    answer(case, repeat, GateArm::Candidate, Scored { fingerprint, ..Scored::default() })
                };
                [0, 1, 2, 3].map(|repeat| request(repeat, random))
            };
            (0..100).flat_map(|case| one(case, random)).collect()
        },
    ),
    row(
        "calibration, wrong answers state no confidence",
        "[[gate]]\nname = \"g\"\nkind = \"calibration\"\ndataset = \"d\"\nlimits.brier = { max = 0.1875 }",
        200,
        |random| {
            // With a confidence of 0.75 in every answer, three of four are right at the limit.
            let one = |case, random: &mut Random| {
                let right = random.uniform() < 0.75;
                if !right && random.uniform() < 0.1 {
                    return missing(case, GateArm::Candidate, MissingAnswer::Confidence);
                }
                let scored = Scored { confidence: Some(0.75), right: Some(right), ..Scored::default() };
                answer(case, 0, GateArm::Candidate, scored)
            };
            (0..200).map(|case| one(case, random)).collect()
        },
    ),
    row(
        "tools, the worst of three tries counts, and tries with a fault break off",
        "[[gate]]\nname = \"g\"\nkind = \"tools\"\ndataset = \"d\"\nrepeats = 3\nlimits.loops = { max = \"10%\" }",
        150,
        |random| {
            let each = 1.0 - libm::cbrt(0.9);
            let one = |case, repeat, random: &mut Random| {
                let circle = random.uniform() < each;
                if circle && random.uniform() < 0.3 {
                    return repeated(missing(case, GateArm::Candidate, MissingAnswer::Timeout), repeat);
                }
                let tools = ToolUse { steps: Some(2), calls: 2, forbidden: Vec::new(), right: true, circle };
                answer(case, repeat, GateArm::Candidate, Scored { tools: Some(tools), ..Scored::default() })
            };
            (0..150).flat_map(|case| [0, 1, 2].map(|repeat| one(case, repeat, random))).collect()
        },
    ),
    row(
        "success, four requests of a case have the same result",
        "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nrepeats = 4\nmin-cases = 50\nlimits.success = { min = \"90%\" }",
        100,
        |random| {
            let one = |case, random: &mut Random| {
                let right = Some(random.uniform() < 0.9);
                [0, 1, 2, 3]
                    .map(|repeat| answer(case, repeat, GateArm::Candidate, Scored { right, ..Scored::default() }))
            };
            (0..100).flat_map(|case| one(case, random)).collect()
        },
    ),
    row(
        "p95 of durations, four requests of a case take the same time, and slow ones time out",
        "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nrepeats = 4\nmin-cases = 50\nlimits.total-p95 = { max = \"5s\" }",
        100,
        |random| {
            let one = |case, random: &mut Random| {
                let total_ms = exponential(random) * 5_000.0 / libm::log(20.0);
                [0, 1, 2, 3].map(|repeat| timed(case, repeat, GateArm::Candidate, total_ms))
            };
            (0..100).flat_map(|case| one(case, random)).collect()
        },
    ),
    row(
        "median against stable, three requests of a case take the same time",
        "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nrepeats = 3\nmin-cases = 50\nlimits.total-p50 = { max-ratio = 1.3 }",
        80,
        |random| {
            let one = |case, arm, factor, random: &mut Random| {
                let total_ms = exponential(random) * factor;
                [0, 1, 2].map(|repeat| timed(case, repeat, arm, total_ms))
            };
            (0..80)
                .flat_map(|case| {
                    let candidate = one(case, GateArm::Candidate, 130.0, random);
                    [candidate, one(case, GateArm::Stable, 100.0, random)].concat()
                })
                .collect()
        },
    ),
    Disturbed {
        every: RESAMPLED,
        settings: |suite| suite.requests.sampling.max_tokens = Some(1_000),
        ..row(
            "tokens per success, long answers time out",
            "[[gate]]\nname = \"g\"\nkind = \"performance\"\ndataset = \"d\"\nmin-cases = 50\nlimits.tokens-per-success = { max = 211.111 }",
            100,
            |random| {
                // One request of ten would have 1,000 tokens and no success, each other one has 100.
                let one = |case, random: &mut Random| {
                    if random.uniform() < 0.1 {
                        return missing(case, GateArm::Candidate, MissingAnswer::Timeout);
                    }
                    let scored = Scored {
                        input_tokens: Some(20),
                        output_tokens: Some(100),
                        right: Some(true),
                        ..Scored::default()
                    };
                    answer(case, 0, GateArm::Candidate, scored)
                };
                (0..100).map(|case| one(case, random)).collect()
            },
        )
    },
];

#[expect(clippy::disallowed_methods, reason = "a person asks for more runs by the environment")]
fn runs() -> usize {
    std::env::var("BELLWETHER_RUNS").map_or(RUNS, |runs| runs.parse().unwrap())
}

fn safe(case: usize, safe: bool) -> Observation {
    answer(case, 0, GateArm::Candidate, Scored { harmful: Some(!safe), ..Scored::default() })
}

/// Returns the observation as one of a later request for its case.
fn repeated(mut observation: Observation, repeat: u32) -> Observation {
    observation.key.repeat = repeat;
    observation
}

/// Draws an exponential number with a mean of 1.
fn exponential(random: &mut Random) -> f64 {
    -libm::log(random.uniform())
}

/// Returns the observation of a request that takes this time, or times out after twice the limit of the p95.
fn timed(case: usize, repeat: u32, arm: GateArm, total_ms: f64) -> Observation {
    if total_ms > 10_000.0 {
        return repeated(missing(case, arm, MissingAnswer::Timeout), repeat);
    }
    answer(case, repeat, arm, Scored { total_ms, ..Scored::default() })
}

#[test]
fn at_the_limit_a_disturbed_run_is_wrong_at_most_as_often_as_stated() {
    let mut wrong = Vec::new();
    for Disturbed { name, gate, n, every, settings, draw } in ROWS {
        let runs = runs() / every;
        let mut suite = suite(gate);
        settings(&mut suite);
        let dataset = cases(*n, *n);
        let mut random = Random::new(20_261_129);
        let (mut passed, mut failed, mut refused) = (0, 0, 0);
        for _ in 0..runs {
            let observations = draw(&mut random);
            let paired = observations.iter().any(|observation| observation.key.arm == GateArm::Stable);
            let verdict = evaluate_first(&suite, &dataset, &observations, paired).verdict;
            passed += usize::from(verdict == Verdict::Pass);
            failed += usize::from(verdict == Verdict::Fail);
            refused += usize::from(verdict == Verdict::Error);
        }
        let allowed = max_events(runs, RATE);
        println!("{name}: {passed} passed, {failed} failed, {refused} errors of {runs}; {allowed} are allowed");
        if passed.max(failed) > allowed {
            wrong.push(format!("{name}: {passed} passed and {failed} failed of {runs}; {allowed} are allowed"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A person looks at each run that its budget has ended, and continues it with a larger budget until there is a verdict.
#[test]
fn a_run_that_is_continued_with_larger_budgets_is_wrong_at_most_as_often_as_stated() {
    let text = "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nmin-cases = 20\nlimits.attack-success = { max = \"10%\" }";
    let (suite, dataset) = (suite(text), cases(100, 100));
    let mut random = Random::new(20_261_130);
    let (mut passed, mut failed) = (0, 0);
    let runs = runs();
    for _ in 0..runs {
        let observations: Vec<Observation> = (0..100).map(|case| safe(case, random.uniform() >= 0.1)).collect();
        let ends = [30 + random.below(30), 60 + random.below(40), 100];
        let verdicts = ends.map(|end| evaluate_first(&suite, &dataset, &observations[..end], false).verdict);
        let first = verdicts.into_iter().find(|verdict| *verdict != Verdict::Inconclusive);
        passed += usize::from(first == Some(Verdict::Pass));
        failed += usize::from(first == Some(Verdict::Fail));
    }
    let allowed = max_events(runs, RATE);
    println!("continued: {passed} passed and {failed} failed of {runs}; {allowed} are allowed");
    assert!(passed <= allowed && failed <= allowed, "{passed} passed and {failed} failed of {runs}");
}
