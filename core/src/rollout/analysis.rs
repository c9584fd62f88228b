//! The judging of one step, or of the guard: from when its weight was seen until the next one's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::Weight;
use crate::input::status::DeploymentStatus;
use crate::judge::sequential::{SequentialInput, SequentialQuery, SequentialState};
use crate::judge::threshold::{CheckState, JudgeInput};
use crate::judge::verdict::{Evidence, Verdict};
use crate::measure::block::Block;
use crate::measure::calibration::{Calibration, History};
use crate::measure::metric::{Metric, MetricKind};
use crate::measure::window::{Arm, Ring, reading};
use crate::policy::{Check, Proof};
use crate::rollout::reason::Reason;
use crate::time::{Span, Timestamp};

/// With fewer requests in both arms together nothing is said about their shares.
const SHARE_NEEDS: u64 = 100;

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortfall {
    /// It can't be seen.
    Sight,
    /// There is too little of it.
    Evidence,
}

/// What all checks together say: the worst of them decides.
#[derive(Debug, Clone, PartialEq)]
pub enum AnalysisStatus {
    /// At least one has regressed; these.
    Regressed(Vec<Evidence>),
    /// At least one can't be seen; these.
    Blind(Vec<Evidence>),
    /// At least one says nothing yet; these.
    Insufficient(Vec<Evidence>),
    /// All pass.
    Pass(Vec<Evidence>),
}

/// By what it is judged.
#[derive(Debug, Clone, Copy)]
pub struct AnalysisRules<'a> {
    /// The checks of the step, or of the guard.
    pub checks: &'a [Check],
    /// The metrics that they name.
    pub metrics: &'a BTreeMap<String, Metric>,
    /// What passes by the sequential judge.
    pub proof: Proof,
    /// How long the rollout, or the guard, is planned to be watched.
    pub planned: Span,
    /// What the past has taught of what is counted.
    pub calibrations: &'a [Calibration],
}

impl AnalysisRules<'_> {
    fn past(&self, check: &Check) -> Option<&History> {
        Calibration::of(self.calibrations, &check.bad())
    }
}

/// The judging of one step, or of the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepAnalysis {
    /// Which step, from 0.
    pub step: usize,
    /// Or the guard.
    pub guards: bool,
    /// Since when.
    pub since: Timestamp,
    /// The counts.
    pub ring: Ring,
    /// Each check's memory, in the policy's order.
    pub checks: Vec<CheckState>,
    /// What is missing, and since when.
    pub lacking: Option<(Shortfall, Timestamp)>,
    /// When everything passed after the least time; not taken back by a later doubt, but a pass is asked for again.
    pub passed: Option<Timestamp>,
}

impl StepAnalysis {
    /// Begins now.
    pub fn new(step: usize, guards: bool, checks: usize, now: Timestamp) -> StepAnalysis {
        StepAnalysis {
            step,
            guards,
            since: now,
            ring: Ring::default(),
            checks: vec![CheckState::default(); checks],
            lacking: Some((Shortfall::Evidence, now)),
            passed: None,
        }
    }

    /// Takes a block in and lets every check look. A block that began before the watch did is left out: some of its
    /// requests were split by the weight before.
    pub fn absorb(
        &mut self,
        mut block: Block,
        rules: &AnalysisRules<'_>,
        states: &mut BTreeMap<String, SequentialState>,
        arm: Option<&DeploymentStatus>,
        now: Timestamp,
    ) {
        if block.from < self.since {
            return;
        }
        let (from, at) = (block.from, block.to);
        // Read once, and not kept in the ring.
        let (processes, pods) = (std::mem::take(&mut block.processes), std::mem::take(&mut block.pods));
        let keep = rules.checks.iter().map(|check| check.window).max().unwrap_or(Span::ZERO);
        if !self.ring.push(block, keep) {
            return;
        }
        let view =
            JudgeInput { ring: &self.ring, side: if self.guards { Arm::Stable } else { Arm::Canary }, arm, past: None };
        for (said, check) in self.checks.iter_mut().zip(rules.checks) {
            said.warns = check.warns;
            let Some(metric) = rules.metrics.get(&check.metric) else { continue };
            let Some(rule) = check.sequential else {
                let drifts = metric.kind == MetricKind::Drift;
                let past = drifts.then(|| rules.past(check)).flatten().and_then(|past| past.shape.as_ref());
                said.look(check, metric, JudgeInput { past, ..view }, at);
                continue;
            };
            let asked = SequentialQuery { check, rule, metric, side: view.side, proof: rules.proof };
            let state = states.entry(check.name.clone()).or_insert_with(|| {
                SequentialState::new(from, at, rules.planned, rules.past(check).cloned().unwrap_or_default())
            });
            let Some(sample) = view.ring.newest().and_then(|block| block.metrics.get(&check.metric)) else { continue };
            let processes = processes.get(&check.metric).map_or(&[][..], Vec::as_slice);
            let seen = SequentialInput { sample, processes, pods: pods.get(&check.metric) };
            let gap = view.ring.gap(&check.metric).cloned().or_else(|| asked.gap(sample));
            said.take(state.look(asked, seen, at), gap.as_ref());
        }
        self.note_lack(now);
    }

    fn note_lack(&mut self, now: Timestamp) {
        let lack = match self.standing() {
            AnalysisStatus::Blind(_) => Some(Shortfall::Sight),
            AnalysisStatus::Insufficient(_) => Some(Shortfall::Evidence),
            AnalysisStatus::Pass(_) | AnalysisStatus::Regressed(_) => None,
        };
        self.lacking = match (lack, self.lacking) {
            (Some(lack), Some((before, since))) if lack == before => Some((lack, since)),
            (Some(lack), _) => Some((lack, now)),
            (None, _) => None,
        };
    }

