//! The answers of one arm grouped by case, which all kinds of gates measure.

use std::collections::BTreeMap;

use crate::evidence::{Measured, Possible};
use crate::observation::{GateArm, Observation, Scored};

/// The observations of one arm, by the case's id. It contains only cases that were asked as often as the gate requires:
/// a case that the run did not finish counts as not asked, and not as missing.
pub(super) type ByCase<'a> = BTreeMap<&'a str, Vec<&'a Observation>>;

/// Groups the observations of `arm`, and drops the cases with fewer than `repeats` of them.
pub(super) fn by_case(observations: &[Observation], arm: GateArm, repeats: u32) -> ByCase<'_> {
    let mut cases: ByCase<'_> = BTreeMap::new();
    for observation in observations.iter().filter(|observation| observation.key.arm == arm) {
        cases.entry(&observation.key.case).or_default().push(observation);
    }
    cases.retain(|_, answers| answers.len() >= repeats as usize);
    cases
}

/// Computes a number from 0 to 1 for each case from its scored answers. It is not known for a case with a missing answer.
pub(super) fn per_case(arm: &ByCase<'_>, number: impl Fn(&[&Scored]) -> Option<f64>) -> Measured {
    let number_of = |answers: &Vec<&Observation>| {
        let scored: Option<Vec<_>> = answers.iter().map(|observation| observation.scored()).collect();
        scored.and_then(|scored| number(&scored))
    };
    Measured::PerCase(arm.iter().map(|(case, answers)| ((*case).to_owned(), possible(number_of(answers)))).collect())
}

/// Returns the possible values of a number from 0 to 1: any if it is `None`.
pub(super) fn possible(number: Option<f64>) -> Possible {
    number.map_or(Possible::UNIT, Possible::known)
}

/// Returns the sum of the numbers.
pub(super) fn sum(numbers: impl Iterator<Item = Possible>) -> Possible {
    numbers.fold(Possible::known(0.0), Possible::plus)
}

/// Returns the mean of the values; `None` if there are none, or if one of them is `None`.
pub(super) fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Option<Vec<f64>> = values.collect();
    values.filter(|values| !values.is_empty()).map(|values| values.iter().sum::<f64>() / values.len() as f64)
}

/// Returns 1 for true and 0 for false.
pub(super) fn one_if(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}
