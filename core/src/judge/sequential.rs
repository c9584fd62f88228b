//! The `sequential` judge: it looks at every block and keeps the error rate that the policy states.
//!
//! A check counts bad requests: failed ones, or ones slower than a limit at a bucket's edge. It compares their share with its
//! limit and with the stable's share in the same block. It weighs up to three claims, each of which is a regression:
//!
//! - the share is above the limit ([`LimitGrid`]);
//! - the share is above `margin` times the stable's *and* above the stable's by more than `floor`
//!   ([`OddsGrid`](crate::stats::odds_grid::OddsGrid) and
//!   [`Effects`](crate::stats::two_sample::Effects), of which the smaller evidence counts);
//! - with `harm` set: more than `harm` requests were bad that would not have been at the stable's share ([`Harm`]). This
//!   finds a small difference in much traffic, independently of the margin.
//!
//! A stable that breaks the limit too says that the fault is not the canary's. Beside a stable, the first claim is therefore
//! that the share is above the limit and above the stable's, block by block; and while the stable's recent share is shown to
//! be above the limit ([`StableLimit`]), the claim is not made, the limit is not proven, and the comparison alone decides.
//! So an incident of both arms rolls nothing back, and the repair of a broken stable is promoted. A guard has no stable
//! beside it: if the version before the rollout broke the limit, the guard's limit is `margin` times its share.
//!
//! A block in which the stable's share jumps, because an incident begins or ends, is left out: the pods are scraped at different
//! times, so it has different parts of the incident in both arms. The stable alone decides that. The estimate of the stable's share,
//! from which the alternatives of the next blocks come, begins anew with such a block.
//!
//! A cold process is not compared. Its requests count for the limit alone, which is then one half, or the check's if that
//! is higher: a version that answers hardly any request is found before its processes are warm. They count for `harm` too.
//!
//! Bursts of errors hit one pod, and may be larger than those of the past that [`Dispersion`] has learnt from. The evidence of the
//! first two claims is therefore the least that is left without the requests of one pod in one block ([`Mixture::absorb_sparing`]).
//! Of the second claim, whose evidence is the smaller one of two, this concerns the ratio. Without counts of single pods, and by
//! strata, no burst is left out.
//!
//! A metric may name a label, such as the route, by which both versions are compared stratum by stratum ([`Strata`]). Another mix of
//! requests is then no fault of a version, and hides none.
//!
//! Pods of one version may differ for as long as they live. If the stable's do, `margin` is at least the ratio that two groups of
//! such pods may have by chance ([`Spread`]).
//!
//! A version is good if no claim is true. A check therefore combines the evidence of its claims in a mean with fixed weights
//! ([`STAKES`]). If no claim is true, the mean's expectation is at most one, as each claim's is. The mean reaches the
//! threshold no later than any single claim would with its share of the level. (With `either`, a version is bad only if it
//! breaks the limit *and* the comparison: the smaller evidence of the two replaces both.)
//!
//! A check alarms when that mean reaches `1/level`. The level is the policy's `alpha` divided by the number of checks that
//! can roll the rollout back, including those of the guard. All of them together are thus wrong in at most `alpha` of the
//! rollouts of good versions, at any number of looks.
//!
//! The absence of an alarm is not a proof. A step asks for one of two things ([`Proof`]): enough requests
//! and no alarm, or evidence of `1/beta` that the share is below the limit *and*, beside a stable, that it is below `margin`
//! times the stable's or above it by less than `floor`
//! ([`NonInferior`](crate::stats::two_sample::non_inferior::NonInferior)). The smaller evidence of the two counts. (With
//! `either` a version that keeps one of them is good, and their mean counts: the larger one would be wrong twice as often.)
//!
//! The evidence is carried over from step to step, because each block has its own split of the traffic. Errors come in
//! clusters. The judge learns their size from the stable's pods ([`Dispersion`]) and adds each block after it is judged.
//! Until enough is known, [`Phi::ASSUMED`](crate::stats::tally::Phi::ASSUMED) divides the evidence, and the sentence says
//! "not calibrated".

