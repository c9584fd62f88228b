//! Clocks: the only module that reads the system's time. All other code gets a [`Clock`], so that the demo can run faster
//! than real time and a test can control the time.
#![expect(clippy::disallowed_methods, reason = "this module reads the system's time for all others")]

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bellwether_core::time::{Span, Timestamp};

pub mod jumps;

/// The difference of two clocks in milliseconds from which a person is warned.
pub const MAX_SKEW_MS: i64 = 5_000;

/// Returns a server's clock minus `now` in milliseconds, by the header `Date` of its answer, which has the precision of a second.
/// `None`: the answer has no time.
pub fn server_ahead_ms(headers: &http::HeaderMap, now: Timestamp) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(headers.get(http::header::DATE)?.to_str().ok()?).ok()?;
    Some(date.timestamp().as_millisecond() - now.as_millisecond())
}

/// A source of the current time that can wait for an instant.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
    /// Waits until the time is `at`; returns at once if that has passed.
    async fn sleep_until(&self, at: Timestamp);
}

/// The clock of the system.
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

/// A clock that runs faster than the system's by a factor, from the instant of its creation. For the demo and tests.
#[derive(Debug, Clone, Copy)]
pub struct FastClock {
    start: Timestamp,
    created: Instant,
    factor: u32,
}

impl FastClock {
    /// Returns a clock on which `factor` seconds pass in one second of the system; a factor of 0 counts as 1.
    pub fn new(factor: u32) -> FastClock {
        FastClock { start: Timestamp::now(), created: Instant::now(), factor: factor.max(1) }
    }
}

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        let passed = self.created.elapsed().as_millis().saturating_mul(u128::from(self.factor));
        Span::from_millis(u64::try_from(passed).unwrap_or(u64::MAX)).after(self.start)
    }

    async fn sleep_until(&self, at: Timestamp) {
        let left = Span::between(self.now(), at).as_millis();
        // Rounded up, because a caller that wakes too early would have to wait again.
        tokio::time::sleep(Duration::from_millis(left.div_ceil(u64::from(self.factor)))).await;
    }
}

/// A stopwatch for durations within this process. It is independent of the engine's time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    /// Returns a stopwatch that starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(tokio::time::Instant::now())
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands still, for tests: no later instant ever comes.
#[cfg(test)]
pub(crate) struct StillClock(pub(crate) Timestamp);

#[cfg(test)]
#[async_trait]
impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    async fn sleep_until(&self, at: Timestamp) {
        if at > self.0 {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fast_clock_reaches_an_instant_earlier_by_its_factor() {
        let clock = FastClock::new(1000);
        let real = Stopwatch::start();
        let goal = Span::from_secs(20).after(clock.now());
        clock.sleep_until(goal).await;
        assert!(clock.now() >= goal, "it woke too early");
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
