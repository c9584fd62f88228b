//! A daemon whose clock jumps, in a world whose time goes on.

use std::sync::atomic::AtomicI64;

use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Timestamp;

use super::*;

/// A clock that can be moved.
struct MovedClock {
    inner: FastClock,
    /// The milliseconds by which it is ahead.
    ahead: AtomicI64,
}

#[async_trait]
impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        let now = self.inner.now().as_millisecond() + self.ahead.load(Ordering::SeqCst);
        Timestamp::from_millisecond(now).unwrap()
    }

    async fn sleep_until(&self, at: Timestamp) {
        let left = Span::between(self.now(), at);
        self.inner.sleep_until(left.after(self.inner.now())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_in_a_step_and_back_changes_no_decision() {
    for by in [3_600_000, -7_200_000] {
        let mut setting = Setting::new();
        let clock = Arc::new(MovedClock { inner: FastClock::new(FACTOR), ahead: AtomicI64::new(0) });
        setting.clock = Arc::clone(&clock) as _;
        let mut daemon = setting.start().await;
        setting.request(&daemon, "a", "2").await;
        daemon.until(|decision| decision.to == Phase::Stepping).await;
        clock.ahead.store(by, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(400)).await;
        clock.ahead.store(0, Ordering::SeqCst);
        let decisions = daemon.until(ended).await;
        assert_eq!(decisions.last().unwrap().ending, Some(Ending::Promoted), "{by}: {decisions:#?}");
        daemon.stop().await;
        assert_eq!(setting.decided().await, A_GOOD_ROLLOUT, "{by}");
    }
}
