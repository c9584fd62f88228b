//! The outlier test: a fault of one pod is told from a fault of the version.
//!
//! A fault of the version affects all of its pods, so their bad requests are divided in proportion to their requests:
//! of `B` bad requests of the version, pod `i` has a number that is distributed as `Binomial(B, n_i/N)`. A pod on a
//! broken node has more. The pod with the largest excess is tested against this distribution, one-sided, with the
//! Bonferroni correction for the number `P` of pods:
//!
//! ```text
//! P · I_q(b, B - b + 1) <= 5 %         q = n_i/N; b and B are counts of clusters: divided by φ
//! ```
//!
//! The regularized incomplete beta function `I` is the tail of the binomial distribution (DLMF 8.17.5).
//!
//! The pod is named only if the other pods together pass the check. The verdict does not change, because the users of
//! the pod are served badly in either case; the name tells people where to look.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::counts::Counts;
use crate::stats::special::beta_tails;
use crate::stats::tally::Phi;

/// The largest probability that a pod is called an outlier although there is none.
const LEVEL: f64 = 0.05;

/// The number of pods whose counts are kept: those with the most bad requests.
const MAX_KEPT_PODS: usize = 4;

/// The counts of the judged version's pods so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodCounts {
    /// The largest number of pods in a block.
    most: usize,
    /// The pods with the most bad requests, by name, at most [`MAX_KEPT_PODS`].
    kept: Vec<(String, Counts)>,
}

impl PodCounts {
    /// Returns whether no block had counts of single pods.
    pub fn is_empty(&self) -> bool {
        self.most == 0
    }

    /// Adds the counts of one block, one for each pod.
    pub(crate) fn absorb<'a>(&mut self, pods: impl Iterator<Item = (&'a String, Counts)>) {
        let mut number = 0;
        for (name, counts) in pods {
            number += 1;
            match self.kept.iter_mut().find(|(kept, _)| kept == name) {
                Some((_, sum)) => sum.add(counts),
                None => self.kept.push((name.clone(), counts)),
            }
        }
        self.most = self.most.max(number);
        if self.kept.len() > MAX_KEPT_PODS {
            self.kept.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.bad));
            self.kept.truncate(MAX_KEPT_PODS);
        }
    }

    /// Returns the outlier among the pods; `None` if there is none, or if the other pods together fail the check. `all`
    /// are the counts of the whole version, and `keeps` tells whether the check allows a share of bad requests, 0 to 1.
    pub(crate) fn outlier(&self, all: Counts, phi: Phi, keeps: impl Fn(f64) -> bool) -> Option<Outlier> {
        // A pod with all requests can't be told from the version.
        let pods = self.kept.iter().filter(|(_, pod)| pod.n > 0 && pod.n < all.n && pod.bad <= all.bad);
        let ranked = pods.map(|(name, pod)| (ln_at_least(*pod, all, phi), name, *pod));
        let (ln_tail, name, pod) = ranked.min_by(|one, other| one.0.total_cmp(&other.0))?;
        let others = Counts { bad: all.bad - pod.bad, n: all.n - pod.n };
        let is_out = self.most as f64 * libm::exp(ln_tail) <= LEVEL;
        (is_out && keeps(others.share())).then(|| Outlier {
            pod: name.clone(),
            bad: pod.bad,
            n: pod.n,
            others_bad: others.bad,
            others: others.n,
        })
    }
}

/// Returns `ln P(X >= bad)` for a pod whose bad requests are in proportion to its requests.
fn ln_at_least(pod: Counts, all: Counts, phi: Phi) -> f64 {
    if pod.bad == 0 {
        return 0.0;
    }
    let clusters = |count: u64| count as f64 / phi.value();
    beta_tails(pod.n as f64 / all.n as f64, clusters(pod.bad), clusters(all.bad - pod.bad) + 1.0).lower
}

/// A pod that may be at fault instead of the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outlier {
    /// The pod's name.
    pub pod: String,
    /// The pod's bad requests.
    pub bad: u64,
    /// The pod's requests.
    pub n: u64,
    /// The bad requests of the other pods.
    pub others_bad: u64,
    /// The requests of the other pods.
    pub others: u64,
}

