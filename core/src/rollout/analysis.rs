//! The analysis of one step, or of the guard: from the first block of its traffic to its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answers::{PodAnswers, ReadyPods};
use super::availability::{SettledSize, availability};
use super::reason::Reason;
use crate::input::status::DeploymentStatus;
use crate::judge::check::{Check, CheckState};
use crate::judge::evidence::{Evidence, Findings};
use crate::judge::judges::JudgeState;
use crate::judge::numbers::Verdict;
use crate::judge::rule::{Look, Proof};
use crate::measure::block::Block;
use crate::measure::calibration::{Calibration, History, Traffic};
use crate::measure::metric::{ArmSource, Metric};
use crate::measure::window::{Arm, Ring};
use crate::policy::{Patience, PatienceAction, Policy, Step};
use crate::stats::share::ShareTest;
use crate::time::{Span, Timestamp};

/// The subject of an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// A step of the policy, counted from 0.
    Step(usize),
    /// The guard after a promotion.
    Guard,
}

impl Scope {
    /// Returns the step; `None` for the guard.
    pub fn step(self, policy: &Policy) -> Option<&Step> {
        match self {
            Scope::Step(step) => policy.steps.get(step),
            Scope::Guard => None,
        }
    }

    /// Returns the checks that hold here.
    pub fn checks(self, policy: &Policy) -> &[Check] {
        match self {
            Scope::Step(_) => self.step(policy).map_or(&[], |step| &step.checks),
            Scope::Guard => policy.guard.as_ref().map_or(&[], |guard| &guard.checks),
        }
    }

    /// Returns the time for which it is judged at least.
    pub fn min_time(self, policy: &Policy) -> Span {
        match self {
            Scope::Step(_) => self.step(policy).map_or(Span::ZERO, |step| step.min_time),
            Scope::Guard => policy.guard.as_ref().map_or(Span::ZERO, |guard| guard.length),
        }
    }

    fn proof(self, policy: &Policy) -> Proof {
        self.step(policy).map_or(Proof::NoAlarm, |step| step.proof)
    }

    /// Returns the arm whose counts are judged.
    fn judged_arm(self) -> Arm {
        match self {
            Scope::Step(_) => Arm::Canary,
            Scope::Guard => Arm::Stable,
        }
    }
}

/// The kind of evidence that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortfall {
    /// A check can't be measured.
    Visibility,
    /// A check has too little evidence.
    Evidence,
}

impl Shortfall {
    /// Returns how long it may last, and the policy's action after that.
    pub fn patience(self, patience: &Patience) -> (Span, PatienceAction) {
        match self {
            Shortfall::Visibility => (patience.blind, patience.on_blind),
            Shortfall::Evidence => (patience.insufficient, patience.on_insufficient),
        }
    }
}

/// The verdict of all checks together: the worst one decides. Checks that only warn don't count.
#[derive(Debug, Clone, PartialEq)]
pub enum AnalysisStatus {
    /// At least one check has regressed; holds the evidence of these.
    Regressed(Findings),
    /// At least one check can't be measured; holds the evidence of these.
    Blind(Findings),
    /// At least one check has too little evidence; holds the evidence of these.
    Insufficient(Findings),
    /// At least one check has not looked at a block yet, and no other check is worse.
    Unmeasured,
    /// Every check passes; holds the evidence of all that count.
    Pass(Vec<Evidence>),
}

impl AnalysisStatus {
    /// Whether every check passes.
    pub fn is_pass(&self) -> bool {
        matches!(self, AnalysisStatus::Pass(_))
    }
}

/// The share of the requests that the canary is asked to get, and the split before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AskedShare {
    /// The asked share, from 0 to 1.
    pub share: f64,
    /// The share of the step before, from 0 to 1.
    pub before: f64,
    /// The workload's requests before the rollout.
    pub traffic: Traffic,
    /// The longest time that the router may take to follow.
    pub follows_within: Span,
}

/// The rules and the past that an analysis judges by.
#[derive(Debug, Clone, Copy)]
pub struct AnalysisRules<'a> {
    /// The rollout's policy.
    pub policy: &'a Policy,
    /// The calibrations of the policy's criteria.
    pub calibrations: &'a [Calibration],
    /// The share of the requests that the canary is asked to get; `None` if it is not tested.
    pub asked: Option<AskedShare>,
    /// The numbers of ready pods; `None` if the canary's single pods are not compared.
    pub ready: Option<ReadyPods>,
}

impl AnalysisRules<'_> {
    fn history(&self, check: &Check) -> Option<&History> {
        Calibration::of(self.calibrations, &check.criterion())
    }

    /// Returns the metrics that a gateway counts.
    fn metrics_of_gateways(&self) -> impl Iterator<Item = &String> {
        let is_of_gateway = |metric: &Metric| matches!(metric.arms, ArmSource::Service { .. });
        self.policy.metrics.iter().filter(move |(_, metric)| is_of_gateway(metric)).map(|(name, _)| name)
    }
}

