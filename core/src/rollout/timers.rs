//! The times that a rollout waits for. Every condition on the time asks [`Rollout::due`], and the next wake-up is the earliest
//! of the same timers, so that no condition can wait for a time at which the rollout isn't woken.

use super::cause::HoldCause;
use super::phase::{Phase, PhaseLimit};
use super::state::Rollout;
use crate::ids::Weight;
use crate::time::{Span, Timestamp};

/// A time that a rollout may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The next attempt of the act in flight.
    Retry,
    /// The end of the time that the phase may take.
    PhaseDeadline,
    /// The time at which the cause of the hold ends by itself.
    HoldEnds,
    /// The time at which the hold is given up.
    HoldExpires,
    /// The end of the drain: a canary that had traffic may be removed.
    Drained,
    /// The end of the time in which a late router may still send the canary requests.
    Followed,
    /// The end of the analysis' minimum time.
    MinTime,
    /// The time at which an A/B test ends in a draw.
    TestEnds,
    /// The end of the step's pause after its checks have passed.
    Pause,
    /// The time by which a step that has passed must have its share accepted.
    ShareDeadline,
    /// The time at which the newest block is too old: nothing is measured any more.
    Silence,
    /// The end of the patience with missing evidence.
    Patience,
    /// The time from which a canary that has grown gets no more traffic, because its requests could not be counted for too long.
    Uncounted,
    /// The end of the grace for pods that do not run.
    Grace,
    /// The time at which more traffic returns to a stable that has not grown.
    Return,
}

/// The state of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The time has come.
    Now,
    /// The time is still to come.
    At(Timestamp),
    /// The timer isn't running.
    Never,
}

impl Timer {
    const ALL: [Timer; 15] = [
        Timer::Retry,
        Timer::PhaseDeadline,
        Timer::HoldEnds,
        Timer::HoldExpires,
        Timer::Drained,
        Timer::Followed,
        Timer::MinTime,
        Timer::TestEnds,
        Timer::Pause,
        Timer::ShareDeadline,
        Timer::Silence,
        Timer::Patience,
        Timer::Uncounted,
        Timer::Grace,
        Timer::Return,
    ];

    /// Returns the meaning of the timer's time, as a phrase; `None` for one of the machinery.
    fn meaning(self) -> Option<&'static str> {
        match self {
            Timer::Retry => Some("the next attempt of the write that has failed"),
            Timer::PhaseDeadline => Some("the end of the time that this phase may take"),
            Timer::HoldEnds => Some("the hold ends by itself"),
            Timer::HoldExpires => Some("the rollout is given up if it is still held"),
            Timer::MinTime => Some("the end of the least time that is judged"),
            Timer::TestEnds => Some("the A/B test ends in a draw"),
            Timer::Pause => Some("the end of the pause after the checks have passed"),
            Timer::Patience => Some("the end of the patience with missing evidence"),
            Timer::Grace => Some("the end of the grace for pods that do not run"),
            Timer::Drained
            | Timer::Followed
            | Timer::ShareDeadline
            | Timer::Silence
            | Timer::Uncounted
            | Timer::Return => None,
        }
    }

    /// Returns whether the timer also runs while the cluster can't be seen: its end starts an attempt, or is given by the
    /// calendar.
    fn runs_unseen(self) -> bool {
        match self {
            Timer::Retry | Timer::HoldEnds => true,
            Timer::PhaseDeadline
            | Timer::HoldExpires
            | Timer::Drained
            | Timer::Followed
            | Timer::MinTime
            | Timer::TestEnds
            | Timer::Pause
            | Timer::ShareDeadline
            | Timer::Silence
            | Timer::Patience
            | Timer::Uncounted
            | Timer::Grace
            | Timer::Return => false,
        }
    }
}

impl Rollout {
    /// Returns the state of a timer.
    pub(super) fn due(&self, timer: Timer, now: Timestamp) -> Due {
        match self.ends(timer) {
            Some(at) if at <= now => Due::Now,
            Some(at) => Due::At(at),
            None => Due::Never,
        }
    }

    /// Whether the time of a timer has come.
    pub(super) fn is_due(&self, timer: Timer, now: Timestamp) -> bool {
        self.due(timer, now) == Due::Now
    }

    /// Returns the next time after `now` at which the time alone may change something, and its timer.
    pub fn next_timer(&self, now: Timestamp) -> Option<(Timestamp, Timer)> {
        if self.phase() == Phase::Ended {
            return None;
        }
        let pending = Timer::ALL.into_iter().filter_map(|timer| match self.due(timer, now) {
            Due::At(at) => Some((at, timer)),
            Due::Now | Due::Never => None,
        });
        pending.min()
    }

