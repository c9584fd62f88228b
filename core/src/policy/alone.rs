//! The checks of a policy alone, without a rollout: one verdict over all blocks since a start.
//!
//! The error rate of a sequential test holds under repeated calls if each call judges the same blocks and then newer ones. So the judges
//! begin at the first block, and the first block that shows a regression ends the test, as it would have ended the rollout: no later
//! call takes it back.

use super::Policy;
use crate::judge::check::Check;
use crate::judge::evidence::Evidence;
use crate::judge::numbers::Verdict;
use crate::judge::rule::Proof;
use crate::judge::run::{CheckRun, Setting};
use crate::measure::block::Block;
use crate::measure::calibration::{Calibration, History};
use crate::measure::metric::{Metric, MetricKind};
use crate::measure::window::Arm;

/// The verdict of a policy's checks.
#[derive(Debug, Clone, PartialEq)]
pub struct AloneVerdict {
    /// The verdict of all checks that can roll a rollout back: the worst one.
    pub verdict: Verdict,
    /// The reason in one sentence.
    pub reason: String,
    /// The newest evidence of each check that has looked.
    pub checks: Vec<AloneCheck>,
    /// The names of the checks that are not judged: those of the availability, which no query measures.
    pub left_out: Vec<String>,
}

/// The evidence of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct AloneCheck {
    /// The evidence.
    pub evidence: Evidence,
    /// Whether a regression only warns.
    pub warns: bool,
}

impl Policy {
    /// Judges the canary by the checks of all steps, each once, over all of `blocks`. `before` are the stable's blocks of the time
    /// before, from which histories are learned. A check that several steps have asks for the strictest proof of them.
    pub fn judge_alone(&self, before: &[Block], blocks: &[Block]) -> AloneVerdict {
        let calibrations = Calibration::from(self.learned_criteria(), before);
        let (mut checks, mut left_out, mut silent) = (Vec::new(), Vec::new(), None);
        for (check, proof) in self.step_checks() {
            let metric = self.metrics.get(&check.metric).filter(|metric| metric.kind != MetricKind::Availability);
            let Some(metric) = metric else {
                left_out.push(check.name.clone());
                continue;
            };
            let history = Calibration::of(&calibrations, &check.criterion()).cloned().unwrap_or_default();
            match self.newest((check, metric, proof), history, blocks) {
                Some(evidence) => checks.push(AloneCheck { evidence, warns: check.warns }),
                None if check.warns => {}
                None => silent = Some(check.name.clone()),
            }
        }
        let (verdict, reason) = conclusion(&checks, silent);
        AloneVerdict { verdict, reason, checks, left_out }
    }

    /// Returns the different checks of the steps.
    fn step_checks(&self) -> Vec<(&Check, Proof)> {
        let mut all: Vec<(&Check, Proof)> = Vec::new();
        for (check, proof) in self.steps.iter().flat_map(|step| step.checks.iter().map(|check| (check, step.proof))) {
            match all.iter_mut().find(|(known, _)| *known == check) {
                Some(known) if proof == Proof::NonInferior => known.1 = proof,
                Some(_) => {}
                None => all.push((check, proof)),
            }
        }
        all
    }

    /// Returns the evidence of a check after all blocks, or at the first regression; `None` if it has not looked.
    fn newest(
        &self,
        (check, metric, proof): (&Check, &Metric, Proof),
        history: History,
        blocks: &[Block],
    ) -> Option<Evidence> {
        let planned = self.planned(false);
        let mut run = CheckRun::new(Setting { check, metric, arm: Arm::Canary, proof, planned, history });
        let mut newest = None;
        for block in blocks {
            let processes = block.processes.get(&check.metric).map_or(&[][..], Vec::as_slice);
            newest = run.look_at(block.clone(), processes, block.pods.get(&check.metric)).cloned();
            if newest.as_ref().is_some_and(|evidence| evidence.verdict == Verdict::Regressed) {
                break;
            }
        }
        newest
    }
}

/// Returns the worst verdict of the checks that can roll back, with the sentence of its first check; of a pass, the sentences of all.
/// `silent` is a check without evidence.
fn conclusion(checks: &[AloneCheck], silent: Option<String>) -> (Verdict, String) {
    let deciding = || checks.iter().filter(|check| !check.warns).map(|check| &check.evidence);
    let first = |verdict| deciding().find(|evidence| evidence.verdict == verdict);
    for verdict in [Verdict::Regressed, Verdict::Blind, Verdict::Insufficient] {
        if let Some(evidence) = first(verdict) {
            return (verdict, evidence.to_string());
        }
    }
    if let Some(name) = silent {
        return (Verdict::Insufficient, format!("{name} has not looked at a block yet"));
    }
    let passed: Vec<String> = deciding().map(ToString::to_string).collect();
    if passed.is_empty() {
        return (Verdict::Insufficient, "no check can roll back and is measured by queries".to_owned());
    }
    (Verdict::Pass, passed.join("; "))
}
