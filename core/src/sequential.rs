//! The `sequential` judge: it may look at every block, and its error rate is the one that the policy states.
//!
//! A check counts requests of a bad kind: failed ones, or ones slower than a limit at a bucket's edge. It holds their share
//! against its limit, and against the stable's share beside it. Two claims may alarm, or three, and each is a regression:
//!
//! - the share is above the limit ([`LimitGrid`]);
//! - the share is above `margin` times the stable's *and* above the stable's by more than `floor` ([`OddsGrid`] and
//!   [`Effects`], of which the smaller evidence counts);
//! - where the policy says how many that may be: more than `harm` requests were bad that would not have been at the
//!   stable's share ([`Harm`]). A small difference in much traffic is found by this, whatever the margin.
//!
//! A claim alarms when its evidence reaches `1/level`. The level is the policy's `alpha` divided by the number of claims
//! that could roll the rollout back, those of the guard included, so that all of them together are wrong in at most
//! `alpha` of the rollouts of good versions, however often they are looked at.
//!
//! No alarm is not a proof. A step asks for either ([`Proof`]): for requests enough and no alarm, or for evidence of
//! `1/beta` that the share is below the limit, or below `margin` times the stable's.
//!
//! The evidence is carried on from step to step, since each block brings its own split of the traffic. Errors come in
//! clusters; how large they are is learnt from the stable's pods ([`Dispersion`]), each block after it was judged. Until
//! enough is known of that, [`Phi::ASSUMED`](crate::stats::tally::Phi::ASSUMED) divides the evidence, and the sentence says "not calibrated".

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::event::{Block, Reading, Sample};
use crate::metric::{Limit, Metric, MetricKind, Unit};
use crate::policy::Check;
use crate::stats::BadTest;
use crate::stats::combine::ln_least;
use crate::stats::dispersion::Dispersion;
use crate::stats::harm::Harm;
use crate::stats::histogram::slower_than;
use crate::stats::mixture::{Mixture, Onset};
use crate::stats::odds_grid::OddsGrid;
use crate::stats::slo::{Ceiling, LimitGrid};
use crate::stats::tally::{Pair, Tally, Worth};
use crate::stats::two_sample::{Effects, EffectsState, Null};
use crate::time::{Span, Timestamp};
use crate::verdict::{Evidence, Measure, Verdict};
use crate::window::{Side, reading};

/// The judge's settings for one check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rule {
    /// The canary's share may be so many times the stable's; at least 1.
    pub margin: f64,
    /// And it may be above the stable's by so much, as a share.
    pub floor: f64,
    /// So many requests may be bad that would not have been at the stable's share; `None`: nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<f64>,
    /// The error rate of each claim that may roll back: its part of the policy's `alpha`.
    pub level: f64,
    /// The error rate of a proof.
    pub beta: f64,
}

impl Rule {
    /// So many claims may roll a rollout back where a stable is beside it: limit, comparison, and harm if it has a budget.
    pub fn claims(self) -> usize {
        2 + usize::from(self.harm.is_some())
    }
}

/// What passes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Enough requests, and no alarm.
    #[default]
    NoAlarm,
    /// It is shown that the version is not worse than it may be.
    NonInferior,
}

/// How much of the past is looked at: enough to know how errors cluster of a service that has a few in a minute.
pub const PAST: Span = Span::from_secs(20 * 60);

/// What is counted as bad: of which metric, and on which side of which limit. How it clusters depends on nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bad {
    /// The metric's name.
    pub metric: String,
    /// The limit.
    pub limit: Limit,
}

impl Bad {
    /// What `check` counts.
    pub fn of(check: &Check) -> Bad {
        Bad { metric: check.metric.clone(), limit: check.limit }
    }

    /// Learns from blocks of the past, in which each of the stable's processes was counted by itself.
    pub fn learn(&self, blocks: &[Block]) -> Past {
        let mut past = Past::default();
        for processes in blocks.iter().filter_map(|block| block.processes.get(&self.metric)) {
            past.absorb(&tallies(processes, self.limit));
        }
        past
    }
}

/// What the stable's processes have shown of something bad.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Past {
    /// How it clusters.
    pub dispersion: Dispersion,
    /// How much there was of it.
    counts: Counts,
}

