//! Panics in the log: each is one line in the configured format, with its message, its place and its task, where the standard
//! library would write lines of its own beside the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use bellwether_core::engine::panic_message;

tokio::task_local! {
    /// The name of the task that runs.
    static TASK: &'static str;
}

thread_local! {
    /// Whether a panic on this thread is expected.
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Lets each panic of this process be logged, wherever it is caught.
pub fn install() {
    std::panic::set_hook(Box::new(log));
}

/// Runs a future under a task's name, by which its panics are logged.
pub async fn named<T>(task: &'static str, future: impl Future<Output = T>) -> T {
    TASK.scope(task, future).await
}

/// Calls a function of a library that panics on some input from outside. Returns `None` after a panic, which is not logged: it is no
/// defect, and senders could fill the log with it.
pub fn expected<T>(call: impl FnOnce() -> T) -> Option<T> {
    IS_EXPECTED.set(true);
    // The caller drops what the call may have left half changed.
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_EXPECTED.set(false);
    result.ok()
}

fn log(panic: &PanicHookInfo<'_>) {
    if IS_EXPECTED.get() {
        return;
    }
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        task = TASK.try_with(|task| *task).ok(),
        thread = std::thread::current().name(),
        place = panic.location().map(ToString::to_string),
        panic = panic_message(panic.payload()),
        backtrace,
        "a task has panicked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_panic_is_none_and_the_next_one_is_not_expected() {
        assert_eq!(expected(|| 1), Some(1));
        assert_eq!(expected(|| -> u32 { panic!("a header's name is not UTF-8") }), None);
        assert!(!IS_EXPECTED.get());
    }
}
