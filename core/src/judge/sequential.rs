//! The `sequential` judge: it may look at every block, and its error rate is the one that the policy states.
//!
//! A check counts requests of a bad kind: failed ones, or ones slower than a limit at a bucket's edge. It holds their share
//! against its limit, and against the stable's share beside it. Two claims may alarm, or three, and each is a regression:
//!
//! - the share is above the limit ([`LimitGrid`](crate::stats::slo::LimitGrid));
//! - the share is above `margin` times the stable's *and* above the stable's by more than `floor` ([`OddsGrid`] and
//!   [`Effects`](crate::stats::two_sample::Effects), of which the smaller evidence counts);
//! - where the policy says how many that may be: more than `harm` requests were bad that would not have been at the
//!   stable's share ([`Harm`]). A small difference in much traffic is found by this, whatever the margin.
//!
//! A good version is one of which no claim is true. So the claims of a check put their evidence together, as a mean that is
//! weighted beforehand ([`STAKES`]): where none is true, its expectation is at most one as well, and it reaches what it needs
//! no later than any of them would alone with its part of the level. (With `either`, a version is bad only if limit *and*
//! comparison are broken: there the smaller evidence of the two takes the place of both.)
//!
//! A check alarms when that mean reaches `1/level`. The level is the policy's `alpha` divided by the number of checks that
//! could roll the rollout back, those of the guard included, so that all of them together are wrong in at most `alpha` of
//! the rollouts of good versions, however often they are looked at.
//!
//! No alarm is not a proof. A step asks for either ([`Proof`]): for requests enough and no alarm, or for evidence of
//! `1/beta` that the share is below the limit, or below `margin` times the stable's.
//!
//! The evidence is carried on from step to step, since each block brings its own split of the traffic. Errors come in
//! clusters; how large they are is learnt from the stable's pods ([`Dispersion`]), each block after it was judged. Until
//! enough is known of that, [`Phi::ASSUMED`](crate::stats::tally::Phi::ASSUMED) divides the evidence, and the sentence says "not calibrated".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::judge::outlier::{Outlier, PodCounts};
use crate::judge::verdict::{Claim, Evidence, JudgeFinding, SequentialFinding, Verdict};
use crate::measure::block::{Gap, Reading, Sample};
use crate::measure::calibration::{History, tallies};
use crate::measure::counts::Counts;
use crate::measure::metric::{Limit, Metric};
use crate::measure::window::{Arm, reading};
use crate::policy::{Check, Proof, SequentialRule, SequentialTests, allowed};
use crate::stats::combine::{ln_least, ln_weighted_mean};
use crate::stats::dispersion::Dispersion;
use crate::stats::harm::Harm;
use crate::stats::histogram::edge_at;
use crate::stats::mixture::{Mixture, Onset};
use crate::stats::odds_grid::OddsGrid;
use crate::stats::slo::Ceiling;
use crate::stats::tally::{Pair, Tally, Unusable, Worth};
use crate::stats::two_sample::EffectsState;
use crate::time::{Span, Timestamp};

/// How the claims of a check share its evidence, before they are weighed: what is compared with the stable finds most
/// faults first, a broken limit is plain to see, and harm adds up by itself.
const STAKES: [(Claim, f64); 4] =
    [(Claim::Relative, 19.0), (Claim::Both, 19.0), (Claim::Limit, 1.0), (Claim::Harm, 2.0)];

/// What is asked: which check, of whom.
#[derive(Debug, Clone, Copy)]
pub struct SequentialQuery<'a> {
    /// The check.
    pub check: &'a Check,
    /// Its settings.
    pub rule: SequentialRule,
    /// Its metric.
    pub metric: &'a Metric,
    /// Who is judged: the canary, or under guard the stable.
    pub side: Arm,
    /// What passes.
    pub proof: Proof,
}

impl SequentialQuery<'_> {
    fn allowed(self) -> f64 {
        allowed(self.check.limit, self.metric.kind, self.check.quantile)
    }

    /// Why nothing of `sample` is counted, although it was measured: an arm's buckets have no edge at the limit any more, as
    /// a native histogram's may not when it has become coarser. Then the other arm is not counted, either.
    pub fn gap(self, sample: &Sample) -> Option<Gap> {
        let Limit::Max(limit) = self.check.limit else { return None };
        let mut readings = [Arm::Canary, Arm::Stable].into_iter().filter_map(|side| reading(sample, side));
        let has_edge = |reading: &Reading| match reading {
            Reading::Histogram { edges, .. } => edge_at(edges, limit).is_some(),
            Reading::Ratio { .. } | Reading::Count(_) | Reading::Value(_) => true,
        };
        let limit = || self.metric.unit().write(limit);
        (!readings.all(has_edge))
            .then(|| Gap::Malformed { problem: format!("no bucket of {} ends at {}", self.check.metric, limit()) })
    }
}

