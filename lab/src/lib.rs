//! Plans, backtests and the rules of other tools, built on Bellwether's own judges.
//!
//! The lab answers questions about a rollout before or after it happens. It makes no decision of the daemon, performs
//! no I/O and reads no clock: recorded blocks or numbers go in, and a report comes out. The commands `bellwether plan`,
//! `bellwether backtest` and `bellwether calibrate` load the inputs and print the reports.
//!
//! | question | module |
//! | --- | --- |
//! | Which faults can a policy find with the current traffic, and how soon? | [`plan`] |
//! | How do the rules of the article, Argo Rollouts, Flagger and Kayenta decide? | [`rivals`] |
//! | How would a policy and the other rules have decided about a recorded rollout? | [`backtest`] |
//! | How often does a judge roll back although both arms run the same version? | [`backtest::alarms`] |
//!
//! The judges are not re-implemented here. A plan runs the core's judges on simulated blocks, and a backtest runs them
//! on recorded blocks, so their verdicts are the daemon's. Only the rules of other tools are re-implemented, from their
//! sources. Simulations have fixed seeds; the same inputs give the same report on every machine.
//!
//! The benchmark `judges` compares all rules on simulated rollouts and prints the tables of `docs/figures-judges.md`.
//!
//! # Examples
//!
//! The decisions of four other tools about an hour in which 2 % of the canary's requests failed, and 0.4 % of the
//! stable's:
//!
//! ```
//! use bellwether_core::measure::block::{Block, Reading, Sample};
//! use bellwether_core::time::Timestamp;
//! use bellwether_lab::backtest::rival::Rival;
//! use bellwether_lab::backtest::{BacktestJudge, length};
//! use bellwether_lab::rivals::RivalEnd;
//!
//! let at = |n: i64| Timestamp::from_second(15 * n).unwrap();
//! let errors = |hits| Some(Reading::Ratio { hits, total: 1000 });
//! let block = |n| {
//!     let sample = Sample::Arms { canary: errors(20), stable: errors(4) };
//!     Block::new(at(n), at(n + 1), [("error-rate".to_owned(), sample)])
//! };
//! let blocks: Vec<Block> = (0..240).map(block).collect();
//!
//! let mut decisions = Vec::new();
//! for rival in Rival::usual("error-rate", length(&blocks)) {
//!     let judge = BacktestJudge::Theirs(rival).fit(&blocks)?;
//!     let judged = judge.judge(&blocks, &[]).unwrap();
//!     println!("{judged}");
//!     decisions.push((judged.who, judged.end));
//! }
//! let expected = [
//!     ("the article's rule", RivalEnd::Promoted), // its limit is 5 %
//!     ("Argo Rollouts", RivalEnd::RolledBack),
//!     ("Flagger", RivalEnd::RolledBack),
//!     ("Kayenta", RivalEnd::RolledBack),
//! ];
//! assert_eq!(decisions, expected.map(|(who, end)| (who.to_owned(), Some(end))));
//! # Ok::<(), bellwether_lab::backtest::Unfit>(())
//! ```

pub mod plan;
pub mod rivals;
pub mod backtest;
