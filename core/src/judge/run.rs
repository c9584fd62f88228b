//! One check on its own, block by block: for plans, simulations and measurements that need no rollout.

use super::check::{Check, CheckState};
use super::evidence::Evidence;
use super::judges::JudgeState;
use super::rule::{Look, Proof};
use crate::measure::block::{Block, Reading, Sample, SmallMap};
use crate::measure::calibration::History;
use crate::measure::metric::Metric;
use crate::measure::window::{Arm, Ring};
use crate::time::{Span, Timestamp};

/// The circumstances of a check on its own.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// The check.
    pub check: &'a Check,
    /// Its metric's definition.
    pub metric: &'a Metric,
    /// The judged arm.
    pub arm: Arm,
    /// The evidence that is asked for.
    pub proof: Proof,
    /// The time for which the rollout is planned to be watched.
    pub planned: Span,
    /// The metric's past in the stable's pods.
    pub history: History,
}

/// A check on its own, with its judge's memory and its newest evidence.
#[derive(Debug, Clone)]
pub struct CheckRun<'a> {
    setting: Setting<'a>,
    ring: Ring,
    memory: Option<JudgeState>,
    state: CheckState,
}

impl<'a> CheckRun<'a> {
    /// Returns a check that has not looked yet.
    pub fn new(setting: Setting<'a>) -> CheckRun<'a> {
        CheckRun { setting, ring: Ring::default(), memory: None, state: CheckState::default() }
    }

    /// Lets the check look at the sample of a block. `processes` are the stable's processes, and `pods` the judged pods by name.
    /// Returns the newest evidence.
    pub fn look(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        sample: Sample,
        processes: &[Reading],
        pods: Option<&SmallMap<Reading>>,
    ) -> Option<&Evidence> {
        let metrics = [(self.setting.check.metric.clone(), sample)];
        self.look_at(Block::new(from, to, metrics), processes, pods)
    }

    /// Lets the check look at a block. The arguments and the result are those of [`CheckRun::look`].
    pub fn look_at(
        &mut self,
        mut block: Block,
        processes: &[Reading],
        pods: Option<&SmallMap<Reading>>,
    ) -> Option<&Evidence> {
        let Setting { check, metric, arm, proof, planned, .. } = self.setting;
        let strata = block.strata.remove(&check.metric);
        self.ring.push(block, check.judge.window());
        let look = Look {
            check: &check.name,
            name: &check.metric,
            target: check.target(metric),
            min_requests: check.min_requests,
            ring: &self.ring,
            processes,
            pods,
            strata: strata.as_ref(),
            arm,
            availability: None,
            history: Some(&self.setting.history),
            proof,
            planned,
        };
        self.state.look(check, &mut self.memory, &look);
        self.state.evidence.as_ref()
    }

    /// Replaces the judge's memory.
    pub fn with_memory(self, memory: JudgeState) -> CheckRun<'a> {
        CheckRun { memory: Some(memory), ..self }
    }

    /// Returns the judge's memory; `None` before the first look.
    pub fn memory(&self) -> Option<&JudgeState> {
        self.memory.as_ref()
    }
}