impl Past {
    /// Takes in a block, process by process.
    pub fn absorb(&mut self, processes: &[Tally]) {
        self.dispersion.absorb(processes);
        for tally in processes {
            self.counts.add(Counts { bad: tally.hits() as u64, n: tally.n() as u64 });
        }
    }
}

/// What the past has taught, and of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Learnt {
    /// Of what.
    pub bad: Bad,
    /// What.
    pub past: Past,
}

fn tallies(processes: &[Reading], limit: Limit) -> Vec<Tally> {
    processes.iter().filter_map(|reading| Counts::of(reading, limit)?.tally()).collect()
}

/// The highest share of bad requests that a check allows: its limit, the other way round where the good ones are counted,
/// and for a quantile what may lie above it.
pub fn allowed(limit: Limit, kind: MetricKind, quantile: f64) -> f64 {
    match (limit, kind) {
        (_, MetricKind::Histogram) => 1.0 - quantile,
        (Limit::Max(max), _) => max,
        (Limit::Min(min), _) => 1.0 - min,
    }
}

/// A check's tests.
struct Tests {
    worse: OddsGrid,
    further: Effects,
    above: LimitGrid,
    better: OddsGrid,
    below: Ceiling,
}

impl Tests {
    fn new(rule: Rule, allowed: f64, onset: Onset) -> Result<Tests, BadTest> {
        Ok(Tests {
            worse: OddsGrid::worse(rule.margin, onset)?,
            further: Effects::worse(Null::Difference(rule.floor), onset)?,
            above: LimitGrid::above(allowed, onset)?,
            better: OddsGrid::better(rule.margin)?,
            below: Ceiling::new(allowed)?,
        })
    }
}

/// Whether there are such tests.
///
/// # Errors
/// [`BadTest`]: which of the numbers is none.
pub fn check(rule: Rule, allowed: f64) -> Result<(), BadTest> {
    Tests::new(rule, allowed, Onset::First).map(|_| ())
}

/// What is asked: which check, of whom.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The check.
    pub check: &'a Check,
    /// Its settings.
    pub rule: Rule,
    /// Its metric.
    pub metric: &'a Metric,
    /// Who is judged: the canary, or under guard the stable.
    pub side: Side,
    /// What passes.
    pub proof: Proof,
}

impl Asked<'_> {
    fn allowed(self) -> f64 {
        allowed(self.check.limit, self.metric.kind, self.check.quantile)
    }
}

/// Counts of whole requests: the bad ones, and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Counts {
    bad: u64,
    n: u64,
}

impl Counts {
    fn of(reading: &Reading, limit: Limit) -> Option<Counts> {
        match (reading, limit) {
            (Reading::Ratio { hits, total }, Limit::Max(_)) => Some(Counts { bad: *hits, n: *total }),
            (Reading::Ratio { hits, total }, Limit::Min(_)) => {
                Some(Counts { bad: total.checked_sub(*hits)?, n: *total })
            }
            (Reading::Histogram { edges, counts }, Limit::Max(max)) => {
                let tally = slower_than(edges, counts, max).ok()?;
                Some(Counts { bad: tally.hits() as u64, n: tally.n() as u64 })
            }
            (Reading::Histogram { .. } | Reading::Count(_) | Reading::Value(_), _) => None,
        }
    }

    fn tally(self) -> Option<Tally> {
        Tally::of(self.bad, self.n).ok()
    }

    fn add(&mut self, other: Counts) {
        self.bad = self.bad.saturating_add(other.bad);
        self.n = self.n.saturating_add(other.n);
    }

    fn measure(self, limit: Limit) -> Measure {
        let hits = if matches!(limit, Limit::Min(_)) { self.n - self.bad } else { self.bad };
        let value = if self.n == 0 { 0.0 } else { hits as f64 / self.n as f64 };
        Measure { value, hits: Some(hits), n: self.n, beyond: false }
    }
}

/// What one check has seen so far, of the rollout or of the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
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
}

impl State {
    /// Before a first block from `since` to `until`, with so long a time planned, and with what the past has taught.
    pub fn new(since: Timestamp, until: Timestamp, planned: Span, past: Past) -> State {
        let block = Span::between(since, until).as_secs_f64();
        let blocks = if block > 0.0 { planned.as_secs_f64() / block } else { 1.0 };
        State {
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
        }
    }

