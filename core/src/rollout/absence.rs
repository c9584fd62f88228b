//! Absence: the time in which a rollout could not see the cluster, because the daemon or the API server was away.
//!
//! Deadlines, patience and minimum times do not count that time, and nothing that rests on a status happens in it. After it the
//! rollout first looks: it waits for a status and for a block, and decides then.

use super::state::Rollout;
use crate::input::sight::Sight;
use crate::time::{Span, Timestamp};

impl Rollout {
    /// Notes whether the cluster can be seen, and leaves the time in which it could not be seen out of everything that is
    /// waited for. `last` is the time of the workload's last change before this input. Returns whether anything changed.
    pub fn follow_sight(&mut self, sight: Option<Sight>, last: Timestamp, now: Timestamp) -> bool {
        let last = last.max(self.started);
        match sight.filter(|sight| sight.is_fresh(now)) {
            None => {
                let lost = sight.map_or(last, |sight| sight.until.max(last));
                let is_new = self.unseen_since.is_none();
                self.unseen_since.get_or_insert(lost.min(now));
                is_new
            }
            Some(sight) => {
                let was_unseen = self.unseen_since.is_some();
                let lost = self.unseen_since.take().unwrap_or(last);
                let until = sight.since.min(now);
                let unseen = Span::between(lost, until);
                if unseen > Span::ZERO {
                    self.leave_out(lost, until, now);
                }
                if was_unseen && let Some(in_flight) = &mut self.current.in_flight {
                    // Its attempts failed because the API server was away, and the pause before the next one has grown with them.
                    in_flight.retry_at(now);
                }
                was_unseen || unseen > Span::ZERO
            }
        }
    }

    /// Leaves the time from `lost` to `until`, which has just ended, out of the times that are waited for. A phase, a hold or an
    /// analysis may have begun within it: of these only the rest is left out.
    fn leave_out(&mut self, lost: Timestamp, until: Timestamp, now: Timestamp) {
        let of = |since: Timestamp| Span::between(lost.max(since), until);
        match &mut self.current.hold {
            Some(hold) => hold.unseen = hold.unseen + of(hold.since),
            None => self.current.uncounted = self.current.uncounted + of(self.current.since),
        }
        if let Some(analysis) = &mut self.measured.analysis {
            analysis.leave_out(of(analysis.since), now);
        }
        self.trouble.leave_out(Span::between(lost, until));
    }

    /// Moves the times that lie after `now` to it: the clock that gave them ran ahead by `by`, which was left out of the waiting
    /// times as an absence and counts again.
    pub fn turn_back(&mut self, by: Span, now: Timestamp) {
        let earlier = |time: &mut Timestamp| *time = (*time).min(now);
        earlier(&mut self.started);
        let current = &mut self.current;
        current.uncounted = current.uncounted.saturating_sub(by);
        earlier(&mut current.since);
        current.progress.iter_mut().for_each(|(_, at)| earlier(at));
        current.acted.iter_mut().for_each(earlier);
        current.remainder.iter_mut().for_each(|remainder| earlier(&mut remainder.since));
        if let Some(hold) = &mut current.hold {
            hold.unseen = hold.unseen.saturating_sub(by);
            earlier(&mut hold.since);
        }
        if let Some(in_flight) = &mut current.in_flight {
            in_flight.retry.iter_mut().for_each(earlier);
        }
        if let Some(analysis) = &mut self.measured.analysis {
            analysis.turn_back(by, now);
        }
        self.measured.last_block.iter_mut().for_each(earlier);
        self.unseen_since.iter_mut().for_each(earlier);
        self.trouble.turn_back(by);
    }

    /// Whether the newest block is recent enough to rest a decision on: from the time on at which its silence is due it is not.
    pub(super) fn has_recent_block(&self, now: Timestamp) -> bool {
        self.measured.last_block.is_some_and(|last| Span::between(last, now) < self.policy.block_age)
    }
}
