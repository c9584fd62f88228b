//! Pods that fail in a rollout: the trouble that ends it, the lack of room that holds it, and a canary with too few ready pods.

use super::cause::{EndCause, Fired};
use super::phase::{NextPhase, Phase, Trigger, next};
use super::pods::{Trouble, Troubles, of_version, trouble};
use super::reason::Reason;
use super::restarts::Restarts;
use super::state::{Rollout, RolloutContext};
use crate::ids::Weight;
use crate::input::status::{DeploymentStatus, PodProblem, WorkloadStatus};
use crate::time::{Span, Timestamp};

/// The number of times that the canary's traffic is taken back because too few of its pods are ready.
const MAX_WITHDRAWALS: u32 = 3;

impl Rollout {
    /// Notes whether the new version's pods are in trouble. A crash loop runs for moments in between, so the trouble is over
    /// only when the Deployment is available.
    pub(super) fn note_trouble(&mut self, context: RolloutContext<'_>) {
        let Some(status) = context.status else { return };
        let stable = status.stable.as_ref();
        let (new, old) = match stable {
            Some(stable) if self.has_new_images(stable) => (Some(stable), None),
            old => (None, old),
        };
        let canary = status.canary.as_ref().filter(|_| self.canary.exists);
        let (before, now) = (std::mem::take(&mut self.trouble), context.now);
        self.trouble = Troubles {
            canary: trouble(before.canary, canary, old, now),
            stable: trouble(before.stable, new, None, now),
        };
    }

    /// Returns the end of the first grace.
    pub(super) fn grace_ends(&self) -> Option<Timestamp> {
        [&self.trouble.canary, &self.trouble.stable].into_iter().flatten().map(|trouble| trouble.decides).min()
    }

    /// Fires if the new version's pods can't run, and their grace is over.
    pub(super) fn pods_failed(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let is_seen = context.status.is_some();
        if is_seen && !self.observes() { self.pods_in_trouble(context.now) } else { None }
    }

    /// Returns the failure of pods that are in trouble and whose grace ends by `now`.
    pub(super) fn pods_in_trouble(&self, now: Timestamp) -> Option<Fired> {
        let over = |trouble: &&Trouble| trouble.decides <= now;
        if let Some(Trouble { problem, .. }) = self.trouble.canary.as_ref().filter(over) {
            let has_started = self.phase() != Phase::Preparing || self.current.done > 0;
            if has_started && next(self.phase(), Trigger::CanaryFailed) != NextPhase::Stay {
                let reason = Reason::CanaryFailed { problem: problem.clone() };
                return Some(Fired::ending(Trigger::CanaryFailed, EndCause::PodsFailed, reason));
            }
        }
        let Trouble { problem, .. } = self.trouble.stable.as_ref().filter(over)?;
        let reason = Reason::StableFailed { problem: problem.clone() };
        Some(Fired::ending(Trigger::StableFailed, EndCause::PodsFailed, reason))
    }

