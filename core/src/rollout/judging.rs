//! Judging: when the windows begin, what is measured, and whose numbers count.

use std::collections::BTreeSet;

use super::{Rollout, RolloutContext, StepOutput};
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::judge::reward::{Reward, Score};
use crate::judge::verdict::Evidence;
use crate::measure::block::Block;
use crate::measure::calibration::Calibration;
use crate::measure::watch::{ArmKey, Watch};
use crate::policy::{Check, Policy};
use crate::rollout::analysis::StepAnalysis;
use crate::rollout::decision::DecisionKind;
use crate::rollout::phase::Phase;
use crate::rollout::reason::Reason;
use crate::time::{Span, Timestamp};

impl Rollout {
    pub(super) fn is_watched(&self) -> bool {
        self.phase.compares() || (self.phase == Phase::Guarding && self.policy.guard.is_some())
    }

    pub(super) fn analyzes_this_step(&self) -> bool {
        self.analysis.as_ref().is_some_and(|analysis| !analysis.guards && analysis.step == self.step)
    }

    pub(super) fn judged_arm<'a>(&self, status: Option<&'a WorkloadStatus>) -> Option<&'a DeploymentStatus> {
        let status = status?;
        if self.phase == Phase::Guarding { status.stable.as_ref() } else { status.canary.as_ref() }
    }

    /// Windows begin when the step's weight has been seen, or the guard has begun.
    pub(super) fn begin_analysis(&mut self, world: RolloutContext<'_>) {
        let guards = self.phase == Phase::Guarding;
        let begins = if guards {
            self.analysis.is_none() && self.policy.guard.is_some()
        } else {
            let applies = self.phase == Phase::Stepping && self.progress >= 1;
            applies && !self.analyzes_this_step() && self.weight_seen(world.status)
        };
        if begins {
            let checks = checks_of(&self.policy, guards, self.step).len();
            if guards {
                self.evidence.clear();
            }
            self.analysis = Some(StepAnalysis::new(self.step, guards, checks, world.now));
        }
    }

    pub(super) fn least_time(&self) -> Span {
        let step = || self.policy.steps.get(self.step).map(|step| step.min_time);
        let guard = || self.policy.guard.as_ref().map(|guard| guard.length);
        if self.phase == Phase::Guarding { guard() } else { step() }.unwrap_or(Span::ZERO)
    }

    pub(super) fn judges(&self) -> bool {
        self.phase == Phase::Guarding || (self.phase == Phase::Stepping && self.analyzes_this_step())
    }

    pub(super) fn follow_analysis(&mut self, now: Timestamp) {
        let least = self.least_time();
        let judges = self.judges();
        if let Some(analysis) = self.analysis.as_mut().filter(|_| judges) {
            analysis.follow(least, now);
        }
    }

    /// The rewards of a block that began with the cohort's traffic where it is.
    pub(super) fn count_rewards(&mut self, block: &Block) {
        let began = self.analysis.as_ref().filter(|analysis| !analysis.guards).map(|analysis| analysis.since);
        let (Some(test), Some(since)) = (&self.policy.ab, began) else { return };
        if block.from < since || self.phase != Phase::Stepping {
            return;
        }
        let past = Calibration::of(&self.calibrations, &test.rewarded());
        self.reward.get_or_insert_with(|| past.map(Reward::new).unwrap_or_default()).absorb(block, &test.reward);
    }

    /// How the A/B test stands, if this is one, and when it began.
    pub(super) fn score(&self) -> Option<(Score, Timestamp)> {
        let analysis = self.analysis.as_ref().filter(|_| self.phase == Phase::Stepping && self.judges())?;
        let test = self.policy.ab.as_ref()?;
        let score = self.reward.as_ref().map_or_else(|| Reward::default().score(test), |reward| reward.score(test));
        Some((score, analysis.since))
    }

    /// Each check that only warns is heard once.
    pub(super) fn warn(&mut self, now: Timestamp, out: &mut StepOutput) {
        let warnings = self.analysis.iter().flat_map(|analysis| analysis.warnings());
        let new: Vec<Evidence> = warnings.filter(|evidence| !self.warned.contains(&evidence.check)).cloned().collect();
        for evidence in new {
            self.warned.push(evidence.check.clone());
            self.decide(DecisionKind::Warn, self.phase, Reason::Warned { evidence: Box::new(evidence) }, now, out);
        }
    }

    /// Why nothing is decided at present, where a hold does not say more.
    pub(super) fn report_analysis(&mut self) {
        let least = self.least_time();
        if let Some(analysis) = self.analysis.as_ref().filter(|_| self.judges() && self.held.is_none()) {
            self.reason = analysis.reason(least);
            if let (Some((score, since)), Some(test)) = (self.score(), &self.policy.ab)
                && matches!(self.reason, Reason::Waiting { passing: true, .. })
            {
                self.reason = Reason::Undecided { score: Box::new(score), until: test.longest.after(since) };
            }
        }
    }

    /// What to measure for this rollout; `None`: nothing.
    pub fn watch(&self, status: Option<&WorkloadStatus>) -> Option<Watch> {
        let (status, basis) = (status?, self.basis.as_ref()?);
        if !self.is_watched() {
            return None;
        }
        let key = |arm: &DeploymentStatus, name: String, pod_hash: Option<String>| ArmKey {
            deployment_uid: arm.uid.clone(),
            pod_hash,
            name,
        };
        let stable = status.stable.as_ref()?;
        let guards = self.phase == Phase::Guarding;
        let canary = status.canary.as_ref().filter(|_| !guards);
        let beside = if self.policy.fresh_baseline && !guards {
            let baseline = status.baseline.as_ref()?;
            key(baseline, self.workload.baseline_name(), baseline.pod_hash.clone())
        } else {
            // Under guard only the version that is guarded counts; while it is being promoted, either.
            ArmKey { pod_hash: stable.pod_hash.clone().filter(|_| guards), ..self.stable_key(basis) }
        };
        Some(Watch {
            workload: self.workload.clone(),
            metrics: self.policy.measured_metrics(),
            each: if guards { BTreeSet::new() } else { self.policy.clustered() },
            named: self.policy.clustered(),
            canary: canary.map(|arm| key(arm, self.workload.canary_name(), arm.pod_hash.clone())),
            stable: beside,
            since: self.started,
            last: self.last_block,
        })
    }
}

/// The checks of a step, or of the guard.
pub(super) fn checks_of(policy: &Policy, guards: bool, step: usize) -> &[Check] {
    if guards {
        policy.guard.as_ref().map_or(&[], |guard| &guard.checks)
    } else {
        policy.steps.get(step).map_or(&[], |step| &step.checks)
    }
}
