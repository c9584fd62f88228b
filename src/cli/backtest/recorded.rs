//! The recordings that a backtest reads: blocks, one per line, or records of the decisions topic, whose inputs contain the
//! blocks.

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

/// One test case: the blocks of one rollout, or of a recording of blocks alone.
#[derive(Debug, PartialEq)]
pub(super) struct Case {
    /// The case's name in the output, such as the rollout's id.
    pub(super) name: String,
    /// The rollout's workload; `None` for blocks alone.
    pub(super) workload: Option<Workload>,
    /// The recorded decision about the canary, with its time and its reason; `None` for blocks alone, and if the recording
    /// ends before it.
    pub(super) recorded: Option<String>,
    /// The calibrations that were learned before the canary had traffic; empty if none were recorded.
    pub(super) calibrations: Vec<Calibration>,
    /// The blocks in order of time, without overlaps.
    pub(super) blocks: Vec<Block>,
}

/// Returns the cases in a recording that have a block with a canary.
///
/// # Errors
/// A line is neither a block nor a record, or a block overlaps the one before it.
pub(super) fn cases(lines: &[Vec<u8>]) -> anyhow::Result<Vec<Case>> {
    let mut blocks = Vec::new();
    let mut records = Records::default();
    for (index, line) in lines.iter().enumerate() {
        let place = || format!("line {}", index + 1);
        let value: Value = serde_json::from_slice(line).with_context(|| format!("{} is not JSON", place()))?;
        if value.get("inputs").or(value.get("refused")).is_some() {
            let record = AuditRecord::read(line).with_context(|| format!("{} can't be read", place()))?;
            record.into_iter().for_each(|record| records.add(record));
        } else if value.get("metrics").is_some() {
            let block: Block = serde_json::from_value(value).with_context(|| format!("{} is not a block", place()))?;
            if blocks.last().is_some_and(|last: &Block| block.from < last.to) {
                bail!(
                    "{}: this block begins at {}, before the previous block ends; sort the blocks by time",
                    place(),
                    block.from
                );
            }
            blocks.push(block);
        } else {
            bail!("{} is neither a block (from, to, metrics) nor a record of decisions (inputs)", place());
        }
    }
    let blocks_alone = Case {
        name: "the recorded blocks".to_owned(),
        workload: None,
        recorded: None,
        calibrations: Vec::new(),
        blocks,
    };
    // The deployment of another tool is only guarded and has no canary.
    Ok([blocks_alone].into_iter().chain(records.cases).filter(|case| case.blocks.iter().any(has_canary)).collect())
}

/// The cases of the records that were read so far.
#[derive(Default)]
struct Records {
    cases: Vec<Case>,
    /// The index of the case that a workload's next block belongs to.
    open: BTreeMap<Workload, usize>,
}

impl Records {
    /// Adds a record's blocks and decisions. Inputs come before the decisions that are made on them, and a rollout's start
    /// before its first block. A rollout whose start was not recorded is left out, as are the blocks after the decision
    /// about the canary, which belong to the guard.
    fn add(&mut self, record: AuditRecord) {
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
                    | Event::Uncovered { .. }
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
                && decides_canary(decision.kind)
            {
                case.recorded = Some(format!("{} at {}: {}", decision.kind, decision.at, decision.why));
            }
        }
    }
}

/// Returns whether a decision of this kind ends the judging of the canary.
fn decides_canary(kind: DecisionKind) -> bool {
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
        | DecisionKind::Withdraw
        | DecisionKind::Resume
        | DecisionKind::Approve
        | DecisionKind::Warn
        | DecisionKind::Retry
        | DecisionKind::Proceed
        | DecisionKind::Finish => false,
    }
}