    /// Returns the Deployment whose pods the phase waits for; `None` if it waits for none.
    fn awaited<'a>(&self, status: Option<&'a WorkloadStatus>) -> Option<&'a DeploymentStatus> {
        match self.phase() {
            Phase::Preparing | Phase::Growing | Phase::Withdrawn => status?.canary.as_ref(),
            Phase::Promoting | Phase::Restoring => status?.stable.as_ref(),
            Phase::Preflight
            | Phase::Stepping
            | Phase::Returning
            | Phase::Cleaning
            | Phase::Guarding
            | Phase::Draining
            | Phase::Removing
            | Phase::Ended => None,
        }
    }

    /// Returns the problem that keeps the awaited pods from running and is not the version's.
    fn lacking_room<'a>(&self, status: Option<&'a WorkloadStatus>) -> Option<&'a PodProblem> {
        let problem = self.awaited(status)?.problem.as_ref()?;
        let stable = status?.stable.as_ref().and_then(|stable| stable.problem.as_ref());
        let is_shared = stable.is_some_and(|other| other.reason == problem.reason && other.object != problem.object);
        (of_version(problem).is_none() || is_shared).then_some(problem)
    }

    /// Counts the restarts of the new version while it has traffic, as the canary or after its promotion, and of the one before.
    pub(super) fn note_restarts(&mut self, context: RolloutContext<'_>) {
        let Some(status) = context.status.filter(|_| self.is_roll()) else { return };
        let (promoted, before): (Option<_>, Option<_>) = match &status.stable {
            Some(stable) if self.has_new_images(stable) => (Some(stable), None),
            stable => (None, stable.as_ref()),
        };
        let serves = self.phase().has_canary_traffic() && self.canary.weight > Weight::ZERO;
        let canary = status.canary.as_ref().filter(|_| serves);
        let new = if self.phase() == Phase::Guarding { promoted } else { canary };
        self.restarts.observe(new, before, context.now);
    }

    /// Fires if the new version's containers restart more often than those of the version before.
    pub(super) fn restarts_more(&self) -> Option<Fired> {
        if !self.restarts.are_more() || self.observes() {
            return None;
        }
        let Restarts { new, before, pods, .. } = self.restarts;
        let reason = Reason::Restarts {
            restarts: new.restarts,
            pods,
            time: new.time(),
            before: before.restarts,
            before_time: before.time(),
        };
        let trigger = if self.phase() == Phase::Guarding { Trigger::StableFailed } else { Trigger::CanaryFailed };
        Some(Fired::ending(trigger, EndCause::PodsFailed, reason))
    }

    /// Fires if fewer than half of the pods that the canary's traffic needs are ready, and the stable is better off.
    pub(super) fn canary_unready(&self, context: RolloutContext<'_>) -> Option<Fired> {
        let steps = matches!(self.phase(), Phase::Stepping | Phase::Growing) && self.policy.traffic.splits_by_weight();
        if !steps || self.observes() || !self.canary_lacks_pods(context.status) {
            return None;
        }
        let canary = context.status?.canary.as_ref()?;
        let needed = self.needed_pods(context.status);
        let (ready, times) = (canary.ready, self.canary.withdrawals);
        let reason = Reason::CanaryUnready { ready, replicas: needed, problem: canary.problem.clone(), times };
        if times >= MAX_WITHDRAWALS {
            return Some(Fired::ending(Trigger::GaveUp, EndCause::Undecided, reason));
        }
        Some(Fired::onward(Trigger::CanaryUnready, reason))
    }

    /// Notes how many pods the phase has reached, so that its deadline counts from the last progress.
    pub(super) fn note_progress(&mut self, context: RolloutContext<'_>) {
        // Before the stable has its other template, its numbers are those of the present one.
        let lacks_template = |arm: &DeploymentStatus| {
            matches!((self.phase(), self.has_new_images(arm)), (Phase::Promoting, false) | (Phase::Restoring, true))
        };
        let arm = self.awaited(context.status).filter(|arm| !lacks_template(arm));
        if let Some(arm) = arm.filter(|arm| arm.observed_generation >= arm.generation) {
            // As the Deployment controller counts progress: a new pod, one old pod less, or one more that is available.
            let reached = 2 * i64::from(arm.updated) + i64::from(arm.available) - i64::from(arm.total);
            self.current.note_progress(reached, context.now);
        }
        // The pods have their time to start once the cluster runs them.
        let lacks_room = self.lacking_room(context.status).is_some();
        if std::mem::replace(&mut self.current.lacks_room, lacks_room) && !lacks_room {
            self.current.start_anew(context.now);
        }
    }

    /// Returns why the phase does not go on although nothing is wrong with the version: an act fails or has no answer yet, the
    /// cluster does not run the pods, or a gateway refuses the route.
    pub(super) fn stalled(&self, context: RolloutContext<'_>) -> Option<Reason> {
        let waits = matches!(
            self.phase(),
            Phase::Preflight | Phase::Preparing | Phase::Growing | Phase::Withdrawn | Phase::Promoting
        );
        if !waits {
            return None;
        }
        let fails = || self.current.in_flight.as_ref().is_some_and(|in_flight| in_flight.failure.is_some());
        if fails() || !self.acts_done() {
            return Some(self.slow_reason(context.now));
        }
        if let Some(problem) = self.lacking_room(context.status) {
            let since = self.current.progressed().unwrap_or(self.current.since);
            return Some(Reason::NoRoom { problem: problem.clone(), after: Span::between(since, context.now) });
        }
        let is_available = self.phase() != Phase::Promoting && self.canary_available(context.status);
        let message = context.status.and_then(WorkloadStatus::route_refusal).filter(|_| is_available)?;
        Some(Reason::RouteRefused { message: message.to_owned() })
    }

    /// Whether the stable serves as many requests as before the rollout. Pods that the cluster does not run are not
    /// waited for, as long as no more than a tenth is missing.
    pub(super) fn serves_again(&self, stable: &DeploymentStatus) -> bool {
        let tenth = stable.replicas / 10;
        let blocked = stable.problem.as_ref().filter(|problem| of_version(problem).is_none());
        let missing = blocked.map_or(0, |problem| problem.pods).min(tenth);
        stable.is_settled() || (missing > 0 && stable.is_settled_but(missing))
    }
}
