//! The comparison by strata, such as the routes of a service.
//!
//! Canary and stable may get different mixes of requests: some callers reach the stable only, or a cohort is of another kind. Then a
//! version that is good on each route may be worse in sum, and a bad one better (Simpson 1951, "The interpretation of interaction in
//! contingency tables"). So the arms are compared within each stratum.
//!
//! A version is good if it is worse in no stratum. Two kinds of evidence speak against that:
//!
//! - the product of the strata's factors, which finds a fault of all strata. Given the past, the requests of different strata are
//!   independent, so the product has an expectation of at most one if each factor has. In each stratum the smaller of the factors
//!   against the ratio and against the difference counts, as the version is bad only by both;
//! - the evidence of each stratum alone, which finds a fault of one.
//!
//! Their mean with weights that are fixed in advance is an e-process, as each of them is (Vovk and Wang 2021). A stratum's part counts
//! as one until the stratum is seen: it is a stake that is not placed yet.
//!
//! A proof asks whether the canary has more bad requests than the stable's shares would give in the canary's strata
//! ([`Standardized`](crate::stats::standardized::Standardized)). Strata that the stable does not have, such as a new route, are held
//! against the limit.
//!
//! The strata are chosen by their numbers of requests, which say nothing about the errors among them. All others are pooled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::absorb_or_restart;
use super::rule::SequentialTests;
use crate::measure::block::{Sample, SmallMap};
use crate::measure::counts::Counts;
use crate::measure::metric::Limit;
use crate::measure::window::{Arm, reading};
use crate::stats::combine::{ln_least, ln_weighted_mean};
use crate::stats::mixture::Mixture;
use crate::stats::slo::add;
use crate::stats::tally::{Pair, Phi, Tally, Worth};
use crate::stats::two_sample::EffectsState;

/// The largest number of strata with a test of their own.
const MOST: usize = 8;
/// The part of a block's requests from which a stratum gets a test of its own.
const LEAST_PART: f64 = 0.1;
/// The largest number of strata whose counts are kept, to name the worst one.
const MOST_COUNTED: usize = 32;
/// The weight of the product of all strata; the rest belongs to the single ones.
const ALL: f64 = 0.5;
/// The name of the pooled strata.
const OTHERS: &str = "others";

/// The counts of the canary and of the stable.
type ArmCounts = [Counts; 2];

/// The evidence of all strata.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Strata {
    /// The products of the strata's factors.
    all: Mixture,
    /// The strata with a test of their own, and the pooled ones.
    each: BTreeMap<String, Stratum>,
    /// The evidence that the canary is not worse at its own mix of requests.
    not_inferior: Mixture,
    /// The counts by name.
    counts: BTreeMap<String, ArmCounts>,
}

/// A block by strata.
pub(super) struct StrataBlock {
    /// The factors of the limit's test beside the stable's strata.
    pub(super) beside: Vec<f64>,
    /// The requests of both arms in each stratum.
    pub(super) pairs: Vec<Pair>,
}

/// The evidence of one stratum.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Stratum {
    /// Whether the stable has had requests in it.
    is_known: bool,
    /// The evidence that the share is above `margin` times the stable's.
    worse: Mixture,
    /// The evidence that the share is above the stable's by more than `floor`.
    further: EffectsState,
}

impl Stratum {
    /// Adds a block, and returns the factors against the stratum.
    fn absorb(&mut self, tests: &SequentialTests, pair: Pair, phi: Phi) -> Vec<f64> {
        let ratio = tests.worse.factors(pair, phi);
        let difference = tests.further.factors(&self.further, pair, phi);
        absorb_or_restart(&mut self.worse, |state| tests.worse.absorb_factors(state, &ratio));
        absorb_or_restart(&mut self.further, |state| tests.further.absorb(state, pair, phi));
        ratio.into_iter().zip(difference).map(|(ratio, difference)| ratio.min(difference)).collect()
    }

    fn ln_worse(&self, tests: &SequentialTests) -> f64 {
        ln_least(&[tests.worse.ln_e(&self.worse), tests.further.ln_e(&self.further)])
    }
}

