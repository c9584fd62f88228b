//! The conversion of a sample's value to a count.

/// 2^53: above it a float no longer represents every whole number.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;

/// Returns the value of a counter as a whole number. `None`: it is negative, not finite, above 2^53 or more than 1e-6
/// off a whole number.
pub fn count(value: f64) -> Option<u64> {
    let whole = value.round();
    let is_count = value.is_finite() && (0.0..=MAX_COUNT).contains(&whole) && (value - whole).abs() <= 1e-6;
    is_count.then_some(whole as u64)
}
