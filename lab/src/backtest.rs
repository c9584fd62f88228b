//! Backtests: the decisions of a policy, and of other tools' rules, on the same recorded blocks.
//!
//! A backtest shows the effect of a change of policy, or of a change from another tool, on real traffic of the past. A
//! recording has the counts of both arms but not their weights, so the split of the traffic stays as it was: the weight
//! of a policy's step has no effect, its time and its checks do. A judge that has not decided when the recording ends
//! is undecided.
//!
//! If canary and stable ran the same version, every rollback is a false alarm ([`alarms`]). False alarms are counted
//! over stretches of a rollout's length and reported with an upper confidence bound of their share, which is wide for a
//! short recording.
//!
//! Read the modules in the order of their declarations.

mod judged;
pub mod blocks;
mod policy_replay;
pub mod rival;
mod judge;
pub mod canaries;
pub mod alarms;

pub use blocks::length;
pub use judge::{BacktestJudge, Unfit};
pub use judged::Judged;