impl fmt::Display for Outlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outlier { pod, bad, n, others_bad, others } = self;
        write!(
            f,
            "pod {pod} has {bad} of {n}, the others {others_bad} of {others}: it or its node may be at fault, not the version"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod's name, its bad requests and all of its requests.
    type Counted<'a> = (&'a str, u64, u64);
    /// The pods, φ, the expected outlier, and the explanation.
    type Row<'a> = (&'a [Counted<'a>], f64, Option<&'a str>, &'a str);

    /// Returns the name of the outlier in one block with these counts.
    fn outlier(counts: &[Counted<'_>], phi: Phi, keeps: impl Fn(f64) -> bool) -> Option<String> {
        let (mut pods, mut all) = (PodCounts::default(), Counts::default());
        let counts: Vec<_> =
            counts.iter().map(|(name, bad, n)| ((*name).to_owned(), Counts { bad: *bad, n: *n })).collect();
        counts.iter().for_each(|(_, pod)| all.add(*pod));
        pods.absorb(counts.iter().map(|(name, pod)| (name, *pod)));
        pods.outlier(all, phi, keeps).map(|outlier| outlier.pod)
    }

    #[test]
    fn a_pod_is_an_outlier_only_if_its_excess_is_significant_and_the_others_pass() {
        let rows: [Row<'_>; 9] = [
            (&[], 1.0, None, "there is no pod"),
            (&[("a", 20, 100)], 1.0, None, "a single pod can't be told from the version"),
            (&[("a", 20, 100), ("b", 0, 0)], 1.0, None, "nor can a pod with all requests"),
            (&[("a", 20, 100), ("b", 0, 100)], 1.0, Some("a"), "one of two pods has all bad requests"),
            (&[("a", 0, 100), ("b", 5, 100)], 1.0, None, "2 · 1/32 is more than 5 %"),
            (&[("a", 0, 100), ("b", 6, 100)], 1.0, Some("b"), "2 · 1/64 is less than 5 %"),
            (&[("a", 0, 100), ("b", 6, 100)], 2.0, None, "with φ = 2, six bad requests count as three"),
            (&[("a", 30, 100), ("b", 9, 100), ("c", 8, 100)], 1.0, None, "the other pods fail the check, too"),
            (&[("a", 20, 2000), ("b", 0, 100)], 1.0, None, "its bad requests are in proportion to its requests"),
        ];
        for (counts, phi, expected, why) in rows {
            let found = outlier(counts, Phi::learned(phi), |share| share <= 0.01);
            assert_eq!(found.as_deref(), expected, "{why}");
        }
    }

    /// All pods of a bad version get the same traffic, so any outlier is a false one.
    #[test]
    fn a_pod_of_a_bad_version_is_called_an_outlier_no_more_often_than_the_level() {
        // Every division of 10 bad requests among two pods, and of 6 among three, with its probability.
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
        let is_found = |bad: &[u64]| {
            let names = ["a", "b", "c"];
            let counts: Vec<_> = names.iter().zip(bad).map(|(name, bad)| (*name, *bad, 100)).collect();
            outlier(&counts, Phi::ONE, |_| true).is_some()
        };
        let two: f64 = (0..=10).filter(|a| is_found(&[*a, 10 - a])).map(|a| choose(10, a) / 1024.0).sum();
        let three: f64 = (0..=6u64)
            .flat_map(|a| (0..=6 - a).map(move |b| (a, b)))
            .filter(|(a, b)| is_found(&[*a, *b, 6 - a - b]))
            .map(|(a, b)| choose(6, a) * choose(6 - a, b) / 729.0)
            .sum();
        assert!(two > 0.0 && two <= LEVEL, "{two}");
        assert!(three > 0.0 && three <= LEVEL, "{three}");
    }

    #[test]
    fn only_the_pods_with_the_most_bad_requests_are_kept() {
        let names: Vec<String> = (0..50).map(|n| format!("pod-{n:02}")).collect();
        let mut pods = PodCounts::default();
        for _ in 0..20 {
            pods.absorb(names.iter().map(|name| (name, Counts { bad: u64::from(name == "pod-49"), n: 100 })));
        }
        assert_eq!(pods.kept.len(), MAX_KEPT_PODS);
        let all = Counts { bad: 20, n: 100_000 };
        let outlier = pods.outlier(all, Phi::ONE, |share| share <= 0.01).unwrap();
        assert_eq!((outlier.pod.as_str(), outlier.bad, outlier.others_bad), ("pod-49", 20, 0));
    }
}
