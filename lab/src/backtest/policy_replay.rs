//! The run of a policy over a recording: the steps, the judges and the patience of the engine, without a cluster.
//!
//! The judging is the engine's own ([`StepAnalysis`]). The transitions between steps are re-implemented here in a short
//! form, because a recording has no approvals, commands or gateways.

use std::collections::BTreeMap;

use super::judged::Judged;
use crate::rivals::RivalEnd;
use bellwether_core::judge::sequential::SequentialState;
use bellwether_core::judge::verdict::Evidence;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::Calibration;
use bellwether_core::policy::{Policy, Step, Then};
use bellwether_core::rollout::analysis::{AnalysisRules, AnalysisStatus, Shortfall, StepAnalysis};
use bellwether_core::rollout::reason::Reason;
use bellwether_core::time::{Span, Timestamp};

/// Decides by `policy` about a rollout that begins with the first block, with the calibrations of the time before it.
/// Returns `None` without blocks.
pub(super) fn judge(policy: &Policy, blocks: &[Block], calibrations: &[Calibration]) -> Option<Judged> {
    let (start, end) = (blocks.first()?.from, blocks.last()?.to);
    let mut walk = Walk::new(policy, calibrations, start);
    for block in blocks {
        if let Some((end, why)) = walk.absorb(block) {
            return Some(Judged::new(&policy.name, Some(end), (start, block.to), why));
        }
    }
    let held = walk.held.map(|_| RivalEnd::Held);
    Some(Judged::new(&policy.name, held, (start, end), walk.standing()))
}

/// The state of the simulated rollout.
struct Walk<'a> {
    policy: &'a Policy,
    calibrations: &'a [Calibration],
    states: BTreeMap<String, SequentialState>,
    analysis: StepAnalysis,
    /// The time since which the rollout is held; `None` if it is not.
    held: Option<Timestamp>,
}

impl<'a> Walk<'a> {
    fn new(policy: &'a Policy, calibrations: &'a [Calibration], start: Timestamp) -> Walk<'a> {
        Walk { policy, calibrations, states: BTreeMap::new(), analysis: begin(policy, 0, start), held: None }
    }

    fn step(&self) -> Option<&'a Step> {
        self.policy.steps.get(self.analysis.step)
    }

    /// Adds a block, and returns the end of the rollout with its reason if the block causes it.
    fn absorb(&mut self, block: &Block) -> Option<(RivalEnd, String)> {
        let (step, now) = (self.step()?, block.to);
        let rules = AnalysisRules {
            checks: &step.checks,
            metrics: &self.policy.metrics,
            proof: step.proof,
            planned: self.policy.planned(false),
            calibrations: self.calibrations,
        };
        self.analysis.absorb(block.clone(), &rules, &mut self.states, None, now);
        self.analysis.follow(step.min_time, now);
        match self.analysis.standing() {
            AnalysisStatus::Regressed(evidence) => {
                Some((RivalEnd::RolledBack, Reason::Regressed { evidence }.to_string()))
            }
            AnalysisStatus::Pass(evidence) => self.advance(step, &evidence, now),
            AnalysisStatus::Blind(_) | AnalysisStatus::Insufficient(_) => self.wait(now),
        }
    }

    /// Handles a pass of all checks: advances to the next step, or promotes after the last one, once the step's minimum
    /// time and pause are over.
    fn advance(&mut self, step: &Step, evidence: &[Evidence], now: Timestamp) -> Option<(RivalEnd, String)> {
        self.held = None;
        if self.analysis.passed.is_none_or(|passed| now < step.pause.after(passed)) {
            return None;
        }
        let next = self.analysis.step + 1;
        if next < self.policy.steps.len() {
            self.analysis = begin(self.policy, next, now);
            return None;
        }
        let sentences: Vec<String> = evidence.iter().map(ToString::to_string).collect();
        Some((RivalEnd::Promoted, sentences.join("; ")))
    }

    /// Handles missing sight or evidence: ends or holds the rollout once it is missing for longer than the policy's
    /// patience, and ends it after the longest hold.
    fn wait(&mut self, now: Timestamp) -> Option<(RivalEnd, String)> {
        let (shortfall, since) = self.analysis.lacking?;
        let patience = &self.policy.patience;
        let (limit, then) = match shortfall {
            Shortfall::Sight => (patience.blind, patience.on_blind),
            Shortfall::Evidence => (patience.insufficient, patience.on_insufficient),
        };
        if Span::between(since, now) < limit {
            return None;
        }
        let held = *self.held.get_or_insert(now);
        let why = self.standing();
        match then {
            Then::RollBack => Some((RivalEnd::RolledBack, why)),
            Then::GiveUp => Some((RivalEnd::Held, format!("given up: {why}"))),
            Then::Hold if Span::between(held, now) >= self.policy.max_hold => {
                Some((RivalEnd::Held, format!("given up after {} on hold: {why}", self.policy.max_hold)))
            }
            Then::Hold => None,
        }
    }

    fn standing(&self) -> String {
        self.analysis.reason(self.step().map_or(Span::ZERO, |step| step.min_time)).to_string()
    }
}

fn begin(policy: &Policy, step: usize, now: Timestamp) -> StepAnalysis {
    StepAnalysis::new(step, false, policy.steps.get(step).map_or(0, |step| step.checks.len()), now)
}
