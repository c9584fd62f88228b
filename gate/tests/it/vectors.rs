//! Comparison with the reference values of `tests/vectors/reference.json`, which `make.py` in the same folder computes
//! with scipy, scikit-learn, statsmodels and rouge-score.

use bellwether_core::stats::bootstrap::resample;
use bellwether_core::stats::confidence::{lower_part, upper_part, wilson};
use bellwether_core::stats::paired::mcnemar;
use bellwether_core::stats::{bounded, order};
use bellwether_gate::report::Reliability;
use bellwether_gate::score::overlap::{rouge_l, token_f1};
use bellwether_gate::score::rubric::kappa;
use serde_json::Value;

fn reference(group: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../vectors/reference.json")).unwrap();
    all[group].clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

#[track_caller]
fn assert_close(ours: f64, reference: f64, tolerance: f64, label: &str) {
    assert!((ours - reference).abs() <= tolerance, "{label}: {ours}, but the reference is {reference}");
}

/// Calls `check` for each row of a group, which must not be empty.
fn for_each_row(group: &str, check: impl Fn(&Value)) {
    let rows = reference(group);
    assert!(!rows.as_array().unwrap().is_empty());
    rows.as_array().unwrap().iter().for_each(check);
}

#[test]
fn token_f1_and_rouge_l_equal_those_of_squad_and_rouge_score() {
    for_each_row("texts", |row| {
        let (answer, good) = (row["answer"].as_str().unwrap(), row["good"].as_str().unwrap());
        assert_close(token_f1(answer, good), number(&row["token-f1"]), 1e-12, answer);
        assert_close(rouge_l(answer, good), number(&row["rouge-l"]), 1e-12, answer);
    });
}

#[test]
fn intervals_of_shares_equal_those_of_statsmodels() {
    for_each_row("shares", |row| {
        let (hits, n) = (row["hits"].as_u64().unwrap() as usize, row["n"].as_u64().unwrap() as usize);
        let (tail, exact, score) = (number(&row["tail"]), numbers(&row["exact"]), numbers(&row["wilson"]));
        let label = format!("{hits} of {n} at {tail}");
        // For 0 or n hits, implementations differ in whether the other end has the whole error or half of it.
        if hits > 0 && hits < n {
            assert_close(lower_part(hits, n, tail), exact[0], 1e-9, &label);
        }
        assert_close(upper_part(hits, n, tail), exact[1], 1e-9, &label);
        let ours = wilson(hits, n, tail);
        assert_close(ours.lower, score[0], 1e-9, &label);
        assert_close(ours.upper, score[1], 1e-9, &label);
    });
}

#[test]
fn mcnemars_exact_p_values_equal_those_of_statsmodels() {
    for_each_row("pairs", |row| {
        let ours = mcnemar(row["one"].as_u64().unwrap(), row["other"].as_u64().unwrap());
        assert_close(ours.two_sided, number(&row["two-sided"]), 1e-12, &row.to_string());
        assert_close(ours.one_is_more, number(&row["one-is-more"]), 1e-12, &row.to_string());
    });
}

#[test]
fn bounds_of_quantiles_have_the_ranks_of_the_binomial_distribution() {
    for_each_row("quantiles", |row| {
        let n = row["n"].as_u64().unwrap();
        let (q, tail) = (number(&row["q"]), number(&row["tail"]));
        // The k-th value is k.
        let values: Vec<f64> = (1..=n).map(|k| k as f64).collect();
        assert_eq!(order::upper(&values, q, tail), row["upper"].as_f64(), "{row}");
        assert_eq!(order::lower(&values, q, tail), row["lower"].as_f64(), "{row}");
    });
}

#[test]
fn gaffkes_bound_equals_a_simulation_of_a_million_draws() {
    for_each_row("bounded", |row| {
        let ours = bounded::upper(&numbers(&row["values"]), number(&row["tail"]));
        assert_close(ours, number(&row["upper"]), 3e-4, &row["name"].to_string());
    });
}

#[test]
fn bca_bounds_equal_those_of_numpy_and_are_close_to_those_of_scipy() {
    for_each_row("bootstrap", |row| {
        let (first, second) = (numbers(&row["first"]), numbers(&row["second"]));
        let (times, seed) = (row["times"].as_u64().unwrap() as usize, row["seed"].as_u64().unwrap());
        let sum = |values: &[f64], drawn: &[usize]| drawn.iter().map(|index| values[*index]).sum::<f64>();
        let ours = resample(first.len(), times, seed, |drawn| sum(&first, drawn) / sum(&second, drawn)).unwrap();
        let label = row["name"].to_string();
        // The reference uses the same random generator, so the only difference is the order of additions.
        assert_close(ours.estimate, number(&row["estimate"]), 1e-9, &label);
        assert_close(ours.lower(0.05), number(&row["lower"]), 1e-7 * ours.estimate.abs().max(1.0), &label);
        assert_close(ours.upper(0.05), number(&row["upper"]), 1e-7 * ours.estimate.abs().max(1.0), &label);
        // scipy draws other resamples, and fifty times as many.
        let (scipy, error) = (numbers(&row["scipy"]), number(&row["standard-error"]));
        assert_close(ours.lower(0.05), scipy[0], 0.15 * error, &label);
        assert_close(ours.upper(0.05), scipy[1], 0.15 * error, &label);
    });
}

#[test]
fn calibration_figures_equal_those_of_scikit_learn() {
    let data = reference("calibration");
    let right = data["right"].as_array().unwrap().iter().map(|right| right.as_bool().unwrap());
    let answers: Vec<(f64, bool)> = numbers(&data["confidence"]).into_iter().zip(right).collect();
    let ours = Reliability::of(answers, 1).unwrap();
    assert_close(ours.brier, number(&data["brier"]), 1e-12, "Brier");
    assert_close(ours.ece, number(&data["ece"]), 1e-12, "ECE");
    assert_close(ours.auroc.unwrap(), number(&data["auroc"]), 1e-12, "AUROC");
    let (accuracy, confidence) = (numbers(&data["accuracy-by-bin"]), numbers(&data["confidence-by-bin"]));
    for (index, bin) in ours.bins.iter().enumerate() {
        assert_close(bin.accuracy, accuracy[index], 1e-12, "accuracy of a bin");
        assert_close(bin.confidence, confidence[index], 1e-12, "confidence of a bin");
    }
    assert!(ours.ece_corrected < ours.ece && ours.ece_interval.0 < ours.ece_interval.1, "{ours:?}");
}

#[test]
fn kappa_equals_that_of_scikit_learn() {
    let data = reference("kappa");
    let people = data["people"].as_array().unwrap().iter().map(|label| label.as_bool().unwrap());
    let pairs: Vec<(f64, bool)> = numbers(&data["scores"]).into_iter().zip(people).collect();
    assert_close(kappa(&pairs).unwrap(), number(&data["kappa"]), 1e-12, "kappa");
}

/// Answers with one confidence are one bin, so a calibrated model has no error, in whichever order its answers come.
#[test]
fn answers_with_the_same_confidence_are_in_one_bin() {
    let answers = |confidence: f64, n: usize, right: usize| (0..n).map(move |at| (confidence, at % n < right));
    let calibrated = Reliability::of(answers(0.9, 200, 180).collect(), 1).unwrap();
    assert_eq!(calibrated.bins.len(), 1);
    assert!(calibrated.ece < 1e-12 && calibrated.ece_corrected < 1e-12, "{calibrated:?}");
    // Three confidences, of which one is wrong by 0.3 for a quarter of the answers.
    let three = answers(0.9, 100, 90).chain(answers(0.5, 50, 25)).chain(answers(0.6, 50, 45));
    let found = Reliability::of(three.collect(), 1).unwrap();
    assert!((found.ece - 0.3 * 0.25).abs() < 1e-12, "{found:?}");
    assert_eq!(found.bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [50, 50, 100]);
    // Distinct confidences are divided evenly.
    let distinct = Reliability::of((0..95).map(|at| (f64::from(at) / 95.0, at % 2 == 0)).collect(), 1).unwrap();
    assert_eq!(distinct.bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [10, 10, 10, 10, 10, 9, 9, 9, 9, 9]);
}
