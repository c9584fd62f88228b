//! Durations of requests, and confidence bounds for their quantiles.
//!
//! Several requests for one case take about as long as each other, because the length of an answer depends on its
//! question, so only cases are independent. With one request for each case the bounds are order statistics. With several,
//! the share of a case's requests that are slower than a duration is a number from 0 to 1, and the bound of the quantile
//! is the duration at which the bound of the mean share reaches the quantile's order. For one request for each case both
//! are the same bound.

use bellwether_core::stats::{bounded, order};

/// Durations of requests in ascending order, each with its case.
#[derive(Debug, Clone)]
pub struct Durations {
    /// The durations in milliseconds, in ascending order.
    sorted: Vec<f64>,
    /// The number of the case of each duration, from 0.
    case: Vec<usize>,
    /// The number of requests of each case.
    requests: Vec<usize>,
}

impl Durations {
    /// Returns the durations of these cases, each of which has at least one.
    pub fn of_cases(cases: impl IntoIterator<Item = Vec<f64>>) -> Durations {
        let (mut all, mut requests) = (Vec::new(), Vec::new());
        for (case, times) in cases.into_iter().enumerate() {
            requests.push(times.len());
            all.extend(times.into_iter().map(|time| (time, case)));
        }
        all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (sorted, case) = all.into_iter().unzip();
        Durations { sorted, case, requests }
    }

    /// Returns these durations, each as that of a case of its own.
    pub fn one_each(times: impl IntoIterator<Item = f64>) -> Durations {
        Durations::of_cases(times.into_iter().map(|time| vec![time]))
    }

    /// Returns the number of cases.
    pub fn cases(&self) -> usize {
        self.requests.len()
    }

    /// Returns the `q`-quantile of the durations themselves; `None` if there are none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        order::quantile(&self.sorted, q)
    }

    /// Returns an upper bound for the `q`-quantile: the true one is above it with a probability of at most `tail`. `None`
    /// if there are too few cases.
    pub fn upper(&self, q: f64, tail: f64) -> Option<f64> {
        if !self.is_repeated() {
            return order::upper(&self.sorted, q, tail);
        }
        // The first duration for which few enough requests are slower.
        let reaches = |at: usize| {
            let from = self.sorted.partition_point(|time| *time <= self.sorted[at]);
            bounded::upper(&self.shares_from(from), tail) <= 1.0 - q
        };
        let at = first(self.sorted.len(), reaches);
        self.sorted.get(at).copied()
    }

    /// Returns a lower bound for the `q`-quantile: the true one is below it with a probability of at most `tail`. `None`
    /// if there are too few cases.
    pub fn lower(&self, q: f64, tail: f64) -> Option<f64> {
        if !self.is_repeated() {
            return order::lower(&self.sorted, q, tail);
        }
        // The last duration for which enough requests are at least as slow.
        let misses = |at: usize| {
            let from = self.sorted.partition_point(|time| *time < self.sorted[at]);
            bounded::lower(&self.shares_from(from), tail) < 1.0 - q
        };
        let at = first(self.sorted.len(), misses).checked_sub(1)?;
        self.sorted.get(at).copied()
    }

    fn is_repeated(&self) -> bool {
        self.sorted.len() > self.requests.len()
    }

    /// Returns for each case the share of its requests whose durations are at this index or behind it.
    fn shares_from(&self, index: usize) -> Vec<f64> {
        let mut counts = vec![0; self.requests.len()];
        for case in &self.case[index..] {
            counts[*case] += 1;
        }
        counts.iter().zip(&self.requests).map(|(count, requests)| f64::from(*count) / *requests as f64).collect()
    }
}

/// Returns the first index below `n` for which `holds` is true, by bisection: it is false before and true after it. `n` if
/// there is none.
fn first(n: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_core::dice::Random;

    #[test]
    fn equal_repeats_of_a_case_add_nothing_and_independent_ones_do() {
        let mut random = Random::new(3);
        let times: Vec<f64> = (0..200).map(|_| -libm::log(random.uniform())).collect();
        let single = Durations::one_each(times.iter().copied());
        let repeated = Durations::of_cases(times.iter().map(|time| vec![*time; 4]));
        let independent = Durations::of_cases(times.chunks(4).map(<[f64]>::to_vec));
        let few = Durations::one_each(times.iter().copied().step_by(4));
        for q in [0.5, 0.95] {
            for tail in [0.05, 0.005] {
                let bounds = |times: &Durations| (times.lower(q, tail).unwrap(), times.upper(q, tail).unwrap());
                let (low, high) = bounds(&single);
                // The approximation of the tail may move a bound to the next duration.
                let near = |one: f64, other: f64| {
                    let at = |time: f64| times.iter().filter(|other| **other <= time).count();
                    at(one).abs_diff(at(other)) <= 1
                };
                assert!(near(bounds(&repeated).0, low) && near(bounds(&repeated).1, high), "{q} {tail}");
            }
        }
        let width = |times: &Durations| times.upper(0.5, 0.05).unwrap() - times.lower(0.5, 0.05).unwrap();
        let (four, one) = (width(&independent), width(&few));
        assert!(four < 0.8 * one, "{four} with four requests of each case, {one} with one");
        assert_eq!((single.cases(), repeated.cases(), independent.cases()), (200, 200, 50));
        assert_eq!(repeated.quantile(0.5), single.quantile(0.5));
    }

    #[test]
    fn a_bound_beyond_the_durations_is_none_and_an_endless_duration_is_a_bound() {
        let times = |n: usize| Durations::of_cases((0..n).map(|case| vec![case as f64, case as f64 + 0.5]));
        assert_eq!((times(10).upper(0.95, 0.05), times(10).lower(0.05, 0.05)), (None, None));
        assert_eq!(Durations::of_cases(vec![vec![1.0, f64::INFINITY]; 80]).upper(0.95, 0.05), Some(f64::INFINITY));
        assert_eq!(Durations::of_cases(Vec::new()).upper(0.5, 0.05), None);
    }
}
