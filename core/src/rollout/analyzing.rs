//! The analysis in a rollout: its beginning, its blocks, and the measurements that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::analysis::{AnalysisRules, AskedShare, Scope, StepAnalysis};
use super::answers::ReadyPods;
use super::decision::DecisionKind;
use super::phase::Phase;
use super::reason::Reason;
use super::state::{Rollout, RolloutContext, StepOutput};
use super::timers::Timer;
use crate::input::status::{DeploymentStatus, WorkloadStatus};
use crate::judge::evidence::Evidence;
use crate::judge::judges::JudgeState;
use crate::measure::block::Block;
use crate::measure::calibration::{Calibration, Traffic};
use crate::measure::metric::Metric;
use crate::measure::watch::{ArmKey, Watch};
use crate::measure::window::{Arm, requests};
use crate::policy::Policy;
use crate::rollout::reward::{Reward, Score};
use crate::stats::share::ShareVerdict;
use crate::time::Timestamp;

impl Rollout {
    /// Whether counts are needed in the present phase.
    pub(super) fn is_watched(&self) -> bool {
        let drains = self.phase() == Phase::Draining && self.canary.exists;
        drains || self.phase().compares() || (self.phase() == Phase::Guarding && self.policy.guard.is_some())
    }

    /// Whether the present step has an analysis, and not only an earlier one.
    pub(super) fn analyzes_this_step(&self) -> bool {
        self.measured.analysis.as_ref().is_some_and(|analysis| analysis.scope == Scope::Step(self.step))
    }

    /// Returns the analysis that decides in the present phase; `None` if none does.
    pub(super) fn judging(&self) -> Option<&StepAnalysis> {
        let judges = self.phase() == Phase::Guarding || (self.phase() == Phase::Stepping && self.analyzes_this_step());
        self.measured.analysis.as_ref().filter(|_| judges)
    }

    /// Begins the analysis when the step's weight was written, or when the guard is entered. It does not wait for the router's
    /// status: a router may send traffic before it says so, or without ever saying so.
    pub(super) fn begin_analysis(&mut self, context: RolloutContext<'_>) {
        let scope = if self.phase() == Phase::Guarding { Scope::Guard } else { Scope::Step(self.step) };
        let begins = match scope {
            Scope::Guard => self.measured.analysis.is_none() && self.policy.guard.is_some(),
            Scope::Step(_) => {
                let asked = self.phase() == Phase::Stepping && self.current.done >= 1;
                asked && !self.analyzes_this_step()
            }
        };
        if begins {
            let carries_over = |state: &JudgeState| scope != Scope::Guard && state.carries_over();
            self.measured.judges.retain(|_, state| carries_over(state));
            self.measured.analysis = Some(StepAnalysis::new(scope, &self.policy, context.now));
        }
    }

    /// Lets the analysis look at a block.
    pub(super) fn analyze(&mut self, block: Block, context: RolloutContext<'_>) {
        let judged = self.judged_deployment(context.status).cloned();
        let (asked, ready) = (self.asked_share(), self.compared_pods(context.status));
        let measured = &mut self.measured;
        if let Some(analysis) = &mut measured.analysis {
            measured.router_lags |= asked.is_some_and(|asked| analysis.awaits_share(&block, &asked));
            let rules = AnalysisRules { policy: &self.policy, calibrations: &measured.calibrations, asked, ready };
            analysis.absorb(block, &rules, &mut measured.judges, judged.as_ref(), context.now);
            // A share that has not come at all may still come.
            measured.router_lags |= analysis.share_verdict() == Some(ShareVerdict::TooLittle);
        }
    }

    /// Whether the canary's share is tested in the present phase. A cohort's share of the requests isn't ours to choose, a fresh
    /// baseline gets about as many as the canary, and a policy that only observes moves no traffic.
    pub(super) fn tests_share(&self) -> bool {
        let by_weight = self.policy.ab.is_none() && !self.policy.fresh_baseline && !self.observes();
        self.phase() == Phase::Stepping && by_weight
    }

    /// Returns the share of the requests that the canary is asked to get; `None` if it is not tested.
    pub(super) fn asked_share(&self) -> Option<AskedShare> {
        let before = self.step.checked_sub(1).and_then(|step| self.policy.steps.get(step));
        self.tests_share().then(|| AskedShare {
            share: self.achievable().as_share(),
            before: before.map_or(0.0, |step| step.weight.as_share()),
            traffic: self.traffic_before(),
            follows_within: self.policy.follows_within,
        })
    }

    /// Returns the workload's requests before the rollout, by the metric that counts most; none if they are not known.
    fn traffic_before(&self) -> Traffic {
        let histories = self.measured.calibrations.iter().map(|known| known.history.present);
        histories.max_by_key(|traffic| traffic.requests).unwrap_or_default()
    }

    /// Returns the numbers of ready pods in the present step; `None` if the canary's single pods are not compared. Without a router
    /// the connections of clients stay with the pods that they have.
    fn compared_pods(&self, status: Option<&WorkloadStatus>) -> Option<ReadyPods> {
        let status = status.filter(|_| self.phase() == Phase::Stepping && self.policy.traffic.splits_by_weight())?;
        let beside = if self.policy.fresh_baseline { &status.baseline } else { &status.stable };
        Some(ReadyPods { canary: status.canary.as_ref()?.ready, stable: beside.as_ref()?.ready })
    }

