//! The cases that a report names for a limit: those on its bad side. They explain a verdict and have no influence on it.

use std::collections::BTreeMap;

use crate::evidence::{Measured, Possible};
use crate::metric::Worse;
use crate::suite::{Comparison, GateLimit};

/// Cases that a report names; further ones are only counted.
const MAX_NAMED: usize = 20;

/// The badness of a case, from 0 to 1, from which on it is named.
const BAD: f64 = 0.5;

/// The cases on the bad side of a limit.
#[derive(Debug, Default)]
pub(super) struct FailingCases {
    /// The ids of at most 20 of them, the worst first.
    pub named: Vec<String>,
    /// The number of all of them.
    pub count: usize,
}

/// Returns the cases that are bad, or, if the limit is a comparison, worse than with the stable version. A case without
/// an answer is not among them, and a metric that has no number for each case has none.
pub(super) fn failing(limit: &GateLimit, candidate: &Measured, stable: Option<&Measured>) -> FailingCases {
    let Measured::PerCase(candidate) = candidate else { return FailingCases::default() };
    // At its best, so that a missing answer is not bad.
    let badness = |value: Possible| match limit.metric.worse {
        Worse::More => value.low,
        Worse::Less => 1.0 - value.high,
        Worse::Neither => 0.0,
    };
    let stable: Option<&BTreeMap<String, Possible>> = match (limit.comparison, stable) {
        (Comparison::Margin(_), Some(Measured::PerCase(stable))) => Some(stable),
        (Comparison::Margin(_), _) => return FailingCases::default(),
        _ => None,
    };
    let mut bad: Vec<(f64, &String)> = candidate
        .iter()
        .filter_map(|(case, value)| {
            let other = match stable {
                Some(stable) => badness(*stable.get(case).filter(|value| value.low == value.high)?),
                None => 0.0,
            };
            Some((badness(*value) - other, case))
        })
        .filter(|(badness, _)| *badness >= BAD)
        .collect();
    bad.sort_by(|(one, case), (other, other_case)| other.total_cmp(one).then(case.cmp(other_case)));
    FailingCases { count: bad.len(), named: bad.iter().take(MAX_NAMED).map(|(_, case)| (*case).clone()).collect() }
}