use serde::{Deserialize, Serialize};

use super::numbers::{Numbers, Verdict};
use super::outlier::{Outlier, PodCounts};
use super::rule::{ErrorBudget, JudgeRule, Look, Opinion, Proof, RawSettings, SettingProblem, Target};
use crate::measure::block::{Gap, Reading, Sample, SmallMap};
use crate::measure::calibration::{History, tallies};
use crate::measure::counts::Counts;
use crate::measure::metric::Limit;
use crate::measure::window::{Arm, reading};
use crate::stats::combine::{ln_least, ln_weighted_mean};
use crate::stats::dispersion::Dispersion;
use crate::stats::harm::Harm;
use crate::stats::histogram::edge_at;
use crate::stats::mixture::{Mixture, Onset};
use crate::stats::slo::{BesideBlock, Ceiling, LimitGrid};
use crate::stats::spread::Spread;
use crate::stats::tally::{Pair, Phi, Tally, Unusable, Worth};
use crate::stats::two_sample::EffectsState;
use crate::time::{Span, Timestamp};

mod beside;
mod finding;
mod rule;
mod strata;

use beside::StableLimit;
use strata::{Strata, StrataBlock};

pub use finding::{Claim, SequentialFinding, WorstStratum, odds};
use rule::SequentialTests;
pub use rule::{SequentialRule, allowed};

/// The relative weights of the claims in a check's combined evidence, fixed before any data. The comparison with the stable
/// has the largest, as it finds most faults first. A broken limit gives clear evidence and harm accumulates, so both need less.
const STAKES: [(Claim, f64); 4] =
    [(Claim::Relative, 19.0), (Claim::Both, 19.0), (Claim::Limit, 1.0), (Claim::Harm, 2.0)];

/// The requests of the canary for each of the stable's above which there is no comparison.
const LEAST_BESIDE: u64 = 100;

/// The highest share that a version may have because the one before it broke the limit.
const MOST_ALLOWED: f64 = 0.99;

/// The look of the sequential judge at one block.
#[derive(Debug, Clone, Copy)]
struct Query<'a> {
    rule: SequentialRule,
    look: &'a Look<'a>,
}

impl Query<'_> {
    /// Returns the highest share of bad requests that the check allows.
    fn allowed(self) -> f64 {
        let Target { limit, metric, quantile } = self.look.target;
        allowed(limit, metric.kind, quantile)
    }

    /// Returns the requests of the cold processes of an arm in the newest block.
    fn cold(self, arm: Arm) -> Counts {
        let Look { name, target, ring, .. } = *self.look;
        let sample = ring.newest().and_then(|block| block.cold.get(name)).filter(|sample| self.gap(sample).is_none());
        let reading = sample.and_then(|sample| reading(sample, arm));
        reading.and_then(|reading| Counts::of(reading, target.limit)).unwrap_or_default()
    }

    /// Returns the gap if a measured sample can't be counted: the buckets of an arm have no edge at the limit, as after a
    /// native histogram became coarser. Then neither arm is counted.
    fn gap(self, sample: &Sample) -> Option<Gap> {
        let Target { limit: Limit::Max(limit), metric, .. } = self.look.target else { return None };
        let mut readings = [Arm::Canary, Arm::Stable].into_iter().filter_map(|arm| reading(sample, arm));
        let has_edge = |reading: &Reading| match reading {
            Reading::Histogram { edges, .. } => edge_at(edges, limit).is_some(),
            Reading::Ratio { .. } | Reading::Count(_) | Reading::Value(_) => true,
        };
        let limit_text = || metric.unit().write(limit);
        (!readings.all(has_edge))
            .then(|| Gap::Malformed { problem: format!("no bucket of {} ends at {}", self.look.name, limit_text()) })
    }
}

