//! What a person tells a rollout. A verb is obeyed, or refused with a sentence that says what there is and what to do.

use super::{Rollout, RolloutContext, StepOutput};
use crate::ids::EventId;
use crate::input::command::{Author, Verb};
use crate::input::event::Request;
use crate::judge::verdict::Verdict;
use crate::rollout::decision::DecisionKind;
use crate::rollout::phase::{NextPhase, Phase, Trigger, next};
use crate::rollout::reason::Reason;
use crate::time::Span;

use super::accept::wanted_images;

impl Rollout {
    /// Does what a person says.
    ///
    /// # Errors
    /// The verb makes no sense here: why, and what does.
    pub fn obey(
        &mut self,
        verb: &Verb,
        order: Author,
        world: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> Result<(), Reason> {
        match verb {
            Verb::Abort => self.abort(order, world, out),
            Verb::Promote { full } => self.promote(*full, order, world, out),
            Verb::Pause => self.pause(order),
            Verb::Resume => self.resume(order, world, out),
            Verb::Approve { gate } => self.approve(gate.as_deref(), order, world, out),
            Verb::Retry => Err(self.busy("a retry is for what has ended; abort this one first, or wait")),
            Verb::Freeze { .. } | Verb::Unfreeze => Err(self.busy("a freeze is not told to a rollout")),
        }
        .map_err(|instead| Reason::CantObey { verb: verb.name().to_owned(), instead })?;
        self.drive(world, out);
        Ok(())
    }

    /// `web-1a2b is promoting: …`
    fn busy(&self, remedy: &str) -> String {
        format!("{} is {}; {remedy}", self.id, self.phase)
    }

    fn abort(&mut self, order: Author, world: RolloutContext<'_>, out: &mut StepOutput) -> Result<(), String> {
        if !self.can_be_recalled() {
            let remedy = if self.phase == Phase::Cleaning {
                "it can be aborted again when its canary is gone"
            } else {
                "the old version is on its way back already"
            };
            return Err(self.busy(remedy));
        }
        // A template that somebody else has written meanwhile is not ours to take back.
        let trigger = if self.is_edited() { Trigger::Rebased } else { Trigger::Recalled };
        self.move_on(trigger, Reason::Aborted { order }, world, out);
        Ok(())
    }

    /// Held because the stable has another template now.
    fn is_edited(&self) -> bool {
        self.held.as_ref().is_some_and(|held| matches!(held.reason, Reason::TemplateEdited { .. }))
    }

    /// Whether it ended (or is ending) so that what it was asked for begins again on the workload as it is now.
    pub fn begins_again(&self) -> bool {
        self.conclusion.as_ref().is_some_and(|conclusion| matches!(conclusion.reason, Reason::Rebased { .. }))
    }

    fn can_be_recalled(&self) -> bool {
        self.conclusion.is_none() && matches!(next(self.phase, Trigger::Recalled), NextPhase::To(_))
    }

    /// Whether this request asks for the images that the stable has (or had, before it took the new ones), and the
    /// way back is open.
    pub fn is_recalled_by(&self, request: &Request) -> bool {
        let Some(basis) = self.basis.as_ref().filter(|basis| basis.from != basis.to) else { return false };
        self.can_be_recalled() && wanted_images(request, &basis.to).is_ok_and(|images| images == basis.from)
    }

    /// The stable's own images are asked for again.
    pub fn recalled(&mut self, by: EventId, world: RolloutContext<'_>, out: &mut StepOutput) {
        self.move_on(Trigger::Recalled, Reason::Recalled { by }, world, out);
        self.drive(world, out);
    }

    fn pause(&mut self, order: Author) -> Result<(), String> {
        if !self.phase.is_before_promotion() {
            return Err(self.busy("there is nothing left to pause; `abort` takes the old version back"));
        }
        if let Some(paused) = &self.paused {
            return Err(format!("{} is paused already, by {paused}", self.id));
        }
        self.paused = Some(order);
        Ok(())
    }

    fn resume(&mut self, order: Author, world: RolloutContext<'_>, out: &mut StepOutput) -> Result<(), String> {
        match (&self.paused, self.held.as_ref().map(|held| &held.reason)) {
            (None, None) => return Err(self.busy("it is not held")),
            (None, Some(reason @ Reason::Frozen { .. })) => return Err(format!("{reason}; `unfreeze` ends it")),
            (None, Some(reason @ Reason::NeedsApproval { .. })) => return Err(format!("{reason}; `approve` opens it")),
            (None, Some(reason @ Reason::NeedsReport { .. })) => {
                return Err(format!("{reason}; `approve` with the suite's name goes on without it"));
            }
            (None, Some(reason @ Reason::OutsideWindow { .. })) => {
                return Err(format!("{reason}; `promote` goes on all the same"));
            }
            (None, Some(Reason::TemplateEdited { .. })) => {
                self.move_on(Trigger::Rebased, Reason::Rebased { order }, world, out);
                return Ok(());
            }
            (None, Some(_)) => self.look_again(world),
            (Some(_), _) => self.paused = None,
        }
        self.end_hold(world.now);
        self.decide(DecisionKind::Resume, self.phase, Reason::Resumed { order }, world.now, out);
        Ok(())
    }

    /// Fresh patience for whatever was waited for in vain.
    fn look_again(&mut self, world: RolloutContext<'_>) {
        let now = world.now;
        self.held = None;
        self.revert_count = 0;
        let replicas = world.status.and_then(|status| status.stable.as_ref()).map(|stable| stable.replicas);
        if let (Some(basis), Some(replicas)) = (&mut self.basis, replicas) {
            basis.replicas = replicas;
        }
        self.waited = Span::between(self.since, now);
        if self.judges() {
            self.analysis = None;
        }
        if self.phase == Phase::Preflight {
            self.basis = None;
            self.progress = 0;
        }
        self.clean_up_again();
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.attempts = 0;
            in_flight.retry = in_flight.retry.map(|_| now);
        }
    }