/// The analysis of one step, or of the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepAnalysis {
    /// The subject.
    pub scope: Scope,
    /// The time at which it began: the step's weight was seen, or the guard was entered.
    pub since: Timestamp,
    /// The time since then in which the cluster could not be seen. It doesn't count as time in which it was judged.
    #[serde(default)]
    pub unseen: Span,
    /// The test of the canary's share; `None` before its first block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_test: Option<ShareTest>,
    /// The answers of the canary's single pods.
    #[serde(default, skip_serializing_if = "PodAnswers::is_empty")]
    pub answers: PodAnswers,
    /// The size of the judged Deployment; `None` before the first block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<SettledSize>,
    /// The newest blocks.
    pub ring: Ring,
    /// The state of each check, in the policy's order.
    pub checks: Vec<CheckState>,
    /// The missing evidence, and the time since which it is missing.
    pub shortfall: Option<(Shortfall, Timestamp)>,
    /// The first time after the minimum time at which every check passed. It stays set, but advancing needs a pass of its
    /// own.
    pub passed: Option<Timestamp>,
}

impl StepAnalysis {
    /// Returns an analysis that begins now.
    pub fn new(scope: Scope, policy: &Policy, now: Timestamp) -> StepAnalysis {
        StepAnalysis {
            scope,
            since: now,
            unseen: Span::ZERO,
            share_test: None,
            answers: PodAnswers::default(),
            size: None,
            ring: Ring::default(),
            checks: vec![CheckState::default(); scope.checks(policy).len()],
            shortfall: Some((Shortfall::Evidence, now)),
            passed: None,
        }
    }

    /// Takes a block in and lets every check look at it. `states` holds the judges' memories by check; `judged` is the
    /// Deployment that is judged, for its availability. A block that began before the analysis is left out: some of its requests
    /// were split by the earlier weight.
    pub fn absorb(
        &mut self,
        mut block: Block,
        rules: &AnalysisRules<'_>,
        states: &mut BTreeMap<String, Box<JudgeState>>,
        judged: Option<&DeploymentStatus>,
        now: Timestamp,
    ) {
        if block.from < self.since {
            return;
        }
        // A gateway does not tell the canary's processes apart. They are new ones.
        if self.scope != Scope::Guard && block.from < rules.policy.warm_up.after(self.since) {
            rules.metrics_of_gateways().for_each(|metric| block.count_canary_as_cold(metric));
        }
        self.test_share(&block, rules.asked.as_ref());
        if let Some(ready) = rules.ready {
            self.answers.absorb(&block, ready, rules.policy.warm_up);
        }
        // These are read once, so the ring doesn't keep them.
        let (processes, pods) = (std::mem::take(&mut block.processes), std::mem::take(&mut block.pods));
        let strata = std::mem::take(&mut block.strata);
        let checks = self.scope.checks(rules.policy);
        let keep = checks.iter().map(|check| check.judge.window()).max().unwrap_or(Span::ZERO);
        if !self.ring.push(block, keep) {
            return;
        }
        if !checks.iter().any(|check| check.judge.reads_windows()) {
            self.ring.condense();
        }
        self.size = judged.map(|arm| SettledSize::follow(self.size, arm.replicas, rules.policy.ready_within, now));
        let availability = judged.zip(self.size).map(|(deployment, size)| availability(deployment, size.pods));
        for (check, seen) in checks.iter().zip(&mut self.checks) {
            let Some(metric) = rules.policy.metrics.get(&check.metric) else { continue };
            let look = Look {
                check: &check.name,
                name: &check.metric,
                target: check.target(metric),
                min_requests: check.min_requests,
                ring: &self.ring,
                processes: processes.get(&check.metric).map_or(&[][..], Vec::as_slice),
                pods: pods.get(&check.metric),
                strata: strata.get(&check.metric),
                arm: self.scope.judged_arm(),
                availability: availability.as_ref(),
                history: rules.history(check),
                proof: self.scope.proof(rules.policy),
                planned: rules.policy.planned(self.scope == Scope::Guard),
            };
            let mut state = states.remove(&check.name).map(|state| *state);
            seen.look(check, &mut state, &look);
            states.extend(state.map(|state| (check.name.clone(), Box::new(state))));
        }
        self.note_shortfall(now);
    }

    fn note_shortfall(&mut self, now: Timestamp) {
        let shortfall = match self.status() {
            AnalysisStatus::Blind(_) => Some(Shortfall::Visibility),
            AnalysisStatus::Insufficient(_) | AnalysisStatus::Unmeasured => Some(Shortfall::Evidence),
            AnalysisStatus::Pass(_) | AnalysisStatus::Regressed(_) => None,
        };
        self.shortfall = match (shortfall, self.shortfall) {
            (Some(kind), Some((before, since))) if kind == before => Some((kind, since)),
            (Some(kind), _) => Some((kind, now)),
            (None, _) => None,
        };
    }

