//! Two arms that answered the same cases: what only the cases on which they differ can say.

use super::special::beta_tails;

/// McNemar's exact test (1947): of the cases on which the arms differ, `one` went to the first and `other` to the second. If
/// the arms are alike each goes either way with the same chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// That the difference would be as large in either direction.
    pub two_sided: f64,
    /// That so many, or more, would go to the first.
    pub one_is_more: f64,
}

/// The test. Without a difference both probabilities are 1.
pub fn mcnemar(one: u64, other: u64) -> McNemar {
    let n = one + other;
    // P(X >= k) for X binomial(n, 1/2).
    let at_least = |k: u64| {
        if k == 0 { 1.0 } else { libm::exp(beta_tails(0.5, k as f64, (n - k) as f64 + 1.0).lower) }
    };
    McNemar { two_sided: (2.0 * at_least(one.max(other))).min(1.0), one_is_more: at_least(one) }
}