    fn approve(
        &mut self,
        gate: Option<&str>,
        order: Author,
        world: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> Result<(), String> {
        if !self.phase.is_before_promotion() {
            return Err(self.busy("its gates are behind it"));
        }
        let waits = self.held.as_ref().and_then(|held| {
            if let Reason::NeedsApproval { gate: name, .. } | Reason::NeedsReport { suite: name, .. } = &held.reason {
                Some(name.as_str())
            } else {
                None
            }
        });
        let gates = self.closed_gates().map(|gate| gate.name.as_str());
        let closed: Vec<&str> = gates.chain(self.unproven(world).map(String::as_str)).collect();
        let gate = match (gate.or(waits), closed.as_slice()) {
            (_, []) => return Err(format!("no gate of {} is closed", self.id)),
            (Some(gate), closed) if closed.contains(&gate) => gate.to_owned(),
            (Some(gate), closed) => {
                return Err(format!("{} has no closed gate {gate:?}; it has {}", self.id, closed.join(", ")));
            }
            (None, [one]) => (*one).to_owned(),
            (None, many) => return Err(format!("{} has several gates; name one of {}", self.id, many.join(", "))),
        };
        self.approved.push(gate.clone());
        self.decide(DecisionKind::Approve, self.phase, Reason::Approved { order, gate }, world.now, out);
        Ok(())
    }

    fn promote(
        &mut self,
        full: bool,
        order: Author,
        world: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> Result<(), String> {
        if !self.phase.rises() {
            let remedy =
                if self.phase == Phase::Preflight { "ask again when its canary is there" } else { "it is past that" };
            return Err(self.busy(remedy));
        }
        if let Some(frozen) = world.frozen_reason() {
            return Err(format!("{frozen}; `unfreeze` first"));
        }
        if self.progress < self.acts().len() || !self.canary_available(world.status) {
            return Err(self.busy("its canary is not available, and traffic goes only to what is"));
        }
        let last = self.step + 1 >= self.policy.steps.len();
        let steps = self.phase == Phase::Stepping;
        let trigger = match (full || (steps && last), steps) {
            (true, _) => Trigger::LastStepPassed,
            (false, true) => Trigger::StepPassed,
            (false, false) => Trigger::CanaryReady,
        };
        let skips = self.skipped_by(trigger, world);
        self.paused = None;
        self.move_on(trigger, Reason::Promoted { order, skips }, world, out);
        Ok(())
    }

    /// What had not passed and is not waited for, in words.
    fn skipped_by(&self, trigger: Trigger, world: RolloutContext<'_>) -> Vec<String> {
        let mut skips = Vec::new();
        if trigger != Trigger::CanaryReady {
            skips.extend(self.unpassed());
            let over = if trigger == Trigger::LastStepPassed { self.policy.steps.len() } else { self.step + 1 };
            let steps = self.policy.steps.iter().enumerate().take(over).skip(self.step + 1);
            skips.extend(steps.map(|(at, step)| format!("step {} at {}", at + 1, step.weight)));
        }
        let gates = self.closed_gates().filter(|gate| {
            let now = gate.before == crate::policy::Before::Traffic;
            trigger == Trigger::LastStepPassed || (now && self.phase == Phase::Preparing)
        });
        skips.extend(gates.map(|gate| format!("gate {}", gate.name)));
        if self.phase == Phase::Preparing {
            skips.extend(self.unproven(world).map(|suite| format!("suite {suite}")));
        }
        let closed = self.policy.window.as_ref().filter(|window| window.opens(world.now).is_some());
        skips.extend(closed.map(|window| format!("the change window {window}")));
        skips.extend(self.paused.as_ref().map(|order| format!("the pause of {order}")));
        skips
    }

    /// The present step's checks that do not pass, with what they say.
    fn unpassed(&self) -> Vec<String> {
        let Some(step) = self.policy.steps.get(self.step) else { return Vec::new() };
        let analysis = self.analysis.as_ref().filter(|_| self.analyzes_this_step());
        let Some(analysis) = analysis else {
            return step.checks.iter().map(|check| format!("check {} (has not looked)", check.name)).collect();
        };
        let verdict = |name: &str| analysis.evidence().find(|evidence| evidence.check == name).map(|it| it.verdict);
        let mut unpassed: Vec<String> = step
            .checks
            .iter()
            .filter(|check| verdict(&check.name) != Some(Verdict::Pass))
            .map(|check| match verdict(&check.name) {
                Some(verdict) => format!("check {} ({verdict})", check.name),
                None => format!("check {} (has not looked)", check.name),
            })
            .collect();
        if analysis.passed.is_none() {
            unpassed.push(format!("the rest of the step's {}", step.min_time));
        }
        unpassed
    }
}
