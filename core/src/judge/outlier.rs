//! Is it the version, or one of its pods?
//!
//! What is wrong with a version is wrong in each of its pods, so their bad requests divide like their requests: of `B` bad
//! ones, as many are pod `i`'s as `Binomial(B, n_i/N)` has it. A pod on a broken node has more of them, whatever runs on
//! it. So the pod that has most more than its part is held against that, one-sided, times the number of pods (Bonferroni):
//!
//! ```text
//! P · I_q(b, B - b + 1) <= 5 %         q = n_i/N, and b and B in clusters: divided by φ
//! ```
//!
//! That a pod is out of line says nothing for the others: only where *they* keep what the check asks for may it have been
//! the pod. It is said then, beside the reason, and changes no verdict: the users of that pod are served badly, and taking
//! the traffic off is right whoever is to blame. What to try next is another question, and for that people have to know.
//!
//! (The incomplete beta function is the binomial tail: DLMF 8.17.5.)

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::counts::Counts;
use crate::stats::special::beta_tails;
use crate::stats::tally::Phi;

/// A pod is called an outlier, where there is none, at most so often.
const LEVEL: f64 = 0.05;

/// Of so many pods the counts are kept: those with the most bad requests.
const MOST_PODS: usize = 4;

/// What the pods of the version that is judged have counted so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodCounts {
    /// So many there were in the block that had most of them.
    most: usize,
    kept: Vec<(String, Counts)>,
}

impl PodCounts {
    /// Whether none has been seen.
    pub fn is_empty(&self) -> bool {
        self.most == 0
    }

    /// Takes in a block, pod by pod.
    pub(crate) fn absorb<'a>(&mut self, pods: impl Iterator<Item = (&'a String, Counts)>) {
        let mut seen = 0;
        for (name, counts) in pods {
            seen += 1;
            match self.kept.iter_mut().find(|(kept, _)| kept == name) {
                Some((_, sum)) => sum.add(counts),
                None => self.kept.push((name.clone(), counts)),
            }
        }
        self.most = self.most.max(seen);
        if self.kept.len() > MOST_PODS {
            self.kept.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.bad));
            self.kept.truncate(MOST_PODS);
        }
    }

    /// The pod that is out of line with the others, of what has been counted in `all` of them, if the others are good: `keeps`
    /// says whether a share of bad requests is one that the check lets pass.
    pub(crate) fn outlier(&self, all: Counts, phi: Phi, keeps: impl Fn(f64) -> bool) -> Option<Outlier> {
        // A pod that has all requests is the version.
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

/// `ln P(X >= bad)` for a pod whose part of the requests is its part of the bad ones.
fn ln_at_least(pod: Counts, all: Counts, phi: Phi) -> f64 {
    if pod.bad == 0 {
        return 0.0;
    }
    let clusters = |count: u64| count as f64 / phi.value();
    beta_tails(pod.n as f64 / all.n as f64, clusters(pod.bad), clusters(all.bad - pod.bad) + 1.0).lower
}

/// A pod that may be to blame instead of the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outlier {
    /// Its name.
    pub pod: String,
    /// So many of its requests were bad …
    pub bad: u64,
    /// … of so many.
    pub n: u64,
    /// So many were bad of the other pods …
    pub others_bad: u64,
    /// … of so many.
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

    /// Name, bad requests, and all.
    type Counted<'a> = (&'a str, u64, u64);
    type Row<'a> = (&'a [Counted<'a>], f64, Option<&'a str>, &'a str);

    /// Of pods that have counted so much in one block, the outlier.
    fn outlier(counts: &[Counted<'_>], phi: Phi, keeps: impl Fn(f64) -> bool) -> Option<String> {
        let (mut pods, mut all) = (PodCounts::default(), Counts::default());
        let counts: Vec<_> =
            counts.iter().map(|(name, bad, n)| ((*name).to_owned(), Counts { bad: *bad, n: *n })).collect();
        counts.iter().for_each(|(_, pod)| all.add(*pod));
        pods.absorb(counts.iter().map(|(name, pod)| (name, *pod)));
        pods.outlier(all, phi, keeps).map(|outlier| outlier.pod)
    }

    #[test]
    fn a_pod_is_named_only_if_it_is_out_of_line_and_the_others_are_good() {
        let rows: [Row<'_>; 9] = [
            (&[], 1.0, None, "nobody"),
            (&[("a", 20, 100)], 1.0, None, "a pod alone is the version"),
            (&[("a", 20, 100), ("b", 0, 0)], 1.0, None, "and so is one that has all requests"),
            (&[("a", 20, 100), ("b", 0, 100)], 1.0, Some("a"), "all in one of two"),
            (&[("a", 0, 100), ("b", 5, 100)], 1.0, None, "2 · 1/32 is more than 5 %"),
            (&[("a", 0, 100), ("b", 6, 100)], 1.0, Some("b"), "2 · 1/64 is less"),
            (&[("a", 0, 100), ("b", 6, 100)], 2.0, None, "but not if they come in pairs"),
            (&[("a", 30, 100), ("b", 9, 100), ("c", 8, 100)], 1.0, None, "the others are bad, too"),
            (&[("a", 20, 2000), ("b", 0, 100)], 1.0, None, "its part of the requests is its part of the bad ones"),
        ];
        for (counts, phi, expected, why) in rows {
            let named = outlier(counts, Phi::learned(phi), |share| share <= 0.01);
            assert_eq!(named.as_deref(), expected, "{why}");
        }
    }

    /// A version that is bad everywhere: how often a pod is blamed for it by chance, of pods that get the same traffic.
    #[test]
    fn a_bad_version_is_blamed_on_a_pod_no_more_often_than_promised() {
        // Every way in which 10 bad requests may fall on two pods, and 6 on three.
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
        let is_named = |bad: &[u64]| {
            let names = ["a", "b", "c"];
            let counts: Vec<_> = names.iter().zip(bad).map(|(name, bad)| (*name, *bad, 100)).collect();
            outlier(&counts, Phi::ONE, |_| true).is_some()
        };
        let two: f64 = (0..=10).filter(|a| is_named(&[*a, 10 - a])).map(|a| choose(10, a) / 1024.0).sum();
        let three: f64 = (0..=6u64)
            .flat_map(|a| (0..=6 - a).map(move |b| (a, b)))
            .filter(|(a, b)| is_named(&[*a, *b, 6 - a - b]))
            .map(|(a, b)| choose(6, a) * choose(6 - a, b) / 729.0)
            .sum();
        assert!(two > 0.0 && two <= LEVEL, "{two}");
        assert!(three > 0.0 && three <= LEVEL, "{three}");
    }

    #[test]
    fn of_many_pods_those_with_the_most_bad_requests_are_kept() {
        let names: Vec<String> = (0..50).map(|n| format!("pod-{n:02}")).collect();
        let mut pods = PodCounts::default();
        for _ in 0..20 {
            pods.absorb(names.iter().map(|name| (name, Counts { bad: u64::from(name == "pod-49"), n: 100 })));
        }
        assert_eq!(pods.kept.len(), MOST_PODS);
        let all = Counts { bad: 20, n: 100_000 };
        let outlier = pods.outlier(all, Phi::ONE, |share| share <= 0.01).unwrap();
        assert_eq!((outlier.pod.as_str(), outlier.bad, outlier.others_bad), ("pod-49", 20, 0));
    }
}
