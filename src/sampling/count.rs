//! Which numbers are counts.

/// Above this a float no longer holds every whole number.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;

/// A counter's value, if it is one.
pub fn count(value: f64) -> Option<u64> {
    let whole = value.round();
    let fine = value.is_finite() && (0.0..=MAX_COUNT).contains(&whole) && (value - whole).abs() <= 1e-6;
    fine.then_some(whole as u64)
}
