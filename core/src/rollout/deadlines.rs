//! Time: how long a phase may take, what is said when it takes longer, and when to look again.

use super::{Hold, Rollout, RolloutContext};
use crate::input::status::WorkloadStatus;
use crate::policy::Traffic;
use crate::rollout::phase::{Phase, PhaseLimit, Trigger};
use crate::rollout::reason::Reason;
use crate::time::{Span, Timestamp};

impl Rollout {
    pub(super) fn overdue(&self, world: RolloutContext<'_>) -> Option<(Trigger, Reason)> {
        let limit = self.time_limit()?;
        if !self.is_late(world.now) || self.held.is_some() {
            return None;
        }
        let reason = if matches!(self.phase, Phase::Preparing | Phase::Growing) {
            if self.canary_alone_available(world.status) && self.lacks_baseline(world.status) {
                // Nothing is wrong with the version.
                return Some((Trigger::GaveUp, self.baseline_not_ready(world.status, limit)));
            }
            let canary = world.status.and_then(|status| status.canary.as_ref());
            Reason::NotReady { available: canary.map_or(0, |arm| arm.available), replicas: self.size(), within: limit }
        } else if self.phase == Phase::Promoting {
            let stable = world.status.and_then(|status| status.stable.as_ref());
            Reason::StableNotReady {
                available: stable.map_or(0, |arm| arm.updated.min(arm.available)),
                replicas: stable.map_or(0, |arm| arm.replicas),
                within: limit,
            }
        } else {
            self.slow(world.now)
        };
        // Nobody has looked at the workload yet, so there is nothing to say against the version.
        let trigger = if self.phase == Phase::Preflight { Trigger::GaveUp } else { Trigger::Overdue };
        Some((trigger, reason))
    }

    fn baseline_not_ready(&self, status: Option<&WorkloadStatus>, within: Span) -> Reason {
        let baseline = status.and_then(|status| status.baseline.as_ref());
        Reason::BaselineNotReady {
            available: baseline.map_or(0, |arm| arm.available),
            replicas: self.size(),
            within,
            trouble: baseline.and_then(|arm| arm.trouble.clone()),
        }
    }

    /// Whether the phase has taken longer than it may, the time on hold left out.
    pub(super) fn is_late(&self, now: Timestamp) -> bool {
        self.time_limit().is_some_and(|limit| now >= self.runs_out(limit))
    }

    fn runs_out(&self, limit: Span) -> Timestamp {
        limit.after(self.waited.after(self.drained_at().unwrap_or(self.since)))
    }

    /// How long the phase may take, apart from the time in which it judges.
    pub(super) fn time_limit(&self) -> Option<Span> {
        let judges = self.phase == Phase::Stepping && self.analyzes_this_step();
        let asks = self.phase == Phase::Preflight && self.basis.is_some();
        match self.phase.traits().limit {
            PhaseLimit::Ready if judges || asks => None,
            PhaseLimit::Ready => Some(self.policy.ready_within),
            PhaseLimit::Promote => Some(self.policy.promote_within),
            PhaseLimit::None => None,
        }
    }

    pub(super) fn slow(&self, now: Timestamp) -> Reason {
        let after = Span::between(self.since, now);
        match self.in_flight.as_ref().and_then(|in_flight| Some((in_flight, in_flight.failure.as_ref()?))) {
            Some((in_flight, failure)) => Reason::Failing {
                act: in_flight.effect.act.name().to_owned(),
                message: failure.message.clone(),
                attempts: in_flight.attempts,
            },
            None => Reason::Slow { waiting_for: self.phase.traits().waiting_for.to_owned(), after },
        }
    }

    /// From when on a canary that has had traffic may be removed. Pods behind one Service are out of the traffic when they
    /// are told to end, so there is nothing to wait for.
    pub(super) fn drained_at(&self) -> Option<Timestamp> {
        let waits = matches!(self.phase, Phase::Cleaning | Phase::Removing) && self.canary_made && !self.observes();
        let split = matches!(self.policy.traffic, Traffic::Gateway { .. });
        (waits && split).then(|| self.policy.drain.after(self.since))
    }

    /// When time ends a hold: its cause ends by itself, or its patience does.
    pub fn hold_ends(&self, held: &Hold) -> Option<Timestamp> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others are ended by patience")]
        match &held.reason {
            Reason::OutsideWindow { opens, .. } => Some(*opens),
            Reason::Frozen { until: Some(until), .. } => Some(*until),
            reason => self.patience(reason).map(|patience| patience.after(held.since)),
        }
    }

    /// The next instant after `now` at which time alone may change something.
    pub fn wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        if self.phase == Phase::Ended {
            return None;
        }
        let analysis = self.analysis.as_ref().filter(|_| self.judges());
        let pause = self.policy.steps.get(self.step).map_or(Span::ZERO, |step| step.pause);
        [
            self.in_flight.as_ref().and_then(|in_flight| in_flight.retry),
            self.time_limit().map(|limit| self.runs_out(limit)),
            self.held.as_ref().and_then(|held| self.hold_ends(held)),
            self.drained_at(),
            analysis.map(|analysis| self.least_time().after(analysis.since)),
            analysis.zip(self.policy.ab.as_ref()).map(|(analysis, test)| test.longest.after(analysis.since)),
            analysis.and_then(|analysis| analysis.passed).map(|passed| pause.after(passed)),
            analysis.and_then(|analysis| analysis.passed).map(|passed| self.policy.ready_within.after(passed)),
            analysis.and_then(|analysis| analysis.lacking).map(|(lack, since)| self.patience_with(lack).0.after(since)),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }
}