    /// Takes in the block that ends at `until`, and says what follows from all of them. `processes` are the stable's, one by
    /// one. What can't be counted changes nothing. `None`: there is no such test, which the policy's check refuses.
    pub fn look(
        &mut self,
        asked: Asked<'_>,
        sample: &Sample,
        processes: &[Reading],
        until: Timestamp,
    ) -> Option<Evidence> {
        let tests = Tests::new(asked.rule, asked.allowed(), self.onset).ok()?;
        self.until = until;
        self.absorb(&tests, asked, sample, processes);
        Some(self.evidence(&tests, asked))
    }

    fn absorb(&mut self, tests: &Tests, asked: Asked<'_>, sample: &Sample, processes: &[Reading]) {
        let Asked { check, side, .. } = asked;
        let of = |side| reading(sample, side).and_then(|reading| Counts::of(reading, check.limit)).unwrap_or_default();
        let subject = of(side);
        let stable = if side == Side::Canary { of(Side::Stable) } else { Counts::default() };
        let (Some(canary), Some(beside)) = (subject.tally(), stable.tally()) else { return };
        let (pair, phi) = (Pair { canary, stable: beside }, self.dispersion.phi());
        // None of these can fail: the counts are counts, and the state is these tests' own.
        let _ = tests.worse.absorb(&mut self.worse, pair, phi);
        let _ = tests.further.absorb(&mut self.further, pair, phi);
        let _ = tests.above.absorb(&mut self.above, canary, phi);
        let _ = tests.better.absorb(&mut self.better, pair, phi);
        self.below.absorb(canary, phi);
        if asked.rule.harm.is_some() {
            self.harm.get_or_insert_default().absorb(pair, phi);
        }
        self.subject.add(subject);
        self.stable.add(stable);
        self.dispersion.absorb(&tallies(processes, check.limit));
    }

    fn weigh(&self, tests: &Tests, asked: Asked<'_>) -> Weighed {
        let beside = asked.side == Side::Canary;
        let relative = ln_least(&[tests.worse.ln_e(&self.worse), tests.further.ln_e(&self.further)]);
        let harm = asked.rule.harm.zip(self.harm);
        let harmed = harm.map(|(budget, harm)| (Claim::Harm, harm.ln_e(budget)));
        let compared = beside.then_some((Claim::Relative, relative));
        let alarm = largest((Claim::Limit, tests.above.ln_e(&self.above)), compared.into_iter().chain(harmed));
        let proven = beside.then(|| (Claim::Relative, tests.better.ln_e(&self.better)));
        let shown = largest((Claim::Limit, tests.below.ln_compliance(self.below)), proven.into_iter());
        Weighed {
            allowed: asked.allowed(),
            rule: asked.rule,
            proof: asked.proof,
            alarm,
            shown,
            excess: harm.and_then(|(_, harm)| harm.lower_bound(asked.rule.level)),
            calibrated: self.dispersion.phi().calibrated,
        }
    }

    fn evidence(&self, tests: &Tests, asked: Asked<'_>) -> Evidence {
        let Asked { check, metric, side, .. } = asked;
        let weighed = self.weigh(tests, asked);
        let stable = self.stable.measure(check.limit);
        let verdict = if weighed.alarms() {
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
            stable: (side == Side::Canary && stable.n > 0).then_some(stable),
            breaches: 0,
            breaches_needed: 1,
            gap: None,
            verdict,
            weighed: Some(weighed),
            ranked: None,
        }
    }
}

/// The bad requests of a reading and all of them, as the sequential judge counts them. `None`: it does not count any, or can't
/// tell the bad ones (no bucket ends at the limit).
pub fn counted(reading: &Reading, check: &Check) -> Option<Tally> {
    Counts::of(reading, check.limit)?.tally()
}

fn largest(limit: (Claim, f64), others: impl Iterator<Item = (Claim, f64)>) -> (Claim, f64) {
    others.fold(limit, |most, other| if other.1 > most.1 { other } else { most })
}

/// What the evidence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The limit.
    Limit,
    /// The stable's share.
    Relative,
    /// The requests that were bad for nothing but the version.
    Harm,
}