impl Strata {
    /// Adds a block and returns it by strata. Without samples by stratum the requests of `pair` are one. `past` has the stable's
    /// counts before the block.
    pub(super) fn absorb(
        &mut self,
        tests: &SequentialTests,
        samples: Option<&SmallMap<Sample>>,
        limit: Limit,
        (pair, past): (Pair, Worth),
        phi: Phi,
    ) -> StrataBlock {
        let counted = samples.into_iter().flatten().map(|(name, sample)| {
            let of = |arm| reading(sample, arm).and_then(|reading| Counts::of(reading, limit)).unwrap_or_default();
            (name.as_str(), [Arm::Canary, Arm::Stable].map(of))
        });
        let mut groups = self.grouped(counted.collect());
        if groups.is_empty() {
            let counts = |tally: Tally| Counts { bad: tally.hits() as u64, n: tally.n() as u64 };
            groups.insert(OTHERS.to_owned(), [counts(pair.canary), counts(pair.stable)]);
        }
        let (mut all, mut beside) = (tests.worse.neutral_factors(), tests.worse.neutral_factors());
        let mut pairs = Vec::new();
        for (name, counts) in groups {
            let [Some(canary), Some(stable)] = counts.map(Counts::tally) else { continue };
            let (pair, stratum) = (Pair { canary, stable }, self.each.entry(name).or_default());
            stratum.is_known |= stable.n() > 0.0;
            add(&mut beside, &tests.above.factors_beside(pair, !stratum.is_known, phi));
            add(&mut all, &stratum.absorb(tests, pair, phi));
            pairs.push(pair);
        }
        absorb_or_restart(&mut self.all, |state| tests.worse.absorb_factors(state, &all));
        absorb_or_restart(&mut self.not_inferior, |state| tests.standardized.absorb(state, past, &pairs, phi));
        StrataBlock { beside, pairs }
    }

    /// Returns the counts of the strata with a test of their own, and of the others together.
    fn grouped(&mut self, counted: BTreeMap<&str, ArmCounts>) -> BTreeMap<String, ArmCounts> {
        let requests = |[canary, stable]: ArmCounts| (canary.n + stable.n) as f64;
        let total: f64 = counted.values().map(|counts| requests(*counts)).sum();
        let mut by_size: Vec<(&str, ArmCounts)> = counted.into_iter().collect();
        by_size.sort_by(|(_, one), (_, other)| requests(*other).total_cmp(&requests(*one)));
        let mut groups: BTreeMap<String, ArmCounts> = BTreeMap::new();
        for (name, counts) in by_size {
            if self.counts.contains_key(name) || self.counts.len() < MOST_COUNTED {
                let known = self.counts.entry(name.to_owned()).or_default();
                *known = sum(*known, counts);
            }
            let named = self.each.keys().filter(|known| *known != OTHERS).count();
            let has_own = self.each.contains_key(name)
                || (named < MOST && requests(counts) >= LEAST_PART * total && requests(counts) > 0.0);
            let group = if has_own { name } else { OTHERS };
            self.each.entry(group.to_owned()).or_default();
            let known = groups.entry(group.to_owned()).or_default();
            *known = sum(*known, counts);
        }
        groups
    }

    /// Returns the evidence that the canary is worse in a stratum, as a natural logarithm.
    pub(super) fn ln_worse(&self, tests: &SequentialTests) -> f64 {
        let part = (1.0 - ALL) / (MOST + 1) as f64;
        let unseen = (MOST + 1).saturating_sub(self.each.len()) as f64;
        let mut evidence = vec![(ALL, tests.worse.ln_e(&self.all)), (part * unseen, 0.0)];
        evidence.extend(self.each.values().map(|stratum| (part, stratum.ln_worse(tests))));
        ln_weighted_mean(&evidence)
    }

    /// Returns the evidence that the canary is not worse at its own mix of requests, as a natural logarithm.
    pub(super) fn ln_not_inferior(&self, tests: &SequentialTests) -> f64 {
        tests.standardized.ln_e(&self.not_inferior)
    }

    /// Starts the proof anew, for a narrower margin.
    pub(super) fn forget_proof(&mut self) {
        self.not_inferior = Mixture::default();
    }

    /// Returns the stratum with most bad requests of the canary beyond the stable's share of its requests, and its counts; `None`
    /// if there are none.
    pub(super) fn worst(&self) -> Option<(String, ArmCounts)> {
        let beyond = |[canary, stable]: ArmCounts| canary.bad as f64 - canary.n as f64 * stable.share();
        let worst = self.counts.iter().max_by(|(_, one), (_, other)| beyond(**one).total_cmp(&beyond(**other)));
        worst.filter(|(_, counts)| beyond(**counts) > 0.0).map(|(name, counts)| (name.clone(), *counts))
    }
}

fn sum([canary, stable]: ArmCounts, [more_canary, more_stable]: ArmCounts) -> ArmCounts {
    let plus = |mut counts: Counts, more| {
        counts.add(more);
        counts
    };
    [plus(canary, more_canary), plus(stable, more_stable)]
}
