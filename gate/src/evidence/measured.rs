//! The measurements of one arm: for each case a number, durations or a quotient, each with the range of its possible
//! values.

use std::collections::BTreeMap;

/// The possible values of a number: one value if it is known, and a range if an answer is missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Possible {
    /// The smallest possible value.
    pub low: f64,
    /// The largest possible value; ∞ if nothing limits it.
    pub high: f64,
}

impl Possible {
    /// The range of a number from 0 to 1 that is not known.
    pub const UNIT: Possible = Possible { low: 0.0, high: 1.0 };

    /// Returns the only possible value of a number that is known.
    pub fn known(value: f64) -> Possible {
        Possible { low: value, high: value }
    }

    /// Returns the end of the range: the high one or the low one.
    pub fn end(self, high: bool) -> f64 {
        if high { self.high } else { self.low }
    }

    /// Returns the sum of two numbers.
    pub fn plus(self, other: Possible) -> Possible {
        Possible { low: self.low + other.low, high: self.high + other.high }
    }

    /// Returns the number multiplied by a factor, which is not negative. A factor of 0 gives 0, also without a limit.
    pub fn times(self, factor: f64) -> Possible {
        let scaled = |value: f64| if factor == 0.0 { 0.0 } else { factor * value };
        Possible { low: scaled(self.low), high: scaled(self.high) }
    }
}

/// The values of one metric for one arm.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// A number from 0 to 1 for each case, by its id.
    PerCase(BTreeMap<String, Possible>),
    /// The durations of each case's requests in milliseconds, by its id.
    Times(BTreeMap<String, Vec<Possible>>),
    /// The numerator and the denominator of a quotient for each case, by its id.
    Ratio(BTreeMap<String, (Possible, Possible)>),
}
