//! What the tests make suites, cases and answers of.

use bellwether_core::stats::special::beta_tails;
use bellwether_gate::dataset::Dataset;
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{Answer, Arm, Key, Missing, Observation, Scored};
use bellwether_gate::report::GateReport;
use bellwether_gate::suite::Suite;

/// A suite with these gates; everybody that a gate may need is there.
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

/// So many cases, `c0` and on, those from `benign` on harmless.
pub fn cases(n: usize, benign: usize) -> Dataset {
    let line = |at: usize| {
        let intent = if at < benign { "attack" } else { "benign" };
        format!("{{\"id\":\"c{at}\",\"prompt\":\"p\",\"intent\":\"{intent}\",\"category\":\"k{}\"}}\n", at % 3)
    };
    Dataset::parse("cases.jsonl", "1", &(0..n).map(line).collect::<String>()).unwrap()
}

pub fn key(case: usize, repeat: u32, arm: Arm) -> Key {
    Key { gate: "g".to_owned(), case: format!("c{case}"), repeat, arm }
}

pub fn answer(case: usize, repeat: u32, arm: Arm, scored: Scored) -> Observation {
    Observation { key: key(case, repeat, arm), answer: Answer::Scored(Box::new(scored)), sample: None }
}

pub fn nothing(case: usize, arm: Arm, why: Missing) -> Observation {
    let answer = Answer::Missing { why, detail: "as the test has it".to_owned(), after_ms: 100.0 };
    Observation { key: key(case, 0, arm), answer, sample: None }
}

/// What the suite's first gate comes to.
pub fn judged(suite: &Suite, dataset: &Dataset, observations: &[Observation], paired: bool) -> GateReport {
    let recorded = Recorded { gate: &suite.gates[0], dataset, observations, paired, refused: None };
    evaluate(suite, &[recorded]).remove(0)
}

/// Of `n` runs, each with this chance: the number that is exceeded in one of a thousand.
pub fn most(n: usize, chance: f64) -> usize {
    // P(X <= k) is the upper tail of Beta(k + 1, n - k) at the chance.
    let enough = |k: &usize| beta_tails(chance, *k as f64 + 1.0, (n - k) as f64).upper >= libm::log(0.999);
    (0..n).find(enough).unwrap_or(n)
}
