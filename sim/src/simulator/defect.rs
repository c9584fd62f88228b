//! Defects that are planted on purpose to test the simulator.

/// A defect of the code around the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A successor does not restore the ids of the consumed events.
    SkipDedup,
    /// Effects are performed before the transition that requests them is committed.
    ActBeforeCommit,
    /// The API server accepts writes of an older epoch.
    NoFencing,
    /// A missing answer of Prometheus counts as healthy.
    BlindPromotes,
    /// A successor counts the last block twice.
    CountTwice,
    /// A rollback restores the previous revision instead of the last good one.
    WrongRollbackTarget,
}
