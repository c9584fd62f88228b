//! The commands of people: verbs for one workload, and freezes for everything that a scope covers.

use super::partition::Engine;
use super::transition::{Disposition, Transition};
use super::workload::{Proposal, QueuedRequest, WorkloadState};
use crate::ids::{EventId, RolloutId, Scope, Workload, runs};
use crate::input::command::{Author, Command, Freeze, Verb};
use crate::input::event::{Input, Request};
use crate::rollout::decision::{Decision, DecisionKind};
use crate::rollout::ending::Ending;
use crate::rollout::reason::Reason;
use crate::rollout::{Rollout, Task};
use crate::time::Timestamp;

impl Engine {
    /// Carries out a command. The first transition has the answer; a freeze has one more for each workload that it covers.
    pub(super) fn commanded(
        &mut self,
        input: Input,
        id: EventId,
        time: Option<Timestamp>,
        command: &Command,
    ) -> Vec<Transition> {
        if self.has_seen(&id) {
            return vec![without_effect(command, input, Disposition::Duplicate, Reason::Duplicate { event: id })];
        }
        let until = self.remember(&id);
        let author = Author::of(&id, command);
        let mut transitions = match (&command.verb, command.scope.workload()) {
            (Verb::Freeze { until: Some(until) }, _) if *until <= self.now => {
                let instead = format!("it would have been over at {until}; name a later end, or none");
                vec![without_effect(command, input, Disposition::Rejected, cant_obey(&command.verb, instead))]
            }
            (Verb::Freeze { until }, _) => {
                let freeze = Freeze { author, since: self.now, until: *until };
                self.set_freeze(input, &command.scope, Some(freeze))
            }
            (Verb::Unfreeze, _) => self.unfreeze(input, command, author),
            (_, Some(workload)) => vec![self.workload_commanded(input, workload, id.clone(), time, command, author)],
            (verb, None) => {
                let instead = format!("{} is no workload; name cluster/namespace/Deployment/name", command.scope);
                vec![without_effect(command, input, Disposition::Rejected, cant_obey(verb, instead))]
            }
        };
        if let Some(first) = transitions.first_mut() {
            first.seen = Some((id, until));
        }
        transitions
    }

    fn unfreeze(&mut self, input: Input, command: &Command, author: Author) -> Vec<Transition> {
        let scope = &command.scope;
        if self.freezes.get(scope).is_some_and(|freeze| freeze.holds(self.now)) {
            let reason = Reason::Unfrozen { scope: scope.to_string(), author };
            let mut transitions = self.set_freeze(input, scope, None);
            if let Some(first) = transitions.first_mut() {
                first.reason = reason;
            }
            return transitions;
        }
        let in_force = self.freezes.iter().filter(|(_, freeze)| freeze.holds(self.now));
        let frozen: Vec<String> = in_force.map(|(scope, _)| scope.to_string()).collect();
        let there = if frozen.is_empty() { "nothing is".to_owned() } else { format!("{} is", frozen.join(", ")) };
        let reason = cant_obey(&Verb::Unfreeze, format!("{scope} is not frozen; {there}"));
        vec![without_effect(command, input, Disposition::Rejected, reason)]
    }

    /// Begins a freeze, or ends it with `None`, here and in every workload that it covers.
    fn set_freeze(&mut self, input: Input, scope: &Scope, freeze: Option<Freeze>) -> Vec<Transition> {
        let reason = match &freeze {
            Some(Freeze { author, until, .. }) => {
                Reason::Frozen { scope: scope.to_string(), author: author.clone(), until: *until }
            }
            None => Reason::Irrelevant,
        };
        match &freeze {
            Some(freeze) => self.freezes.insert(scope.clone(), freeze.clone()),
            None => self.freezes.remove(scope),
        };
        let first = Transition::of_partition(input.clone(), Disposition::Changed, reason);
        let mut transitions = vec![Transition { freeze: Some((scope.clone(), freeze.clone())), ..first }];
        let covered: Vec<Workload> = self.states.keys().filter(|workload| scope.covers(workload)).cloned().collect();
        for workload in covered {
            transitions.push(self.update(input.clone(), &workload, |state, now, out| {
                match &freeze {
                    Some(freeze) => state.freezes.insert(scope.clone(), freeze.clone()),
                    None => state.freezes.remove(scope),
                };
                state.with_rollout(now, |rollout, context| rollout.drive(context, out));
                true
            }));
        }
        transitions
    }

