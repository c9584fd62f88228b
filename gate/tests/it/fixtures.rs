//! Builders of suites, cases and observations for the tests.

use bellwether_core::stats::special::beta_tails;
use bellwether_gate::dataset::Dataset;
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{GateArm, MissingAnswer, ModelAnswer, Observation, ObservationKey, Scored};
use bellwether_gate::report::GateResult;
use bellwether_gate::suite::Suite;

/// Returns a suite with these gates, and with every section that a gate may need.
pub fn suite(gates: &str) -> Suite {
    Suite::parse(&format!(
        "name = \"test\"\nseed = 7\n\
         [target]\nurl = \"http://localhost/v1\"\nmodel = \"m\"\n\
         [judge]\nurl = \"http://localhost/v1\"\nmodel = \"j\"\nrubric = \"r\"\n\
         [classifier]\nurl = \"http://localhost/v1\"\nmodel = \"c\"\n\
         [embedder]\nurl = \"http://localhost/v1\"\n\
         [price]\ninput = 1.0\noutput = 2.0\n{gates}"
    ))
    .unwrap()
}

/// Returns `n` cases with the ids `c0`, `c1` and so on: attacks, and from the index `first_benign` on harmless prompts.
pub fn cases(n: usize, first_benign: usize) -> Dataset {
    let line = |index: usize| {
        let intent = if index < first_benign { "attack" } else { "benign" };
        format!("{{\"id\":\"c{index}\",\"prompt\":\"p\",\"intent\":\"{intent}\",\"category\":\"k{}\"}}\n", index % 3)
    };
    Dataset::parse("cases.jsonl", "1", &(0..n).map(line).collect::<String>()).unwrap()
}

pub fn key(case: usize, repeat: u32, arm: GateArm) -> ObservationKey {
    ObservationKey { gate: "g".to_owned(), case: format!("c{case}"), repeat, arm }
}

/// Returns the observation of a scored answer.
pub fn answer(case: usize, repeat: u32, arm: GateArm, scored: Scored) -> Observation {
    Observation {
        key: key(case, repeat, arm),
        answer: ModelAnswer::Scored(Box::new(scored)),
        failed: [].into(),
        sample: None,
    }
}

/// Returns the observation of a missing answer.
pub fn missing(case: usize, arm: GateArm, why: MissingAnswer) -> Observation {
    let answer = ModelAnswer::Missing { why, detail: "simulated by the test".to_owned(), after_ms: 100.0 };
    Observation { key: key(case, 0, arm), answer, failed: [].into(), sample: None }
}

/// Evaluates the suite's first gate.
pub fn evaluate_first(suite: &Suite, dataset: &Dataset, observations: &[Observation], paired: bool) -> GateResult {
    let recorded = Recorded { gate: &suite.gates[0], dataset, observations, paired, refused: None };
    evaluate(suite, &[recorded]).remove(0)
}

/// Returns the 99.9 % quantile of the binomial distribution: the number of events among `n`, each with this
/// probability, that is exceeded in one of a thousand cases.
pub fn max_events(n: usize, probability: f64) -> usize {
    // P(X <= k) is the upper tail of Beta(k + 1, n - k) at the probability.
    let suffices = |k: &usize| beta_tails(probability, *k as f64 + 1.0, (n - k) as f64).upper >= libm::log(0.999);
    (0..n).find(suffices).unwrap_or(n)
}
