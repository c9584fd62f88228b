//! An effect that was asked for and is not confirmed, with its retries.

use serde::{Deserialize, Serialize};

use crate::input::effect::Effect;
use crate::input::event::Failure;
use crate::time::{Span, Timestamp};

/// The wait before the second attempt, in milliseconds; it doubles with each further attempt.
const FIRST_WAIT_MS: u64 = 250;
/// The most doublings of that wait. It is over a day by then, which is longer than any longest wait.
const MOST_DOUBLINGS: u32 = 20;
/// The longest wait between two attempts at an act of a rollout.
pub const LONGEST_WAIT: Span = Span::from_secs(30);

/// An effect that was asked for and is not confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InFlight {
    /// The effect.
    pub effect: Effect,
    /// The failed attempts so far.
    pub attempts: u32,
    /// The time of the next attempt; `None` while an attempt is under way.
    pub retry: Option<Timestamp>,
    /// The last failure.
    pub failure: Option<Failure>,
}

impl InFlight {
    /// Returns an effect whose first attempt is under way.
    pub fn new(effect: Effect) -> InFlight {
        InFlight { effect, attempts: 0, retry: None, failure: None }
    }

    /// Records a failed attempt and schedules the next one: after 250 ms, doubled for each further attempt up to `longest`.
    pub fn failed(&mut self, failure: Failure, now: Timestamp, longest: Span) {
        self.attempts = self.attempts.saturating_add(1);
        let doublings = self.attempts.saturating_sub(1).min(MOST_DOUBLINGS);
        let wait = Span::from_millis(FIRST_WAIT_MS << doublings).min(longest);
        self.retry = Some(wait.after(now));
        self.failure = Some(failure);
    }

    /// Returns the effect for another attempt if one is due, and records that it is under way.
    pub fn take_due(&mut self, now: Timestamp) -> Option<Effect> {
        self.retry.take_if(|retry| *retry <= now)?;
        Some(self.effect.clone())
    }

    /// Makes a waiting retry due at once and forgets the failed attempts.
    pub fn retry_at(&mut self, now: Timestamp) {
        self.attempts = 0;
        self.retry = self.retry.map(|_| now);
    }
}
