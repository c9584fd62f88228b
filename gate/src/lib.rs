//! Behavioural gates: tests that decide whether a model or an agent may receive traffic at all.
//!
//! A rollout judges a new version by the traffic of users. A gate judges it before that: it asks the version a fixed
//! set of cases, scores the answers, and compares the result with a limit, or with the stable version's answers to the
//! same cases.
//!
//! Many test tools compare a plain number over a handful of prompts with a threshold. That proves little: a model that
//! gives in to every third attack refuses three attacks in a row in three of ten runs. Here each number has a
//! confidence bound, and the verdict is read from the bound:
//!
//! - `pass`: the limit is shown to hold; a version that is not good enough passes in at most `beta` of all runs;
//! - `fail`: the limit is shown to be violated; a good version fails in at most `alpha` of all runs, counted over all
//!   limits of the suite together;
//! - `inconclusive`: the cases show neither; more cases may;
//! - `error`: the target, a judge or a classifier did not answer, so there is no valid measurement;
//! - `skipped`: the limit is a comparison, and there is no stable version to compare with.
//!
//! A missing answer is never ignored: it counts against passing, and never in favour of failing (see [`evidence`]).
//!
//! This crate is the pure half of the gates. It does no I/O and reads no clock, and the seed of its resampling is in
//! the suite, so the same observations give the same report everywhere. Its caller (`bellwether gate`) sends the
//! requests, retries them, keeps the budget and stores the observations.
//!
//! # Data flow
//!
//! 1. A [`dataset`] holds the cases of a gate: a question, and the data to judge an answer by.
//! 2. A [`suite`] holds the gates, the endpoints and the error rates. The [`metric`] table defines the metrics of each
//!    kind of gate.
//! 3. The caller sends the cases to the endpoints. Each answer gets a [`score`], and is recorded as an [`observation`].
//! 4. [`gates`] computes each metric from the observations, one number per case.
//! 5. [`evidence`] computes an estimate and confidence bounds from these numbers.
//! 6. A [`rule`] turns the bounds of all limits of a suite into verdicts.
//! 7. A [`report`] holds the verdicts and is written as JSON, Markdown, JUnit XML or HTML.
//!
//! Before a run, a [`plan`] computes how many cases each limit needs, and how often a good and a bad version pass.
//! [`import`] makes a report from the results of another test tool. The modules are declared in reading order: each one
//! uses only those before it.
//!
//! # Examples
//!
//! A quality gate that requires a mean score of 0.7, with 60 cases that are all answered correctly:
//!
//! ```
//! use bellwether_gate::dataset::Dataset;
//! use bellwether_gate::gates::{Recorded, evaluate};
//! use bellwether_gate::observation::{GateArm, ModelAnswer, Observation, ObservationKey, Scored};
//! use bellwether_gate::report::GateReport;
//! use bellwether_gate::rule::Verdict;
//! use bellwether_gate::score::by_rule;
//! use bellwether_gate::suite::Suite;
//!
//! let suite = Suite::parse(
//!     r#"
//!     name = "capitals"
//!     [target]
//!     [[gate]]
//!     kind = "quality"
//!     dataset = "capitals.jsonl"
//!     min-cases = 50
//!     parts.right = { weight = 1, by = "contains" }
//!     limits.quality = { min = 0.7 }
//!     "#,
//! )?;
//! let gate = &suite.gates[0];
//! let lines: String = (0..60)
//!     .map(|n| format!("{{\"id\":\"c{n}\",\"prompt\":\"The capital of country {n}?\",\"expected\":[\"City {n}\"]}}\n"))
//!     .collect();
//! let dataset = Dataset::parse("capitals.jsonl", "1", &lines)?;
//!
//! let mut observations = Vec::new();
//! for case in &dataset.cases {
//!     // A real run sends the case to the target here.
//!     let answer = format!("It is {}.", case.expected[0]);
//!     let score = by_rule(&gate.parts["right"].by, case, &answer).ok_or("this scorer needs an endpoint")?;
//!     let scored = Scored { parts: [("right".to_owned(), score)].into(), ..Scored::default() };
//!     let key = ObservationKey {
//!         gate: gate.name.clone(),
//!         case: case.id.clone(),
//!         repeat: 0,
//!         arm: GateArm::Candidate,
//!     };
//!     observations.push(Observation { key, answer: ModelAnswer::Scored(Box::new(scored)), failed: [].into(), sample: None });
//! }
//!
//! let recorded = Recorded { gate, dataset: &dataset, observations: &observations, paired: false, refused: None };
//! let results = evaluate(&suite, &[recorded]);
//! assert_eq!(GateReport::suite_verdict(&results), Verdict::Pass);
//! assert_eq!(
//!     results[0].sentence,
//!     "quality: quality 1 over 60 cases, at least 0.95 with 95 % confidence; limit ≥ 0.7: pass"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod text;
pub mod dataset;
pub mod metric;
pub mod suite;
pub mod score;
pub mod observation;
pub mod evidence;
pub mod rule;
pub mod report;
pub mod plan;
pub mod gates;
pub mod import;
