//! The points between which a process can die: read, decided, produced, committed, acted. They have names so that a test
//! can have a daemon die at each of them, by a real SIGKILL from inside.
//!
//! Only a build with the feature `points` does anything here, and no release is one. There `BELLWETHER_DIE_AT` names the
//! point and how often it is passed before: `committed:3`.

/// Where the daemon is on its way from a record to a deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A record has been read, and nothing has been made of it yet.
    Polled,
    /// A batch has been decided, and its transaction has not begun.
    Decided,
    /// Everything is produced, and the transaction is not committed.
    Produced,
    /// The transaction is committed, and nothing has been done about it.
    Committed,
    /// The API server has answered a write, and nobody has been told.
    Acted,
}

impl Failpoint {
    /// All of them, in their order.
    pub const ALL: [Failpoint; 5] =
        [Failpoint::Polled, Failpoint::Decided, Failpoint::Produced, Failpoint::Committed, Failpoint::Acted];

    /// The point's name.
    pub fn name(self) -> &'static str {
        match self {
            Failpoint::Polled => "polled",
            Failpoint::Decided => "decided",
            Failpoint::Produced => "produced",
            Failpoint::Committed => "committed",
            Failpoint::Acted => "acted",
        }
    }
}

#[cfg(not(feature = "points"))]
/// The daemon is there.
pub fn reached(_: Failpoint) {}

#[cfg(feature = "points")]
pub use armed::reached;

#[cfg(feature = "points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Failpoint;

    static PASSES: AtomicU64 = AtomicU64::new(0);

    /// The daemon is there.
    pub fn reached(point: Failpoint) {
        static FATAL: OnceLock<Option<(String, u64)>> = OnceLock::new();
        let fatal = FATAL.get_or_init(|| {
            let text = std::env::var("BELLWETHER_DIE_AT").ok()?;
            let (name, passes) = text.split_once(':')?;
            Some((name.to_owned(), passes.parse().ok()?))
        });
        if let Some((name, passes)) = fatal
            && name == point.name()
            && PASSES.fetch_add(1, Ordering::SeqCst) == *passes
        {
            // It can't fail: the process is our own.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
