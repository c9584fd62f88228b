//! Jumps of the clock: the wall clock is compared with the monotonic one, which no correction and no person moves.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::time::{Span, Timestamp};
use tokio::time::Instant;

use super::Clock;

/// The interval at which the clocks are compared.
const INTERVAL: Duration = Duration::from_secs(1);
/// The difference of both clocks over one interval from which on it is a jump. Time services correct smaller errors by slower or
/// faster seconds.
const TOLERANCE: Span = Span::from_secs(2);

/// A jump of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// The clock is ahead by this much, or the machine was suspended for so long.
    Forward(Span),
    /// The clock was turned back by this much.
    Back(Span),
}

impl Jump {
    /// Returns the jump between two readings of the wall clock, of which `passed` on the monotonic clock; `None` if there is none.
    fn between(before: Timestamp, now: Timestamp, passed: Duration) -> Option<Jump> {
        let expected = Span::from_millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)).after(before);
        let (ahead, behind) = (Span::between(expected, now), Span::between(now, expected));
        if ahead > TOLERANCE {
            return Some(Jump::Forward(ahead));
        }
        (behind > TOLERANCE).then_some(Jump::Back(behind))
    }

    /// Returns the direction as a word, for a metric's label.
    pub fn direction(self) -> &'static str {
        match self {
            Jump::Forward(_) => "forward",
            Jump::Back(_) => "back",
        }
    }

    /// Returns the size of the jump.
    pub fn by(self) -> Span {
        let (Jump::Forward(by) | Jump::Back(by)) = self;
        by
    }
}

/// Compares both clocks once a second, and reports each jump. It never ends.
pub async fn watch(clock: Arc<dyn Clock>, mut found: impl FnMut(Jump)) {
    let (mut before, mut at) = (clock.now(), Instant::now());
    loop {
        tokio::time::sleep(INTERVAL).await;
        let (now, instant) = (clock.now(), Instant::now());
        if let Some(jump) = Jump::between(before, now, instant - at) {
            found(jump);
        }
        (before, at) = (now, instant);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// A clock that follows the monotonic one, and that the test moves.
    struct Moved(Mutex<Timestamp>, Instant);

    #[async_trait]
    impl Clock for Moved {
        fn now(&self) -> Timestamp {
            let passed = Span::from_millis(self.1.elapsed().as_millis() as u64);
            passed.after(*self.0.lock().unwrap())
        }

        async fn sleep_until(&self, _: Timestamp) {}
    }

    #[tokio::test(start_paused = true)]
    async fn each_jump_is_found_once_and_a_slow_correction_is_none() {
        let start: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let clock = Arc::new(Moved(Mutex::new(start), Instant::now()));
        let found = Arc::new(Mutex::new(Vec::new()));
        let (watched, jumps) = (Arc::clone(&clock), Arc::clone(&found));
        tokio::spawn(watch(watched, move |jump| jumps.lock().unwrap().push(jump)));
        let hour = Span::from_secs(3600);
        let moves = [hour.after(start), start, Span::from_secs(1).after(start), Span::from_secs(4).after(start)];
        for (n, moved) in moves.into_iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(5250)).await;
            *clock.0.lock().unwrap() = moved;
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(found.lock().unwrap().len(), [1, 2, 2, 3][n], "{:?}", found.lock().unwrap());
        }
        assert_eq!(*found.lock().unwrap(), [Jump::Forward(hour), Jump::Back(hour), Jump::Forward(Span::from_secs(3))]);
    }
}
