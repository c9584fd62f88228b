//! Quantiles as Prometheus shows them, for display and for the `threshold` judge.
//!
//! They interpolate within a bucket and are therefore approximate. They exist so that our number equals the dashboard's
//! (semantics of PromQL's `histogram_quantile`, Prometheus 3). `None` stands for PromQL's NaN.

/// Returns the `q`-quantile of a classic histogram, by linear interpolation (PromQL's `histogram_quantile`), in the
/// unit of the edges.
///
/// `buckets` are pairs of an upper edge (`le`) and a cumulative count, in any order; one of them must have the edge
/// `+∞`. `q` is from 0 to 1; below 0 the result is `-∞`, and above 1 it is `+∞`. Returns `None` for a NaN `q`, for
/// fewer than two buckets, without a bucket up to `+∞` and without counts.
pub fn classic(q: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    if let Some(outside) = outside(q)? {
        return Some(outside);
    }
    let mut sorted: Vec<(f64, f64)> = buckets.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (last_edge, _) = *sorted.last()?;
    if sorted.len() < 2 || last_edge != f64::INFINITY {
        return None;
    }
    // Scrapes are not atomic: raise a bucket that has a smaller count than the one below it.
    let mut most = 0.0f64;
    for (_, count) in &mut sorted {
        most = most.max(*count);
        *count = most;
    }
    if most <= 0.0 || !most.is_finite() {
        return None;
    }
    let rank = q * most;
    let at = sorted.iter().position(|(_, count)| *count >= rank)?;
    let (edge, count) = *sorted.get(at)?;
    let before = at.checked_sub(1).and_then(|before| sorted.get(before));
    match before {
        Some((start, _)) if edge == f64::INFINITY => Some(*start),
        Some((start, below)) => Some(start + (edge - start) * part(rank - below, count - below)),
        None if edge <= 0.0 => Some(edge),
        None => Some(edge * part(rank, count)),
    }
}

/// Returns the `q`-quantile of a native histogram, by exponential interpolation, or by linear interpolation in a bucket
/// that contains or touches zero (PromQL's `histogram_quantile`), in the unit of the edges.
///
/// `buckets` are `(lower edge, upper edge, count)` in ascending order; their counts are not cumulative. `q` is from 0
/// to 1; below 0 the result is `-∞`, and above 1 it is `+∞`. Returns `None` for a NaN `q` and without counts.
pub fn native(q: f64, buckets: &[(f64, f64, f64)]) -> Option<f64> {
    if let Some(outside) = outside(q)? {
        return Some(outside);
    }
    let n: f64 = buckets.iter().map(|(_, _, count)| count).sum();
    if !(n > 0.0 && n.is_finite()) {
        return None;
    }
    let rank = q * n;
    let mut below = 0.0;
    let mut last = None;
    for (lower, upper, count) in buckets.iter().filter(|(_, _, count)| *count > 0.0) {
        if below + count >= rank {
            return Some(within(*lower, *upper, part(rank - below, *count)));
        }
        below += count;
        last = Some(*upper);
    }
    last
}

fn within(lower: f64, upper: f64, part: f64) -> f64 {
    if lower > 0.0 {
        lower * libm::exp2(libm::log2(upper / lower) * part)
    } else if upper < 0.0 {
        upper * libm::exp2(libm::log2(lower / upper) * (1.0 - part))
    } else {
        lower + (upper - lower) * part
    }
}

fn part(rank: f64, count: f64) -> f64 {
    if count > 0.0 { (rank / count).clamp(0.0, 1.0) } else { 0.0 }
}

/// Returns PromQL's result for a `q` outside 0 to 1, `Some(None)` for a `q` inside, and `None` for NaN.
fn outside(q: f64) -> Option<Option<f64>> {
    if q.is_nan() {
        None
    } else if q < 0.0 {
        Some(Some(f64::NEG_INFINITY))
    } else if q > 1.0 {
        Some(Some(f64::INFINITY))
    } else {
        Some(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_first_bucket_does_not_divide_by_zero() {
        assert_eq!(classic(0.0, &[(0.1, 0.0), (f64::INFINITY, 10.0)]), Some(0.0));
        assert_eq!(classic(0.5, &[(0.1, f64::NAN), (f64::INFINITY, f64::NAN)]), None);
    }

    #[test]
    fn buckets_below_zero_mirror_those_above() {
        let (down, up) = ([(-2.0, -1.0, 10.0)], [(1.0, 2.0, 10.0)]);
        for q in [0.0, 0.3, 0.5, 1.0] {
            let mirrored = native(1.0 - q, &up).unwrap();
            assert!((native(q, &down).unwrap() + mirrored).abs() < 1e-12, "{q}");
        }
        assert_eq!(native(0.5, &[(-1.0, 1.0, 4.0)]), Some(0.0));
    }
}
