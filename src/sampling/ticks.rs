//! The grid of ticks that all rollouts share, so that one query serves all of them.

use bellwether_core::time::{Span, Timestamp};

/// Returns the last tick at or before `now` and the instant that this tick reads, T = tick − `lag`. Ticks are the
/// multiples of `interval` since the Unix epoch.
pub fn grid(now: Timestamp, interval: Span, lag: Span) -> (Timestamp, Timestamp) {
    let length = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let elapsed = now.as_millisecond().rem_euclid(length).unsigned_abs();
    let tick = Span::from_millis(elapsed).before(now);
    // Prometheus and the journal keep whole milliseconds.
    let tick = Timestamp::from_millisecond(tick.as_millisecond()).unwrap_or(tick);
    (tick, lag.before(tick))
}
