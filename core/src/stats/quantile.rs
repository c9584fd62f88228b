//! The quantile that Prometheus would show, for people and for the `threshold` rule.
//!
//! It interpolates within a bucket, so it is a guess; it is here so that our number and the dashboard's are the same
//! (semantics of PromQL's `histogram_quantile`, Prometheus 3). `None` stands where PromQL says NaN.

/// From cumulative buckets `(le, count)`, the last of which ends at `+∞`.
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
    // Scrapes are not atomic: a bucket that holds less than the one below it is raised.
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

/// From a native histogram's buckets `(lower, upper, count)`, ascending: exponential interpolation, but for a bucket that
/// holds or touches zero, where it is linear.
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

/// What PromQL says to a `q` that is no quantile.
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
    fn an_empty_first_bucket_is_no_division_by_zero() {
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