/// What a block has of one metric.
#[derive(Debug, Clone, Copy)]
pub struct SequentialInput<'a> {
    /// Both arms' counts.
    pub sample: &'a Sample,
    /// Those of the stable's processes, one by one.
    pub processes: &'a [Reading],
    /// Those of the pods that are judged, by name, where they are known.
    pub pods: Option<&'a BTreeMap<String, Reading>>,
}

/// What one check has seen so far, of the rollout or of the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SequentialState {
    /// The first block's beginning, and the last one's end.
    since: Timestamp,
    until: Timestamp,
    /// So many blocks were planned when it began.
    onset: Onset,
    subject: Counts,
    stable: Counts,
    worse: Mixture,
    further: EffectsState,
    above: Mixture,
    better: Mixture,
    below: Worth,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    harm: Option<Harm>,
    dispersion: Dispersion,
    #[serde(default, skip_serializing_if = "PodCounts::is_empty")]
    pods: PodCounts,
}

impl SequentialState {
    /// Before a first block from `since` to `until`, with so long a time planned, and with what the past has taught.
    pub fn new(since: Timestamp, until: Timestamp, planned: Span, past: History) -> SequentialState {
        let block = Span::between(since, until).as_secs_f64();
        let blocks = if block > 0.0 { planned.as_secs_f64() / block } else { 1.0 };
        SequentialState {
            since,
            until,
            onset: Onset::Planned(blocks.clamp(1.0, 1e6) as u32),
            subject: Counts::default(),
            stable: Counts::default(),
            worse: Mixture::default(),
            further: past.counts.tally().map(EffectsState::seeded).unwrap_or_default(),
            above: Mixture::default(),
            better: Mixture::default(),
            below: Worth::default(),
            harm: None,
            dispersion: past.dispersion,
            pods: PodCounts::default(),
        }
    }

    /// Takes in the block that ends at `until`, and says what follows from all of them. What can't be counted changes
    /// nothing. `None`: there is no such test, which the policy's check refuses.
    pub fn look(
        &mut self,
        asked: SequentialQuery<'_>,
        seen: SequentialInput<'_>,
        until: Timestamp,
    ) -> Option<Evidence> {
        let tests = SequentialTests::new(asked.rule, asked.allowed(), self.onset, asked.proof).ok()?;
        self.until = until;
        self.absorb(&tests, asked, seen);
        Some(self.evidence(&tests, asked))
    }

    fn absorb(&mut self, tests: &SequentialTests, asked: SequentialQuery<'_>, seen: SequentialInput<'_>) {
        let SequentialQuery { check, side, .. } = asked;
        let SequentialInput { sample, processes, pods } = seen;
        if asked.gap(sample).is_some() {
            return;
        }
        let of = |side| reading(sample, side).and_then(|reading| Counts::of(reading, check.limit)).unwrap_or_default();
        let subject = of(side);
        let stable = if side == Arm::Canary { of(Arm::Stable) } else { Counts::default() };
        let (Some(canary), Some(beside)) = (subject.tally(), stable.tally()) else { return };
        let (pair, phi) = (Pair { canary, stable: beside }, self.dispersion.phi());
        take(&mut self.worse, |state| tests.worse.absorb(state, pair, phi));
        take(&mut self.further, |state| tests.further.absorb(state, pair, phi));
        take(&mut self.above, |state| tests.above.absorb(state, canary, phi));
        take(&mut self.better, |state| tests.better.absorb(state, pair, phi));
        self.below.absorb(canary, phi);
        if asked.rule.harm.is_some() {
            self.harm.get_or_insert_default().absorb(pair, phi);
        }
        self.subject.add(subject);
        self.stable.add(stable);
        self.dispersion.absorb(&tallies(processes, check.limit));
        let pods = pods.into_iter().flatten();
        self.pods.absorb(pods.filter_map(|(name, reading)| Some((name, Counts::of(reading, check.limit)?))));
    }