impl JudgeRule for SequentialRule {
    type State = SequentialState;
    type Finding = SequentialFinding;
    const NAME: &'static str = "sequential";
    const KEYS: &'static [&'static str] = &["margin", "floor", "either", "harm"];
    const CARRIES_OVER: bool = true;

    fn read(raw: &RawSettings, target: Target<'_>) -> Result<SequentialRule, Vec<SettingProblem>> {
        SequentialRule::from_settings(raw, target)
    }

    fn begin(&self, look: &Look<'_>) -> SequentialState {
        let history = look.history.cloned().unwrap_or_default();
        let newest = look.ring.newest().map(|block| (block.from, block.to));
        let (since, until) = newest.unwrap_or((Timestamp::MIN, Timestamp::MIN));
        SequentialState::new(since, until, look.planned, history)
    }

    fn look(&self, state: &mut SequentialState, look: &Look<'_>) -> Option<Opinion<SequentialFinding>> {
        let block = look.ring.newest()?;
        let (sample, query) = (block.metrics.get(look.name)?, Query { rule: *self, look });
        let mut opinion = state.look(query, sample, block.to)?;
        let gap = look.ring.gap(look.name).cloned().or_else(|| query.gap(sample));
        if gap.is_some() && opinion.numbers.verdict != Verdict::Regressed {
            opinion.numbers = Numbers { verdict: Verdict::Blind, gap, ..opinion.numbers };
        }
        Some(opinion)
    }

    fn needs_dispersion(&self) -> bool {
        true
    }

    fn spend(&mut self, budget: ErrorBudget) -> bool {
        let ErrorBudget { alpha, beta, checks, of_guard } = budget;
        *self = SequentialRule { alpha, beta, checks, of_guard, ..*self };
        true
    }
}

/// The counts and the evidence of one check so far, in the rollout's steps or in its guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SequentialState {
    /// The beginning of the first block.
    since: Timestamp,
    /// The end of the last block.
    until: Timestamp,
    /// The number of blocks that were planned at the beginning.
    onset: Onset,
    /// The requests of the judged arm.
    subject: Counts,
    /// The requests of the stable beside a canary.
    stable: Counts,
    /// The evidence that the share is above `margin` times the stable's.
    worse: Mixture,
    /// The evidence that the share is above the stable's by more than `floor`.
    further: EffectsState,
    /// The cold requests of the judged arm.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    cold: Counts,
    /// The evidence that the share is above the limit, or that of cold processes above theirs.
    above: Mixture,
    /// The evidence that the share is below `margin` times the stable's, or above it by less than `floor`.
    #[serde(rename = "proof", default)]
    not_inferior: Mixture,
    /// The counts for the proof that the share is below the limit.
    below: Worth,
    /// The evidence of the claim [`Claim::Harm`]; `None` without a budget for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    harm: Option<Harm>,
    /// The stable's recent share against the limit.
    #[serde(default)]
    beside: StableLimit,
    /// The dispersion that was learnt so far.
    #[serde(rename = "phi")]
    dispersion: Dispersion,
    /// The lasting differences between the stable's pods before the rollout.
    #[serde(default, skip_serializing_if = "Spread::is_none")]
    spread: Spread,
    /// The margin that they asked for in the newest block; `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    /// The comparison by strata; `None` if the metric has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strata: Option<Box<Strata>>,
    /// The counts of each pod, to find an outlier.
    #[serde(default, skip_serializing_if = "PodCounts::is_empty")]
    pods: PodCounts,
}

impl SequentialState {
    /// Returns the state before a first block from `since` to `until`. `planned` is the planned length of the analysis;
    /// `past` is the history that was learnt before it.
    pub fn new(since: Timestamp, until: Timestamp, planned: Span, past: History) -> SequentialState {
        let block = Span::between(since, until).as_secs_f64();
        let blocks = if block > 0.0 { planned.as_secs_f64() / block } else { 1.0 };
        SequentialState {
            since,
            until,
            onset: Onset::Planned(blocks.clamp(1.0, 1e6) as u32),
            subject: Counts::default(),
            stable: Counts::default(),
            cold: Counts::default(),
            worse: Mixture::default(),
            further: past.counts.tally().map(EffectsState::seeded).unwrap_or_default(),
            above: Mixture::default(),
            not_inferior: Mixture::default(),
            below: Worth::default(),
            harm: None,
            beside: StableLimit::after(&past),
            dispersion: past.dispersion,
            spread: past.spread,
            margin: None,
            strata: None,
            pods: PodCounts::default(),
        }
    }