    /// Notes that no block arrives any more, not even one with a gap.
    pub fn note_silence(&mut self, now: Timestamp) {
        if !matches!(self.shortfall, Some((Shortfall::Visibility, _))) {
            self.shortfall = Some((Shortfall::Visibility, now));
        }
    }

    /// Whether no block arrives. Otherwise the evidence of a check says why it can't be measured.
    fn is_silent(&self) -> bool {
        let is_blind = matches!(self.status(), AnalysisStatus::Blind(_));
        matches!(self.shortfall, Some((Shortfall::Visibility, _))) && !is_blind
    }

    /// Leaves a span in which the cluster could not be seen out of the times. The patience with missing evidence begins anew.
    pub fn leave_out(&mut self, unseen: Span, now: Timestamp) {
        self.unseen = self.unseen + unseen;
        self.shortfall = self.shortfall.map(|(kind, _)| (kind, now));
    }

    /// Moves the times after `now` to it, and takes back a span that was left out because a clock ran ahead. Blocks from that
    /// time are dropped.
    pub fn turn_back(&mut self, by: Span, now: Timestamp) {
        self.unseen = self.unseen.saturating_sub(by);
        self.since = self.since.min(now);
        self.passed = self.passed.map(|passed| passed.min(now));
        self.answers = PodAnswers::default();
        self.shortfall = self.shortfall.map(|(kind, since)| (kind, since.min(now)));
        self.ring.drop_after(now);
    }

    /// Returns the beginning, moved by the time in which the cluster could not be seen.
    pub fn counted_since(&self) -> Timestamp {
        self.unseen.after(self.since)
    }

    /// Records a pass. `min_time_over` tells whether the minimum time is over.
    pub fn note_pass(&mut self, min_time_over: bool, now: Timestamp) {
        if self.passed.is_none() && min_time_over && self.status().is_pass() {
            self.passed = Some(now);
        }
    }

    /// Returns the verdict of all checks together.
    pub fn status(&self) -> AnalysisStatus {
        let deciding = || self.checks.iter().filter(|check| !check.warns);
        let with = |verdict: Verdict| -> Vec<Evidence> {
            let evidence = deciding().filter_map(|check| check.evidence.as_ref());
            evidence.filter(|evidence| evidence.verdict == verdict).cloned().collect()
        };
        for (verdict, status) in [
            (Verdict::Regressed, AnalysisStatus::Regressed as fn(Findings) -> AnalysisStatus),
            (Verdict::Blind, AnalysisStatus::Blind),
            (Verdict::Insufficient, AnalysisStatus::Insufficient),
        ] {
            if let Some(findings) = Findings::new(with(verdict)) {
                return status(findings);
            }
        }
        if deciding().any(|check| check.evidence.is_none()) {
            return AnalysisStatus::Unmeasured;
        }
        AnalysisStatus::Pass(with(Verdict::Pass))
    }

    /// Returns the evidence of the checks that only warn and have regressed.
    pub fn warnings(&self) -> impl Iterator<Item = &Evidence> {
        let warning = self.checks.iter().filter(|check| check.warns).filter_map(|check| check.evidence.as_ref());
        warning.filter(|evidence| evidence.verdict == Verdict::Regressed)
    }

    /// Returns the newest evidence of each check that has looked.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.checks.iter().filter_map(|check| check.evidence.as_ref())
    }

    /// Returns why nothing is decided at present. `ends` is the end of the minimum time.
    pub fn reason(&self, ends: Timestamp) -> Reason {
        match self.status() {
            AnalysisStatus::Regressed(evidence) => Reason::Regressed { evidence },
            AnalysisStatus::Blind(evidence) => Reason::Blind { evidence, since: self.short_since() },
            AnalysisStatus::Insufficient(_) | AnalysisStatus::Unmeasured | AnalysisStatus::Pass(_)
                if self.is_silent() =>
            {
                Reason::Unmeasured { since: self.short_since() }
            }
            AnalysisStatus::Insufficient(evidence) => Reason::Insufficient { evidence },
            AnalysisStatus::Unmeasured => Reason::Waiting { until: ends, passing: false },
            AnalysisStatus::Pass(_) => Reason::Waiting { until: ends, passing: true },
        }
    }

    /// Returns why evidence is missing; `None` if none is.
    pub fn shortfall_reason(&self) -> Option<Reason> {
        match self.status() {
            AnalysisStatus::Blind(evidence) => Some(Reason::Blind { evidence, since: self.short_since() }),
            AnalysisStatus::Insufficient(_) | AnalysisStatus::Pass(_) if self.is_silent() => {
                Some(Reason::Unmeasured { since: self.short_since() })
            }
            AnalysisStatus::Insufficient(evidence) => Some(Reason::Insufficient { evidence }),
            AnalysisStatus::Unmeasured => Some(Reason::Unmeasured { since: self.short_since() }),
            AnalysisStatus::Pass(_) | AnalysisStatus::Regressed(_) => None,
        }
    }

    fn short_since(&self) -> Timestamp {
        self.shortfall.map_or(self.since, |(_, since)| since)
    }
}
