//! The verbs of people. A verb is carried out, or refused with a sentence that names the present state and the remedy.

use super::cause::{EndCause, Fired, HoldCause, Remedy};
use super::decision::DecisionKind;
use super::ending::Ending;
use super::phase::{Phase, Trigger};
use super::preflight::requested_images;
use super::reason::{Reason, change};
use super::state::{Rollout, RolloutContext, StepOutput};
use crate::ids::{RolloutId, all_run, is_same_sender};
use crate::input::command::{Author, Verb};
use crate::input::event::Request;
use crate::judge::numbers::Verdict;
use crate::policy::ApprovalPoint;

/// A verb that the state of a rollout admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerbOffer {
    /// The verb, with its arguments.
    pub verb: Verb,
    /// The conditions that the verb skips, as phrases. A required suite and a closed change window are not among them.
    pub skips: Vec<String>,
}

impl Rollout {
    /// Returns the verbs that the rollout's state admits. One can be refused all the same for a reason outside the rollout: a pod that is
    /// not available, the sender, or a newer rollout of the workload.
    pub fn offers(&self) -> Vec<VerbOffer> {
        let plain = |verb| VerbOffer { verb, skips: Vec::new() };
        if self.ended.is_some() {
            let can_be_retried = self.is_roll() && self.ending() != Some(Ending::Promoted);
            return can_be_retried.then(|| plain(Verb::Retry)).into_iter().collect();
        }
        let remedy = self.current.hold.as_ref().map(|hold| hold.cause.remedy());
        let mut offers = Vec::new();
        match remedy {
            Some(_) | None if self.orders.paused.is_some() => offers.push(plain(Verb::Resume)),
            Some(Remedy::Approve(name)) => offers.push(plain(Verb::Approve { approval: Some(name.to_owned()) })),
            Some(Remedy::Wait | Remedy::Resume | Remedy::Rebase | Remedy::PromoteFull) => {
                offers.push(plain(Verb::Resume));
            }
            Some(Remedy::AwaitWindow | Remedy::Unfreeze(_)) => {}
            None if self.phase().is_before_promotion() => offers.push(plain(Verb::Pause)),
            None => {}
        }
        if self.phase().rises() && !matches!(remedy, Some(Remedy::Unfreeze(_))) {
            let onward = self.promotes_by(false);
            let fulls = [false, true].into_iter().filter(|full| !full || onward != Trigger::LastStepPassed);
            offers.extend(fulls.map(|full| VerbOffer {
                verb: Verb::Promote { full },
                skips: self.skipped_in_rollout(self.promotes_by(full)),
            }));
        }
        if self.can_be_recalled() {
            offers.push(plain(Verb::Abort));
        }
        offers
    }

