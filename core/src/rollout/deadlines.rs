//! Time: how long a phase may take, what is said when it takes longer, and when to look again.

use super::{Rollout, World};
use crate::phase::{Limit, Phase, Trigger};
use crate::reason::Reason;
use crate::time::{Span, Timestamp};
use crate::watching::Lack;

impl Rollout {
    pub(super) fn overdue(&self, world: World<'_>) -> Option<(Trigger, Reason)> {
        let limit = self.time_limit()?;
        if Span::between(self.since, world.now) < limit || self.held.is_some() {
            return None;
        }
        let reason = if matches!(self.phase, Phase::Preparing | Phase::Growing) {
            let canary = world.sighting.and_then(|sighting| sighting.canary.as_ref());
            Reason::NotReady {
                available: canary.map_or(0, |arm| arm.available),
                replicas: self.canary_size(self.step),
                within: limit,
            }
        } else if self.phase == Phase::Promoting {
            let stable = world.sighting.and_then(|sighting| sighting.stable.as_ref());
            Reason::StableNotReady {
                available: stable.map_or(0, |arm| arm.updated.min(arm.available)),
                replicas: stable.map_or(0, |arm| arm.replicas),
                within: limit,
            }
        } else {
            self.slow(world.now)
        };
        Some((Trigger::Overdue, reason))
    }

    /// How long the phase may take, apart from the time in which it judges.
    pub(super) fn time_limit(&self) -> Option<Span> {
        let judges = self.phase == Phase::Stepping && self.is_watching_this_step();
        let asks = self.phase == Phase::Gating && self.basis.is_some();
        match self.phase.traits().limit {
            Limit::Ready if judges || asks => None,
            Limit::Ready => Some(self.policy.ready_within),
            Limit::Promote => Some(self.policy.promote_within),
            Limit::None => None,
        }
    }

    pub(super) fn slow(&self, now: Timestamp) -> Reason {
        let after = Span::between(self.since, now);
        match self.doing.as_ref().and_then(|doing| Some((doing, doing.failure.as_ref()?))) {
            Some((doing, failure)) => Reason::Failing {
                act: doing.effect.act.name().to_owned(),
                message: failure.message.clone(),
                attempts: doing.attempts,
            },
            None => Reason::Slow { waiting_for: self.phase.traits().waiting_for.to_owned(), after },
        }
    }

    /// The next instant after `now` at which time alone may change something.
    pub fn wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        if self.phase == Phase::Ended {
            return None;
        }
        let watching = self.watching.as_ref().filter(|_| self.judges());
        let pause = self.policy.steps.get(self.step).map_or(Span::ZERO, |step| step.pause);
        [
            self.doing.as_ref().and_then(|doing| doing.retry),
            self.time_limit().map(|limit| limit.after(self.since)),
            self.held.as_ref().map(|held| self.policy.max_hold.after(held.since)),
            watching.map(|watching| self.least_time().after(watching.since)),
            watching.and_then(|watching| watching.passed).map(|passed| pause.after(passed)),
            watching.and_then(|watching| watching.lacking).map(|(lack, since)| match lack {
                Lack::Sight => self.policy.patience.blind.after(since),
                Lack::Evidence => self.policy.patience.insufficient.after(since),
            }),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }
}
