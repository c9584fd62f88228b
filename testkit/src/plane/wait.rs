//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Pause between two probes.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls `probe` until it succeeds, and returns its value. An error of the probe means that the condition does not hold
/// yet, and should name the state that it found: `ensure!(ready == 3, "{ready} of 3 are ready")`.
///
/// # Errors
/// The condition did not hold within `deadline`. The error has the condition and the last error of the probe.
pub async fn until<T>(condition: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        let last = match tokio::time::timeout(left.max(PAUSE), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the probe itself did not return".to_owned(),
        };
        if started.elapsed() >= deadline {
            return Err(anyhow!("waited {:.0} s for {condition}; at last: {last}", deadline.as_secs_f64()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
