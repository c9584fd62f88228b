//! The defects that a shell around the engine could have, planted on purpose to test the simulator.

/// A defect of the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A successor does not restore which events were seen.
    SkipDedup,
    /// Effects are performed before what asked for them is committed.
    ActBeforeCommit,
    /// The API server's objects are written whatever epoch is on them.
    NoFencing,
    /// What can't be seen counts as healthy.
    BlindPromotes,
    /// A successor counts the last block again.
    CountTwice,
    /// A rollback goes to the revision before, and not to the one that was good.
    WrongRollbackTarget,
}