    /// Adds the block that ends at `until` and returns the opinion on all blocks so far. A sample that can't be counted
    /// changes nothing. `None` if the settings make no test, which the policy's check refuses beforehand.
    fn look(&mut self, query: Query<'_>, sample: &Sample, until: Timestamp) -> Option<Opinion<SequentialFinding>> {
        let stated = query.rule.margin;
        let query = self.widen(query);
        let tests = SequentialTests::new(query.rule, self.allowed(query), self.onset).ok()?;
        let length = Span::between(self.until.max(self.since), until);
        self.until = until;
        self.absorb(&tests, query, sample, length);
        let mut opinion = self.opinion(&tests, query);
        opinion.finding.stated_margin = self.margin.filter(|margin| *margin > stated).map(|_| stated);
        Some(opinion)
    }

    /// Returns the query with the margin that the lasting differences between pods ask for, by the numbers of pods of both arms.
    /// A proof for a wider margin doesn't count for a narrower one, so it begins anew.
    fn widen<'a>(&mut self, query: Query<'a>) -> Query<'a> {
        if self.spread.is_none() {
            return query;
        }
        let Look { pods, processes, .. } = *query.look;
        let ratio = self.spread.ratio(pods.map_or(0, SmallMap::len), processes.len());
        let margin = query.rule.margin.max(libm::ceil(ratio * 100.0) / 100.0);
        if self.margin.replace(margin).is_some_and(|before| margin < before) {
            self.not_inferior = Mixture::default();
            self.strata.iter_mut().for_each(|strata| strata.forget_proof());
        }
        Query { rule: SequentialRule { margin, ..query.rule }, ..query }
    }

    fn absorb(&mut self, tests: &SequentialTests, query: Query<'_>, sample: &Sample, length: Span) {
        let Look { target: Target { limit, .. }, arm, processes, pods, .. } = *query.look;
        if query.gap(sample).is_some() {
            return;
        }
        let counts_of = |arm| reading(sample, arm).and_then(|reading| Counts::of(reading, limit)).unwrap_or_default();
        let subject = counts_of(arm);
        let stable = if arm == Arm::Canary { counts_of(Arm::Stable) } else { Counts::default() };
        let (Some(canary), Some(stable_tally)) = (subject.tally(), stable.tally()) else { return };
        let (pair, phi) = (Pair { canary, stable: stable_tally }, self.dispersion.phi());
        let processes = tallies(processes, limit);
        self.beside.begin(query.allowed(), query.rule.alpha);
        if arm == Arm::Canary && self.beside.jumps(&processes, stable_tally, phi) {
            self.further.estimate_anew(stable_tally);
            self.beside.absorb(length, stable_tally, phi, &tests.below, query.rule.alpha);
            return;
        }
        let cold = query.cold(arm);
        let cold_tally = cold.tally().unwrap_or_default();
        let spared = without_worst(pods, limit, canary);
        let without = spared.map(|canary| Pair { canary, ..pair });
        absorb_or_restart(&mut self.worse, |state| tests.worse.absorb_sparing(state, pair, without, phi));
        let by_strata = self.absorb_strata(tests, query, pair, phi);
        let past = self.past_for_proof();
        absorb_or_restart(&mut self.not_inferior, |state| tests.not_inferior.absorb(state, past, pair, phi));
        absorb_or_restart(&mut self.further, |state| tests.further.absorb(state, pair, phi));
        // The earlier blocks decide whether this one counts, so that it can't choose itself.
        if self.stable_breaks(query).is_none() {
            let kinds = &[(&tests.above, canary), (&tests.cold, cold_tally)];
            let by_strata = by_strata.as_ref().map(|block| block.beside.as_slice());
            // The strata's counts of a process are not known.
            let spared = spared.filter(|_| by_strata.is_none());
            let block = BesideBlock { kinds, stable: stable_tally, by_strata, spared };
            absorb_or_restart(&mut self.above, |state| LimitGrid::absorb_beside(block, state, phi));
        }
        if arm == Arm::Canary {
            self.beside.absorb(length, stable_tally, phi, &tests.below, query.rule.alpha);
        }
        // The stable's counts decide here, which know nothing of the canary's.
        if self.stable_breaks(query).is_none() {
            self.below.absorb(canary, phi);
        }
        if query.rule.harm.is_some() {
            let all = Pair { canary: canary.plus(cold_tally), ..pair };
            let pairs = by_strata.as_ref().filter(|_| cold_tally.n() == 0.0).map(|block| block.pairs.as_slice());
            let harm = self.harm.get_or_insert_default();
            pairs.unwrap_or(&[all]).iter().for_each(|pair| harm.absorb(*pair, phi));
        }
        self.subject.add(subject);
        self.cold.add(cold);
        self.stable.add(stable);
        self.dispersion.absorb(&processes);
        let pods = pods.into_iter().flatten();
        self.pods.absorb(pods.filter_map(|(name, reading)| Some((name, Counts::of(reading, limit)?))));
    }

    /// Returns the stable's counts from which the proof's alternatives come. There are none in an incident of both arms, so that its
    /// blocks prove nothing: a version that is worse by a difference is hardly worse by a ratio then.
    fn past_for_proof(&self) -> Worth {
        if self.beside.is_incident() { Worth::default() } else { self.further.stable() }
    }

    /// Adds a block to the comparison by strata, and returns it by strata; `None` if the metric has none.
    fn absorb_strata(
        &mut self,
        tests: &SequentialTests,
        query: Query<'_>,
        pair: Pair,
        phi: Phi,
    ) -> Option<StrataBlock> {
        let Look { target: Target { metric, limit, .. }, arm, strata, .. } = *query.look;
        metric.strata_label.as_ref().filter(|_| arm == Arm::Canary)?;
        let past = self.past_for_proof();
        Some(self.strata.get_or_insert_default().absorb(tests, strata, limit, (pair, past), phi))
    }

    /// Returns the stable's recent share if it breaks the limit, so that the comparison alone decides. With `either` the limit
    /// alone decides nothing anyway.
    fn stable_breaks(&self, query: Query<'_>) -> Option<f64> {
        self.beside.broken().filter(|_| query.look.arm == Arm::Canary && !query.rule.either)
    }

    /// Returns the share of the version before the rollout if it broke the limit and no stable is beside the judged arm.
    fn replaced_breaks(&self, query: Query<'_>) -> Option<f64> {
        if query.look.arm == Arm::Canary && self.stable.n > 0 {
            return None;
        }
        self.beside.test(&Ceiling::new(query.allowed()).ok()?, query.rule.alpha)
    }

    /// Returns the highest share that the judged arm is allowed: the limit's, or `margin` times the share of a version before
    /// that broke the limit.
    fn allowed(&self, query: Query<'_>) -> f64 {
        let of_replaced = |share: f64| (query.rule.margin * share).min(MOST_ALLOWED);
        self.replaced_breaks(query).map_or(query.allowed(), |share| of_replaced(share).max(query.allowed()))
    }

    fn weigh(&self, tests: &SequentialTests, query: Query<'_>) -> SequentialFinding {
        let has_stable = query.look.arm == Arm::Canary;
        let above = tests.above.ln_e(&self.above);
        let stable_breaks = self.stable_breaks(query);
        let limit = Some((Claim::Limit, above)).filter(|_| stable_breaks.is_none());
        let together = || ln_least(&[tests.worse.ln_e(&self.worse), tests.further.ln_e(&self.further)]);
        let relative = || self.strata.as_ref().map_or_else(together, |strata| strata.ln_worse(tests));
        let harm = query.rule.harm.zip(self.harm);
        let harmed = harm.map(|(budget, harm)| (Claim::Harm, harm.ln_e(budget)));
        let claims = match (has_stable, query.rule.either) {
            (false, _) => [limit, None, harmed],
            (true, false) => [limit, Some((Claim::Relative, relative())), harmed],
            (true, true) => [Some((Claim::Both, ln_least(&[above, relative()]))), None, harmed],
        };
        SequentialFinding {
            allowed: self.allowed(query),
            rule: query.rule,
            proof: query.look.proof,
            alarm: combined(claims),
            shown: (query.look.proof == Proof::NonInferior).then(|| self.proven(tests, query)),
            excess: harm.and_then(|(_, harm)| harm.lower_bound(query.rule.level())),
            stable_breaks: stable_breaks.or_else(|| self.replaced_breaks(query)),
            incident: stable_breaks.is_some() && self.beside.is_incident(),
            phi: self.dispersion.phi(),
            outlier: None,
            worst: None,
            stated_margin: None,
            past: self.past(query),
            cold: (self.cold.n > 0).then(|| self.cold.measure(query.look.target.limit)),
        }
    }

    /// Returns the claim whose evidence for the version counts, and that evidence as a natural logarithm: the weaker of the
    /// limit and the comparison. With `either`, their mean. The guard has its limit alone.
    fn proven(&self, tests: &SequentialTests, query: Query<'_>) -> (Claim, f64) {
        let below = (Claim::Limit, tests.below.ln_compliance(self.below));
        let together = || tests.not_inferior.ln_e(&self.not_inferior);
        let relative = match self.past(query) {
            _ if query.look.arm == Arm::Stable => None,
            Some(past) => self.near_past(past, query),
            None if self.stable.n == 0 => None,
            None => Some(self.strata.as_ref().map_or_else(together, |strata| strata.ln_not_inferior(tests))),
        };
        let Some(relative) = relative else { return below };
        let not_inferior = (Claim::Relative, relative);
        if query.rule.either {
            return (Claim::Both, ln_weighted_mean(&[(1.0, below.1), (1.0, not_inferior.1)]));
        }
        if below.1 < not_inferior.1 && self.stable_breaks(query).is_none() { below } else { not_inferior }
    }

    /// Returns the stable's share of bad requests before the rollout if hardly any of its requests are beside the canary's, as after
    /// a switch of all traffic.
    fn past(&self, query: Query<'_>) -> Option<f64> {
        let lacks_stable = self.stable.n.saturating_mul(LEAST_BESIDE) <= self.subject.n;
        let past = self.further.stable();
        (query.look.arm == Arm::Canary && lacks_stable && past.n() > 0.0).then(|| past.hits() / past.n())
    }

    /// Returns the evidence, as a natural logarithm, that the share is below `margin` times the one before the rollout, or above it
    /// by less than `floor`. The past has many requests, so its share is taken as known. It may have been another hour or day, so
    /// nothing is rolled back by it.
    fn near_past(&self, past: f64, query: Query<'_>) -> Option<f64> {
        let most = (query.rule.margin * past).max(past + query.rule.floor).min(MOST_ALLOWED);
        Some(Ceiling::new(most).ok()?.ln_compliance(self.below))
    }

    /// Returns the stratum with most bad requests beyond the stable's share of them; `None` without strata.
    fn worst(&self, query: Query<'_>) -> Option<WorstStratum> {
        let Target { limit, metric, .. } = query.look.target;
        let (name, [subject, stable]) = self.strata.as_ref()?.worst()?;
        let label = metric.strata_label.clone()?;
        Some(WorstStratum { label, name, subject: subject.measure(limit), stable: stable.measure(limit) })
    }

    /// Returns the pod that may cause the regression: without its requests, the version's share would keep the limit and the
    /// comparison. `None` if there is no such pod.
    fn outlier(&self, query: Query<'_>) -> Option<Outlier> {
        let SequentialRule { margin, floor, either, .. } = query.rule;
        let stable = self.stable.share();
        let keeps = |share: f64| {
            let keeps_limit = share <= self.allowed(query) || self.stable_breaks(query).is_some();
            let keeps_comparison = query.look.arm == Arm::Stable || share <= margin * stable || share <= stable + floor;
            if either { keeps_limit || keeps_comparison } else { keeps_limit && keeps_comparison }
        };
        self.pods.outlier(self.subject, self.dispersion.phi(), keeps)
    }

    fn opinion(&self, tests: &SequentialTests, query: Query<'_>) -> Opinion<SequentialFinding> {
        let Look { check, target, arm, min_requests, .. } = *query.look;
        let mut finding = self.weigh(tests, query);
        let stable = self.stable.measure(target.limit);
        let verdict = if finding.alarms() {
            finding.outlier = self.outlier(query);
            finding.worst = self.worst(query);
            Verdict::Regressed
        } else if self.subject.n >= min_requests && finding.passes() {
            Verdict::Pass
        } else {
            Verdict::Insufficient
        };
        let numbers = Numbers {
            check: check.to_owned(),
            kind: target.metric.kind,
            unit: target.metric.unit(),
            quantile: None,
            limit: target.limit,
            window: Span::between(self.since, self.until),
            need: min_requests,
            subject: Some(self.subject.measure(target.limit)),
            stable: (arm == Arm::Canary && stable.n > 0).then_some(stable),
            breaches: 0,
            breaches_needed: 1,
            gap: None,
            verdict,
        };
        Opinion { numbers, finding }
    }
}

