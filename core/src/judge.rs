//! Judging: from counts to verdicts.
//!
//! A [`check::Check`] holds a metric against a limit by its judge. [`rule`] is the port that each judge implements, and [`judges`] is
//! the list of them. A judge looks at the newest blocks and returns an [`evidence::Evidence`] with one of four verdicts.

pub mod numbers;
pub mod rule;
pub mod outlier;
pub mod windowed;
pub mod threshold;
pub mod mann_whitney;
pub mod sequential;
pub mod judges;
pub mod evidence;
pub mod check;
pub mod run;