    /// Whether the counts show that the canary has the share that it was asked to get.
    pub(super) fn share_is_as_asked(&self) -> bool {
        let verdict = self.judging().and_then(StepAnalysis::share_verdict);
        self.tests_share() && verdict == Some(ShareVerdict::AsAsked)
    }

    /// Notes the canary's requests in a block that lies in the present phase.
    pub(super) fn note_requests(&mut self, block: &Block) {
        let requests = block.metrics.keys().filter_map(|name| requests(block, name, Arm::Canary)).max();
        if block.from >= self.current.since {
            self.current.requests = self.current.requests.after(requests);
        }
    }

    /// Notes that the newest block is too old to rest a decision on.
    pub(super) fn note_silence(&mut self, now: Timestamp) {
        if self.is_due(Timer::Silence, now)
            && let Some(analysis) = &mut self.measured.analysis
        {
            analysis.note_silence(now);
        }
    }

    /// Notes that every check has passed for the minimum time.
    pub(super) fn note_pass(&mut self, now: Timestamp) {
        let over = self.is_due(Timer::MinTime, now) && self.has_recent_block(now);
        if self.judging().is_some()
            && let Some(analysis) = &mut self.measured.analysis
        {
            analysis.note_pass(over, now);
        }
    }

    /// Counts the rewards of a block that began when the cohort had its traffic.
    pub(super) fn count_rewards(&mut self, block: &Block) {
        let analysis = self.measured.analysis.as_ref().filter(|analysis| analysis.scope != Scope::Guard);
        let (Some(test), Some(since)) = (&self.policy.ab, analysis.map(|analysis| analysis.since)) else { return };
        if block.from < since || self.phase() != Phase::Stepping {
            return;
        }
        let history = Calibration::of(&self.measured.calibrations, &test.reward_criterion());
        let reward = &mut self.measured.reward;
        reward.get_or_insert_with(|| history.map(Reward::new).unwrap_or_default()).absorb(block, test);
    }

    /// Returns the score of the A/B test and the time at which it began; `None` if there is no test.
    pub(super) fn score(&self) -> Option<(Score, Timestamp)> {
        let analysis = self.judging().filter(|_| self.phase() == Phase::Stepping)?;
        let test = self.policy.ab.as_ref()?;
        let reward = self.measured.reward.as_ref();
        let score = reward.map_or_else(|| Reward::default().score(test), |reward| reward.score(test));
        Some((score, analysis.since))
    }

    /// Reports each check that only warns and has regressed, once.
    pub(super) fn warn(&mut self, now: Timestamp, out: &mut StepOutput) {
        let warnings = self.measured.analysis.iter().flat_map(|analysis| analysis.warnings());
        let is_new = |evidence: &&Evidence| !self.measured.warned.contains(&evidence.check);
        let new: Vec<Evidence> = warnings.filter(is_new).cloned().collect();
        for evidence in new {
            self.measured.warned.push(evidence.check.clone());
            let reason = Reason::Warned { evidence: Box::new(evidence) };
            self.decide(DecisionKind::Warn, reason, now, out);
        }
    }

    /// Explains why nothing is decided at present. A hold has its own explanation.
    pub(super) fn explain_waiting(&mut self) {
        let Some(analysis) = self.judging().filter(|_| self.current.hold.is_none()) else { return };
        let ends = self.ends(Timer::MinTime).unwrap_or(analysis.since);
        let undecided = self.score().zip(self.ends(Timer::TestEnds)).filter(|_| analysis.status().is_pass());
        self.reason = match undecided {
            Some(((score, _), until)) => Reason::Undecided { score: Box::new(score), until },
            None => analysis.reason(ends),
        };
    }

    /// Returns the measurements that this rollout needs; `None` if it needs none. `measured` returns the measured metrics of a
    /// policy.
    pub fn watch(
        &self,
        status: &WorkloadStatus,
        measured: impl FnOnce(&Arc<Policy>) -> Arc<BTreeMap<String, Metric>>,
    ) -> Option<Watch> {
        let basis = self.basis.as_ref()?;
        if !self.is_watched() {
            return None;
        }
        let key = |arm: &DeploymentStatus, name: String| ArmKey {
            deployment_uid: arm.uid.clone(),
            pod_hash: arm.pod_hash.clone(),
            name,
        };
        let stable = status.stable.as_ref()?;
        let guards = self.phase() == Phase::Guarding;
        let canary = status.canary.as_ref().filter(|_| !guards);
        let beside = if self.policy.fresh_baseline && !guards {
            key(status.baseline.as_ref()?, self.workload.baseline_name())
        } else {
            // Under guard only the guarded version counts; during a promotion, both of the stable's versions do.
            ArmKey { pod_hash: stable.pod_hash.clone().filter(|_| guards), ..self.stable_key(basis) }
        };
        Some(Watch {
            workload: self.workload.clone(),
            metrics: measured(&self.policy),
            per_process: if guards { BTreeSet::new() } else { self.policy.per_process_metrics() },
            per_pod: self.policy.per_process_metrics(),
            warm_up: self.policy.warm_up,
            canary: canary.map(|arm| key(arm, self.workload.canary_name())),
            stable: beside,
            since: self.started,
            last: self.measured.last_block,
        })
    }
}