    /// Time has passed: everything may have passed for long enough now.
    pub fn follow(&mut self, least: Span, now: Timestamp) {
        if self.passed.is_none() && now >= least.after(self.since) && matches!(self.standing(), AnalysisStatus::Pass(_))
        {
            self.passed = Some(now);
        }
    }

    /// What all checks together say, but for those that only warn.
    pub fn standing(&self) -> AnalysisStatus {
        let voting = || self.checks.iter().filter(|check| !check.warns);
        let with = |verdict: Verdict| -> Vec<Evidence> {
            let said = voting().filter_map(|check| check.evidence.as_ref());
            said.filter(|evidence| evidence.verdict == verdict).cloned().collect()
        };
        for (verdict, standing) in [
            (Verdict::Regressed, AnalysisStatus::Regressed as fn(Vec<Evidence>) -> AnalysisStatus),
            (Verdict::Blind, AnalysisStatus::Blind),
            (Verdict::Insufficient, AnalysisStatus::Insufficient),
        ] {
            let evidence = with(verdict);
            if !evidence.is_empty() {
                return standing(evidence);
            }
        }
        // A check that has not looked yet says nothing.
        if self.checks.iter().any(|check| check.evidence.is_none() && !check.warns) {
            return AnalysisStatus::Insufficient(Vec::new());
        }
        AnalysisStatus::Pass(with(Verdict::Pass))
    }

    /// What those say that only warn, and have something to warn of.
    pub fn warnings(&self) -> impl Iterator<Item = &Evidence> {
        let warning = self.checks.iter().filter(|check| check.warns).filter_map(|check| check.evidence.as_ref());
        warning.filter(|evidence| evidence.verdict == Verdict::Regressed)
    }

    /// What each check last said.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.checks.iter().filter_map(|check| check.evidence.as_ref())
    }

    /// Why nothing is decided at present.
    pub fn reason(&self, least: Span) -> Reason {
        match self.standing() {
            AnalysisStatus::Regressed(evidence) => Reason::Regressed { evidence },
            AnalysisStatus::Blind(evidence) => {
                Reason::Blind { evidence, since: self.lacking.map_or(self.since, |(_, since)| since) }
            }
            AnalysisStatus::Insufficient(evidence) if evidence.is_empty() => {
                Reason::Waiting { until: least.after(self.since), passing: false }
            }
            AnalysisStatus::Insufficient(evidence) => Reason::Insufficient { evidence },
            AnalysisStatus::Pass(_) => Reason::Waiting { until: least.after(self.since), passing: true },
        }
    }

    /// The canary's share of the requests that were counted, and their number; `None`: nothing is counted in both arms.
    ///
    /// An arm without a reading is not an arm without requests: a canary's first scrape comes some blocks after its first
    /// request, and brings all of them at once. So the other arm's counts of those blocks belong to it.
    pub fn share(&self) -> Option<(f64, u64)> {
        let names: BTreeSet<&String> = self.ring.blocks().flat_map(|block| block.metrics.keys()).collect();
        names.into_iter().find_map(|name| {
            let (canary, stable) = (self.requests(name, Arm::Canary)?, self.requests(name, Arm::Stable)?);
            let n = canary.saturating_add(stable);
            (n > 0).then(|| (canary as f64 / n as f64, n))
        })
    }

    /// The requests that a metric has counted in one arm; `None`: it has not been seen.
    fn requests(&self, metric: &str, side: Arm) -> Option<u64> {
        let counts = self.ring.blocks().filter_map(|block| reading(block.metrics.get(metric)?, side)?.requests());
        counts.reduce(u64::saturating_add)
    }

    /// The share and the number of requests, if the canary gets more than twice what was asked for.
    pub fn share_off(&self, asked: Weight) -> Option<(f64, u64)> {
        self.share().filter(|(seen, n)| *n >= SHARE_NEEDS && *seen > 2.0 * asked.as_share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::block::{Reading, Sample};

    /// What a block has of the canary and of the stable.
    type Requests = (Option<u64>, Option<u64>);

    type Row<'a> = (&'a [Requests], Option<(f64, u64)>);

    fn analysis(blocks: &[Requests]) -> StepAnalysis {
        let at = |n: usize| Timestamp::from_second(n as i64 * 10).unwrap();
        let mut analysis = StepAnalysis::new(0, false, 0, at(0));
        for (n, (canary, stable)) in blocks.iter().enumerate() {
            let sample = Sample::Arms { canary: canary.map(Reading::Count), stable: stable.map(Reading::Count) };
            let metrics = BTreeMap::from([("requests".to_owned(), sample)]);
            analysis.ring.push(Block::new(at(n), at(n + 1), metrics), Span::from_secs(3600));
        }
        analysis
    }

    #[test]
    fn the_share_of_a_canary_that_is_scraped_late_is_of_all_that_came_meanwhile() {
        let rows: [Row<'_>; 5] = [
            (&[], None),
            (&[(None, Some(80)), (None, Some(80))], None),
            (&[(None, Some(80)), (None, Some(80)), (Some(60), Some(80))], Some((0.2, 300))),
            (&[(Some(10), None), (Some(10), Some(80))], Some((0.2, 100))),
            (&[(Some(0), Some(0))], None),
        ];
        for (blocks, expected) in rows {
            assert_eq!(analysis(blocks).share(), expected, "{blocks:?}");
        }
    }
}