    fn workload_commanded(
        &mut self,
        input: Input,
        workload: &Workload,
        id: EventId,
        time: Option<Timestamp>,
        command: &Command,
        author: Author,
    ) -> Transition {
        let verb = &command.verb;
        let reject = |input, instead| {
            Transition::unchanged(workload.clone(), input, Disposition::Rejected, cant_obey(verb, instead))
        };
        let state = self.state(workload);
        // A command that is older than the newest request was meant for an earlier rollout.
        if let (Some(time), Some(last)) = (time, state.and_then(|state| state.last_accepted))
            && time < last
        {
            let reason = Reason::Stale { time, last };
            return Transition::unchanged(workload.clone(), input, Disposition::Ignored, reason);
        }
        let waiting = state.and_then(WorkloadState::waiting).filter(|_| *verb == Verb::Abort);
        if let Some(waiting) = waiting.filter(|waiting| command.rollout.as_ref().is_none_or(|meant| meant == waiting)) {
            return self.aborted_waiting(input, workload, &waiting, command.rollout.is_none(), author);
        }
        let Some((state, rollout)) = state.and_then(|state| Some((state, state.rollout.as_ref()?))) else {
            return reject(input, format!("no rollout of {workload} is known; `bellwether emit request` asks for one"));
        };
        if let Some(meant) = command.rollout.as_ref().filter(|meant| **meant != rollout.id) {
            return reject(input, format!("it is meant for {meant}, and {} is the rollout now", rollout.id));
        }
        match (state.active().is_none(), *verb == Verb::Retry) {
            (true, true) => match self.propose_again(state, rollout, author) {
                Ok((proposal, request)) => self.retried(input, workload, id, proposal, &request),
                Err(instead) => reject(input, instead),
            },
            (true, false) => {
                let ending = rollout.ending().map_or_else(|| "over".to_owned(), |ending| ending.to_string());
                reject(input, format!("no rollout of {workload} runs; the last, {}, is {ending}", rollout.id))
            }
            (false, _) => {
                let mut refusal = None;
                let transition = self.update(input, workload, |state, now, out| {
                    refusal = state.obey(verb, (id, author), now, out);
                    refusal.is_none()
                });
                match refusal {
                    Some(reason) => Transition { disposition: Disposition::Rejected, reason, ..transition },
                    None => transition,
                }
            }
        }
    }

    /// Aborts the rollout that waits, and with `all` the running one as well. The answer is the reason of the first abort.
    fn aborted_waiting(
        &mut self,
        input: Input,
        workload: &Workload,
        waiting: &RolloutId,
        all: bool,
        author: Author,
    ) -> Transition {
        let transition = self.update(input, workload, |state, now, out| {
            state.abort_waiting(all, author, now, out);
            true
        });
        let aborts = |decision: &&Decision| decision.kind == DecisionKind::Abort;
        let of_running = |decision: &&Decision| aborts(decision) && decision.rollout != *waiting;
        let mut decisions = transition.decisions.iter();
        let told = decisions.clone().find(of_running).or_else(|| decisions.find(aborts));
        let reason = told.map_or(transition.reason.clone(), |decision| decision.reason.clone());
        Transition { reason, ..transition }
    }

    /// Returns a proposal of the last rollout's change by the present policy, or why it can't be retried.
    fn propose_again(
        &self,
        state: &WorkloadState,
        rollout: &Rollout,
        author: Author,
    ) -> Result<(Proposal, Request), String> {
        if state.queued.is_some() {
            return Err("a newer request waits already".to_owned());
        }
        let Task::Roll { request } = &rollout.task else {
            return Err(format!("{} guarded what somebody else deployed; ask for the version instead", rollout.id));
        };
        if rollout.ending() == Some(Ending::Promoted) {
            return Err(format!("{} was promoted, so there is nothing to try again", rollout.id));
        }
        let policy = self.policy_for(request).map_err(|reason| reason.to_string())?;
        let reason = Reason::Retried { author, of: rollout.id.clone() };
        Ok((Proposal { task: rollout.task.clone(), policy, reason, retries: true }, (**request).clone()))
    }

    fn retried(
        &mut self,
        input: Input,
        workload: &Workload,
        id: EventId,
        proposal: Proposal,
        request: &Request,
    ) -> Transition {
        self.catch_up(workload);
        let policy = Some(proposal.policy.clone());
        let queued = QueuedRequest { event: id, proposal, since: self.now };
        let asked_for = |name: &String, image: &String| {
            let mut asked = request.images.get(name).into_iter().chain(&request.image);
            asked.any(|asked| runs(image, asked))
        };
        let transition = self.update(input, workload, |state, now, out| {
            state.quarantine.retain(|failed| !failed.images.iter().all(|(name, image)| asked_for(name, image)));
            state.enqueue(queued, now, out);
            true
        });
        Transition { policy, ..transition }
    }
}

fn cant_obey(verb: &Verb, instead: String) -> Reason {
    Reason::CantObey { verb: verb.name().to_owned(), instead }
}

/// Returns the transition of a command that changes nothing.
fn without_effect(command: &Command, input: Input, disposition: Disposition, reason: Reason) -> Transition {
    let workload = command.scope.workload().cloned();
    Transition { workload, ..Transition::of_partition(input, disposition, reason) }
}