/// Returns the counts of a version without its pod with most bad requests; `None` if no pod has any.
fn without_worst(pods: Option<&SmallMap<Reading>>, limit: Limit, all: Tally) -> Option<Tally> {
    let worst = pods?
        .values()
        .filter_map(|pod| counted(pod, limit))
        .max_by(|one, other| one.hits().total_cmp(&other.hits()))?;
    let left = || Tally::new(all.hits() - worst.hits(), all.n() - worst.n()).ok();
    (worst.hits() > 0.0).then(left).flatten()
}

/// Adds a block to a test's state. If the state is unusable, the test restarts with this block. The counts are always valid,
/// so an unusable state was written by another version of this program with other alternatives. A restart loses the evidence
/// so far, and is a further test at the same error rate (docs/decisions/0007-the-sequential-judge.md).
fn absorb_or_restart<S: Default>(state: &mut S, absorb: impl Fn(&mut S) -> Result<(), Unusable>) {
    if absorb(state).is_err() {
        *state = S::default();
        let _ = absorb(state);
    }
}

/// Returns the bad requests and all requests of a reading, as the sequential judge counts them. `None` if the reading counts
/// no requests, or if no bucket ends at the limit and the bad ones are unknown.
pub fn counted(reading: &Reading, limit: Limit) -> Option<Tally> {
    Counts::of(reading, limit)?.tally()
}

/// Returns the claim that contributes most to the combined evidence, and that evidence as a natural logarithm.
fn combined(claims: [Option<(Claim, f64)>; 3]) -> (Claim, f64) {
    let stake = |claim: Claim| STAKES.iter().find(|(of, _)| *of == claim).map_or(0.0, |(_, stake)| *stake);
    let mut most = (Claim::Limit, f64::NEG_INFINITY);
    for (claim, ln_e) in claims.into_iter().flatten() {
        let part = libm::log(stake(claim)) + ln_e;
        if part > most.1 {
            most = (claim, part);
        }
    }
    // A claim that is not made has no weight.
    let evidence = claims.map(|claim| claim.map_or((0.0, 0.0), |(claim, ln_e)| (stake(claim), ln_e)));
    (most.0, ln_weighted_mean(&evidence))
}
