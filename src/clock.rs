//! The one place that asks what time it is. Everything else is told, so that the demo can run an hour in a minute and a
//! test can stand still.
#![expect(clippy::disallowed_methods, reason = "somebody has to ask the system")]

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bellwether_core::time::{Span, Timestamp};

/// Tells the time, and waits for it.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
    /// Returns at `at`, or at once if that has passed.
    async fn sleep_until(&self, at: Timestamp);
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep(Span::between(self.now(), at).to_std()).await;
    }
}

/// A clock that runs `factor` times as fast as the system's, from the instant at which it was made. For the demo.
#[derive(Debug, Clone, Copy)]
pub struct FastClock {
    start: Timestamp,
    began: Instant,
    factor: u32,
}

impl FastClock {
    /// So many seconds pass in one.
    pub fn new(factor: u32) -> FastClock {
        FastClock { start: Timestamp::now(), began: Instant::now(), factor: factor.max(1) }
    }
}

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        let passed = self.began.elapsed().as_millis().saturating_mul(u128::from(self.factor));
        Span::from_millis(u64::try_from(passed).unwrap_or(u64::MAX)).after(self.start)
    }

    async fn sleep_until(&self, at: Timestamp) {
        let left = Span::between(self.now(), at).as_millis();
        // Rounded up: to wake early would be to wake again at once.
        tokio::time::sleep(Duration::from_millis(left.div_ceil(u64::from(self.factor)))).await;
    }
}

/// An instant for measuring how long something takes in this process; it has nothing to do with the engine's time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// How long ago it was started.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fast_clock_gets_there_early_by_its_factor() {
        let clock = FastClock::new(1000);
        let real = Stopwatch::start();
        let goal = Span::from_secs(20).after(clock.now());
        clock.sleep_until(goal).await;
        assert!(clock.now() >= goal, "it woke before the time");
        assert!(real.elapsed() < Duration::from_secs(5), "20 fast seconds took {:?}", real.elapsed());
    }

    #[tokio::test]
    async fn an_instant_that_has_passed_is_not_waited_for() {
        let clock = SystemClock;
        let real = Stopwatch::start();
        clock.sleep_until(Span::from_secs(60).before(clock.now())).await;
        assert!(real.elapsed() < Duration::from_secs(5));
    }
}