/// How much there is against a version, and how much for it. All evidence is a logarithm, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Weighed {
    /// The highest share of bad requests that the limit allows.
    pub allowed: f64,
    /// The settings.
    pub rule: Rule,
    /// What passes.
    pub proof: Proof,
    /// The claim with the most evidence against the version.
    pub alarm: (Claim, f64),
    /// The claim with the most evidence for it.
    pub shown: (Claim, f64),
    /// Where there is a budget for it: so many requests at least were bad that would not have been at the stable's share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<f64>,
    /// Whether the size of clusters of errors is known.
    pub calibrated: bool,
}

impl Weighed {
    fn alarms(&self) -> bool {
        self.alarm.1 >= -libm::log(self.rule.level)
    }

    fn passes(&self) -> bool {
        self.proof == Proof::NoAlarm || self.shown.1 >= -libm::log(self.rule.beta)
    }

    /// The sentence about `evidence`, which this is a part of.
    pub(crate) fn say(&self, evidence: &Evidence, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(subject) = &evidence.subject else { return write!(f, "{}", evidence.check) };
        let (kept, broken) = (evidence.limit.kept(), evidence.limit.broken());
        let against = |claim: Claim, sign: &str| match (claim, &evidence.stable) {
            (Claim::Relative, Some(stable)) => {
                format!("{sign} {} times the stable's {}", self.rule.margin, Unit::Percent.show(stable.value))
            }
            (Claim::Harm, stable) => format!(
                "has cost at least {:.0} requests that the stable's {} would not have, {sign} {:.0}",
                libm::floor(self.excess.unwrap_or(0.0)),
                Unit::Percent.show(stable.as_ref().map_or(0.0, |stable| stable.value)),
                self.rule.harm.unwrap_or(0.0)
            ),
            (Claim::Relative | Claim::Limit, _) => format!("{sign} {}", self.limit(evidence)),
        };
        let (text, (_, ln_e), needed) = match (evidence.verdict, self.proof) {
            (Verdict::Regressed, _) => (against(self.alarm.0, broken), self.alarm, self.rule.level),
            (Verdict::Pass, Proof::NonInferior) => {
                (format!("is shown to be {}", against(self.shown.0, kept)), self.shown, self.rule.beta)
            }
            (_, Proof::NonInferior) => {
                (format!("is not shown yet to be {}", against(self.shown.0, kept)), self.shown, self.rule.beta)
            }
            (_, Proof::NoAlarm) => {
                let mut text = format!("is not shown to be {}", against(Claim::Limit, broken));
                if evidence.stable.is_some() {
                    let _ = write!(text, " or {broken} {} times the stable's", self.rule.margin);
                }
                (text, self.alarm, self.rule.level)
            }
        };
        let value = Unit::Percent.show(subject.value);
        let counted = format!("{} of {} requests in {}", subject.hits.unwrap_or(0), subject.n, evidence.window);
        let beside = evidence.stable.as_ref().map_or(String::new(), |stable| {
            if evidence.verdict == Verdict::Regressed && self.alarm.0 != Claim::Limit {
                format!(" against {} of {}", stable.hits.unwrap_or(0), stable.n)
            } else {
                format!("; stable {}", Unit::Percent.show(stable.value))
            }
        });
        let doubt = if self.calibrated { "" } else { ", not calibrated" };
        let (has, needs) = (odds(ln_e), odds(-libm::log(needed)));
        write!(f, "{} {value} {text} ({counted}{beside}; evidence {has}, needs {needs}{doubt})", self.name(evidence))
    }

    /// What is counted.
    pub(crate) fn name(&self, evidence: &Evidence) -> String {
        if evidence.kind == MetricKind::Histogram {
            format!("{} above {}", evidence.check, evidence.unit.show(evidence.limit.value()))
        } else {
            evidence.check.clone()
        }
    }

    /// The limit for what is counted.
    pub(crate) fn limit(&self, evidence: &Evidence) -> String {
        let share = if evidence.kind == MetricKind::Histogram { self.allowed } else { evidence.limit.value() };
        Unit::Percent.show(share)
    }
}

/// Evidence as people read it: so many to one.
fn odds(ln_e: f64) -> String {
    match libm::exp(ln_e) {
        e if e >= 1e6 => "over 1000000".to_owned(),
        e if e >= 10.0 => format!("{e:.0}"),
        e => format!("{e:.1}"),
    }
}