    /// Carries out a verb.
    ///
    /// # Errors
    /// The verb can't be carried out in the present state: the state and the remedy.
    pub fn obey(
        &mut self,
        verb: &Verb,
        author: Author,
        context: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> Result<(), Reason> {
        match verb {
            Verb::Abort => self.abort(author, None, context, out),
            Verb::Promote { full } => self.promote(*full, author, context, out),
            Verb::Pause => self.pause(author),
            Verb::Resume => self.resume(author, context, out),
            Verb::Approve { approval } => self.approve(approval.as_deref(), author, context, out),
            Verb::Retry => Err(self.busy("a retry is for what has ended; abort this one first, or wait")),
            Verb::Freeze { .. } | Verb::Unfreeze => Err(self.busy("a freeze is not told to a rollout")),
        }
        .map_err(|instead| Reason::CantObey { verb: verb.name().to_owned(), instead })?;
        self.drive(context, out);
        Ok(())
    }

    /// `web-1a2b is promoting; …`
    fn busy(&self, remedy: &str) -> String {
        format!("{} is {}; {remedy}", self.id, self.phase())
    }

    /// Aborts the rollout. `drops` is the waiting rollout that is aborted with it.
    ///
    /// # Errors
    /// It can't be aborted in the present state: the state and the remedy.
    pub fn abort(
        &mut self,
        author: Author,
        drops: Option<RolloutId>,
        context: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> Result<(), String> {
        if !self.can_be_recalled() {
            let remedy = if self.phase() == Phase::Cleaning {
                "it can be aborted again when its canary is gone"
            } else {
                "the old version is on its way back already"
            };
            return Err(self.busy(remedy));
        }
        // A template that another field manager has written meanwhile is left alone.
        let edited = self.current.hold.as_ref().is_some_and(|hold| hold.cause == HoldCause::TemplateEdited);
        let trigger = if edited { Trigger::Rebased } else { Trigger::Recalled };
        let changed = self.basis.as_ref().filter(|_| self.is_roll() && !self.phase().is_before_promotion());
        let undoes = changed.map(|basis| change(&basis.from, &basis.to));
        let reason = Reason::Aborted { author, undoes, drops };
        self.move_on(Fired::ending(trigger, EndCause::Aborted, reason), context, out);
        self.drive(context, out);
        Ok(())
    }

    /// Whether its request starts again on the workload's new template.
    pub fn starts_again(&self) -> bool {
        self.conclusion.as_ref().is_some_and(|conclusion| conclusion.cause == EndCause::Rebased)
    }

    fn can_be_recalled(&self) -> bool {
        self.conclusion.is_none() && self.can_move_on(Trigger::Recalled)
    }

    /// Whether a request asks for the images that the stable has, or had before it took the new ones, and the way back is
    /// open.
    pub fn is_recalled_by(&self, request: &Request) -> bool {
        let Some(basis) = self.basis.as_ref().filter(|basis| basis.from != basis.to) else { return false };
        self.can_be_recalled() && requested_images(request, &basis.to).is_ok_and(|images| all_run(&basis.from, &images))
    }

    fn pause(&mut self, author: Author) -> Result<(), String> {
        if !self.phase().is_before_promotion() {
            return Err(self.busy("there is nothing left to pause; `abort` takes the old version back"));
        }
        if let Some(paused) = &self.orders.paused {
            return Err(format!("{} is paused already, by {paused}", self.id));
        }
        self.orders.paused = Some(author);
        Ok(())
    }

    fn resume(&mut self, author: Author, context: RolloutContext<'_>, out: &mut StepOutput) -> Result<(), String> {
        if self.orders.paused.take().is_none() {
            let Some(hold) = &self.current.hold else { return Err(self.busy("it is not held")) };
            let reason = &hold.reason;
            match hold.cause.remedy() {
                Remedy::Unfreeze(_) => return Err(format!("{reason}; `unfreeze` ends it")),
                Remedy::Approve(_) if matches!(hold.cause, HoldCause::Suite { .. }) => {
                    return Err(format!("{reason}; `approve` with the suite's name goes on without it"));
                }
                Remedy::Approve(_) => return Err(format!("{reason}; `approve` gives it")),
                Remedy::AwaitWindow => return Err(format!("{reason}; `promote` goes on all the same")),
                Remedy::Rebase => {
                    let fired = Fired::ending(Trigger::Rebased, EndCause::Rebased, Reason::Rebased { author });
                    self.move_on(fired, context, out);
                    return Ok(());
                }
                Remedy::Wait | Remedy::Resume | Remedy::PromoteFull => self.start_over_waiting(context),
            }
        }
        self.current.release(context.now);
        self.decide(DecisionKind::Resume, Reason::Resumed { author }, context.now, out);
        Ok(())
    }

    /// Grants the whole patience again for everything that was waited for, and accepts the workload's present size.
    fn start_over_waiting(&mut self, context: RolloutContext<'_>) {
        self.canary.reverts = 0;
        let replicas = context.status.and_then(|status| status.stable.as_ref()).map(|stable| stable.replicas);
        if let (Some(basis), Some(replicas)) = (&mut self.basis, replicas) {
            basis.replicas = replicas;
        }
        if self.judging().is_some() {
            self.measured.analysis = None;
        }
        self.current.renew(context.now);
        if self.phase() == Phase::Preflight {
            self.basis = None;
            self.current.done = 0;
        }
    }

    fn approve(
        &mut self,
        name: Option<&str>,
        author: Author,
        context: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> Result<(), String> {
        if !self.phase().is_before_promotion() {
            return Err(self.busy("approvals count only before the promotion"));
        }
        let awaited = self
            .current
            .hold
            .as_ref()
            .and_then(|hold| if let Remedy::Approve(name) = hold.cause.remedy() { Some(name) } else { None });
        let approvals = self.missing_approvals().map(|approval| approval.name.as_str());
        let missing: Vec<&str> = approvals.chain(self.unproven(context).map(String::as_str)).collect();
        let approval = match (name.or(awaited), missing.as_slice()) {
            (_, []) => return Err(format!("no approval of {} is missing", self.id)),
            (Some(name), missing) if missing.contains(&name) => name.to_owned(),
            (Some(name), missing) => {
                return Err(format!(
                    "no approval {name:?} of {} is missing; name one of {}",
                    self.id,
                    missing.join(", ")
                ));
            }
            (None, [one]) => (*one).to_owned(),
            (None, many) => {
                return Err(format!("several approvals of {} are missing; name one of {}", self.id, many.join(", ")));
            }
        };
        if self.is_own(&author) {
            return Err(format!(
                "{} asked for {}, and no sender approves their own request; another one has to",
                author.by, self.id
            ));
        }
        self.orders.approved.push(approval.clone());
        let reason = Reason::Approved { author, approval };
        self.decide(DecisionKind::Approve, reason, context.now, out);
        Ok(())
    }

    /// Whether the author of a command has asked for this rollout.
    fn is_own(&self, author: &Author) -> bool {
        is_same_sender(&self.event.source, &author.by)
    }

    fn promote(
        &mut self,
        full: bool,
        author: Author,
        context: RolloutContext<'_>,
        out: &mut StepOutput,
    ) -> Result<(), String> {
        if !self.phase().rises() {
            let early = self.phase() == Phase::Preflight;
            return Err(self.busy(if early { "ask again when its canary is there" } else { "it is past that" }));
        }
        if let Some(frozen) = context.frozen_reason() {
            return Err(format!("{frozen}; `unfreeze` first"));
        }
        if !self.acts_done() || !self.canary_available(context.status) {
            return Err(self.busy("its canary is not available, and traffic goes only to what is"));
        }
        let trigger = self.promotes_by(full);
        let unapproved = self.unapproved_by(trigger, context);
        if !unapproved.is_empty() && self.is_own(&author) {
            return Err(format!(
                "{} asked for {} and can't skip its {}; another sender has to approve or promote",
                author.by,
                self.id,
                unapproved.join(", ")
            ));
        }
        let skips = self.skipped_by(trigger, context);
        self.orders.paused = None;
        self.move_on(Fired::onward(trigger, Reason::Promoted { author, skips }), context, out);
        Ok(())
    }

    /// Returns the trigger that a `promote` fires.
    fn promotes_by(&self, full: bool) -> Trigger {
        let last = self.step + 1 >= self.policy.steps.len();
        let steps = self.phase() == Phase::Stepping;
        match (full || (steps && last), steps) {
            (true, _) => Trigger::LastStepPassed,
            (false, true) => Trigger::StepPassed,
            (false, false) => Trigger::CanaryReady,
        }
    }

    /// Returns the conditions that have not passed and that a trigger by a person skips, as phrases.
    fn skipped_by(&self, trigger: Trigger, context: RolloutContext<'_>) -> Vec<String> {
        let mut skips = self.skipped_steps(trigger);
        skips.extend(self.unapproved_by(trigger, context));
        let closed = self.policy.window.as_ref().filter(|window| window.opens(context.now).is_some());
        skips.extend(closed.map(|window| format!("the change window {window}")));
        skips.extend(self.skipped_pause());
        skips
    }

    /// Returns those of the skipped conditions that the rollout itself tells, as phrases.
    fn skipped_in_rollout(&self, trigger: Trigger) -> Vec<String> {
        let skips = self.skipped_steps(trigger).into_iter();
        skips.chain(self.skipped_approvals(trigger)).chain(self.skipped_pause()).collect()
    }

    /// Returns the checks and steps that a trigger by a person skips, as phrases.
    fn skipped_steps(&self, trigger: Trigger) -> Vec<String> {
        if trigger == Trigger::CanaryReady {
            return Vec::new();
        }
        let mut skips = self.unpassed();
        let over = if trigger == Trigger::LastStepPassed { self.policy.steps.len() } else { self.step + 1 };
        let steps = self.policy.steps.iter().enumerate().take(over).skip(self.step + 1);
        skips.extend(steps.map(|(at, step)| format!("step {} at {}", at + 1, step.weight)));
        skips
    }

    fn skipped_pause(&self) -> Option<String> {
        self.orders.paused.as_ref().map(|author| format!("the pause of {author}"))
    }

    /// Returns the missing approvals that a trigger by a person skips, as phrases.
    fn skipped_approvals(&self, trigger: Trigger) -> impl Iterator<Item = String> {
        let prepares = self.phase() == Phase::Preparing;
        let approvals = self.missing_approvals().filter(move |approval| {
            trigger == Trigger::LastStepPassed || (approval.before == ApprovalPoint::Traffic && prepares)
        });
        approvals.map(|approval| format!("approval {}", approval.name))
    }

    /// Returns the missing approvals and suites that a trigger by a person skips, as phrases.
    fn unapproved_by(&self, trigger: Trigger, context: RolloutContext<'_>) -> Vec<String> {
        let prepares = self.phase() == Phase::Preparing;
        let suites = prepares.then(|| self.unproven(context)).into_iter().flatten();
        self.skipped_approvals(trigger).chain(suites.map(|suite| format!("suite {suite}"))).collect()
    }

    /// Returns the present step's checks that do not pass, with their verdicts.
    fn unpassed(&self) -> Vec<String> {
        let Some(step) = self.policy.steps.get(self.step) else { return Vec::new() };
        let unseen = |name: &str| format!("check {name} (has not looked)");
        let Some(analysis) = self.measured.analysis.as_ref().filter(|_| self.analyzes_this_step()) else {
            return step.checks.iter().map(|check| unseen(&check.name)).collect();
        };
        let verdict = |name: &str| analysis.evidence().find(|evidence| evidence.check == name).map(|it| it.verdict);
        let mut unpassed: Vec<String> = step
            .checks
            .iter()
            .filter_map(|check| match verdict(&check.name) {
                Some(Verdict::Pass) => None,
                Some(verdict) => Some(format!("check {} ({verdict})", check.name)),
                None => Some(unseen(&check.name)),
            })
            .collect();
        if analysis.passed.is_none() {
            unpassed.push(format!("the rest of the step's {}", step.min_time));
        }
        unpassed
    }
}
