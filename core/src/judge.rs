//! Judging: from counts to verdicts, by thresholds, by ranks, by distances between distributions, or by evidence.

pub mod outlier;
pub mod verdict;
pub mod drift;
pub mod ranks;
pub mod threshold;
pub mod sequential;
pub mod reward;
