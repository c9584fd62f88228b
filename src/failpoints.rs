//! Failpoints: named places at which a test can end the process by SIGKILL.
//!
//! They lie between the steps of handling a record: read, decided, produced, committed, acted. Only a build with the
//! feature `failpoints` does anything at them, and no release has that feature. In such a build the environment variable
//! `BELLWETHER_FAILPOINT` is `NAME:PASSES`: `committed:3` ends the process when it reaches `committed` for the fourth time.
//!
//! In the same build `BELLWETHER_PANIC` is the name of a supervised task, whose first run panics.
//!
//! In the same build `BELLWETHER_NEXT_FORMAT` makes the process a program of the next version towards one workload, whose key it is:
//! the process writes the journal entries of that workload in the next format, and reads them.

/// A place on the way from a record to an effect, at which a test can end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A record was read from the events topic; the engine has not seen it yet.
    Polled,
    /// The engine has decided a batch; its transaction has not begun.
    Decided,
    /// All records of the batch are produced; the transaction is not committed.
    Produced,
    /// The commit of a batch has returned; none of its effects was performed.
    Committed,
    /// The API server has answered a write; the engine has not seen the outcome.
    Acted,
}

impl Failpoint {
    /// All failpoints, in the order in which a record passes them.
    pub const ALL: [Failpoint; 5] =
        [Failpoint::Polled, Failpoint::Decided, Failpoint::Produced, Failpoint::Committed, Failpoint::Acted];

    /// Returns the failpoint's name in `BELLWETHER_FAILPOINT`.
    pub fn name(self) -> &'static str {
        match self {
            Failpoint::Polled => "polled",
            Failpoint::Decided => "decided",
            Failpoint::Produced => "produced",
            Failpoint::Committed => "committed",
            Failpoint::Acted => "acted",
        }
    }

    /// Returns the line that a process writes to stderr before it ends at this failpoint.
    pub fn last_line(self) -> String {
        format!("ended at the failpoint `{}`", self.name())
    }
}

#[cfg(not(feature = "failpoints"))]
/// Does nothing: this build has no failpoints.
pub fn reached(_: Failpoint) {}

#[cfg(not(feature = "failpoints"))]
/// Returns `own`, the format of this version: this build is no program of the next one.
pub fn format_of(_: &str, own: u32) -> u32 {
    own
}

#[cfg(not(feature = "failpoints"))]
/// Does nothing: no task of this build panics on request.
pub fn panic_in(_: &str) {}

#[cfg(feature = "failpoints")]
pub use armed::{format_of, panic_in, reached};

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Failpoint;

    /// How often the process has passed the failpoint that ends it.
    static PASSES: AtomicU64 = AtomicU64::new(0);

    /// Returns the format of the journal entries of a workload, by its key: the one after `own` if the process is a program of the
    /// next version towards it.
    pub fn format_of(workload: &str, own: u32) -> u32 {
        static NEXT: OnceLock<Option<String>> = OnceLock::new();
        let next = NEXT.get_or_init(|| std::env::var("BELLWETHER_NEXT_FORMAT").ok());
        own + u32::from(next.as_deref() == Some(workload))
    }

    /// Panics in the first run of the task that `BELLWETHER_PANIC` names.
    pub fn panic_in(task: &str) {
        static PANICKED: AtomicBool = AtomicBool::new(false);
        if std::env::var("BELLWETHER_PANIC").is_ok_and(|named| named == task) && !PANICKED.swap(true, Ordering::SeqCst)
        {
            panic!("the task {task} panics, as a test asks");
        }
    }

    /// Ends the process if `failpoint` is the one in `BELLWETHER_FAILPOINT` and was passed as often as it says there.
    pub fn reached(failpoint: Failpoint) {
        static FATAL: OnceLock<Option<(String, u64)>> = OnceLock::new();
        let fatal = FATAL.get_or_init(|| {
            let text = std::env::var("BELLWETHER_FAILPOINT").ok()?;
            let (name, passes) = text.split_once(':')?;
            Some((name.to_owned(), passes.parse().ok()?))
        });
        if let Some((name, passes)) = fatal
            && name == failpoint.name()
            && PASSES.fetch_add(1, Ordering::SeqCst) == *passes
        {
            // The log's own thread may not get to write its last lines; this one is written at once. A failed write only
            // takes a line from a test.
            let _ = writeln!(std::io::stderr(), "{}", failpoint.last_line());
            // A process may always signal itself, so the result says nothing.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
