//! Supervision of tasks: a panic is logged, counted, and followed by a restart or by the end of the process, never by
//! silence.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bellwether_core::engine::panic_message;
use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{failpoints, metrics, panics};

/// The delay before a task is started again after its first panic in a row.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay before a task is started again. Each delay is twice the one before.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// The time for the tasks to end after the process was asked to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The end of a task without which the process does not go on.
#[derive(Debug, thiserror::Error)]
pub enum TaskEnd {
    /// The task has panicked.
    #[error("the task {task} has panicked: {message}")]
    Panicked {
        /// The task's name.
        task: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// The task has ended, and was to run as long as the process.
    #[error("the task {task} has ended")]
    Returned {
        /// The task's name.
        task: &'static str,
    },
    /// The task has failed.
    #[error("the task {task} has failed: {source}")]
    Failed {
        /// The task's name.
        task: &'static str,
        /// The task's own error.
        source: anyhow::Error,
    },
}

/// The tasks of a process. Dropping it aborts them.
#[derive(Debug, Default)]
pub struct Tasks {
    /// The tasks without which the process does not go on. They end when the process is asked to stop.
    vital: JoinSet<(&'static str, Result<anyhow::Result<()>, String>)>,
    /// The tasks that are started again after a panic.
    restarted: JoinSet<()>,
}

impl Tasks {
    /// Starts a task without which the process does not go on: [`Tasks::ended`] reports its end.
    pub fn vital(&mut self, task: &'static str, future: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.vital.spawn(async move { (task, caught(task, future).await) });
    }

    /// Starts a task that is started again after a panic, with a delay that grows. It ends when it returns.
    pub fn restarted<F>(&mut self, task: &'static str, mut start: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.restarted.spawn(async move {
            let mut delay = FIRST_DELAY;
            while caught(task, start()).await.is_err() {
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(LONGEST_DELAY);
            }
        });
    }

    /// Waits for the first vital task that ends.
    pub async fn ended(&mut self) -> TaskEnd {
        match self.vital.join_next().await {
            Some(Ok((task, Ok(Ok(()))))) => TaskEnd::Returned { task },
            Some(Ok((task, Ok(Err(source))))) => TaskEnd::Failed { task, source },
            Some(Ok((task, Err(message)))) => TaskEnd::Panicked { task, message },
            Some(Err(error)) => TaskEnd::Panicked { task: "supervisor", message: error.to_string() },
            None => std::future::pending().await,
        }
    }

    /// Waits for the first vital task that fails, or that ends before the process was asked to stop. After `stop` each is to end.
    pub async fn ended_unasked(&mut self, stop: &CancellationToken) -> TaskEnd {
        loop {
            match self.ended().await {
                TaskEnd::Returned { .. } if stop.is_cancelled() => {}
                end @ (TaskEnd::Returned { .. } | TaskEnd::Panicked { .. } | TaskEnd::Failed { .. }) => return end,
            }
        }
    }

    /// Ends the restarted tasks, and waits until the vital ones have ended, which were asked to stop. Those that have not ended after
    /// [`STOP_PATIENCE`], as a connection may keep them, are aborted.
    ///
    /// # Errors
    /// A vital task has failed or panicked.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.restarted.abort_all();
        let all = async {
            while !self.vital.is_empty() {
                match self.ended().await {
                    TaskEnd::Returned { .. } => {}
                    end @ (TaskEnd::Panicked { .. } | TaskEnd::Failed { .. }) => return Err(end.into()),
                }
            }
            Ok(())
        };
        tokio::time::timeout(STOP_PATIENCE, all).await.unwrap_or_else(|_| {
            tracing::warn!(seconds = STOP_PATIENCE.as_secs(), "a task did not end in time and is aborted");
            Ok(())
        })
    }
}

/// Runs a future, and turns a panic in it into an error with its message. The panic is logged ([`panics`]) and counted under `task`.
///
/// # Errors
/// The message of the panic.
pub async fn caught<T>(task: &'static str, future: impl Future<Output = T>) -> Result<T, String> {
    let attempt = panics::named(task, async {
        failpoints::panic_in(task);
        future.await
    });
    // The values that the future has changed are dropped with it, or are behind locks that tolerate poisoning.
    AssertUnwindSafe(attempt).catch_unwind().await.map_err(|panic| {
        metrics::task_panic(task);
        panic_message(&*panic)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::BoxFuture;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_until_it_returns() {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        let mut tasks = Tasks::default();
        tasks.restarted("test", move || {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(n >= 3, "start {n} panics") }
        });
        while tasks.restarted.join_next().await.is_some() {}
        assert_eq!(starts.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn the_end_of_a_vital_task_names_the_task_and_the_panic() {
        let cases: [(BoxFuture<'static, anyhow::Result<()>>, &str); 3] = [
            (Box::pin(async { panic!("a defect") }), "vital has panicked: a defect"),
            (Box::pin(async { anyhow::bail!("the port is in use") }), "vital has failed: the port is in use"),
            (Box::pin(async { Ok(()) }), "vital has ended"),
        ];
        for (future, expected) in cases {
            let mut tasks = Tasks::default();
            tasks.vital("idle", std::future::pending());
            tasks.vital("vital", future);
            assert_eq!(tasks.ended().await.to_string(), format!("the task {expected}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_that_ends_after_the_stop_does_not_end_the_process() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::default();
        let asked = stop.clone();
        tasks.vital("server", async move {
            asked.cancelled().await;
            Ok(())
        });
        stop.cancel();
        let ended = tokio::time::timeout(STOP_PATIENCE, tasks.ended_unasked(&stop)).await;
        assert!(ended.is_err(), "{ended:?}");
        tasks.vital("failing", async { anyhow::bail!("the port is in use") });
        assert_eq!(tasks.ended_unasked(&stop).await.to_string(), "the task failing has failed: the port is in use");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_aborted_after_a_while() {
        let mut tasks = Tasks::default();
        tasks.vital("quick", async { Ok(()) });
        tasks.restarted("restarted", std::future::pending);
        tasks.stop().await.unwrap();
        let mut tasks = Tasks::default();
        tasks.vital("hanging", std::future::pending());
        tasks.stop().await.unwrap();
    }
}
