//! Holding: why a rollout should stay where it is and ask, and when the cause is gone.

use super::{Held, Out, Rollout, World};
use crate::decision::Kind;
use crate::phase::{Move, Phase, Trigger, next};
use crate::reason::Reason;
use crate::time::{Span, Timestamp};
use crate::watching::{Lack, Standing};

impl Rollout {
    /// Why the rollout should stay where it is and ask, if it should.
    pub(super) fn cause_to_hold(&self, now: Timestamp) -> Option<Reason> {
        if self.phase == Phase::Gating && self.basis.is_some() {
            return Some(Reason::NoLastGood);
        }
        if self.judges() {
            return self.lack_of_evidence(now);
        }
        let limit = self.time_limit()?;
        let stays = next(self.phase, Trigger::Overdue) == Move::Stay;
        (stays && Span::between(self.since, now) >= limit).then(|| self.slow(now))
    }

    pub(super) fn lack_of_evidence(&self, now: Timestamp) -> Option<Reason> {
        let watching = self.watching.as_ref()?;
        if let Some((seen, n)) = watching.share_off(self.achievable()).filter(|_| self.phase == Phase::Stepping) {
            return Some(Reason::ShareOff { asked: self.achievable(), seen, n });
        }
        let (lack, since) = watching.lacking?;
        let patience = match lack {
            Lack::Sight => self.policy.patience.blind,
            Lack::Evidence => self.policy.patience.insufficient,
        };
        if Span::between(since, now) < patience {
            return None;
        }
        match watching.standing() {
            Standing::Blind(evidence) => Some(Reason::Blind { evidence, since }),
            Standing::Insufficient(evidence) => Some(Reason::Insufficient { evidence }),
            Standing::Pass(_) | Standing::Regressed(_) => None,
        }
    }

    pub(super) fn follow_hold(&mut self, world: World<'_>, out: &mut Out) {
        match (self.cause_to_hold(world.now), self.held.is_some()) {
            (Some(reason), false) => {
                self.held = Some(Held { since: world.now, reason: reason.clone() });
                self.decide(Kind::Hold, self.phase, reason, world.now, out);
            }
            (None, true) => {
                self.held = None;
                self.decide(Kind::Resume, self.phase, Reason::Recovered, world.now, out);
            }
            (Some(_), true) | (None, false) => {}
        }
    }
}
