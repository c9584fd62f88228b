//! What can be tested on: blocks, one a line, or the records of the decisions topic, whose inputs have the blocks in them.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use bellwether_core::engine::record::AuditRecord;
use bellwether_core::ids::Workload;
use bellwether_core::input::event::{Event, Outcome};
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::Calibration;
use bellwether_core::rollout::decision::DecisionKind;
use bellwether_lab::backtest::blocks::has_canary;
use serde_json::Value;

/// The blocks of one rollout, or of a history.
#[derive(Debug, PartialEq)]
pub(super) struct Case {
    /// What people call it.
    pub(super) name: String,
    /// Whose it is, if the recording says so.
    pub(super) workload: Option<Workload>,
    /// What was decided, if the recording says so.
    pub(super) recorded: Option<String>,
    /// What the time before it taught, if the recording says so.
    pub(super) calibrations: Vec<Calibration>,
    /// In order of time.
    pub(super) blocks: Vec<Block>,
}

/// The cases in these lines in which there was a canary.
///
/// # Errors
/// A line is neither a block nor a record, or a block overlaps the one before it.
pub(super) fn cases(lines: &[Vec<u8>]) -> anyhow::Result<Vec<Case>> {
    let mut blocks = Vec::new();
    let mut records = Records::default();
    for (index, line) in lines.iter().enumerate() {
        let place = || format!("line {}", index + 1);
        let value: Value = serde_json::from_slice(line).with_context(|| format!("{} is not JSON", place()))?;
        if value.get("inputs").is_some() {
            let record = serde_json::from_value(value);
            records.take(record.with_context(|| format!("{} is not a record of this version", place()))?);
        } else if value.get("metrics").is_some() {
            let block: Block = serde_json::from_value(value).with_context(|| format!("{} is not a block", place()))?;
            if blocks.last().is_some_and(|last: &Block| block.from < last.to) {
                bail!("{}: this block begins at {}, before the one before it ends; sort them", place(), block.from);
            }
            blocks.push(block);
        } else {
            bail!("{} is neither a block (from, to, metrics) nor a record of decisions (inputs)", place());
        }
    }
    let plain = Case {
        name: "the recorded blocks".to_owned(),
        workload: None,
        recorded: None,
        calibrations: Vec::new(),
        blocks,
    };
    // A deployment of somebody else's is only guarded, and has no canary to decide about.
    Ok([plain].into_iter().chain(records.cases).filter(|case| case.blocks.iter().any(has_canary)).collect())
}

/// Rollouts as they are read.
#[derive(Default)]
struct Records {
    cases: Vec<Case>,
    /// The case that a workload's blocks belong to at present.
    open: BTreeMap<Workload, usize>,
}

impl Records {
    /// Inputs come before the decisions that are made on them, and a rollout's start before its first block. A recording that
    /// begins in the middle of a rollout has no beginning of it to test from; and what is measured after the decision is the
    /// guard's.
    fn take(&mut self, record: AuditRecord) {
        let AuditRecord { workload, inputs, decisions, .. } = record;
        let open = self.open.get(&workload).and_then(|index| self.cases.get_mut(*index));
        if let Some(case) = open.filter(|case| case.recorded.is_none()) {
            for input in inputs {
                match input.event {
                    Event::Measured { block, .. } => {
                        if case.blocks.last().is_none_or(|last| block.from >= last.to) {
                            case.blocks.push(block);
                        }
                    }
                    Event::Performed { outcome: Outcome::Probed { calibrations, .. }, .. } => {
                        case.calibrations = calibrations
                    }
                    Event::Performed { .. }
                    | Event::Requested { .. }
                    | Event::Deployed { .. }
                    | Event::Commanded { .. }
                    | Event::Tested { .. }
                    | Event::Observed { .. }
                    | Event::Tick => {}
                }
            }
        }
        for decision in decisions {
            let name = decision.rollout.to_string();
            if decision.kind == DecisionKind::Start {
                self.open.insert(workload.clone(), self.cases.len());
                let workload = Some(workload.clone());
                self.cases.push(Case { name, workload, recorded: None, calibrations: Vec::new(), blocks: Vec::new() });
            } else if let Some(case) = self.cases.iter_mut().rev().find(|case| case.name == name)
                && case.recorded.is_none()
                && ends(decision.kind)
            {
                case.recorded = Some(format!("{} at {}: {}", decision.kind, decision.at, decision.why));
            }
        }
    }
}

/// Whether this decides about the canary.
fn ends(kind: DecisionKind) -> bool {
    match kind {
        DecisionKind::Promote
        | DecisionKind::RollBack
        | DecisionKind::Abort
        | DecisionKind::GiveUp
        | DecisionKind::Supersede
        | DecisionKind::Refuse => true,
        DecisionKind::Start
        | DecisionKind::Advance
        | DecisionKind::Hold
        | DecisionKind::Resume
        | DecisionKind::Approve
        | DecisionKind::Warn
        | DecisionKind::Retry
        | DecisionKind::Proceed
        | DecisionKind::Finish => false,
    }
}
