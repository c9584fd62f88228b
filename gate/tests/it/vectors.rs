//! The reference values of `tests/vectors/reference.json`, computed by `make.py` beside it with scipy, scikit-learn,
//! statsmodels and rouge-score.

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
fn close(ours: f64, theirs: f64, within: f64, of: &str) {
    assert!((ours - theirs).abs() <= within, "{of}: {ours}, and the reference has {theirs}");
}

fn each(group: &str, check: impl Fn(&Value)) {
    let rows = reference(group);
    assert!(!rows.as_array().unwrap().is_empty());
    rows.as_array().unwrap().iter().for_each(check);
}

#[test]
fn overlaps_are_those_of_squad_and_rouge_score() {
    each("texts", |row| {
        let (answer, good) = (row["answer"].as_str().unwrap(), row["good"].as_str().unwrap());
        close(token_f1(answer, good), number(&row["token-f1"]), 1e-12, answer);
        close(rouge_l(answer, good), number(&row["rouge-l"]), 1e-12, answer);
    });
}

#[test]
fn shares_have_the_intervals_of_statsmodels() {
    each("shares", |row| {
        let (hits, n) = (row["hits"].as_u64().unwrap() as usize, row["n"].as_u64().unwrap() as usize);
        let (tail, exact, score) = (number(&row["tail"]), numbers(&row["exact"]), numbers(&row["wilson"]));
        let of = format!("{hits} of {n} at {tail}");
        // An end that is 0 or 1 is named with all of the error on the other side by some, and half of it by others.
        if hits > 0 && hits < n {
            close(lower_part(hits, n, tail), exact[0], 1e-9, &of);
        }
        close(upper_part(hits, n, tail), exact[1], 1e-9, &of);
        let ours = wilson(hits, n, tail);
        close(ours.lower, score[0], 1e-9, &of);
        close(ours.upper, score[1], 1e-9, &of);
    });
}

#[test]
fn pairs_have_the_probabilities_of_mcnemars_exact_test() {
    each("pairs", |row| {
        let ours = mcnemar(row["one"].as_u64().unwrap(), row["other"].as_u64().unwrap());
        close(ours.two_sided, number(&row["two-sided"]), 1e-12, &row.to_string());
        close(ours.one_is_more, number(&row["one-is-more"]), 1e-12, &row.to_string());
    });
}

#[test]
fn quantiles_are_bounded_at_the_ranks_of_the_binomial_distribution() {
    each("quantiles", |row| {
        let n = row["n"].as_u64().unwrap();
        let (q, tail) = (number(&row["q"]), number(&row["tail"]));
        // The k-th value is k.
        let values: Vec<f64> = (1..=n).map(|k| k as f64).collect();
        assert_eq!(order::upper(&values, q, tail), row["upper"].as_f64(), "{row}");
        assert_eq!(order::lower(&values, q, tail), row["lower"].as_f64(), "{row}");
    });
}

#[test]
fn scores_have_gaffkes_bound_as_a_million_throws_have_it() {
    each("bounded", |row| {
        let ours = bounded::upper(&numbers(&row["values"]), number(&row["tail"]));
        close(ours, number(&row["upper"]), 3e-4, &row["name"].to_string());
    });
}

#[test]
fn resampling_gives_numpys_numbers_and_scipys_interval() {
    each("bootstrap", |row| {
        let (first, second) = (numbers(&row["first"]), numbers(&row["second"]));
        let (times, seed) = (row["times"].as_u64().unwrap() as usize, row["seed"].as_u64().unwrap());
        let sum = |of: &[f64], drawn: &[usize]| drawn.iter().map(|at| of[*at]).sum::<f64>();
        let ours = resample(first.len(), times, seed, |drawn| sum(&first, drawn) / sum(&second, drawn)).unwrap();
        let of = row["name"].to_string();
        // The same generator draws the same cases, so this is equality but for the order of additions.
        close(ours.estimate, number(&row["estimate"]), 1e-9, &of);
        close(ours.lower(0.05), number(&row["lower"]), 1e-7 * ours.estimate.abs().max(1.0), &of);
        close(ours.upper(0.05), number(&row["upper"]), 1e-7 * ours.estimate.abs().max(1.0), &of);
        // scipy draws others, and fifty times as many.
        let (scipy, error) = (numbers(&row["scipy"]), number(&row["standard-error"]));
        close(ours.lower(0.05), scipy[0], 0.15 * error, &of);
        close(ours.upper(0.05), scipy[1], 0.15 * error, &of);
    });
}

#[test]
fn calibration_is_that_of_scikit_learn() {
    let data = reference("calibration");
    let right = data["right"].as_array().unwrap().iter().map(|right| right.as_bool().unwrap());
    let answers: Vec<(f64, bool)> = numbers(&data["confidence"]).into_iter().zip(right).collect();
    let ours = Reliability::of(answers, 1).unwrap();
    close(ours.brier, number(&data["brier"]), 1e-12, "Brier");
    close(ours.ece, number(&data["ece"]), 1e-12, "ECE");
    close(ours.auroc.unwrap(), number(&data["auroc"]), 1e-12, "AUROC");
    let (accuracy, confidence) = (numbers(&data["accuracy-by-bin"]), numbers(&data["confidence-by-bin"]));
    for (at, bin) in ours.bins.iter().enumerate() {
        close(bin.accuracy, accuracy[at], 1e-12, "accuracy of a bin");
        close(bin.confidence, confidence[at], 1e-12, "confidence of a bin");
    }
    assert!(ours.ece_corrected < ours.ece && ours.ece_interval.0 < ours.ece_interval.1, "{ours:?}");
}

#[test]
fn kappa_is_that_of_scikit_learn() {
    let data = reference("kappa");
    let people = data["people"].as_array().unwrap().iter().map(|label| label.as_bool().unwrap());
    let pairs: Vec<(f64, bool)> = numbers(&data["scores"]).into_iter().zip(people).collect();
    close(kappa(&pairs).unwrap(), number(&data["kappa"]), 1e-12, "kappa");
}