    fn weigh(&self, tests: &SequentialTests, asked: SequentialQuery<'_>) -> SequentialFinding {
        let beside = asked.side == Arm::Canary;
        let above = tests.above.ln_e(&self.above);
        let relative = || ln_least(&[tests.worse.ln_e(&self.worse), tests.further.ln_e(&self.further)]);
        let harm = asked.rule.harm.zip(self.harm);
        let harmed = harm.map(|(budget, harm)| (Claim::Harm, harm.ln_e(budget)));
        let against = match (beside, asked.rule.either) {
            (false, _) => [Some((Claim::Limit, above)), None, harmed],
            (true, false) => [Some((Claim::Limit, above)), Some((Claim::Relative, relative())), harmed],
            (true, true) => [Some((Claim::Both, ln_least(&[above, relative()]))), None, harmed],
        };
        SequentialFinding {
            allowed: asked.allowed(),
            rule: asked.rule,
            proof: asked.proof,
            alarm: together(against),
            shown: tests.below.as_ref().map(|ceiling| self.shown(ceiling, &tests.better, beside)),
            excess: harm.and_then(|(_, harm)| harm.lower_bound(asked.rule.level())),
            phi: self.dispersion.phi(),
            outlier: None,
        }
    }

    /// The claim with the most evidence for the version.
    fn shown(&self, ceiling: &Ceiling, better: &OddsGrid, beside: bool) -> (Claim, f64) {
        let below = (Claim::Limit, ceiling.ln_compliance(self.below));
        let better = (Claim::Relative, better.ln_e(&self.better));
        if beside && better.1 > below.1 { better } else { below }
    }

    /// The pod that may be to blame: without it, the version would keep limit and comparison as far as can be seen.
    fn outlier(&self, asked: SequentialQuery<'_>) -> Option<Outlier> {
        let SequentialRule { margin, floor, either, .. } = asked.rule;
        let stable = self.stable.share();
        let keeps = |share: f64| {
            let limit = share <= asked.allowed();
            let beside = asked.side == Arm::Stable || share <= margin * stable || share <= stable + floor;
            if either { limit || beside } else { limit && beside }
        };
        self.pods.outlier(self.subject, self.dispersion.phi(), keeps)
    }

    fn evidence(&self, tests: &SequentialTests, asked: SequentialQuery<'_>) -> Evidence {
        let SequentialQuery { check, metric, side, .. } = asked;
        let mut weighed = self.weigh(tests, asked);
        let stable = self.stable.measure(check.limit);
        let verdict = if weighed.alarms() {
            weighed.outlier = self.outlier(asked);
            Verdict::Regressed
        } else if self.subject.n >= check.min_requests && weighed.passes() {
            Verdict::Pass
        } else {
            Verdict::Insufficient
        };
        Evidence {
            check: check.name.clone(),
            kind: metric.kind,
            unit: metric.unit(),
            quantile: None,
            limit: check.limit,
            window: Span::between(self.since, self.until),
            need: check.min_requests,
            subject: Some(self.subject.measure(check.limit)),
            stable: (side == Arm::Canary && stable.n > 0).then_some(stable),
            breaches: 0,
            breaches_needed: 1,
            gap: None,
            verdict,
            by: JudgeFinding::Sequential(weighed),
        }
    }
}

/// The counts are counts, so only the state can be another test's: that of a version of this program which bet on other
/// alternatives. Then the test begins anew, with this block: evidence is lost, and no promise.
fn take<S: Default>(state: &mut S, absorb: impl Fn(&mut S) -> Result<(), Unusable>) {
    if absorb(state).is_err() {
        *state = S::default();
        let _ = absorb(state);
    }
}

/// The bad requests of a reading and all of them, as the sequential judge counts them. `None`: it does not count any, or can't
/// tell the bad ones (no bucket ends at the limit).
pub fn counted(reading: &Reading, check: &Check) -> Option<Tally> {
    Counts::of(reading, check.limit)?.tally()
}

/// The evidence of several claims as one, and the claim that has the most part in it.
fn together(claims: [Option<(Claim, f64)>; 3]) -> (Claim, f64) {
    let stake = |claim: Claim| STAKES.iter().find(|(of, _)| *of == claim).map_or(0.0, |(_, stake)| *stake);
    let mut most = (Claim::Limit, f64::NEG_INFINITY);
    for (claim, ln_e) in claims.into_iter().flatten() {
        let part = libm::log(stake(claim)) + ln_e;
        if part > most.1 {
            most = (claim, part);
        }
    }
    // What is not claimed has no stake.
    let evidence = claims.map(|claim| claim.map_or((0.0, 0.0), |(claim, ln_e)| (stake(claim), ln_e)));
    (most.0, ln_weighted_mean(&evidence))
}
