//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(50);

/// Runs `probe` until it succeeds. Its errors mean "not yet"; the last one is shown when the deadline has passed, so a
/// probe says what it saw: `ensure!(ready == 3, "{ready} of 3 are ready")`.
pub async fn until<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        let seen = match tokio::time::timeout(left.max(PAUSE), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the probe itself did not answer".to_owned(),
        };
        if started.elapsed() >= deadline {
            return Err(anyhow!("waited {:.0} s in vain for: {what}; last seen: {seen}", deadline.as_secs_f64()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