    /// Returns the times that people may want to know, each with its meaning as a phrase, the earliest first.
    pub fn deadlines(&self) -> Vec<(Timestamp, &'static str)> {
        if self.phase() == Phase::Ended {
            return Vec::new();
        }
        let meanings = Timer::ALL.into_iter().filter_map(|timer| Some((timer, timer.meaning()?)));
        let mut deadlines: Vec<_> =
            meanings.filter_map(|(timer, meaning)| Some((self.ends(timer)?, meaning))).collect();
        deadlines.sort_unstable();
        deadlines
    }

    /// Returns the time that a timer waits for; `None` if it isn't running.
    pub(super) fn ends(&self, timer: Timer) -> Option<Timestamp> {
        let current = &self.current;
        // No deadline ends before the cluster was looked at.
        if self.unseen_since.is_some() && !timer.runs_unseen() {
            return None;
        }
        let analysis = self.judging();
        let passed = analysis.and_then(|analysis| analysis.passed);
        match timer {
            Timer::Retry => current.in_flight.as_ref()?.retry,
            Timer::PhaseDeadline => self.phase_deadline(),
            Timer::HoldEnds => current.hold.as_ref()?.cause.ends(),
            Timer::HoldExpires => self.hold_expires(),
            Timer::Drained => self.drained(),
            Timer::Followed => self.followed(),
            Timer::MinTime => Some(analysis?.scope.min_time(&self.policy).after(analysis?.counted_since())),
            Timer::TestEnds => Some(self.policy.ab.as_ref()?.longest.after(analysis?.counted_since())),
            Timer::Pause => Some(self.policy.steps.get(self.step)?.pause.after(passed?)),
            Timer::ShareDeadline => Some(self.policy.ready_within.after(passed?)),
            Timer::Uncounted => self.grows_uncounted(),
            Timer::Grace => self.grace_ends(),
            Timer::Return => self.returns_more(),
            Timer::Silence => {
                let begun = analysis?.since;
                let newest = self.measured.last_block.map_or(begun, |last| last.max(begun));
                Some(self.policy.block_age.after(newest))
            }
            Timer::Patience => {
                let (shortfall, since) = analysis?.shortfall?;
                Some(shortfall.patience(&self.policy.patience).0.after(since))
            }
        }
    }

    /// Returns the time at which the hold is given up. During the promotion that would put the old template over the one that
    /// another party has written, so such a hold lasts.
    fn hold_expires(&self) -> Option<Timestamp> {
        let hold = self.current.hold.as_ref()?;
        let overwrites = self.phase() == Phase::Promoting && hold.cause == HoldCause::TemplateEdited;
        hold.expires(&self.policy).filter(|_| !overwrites)
    }

    /// Returns the time from which a canary that has traffic and grows can't be measured; `None` in any other phase.
    fn grows_uncounted(&self) -> Option<Timestamp> {
        let has_traffic = self.phase() == Phase::Growing && self.canary.weight > Weight::ZERO;
        let analysis = self.measured.analysis.as_ref().filter(|_| has_traffic)?;
        Some(self.policy.patience.blind.after(self.uncounted_since(analysis)?))
    }

    fn phase_deadline(&self) -> Option<Timestamp> {
        let starts = self.drained().or(self.current.progressed()).unwrap_or(self.current.since);
        let starts = self.current.acted.map_or(starts, |acted| acted.max(starts));
        Some(self.time_limit()?.after(self.current.uncounted.after(starts)))
    }

    /// Returns how long the phase may take, not counting holds and the time in which the cluster could not be seen; `None` while it
    /// judges or waits for a person.
    pub(super) fn time_limit(&self) -> Option<Span> {
        // A step that is entered again has an analysis before its weight is written again.
        let judges = self.phase() == Phase::Stepping && self.analyzes_this_step() && self.acts_done();
        let asks = self.phase() == Phase::Preflight && self.basis.is_some();
        match self.phase().traits().limit {
            PhaseLimit::Ready if judges || asks => None,
            PhaseLimit::Ready => Some(self.policy.ready_within),
            // A pod of the stable may take as long to start as one of the canary.
            PhaseLimit::Promote => Some(self.policy.promote_within.max(self.policy.ready_within)),
            PhaseLimit::None => None,
        }
    }

    /// Returns the time from which a canary that had traffic may be removed. Pods behind one Service leave the traffic when
    /// they are told to end, so there is nothing to wait for by replica ratio.
    fn drained(&self) -> Option<Timestamp> {
        let removes = matches!(self.phase(), Phase::Cleaning | Phase::Removing);
        let waits = removes && self.canary.exists && !self.observes();
        (waits && self.policy.traffic.splits_by_weight()).then(|| self.policy.drain.after(self.current.since))
    }

    /// Returns the time by which a router that follows late sends the canary no more requests; `None` if there is nothing to wait for.
    fn followed(&self) -> Option<Timestamp> {
        let leaves = matches!(self.phase(), Phase::Returning | Phase::Draining) && self.canary.exists;
        let since = self.current.remainder.map_or(self.current.since, |kept| kept.since);
        (leaves && self.measured.router_lags).then(|| self.policy.follows_within.after(since))
    }
}
