//! What people tell the engine: verbs for one workload, and freezes for all that a scope covers.

use super::{Disposition, Engine, Proposal, QueuedRequest, Transition, WorkloadState, of_partition, refused};
use crate::ids::{EventId, Scope, Workload};
use crate::input::command::{Author, Command, Freeze, Verb};
use crate::input::event::{Input, Request};
use crate::rollout::decision::Ending;
use crate::rollout::reason::Reason;
use crate::rollout::{Rollout, Task};
use crate::time::Timestamp;

impl Engine {
    /// A verb. The first transition says what became of it; a freeze has one more for each workload that it changes.
    pub(super) fn commanded(
        &mut self,
        input: Input,
        id: EventId,
        time: Option<Timestamp>,
        command: &Command,
    ) -> Vec<Transition> {
        if self.seen.contains_key(&id) {
            return vec![unheard(command, input, Disposition::Ignored, Reason::Duplicate { event: id })];
        }
        let until = self.retention.after(self.now);
        self.seen.insert(id.clone(), until);
        let order = Author::of(&id, command);
        let mut transitions = match (&command.verb, command.scope.workload()) {
            (Verb::Freeze { until: Some(until) }, _) if *until <= self.now => {
                let instead = format!("it would have been over at {until}; name a later end, or none");
                let reason = Reason::CantObey { verb: "freeze".to_owned(), instead };
                vec![unheard(command, input, Disposition::Rejected, reason)]
            }
            (Verb::Freeze { until }, _) => {
                let freeze = Freeze { order, since: self.now, until: *until };
                self.froze(input, &command.scope, Some(freeze))
            }
            (Verb::Unfreeze, _) => self.unfroze(input, &command.scope, order),
            (_, Some(workload)) => vec![self.told(input, workload, id.clone(), time, command, order)],
            (verb, None) => {
                let instead = format!("{} is no workload; name cluster/namespace/Deployment/name", command.scope);
                let reason = Reason::CantObey { verb: verb.name().to_owned(), instead };
                vec![unheard(command, input, Disposition::Rejected, reason)]
            }
        };
        if let Some(first) = transitions.first_mut() {
            first.seen = Some((id, until));
        }
        transitions
    }

    fn unfroze(&mut self, input: Input, scope: &Scope, order: Author) -> Vec<Transition> {
        if self.freezes.get(scope).is_some_and(|freeze| freeze.holds(self.now)) {
            let reason = Reason::Unfrozen { scope: scope.to_string(), order };
            let mut transitions = self.froze(input, scope, None);
            if let Some(first) = transitions.first_mut() {
                first.reason = reason;
            }
            return transitions;
        }
        let in_force = self.freezes.iter().filter(|(_, freeze)| freeze.holds(self.now));
        let frozen: Vec<String> = in_force.map(|(scope, _)| scope.to_string()).collect();
        let there = if frozen.is_empty() { "nothing is".to_owned() } else { format!("{} is", frozen.join(", ")) };
        let reason =
            Reason::CantObey { verb: "unfreeze".to_owned(), instead: format!("{scope} is not frozen; {there}") };
        vec![Transition { workload: scope.workload().cloned(), ..of_partition(input, Disposition::Rejected, reason) }]
    }

    /// A freeze begins (`Some`) or ends, here and in every workload that it covers.
    fn froze(&mut self, input: Input, scope: &Scope, freeze: Option<Freeze>) -> Vec<Transition> {
        let reason = match &freeze {
            Some(Freeze { order, until, .. }) => {
                Reason::Frozen { scope: scope.to_string(), order: order.clone(), until: *until }
            }
            None => Reason::Irrelevant,
        };
        match &freeze {
            Some(freeze) => self.freezes.insert(scope.clone(), freeze.clone()),
            None => self.freezes.remove(scope),
        };
        let mut transitions = vec![of_partition(input.clone(), Disposition::Changed, reason)];
        transitions[0].freeze = Some((scope.clone(), freeze.clone()));
        let covered: Vec<Workload> = self.states.keys().filter(|workload| scope.covers(workload)).cloned().collect();
        for workload in covered {
            transitions.push(self.known(input.clone(), &workload, |state, now, out| {
                match &freeze {
                    Some(freeze) => state.freezes.insert(scope.clone(), freeze.clone()),
                    None => state.freezes.remove(scope),
                };
                state.with_rollout(now, |rollout, world| rollout.drive(world, out));
                true
            }));
        }
        transitions
    }

    /// A verb for one workload.
    fn told(
        &mut self,
        input: Input,
        workload: &Workload,
        id: EventId,
        time: Option<Timestamp>,
        command: &Command,
        order: Author,
    ) -> Transition {
        let verb = &command.verb;
        let cant = |instead: String| Reason::CantObey { verb: verb.name().to_owned(), instead };
        let reject = |input, reason| refused(workload.clone(), input, Disposition::Rejected, reason, None);
        let state = self.states.get(workload);
        // It was meant for what was there before the last request.
        if let (Some(time), Some(last)) = (time, state.and_then(|state| state.last_accepted))
            && time < last
        {
            return refused(workload.clone(), input, Disposition::Ignored, Reason::Stale { time, last }, None);
        }
        let Some((state, rollout)) = state.and_then(|state| Some((state, state.rollout.as_ref()?))) else {
            let instead = format!("no rollout of {workload} is known; `bellwether emit request` asks for one");
            return reject(input, cant(instead));
        };
        if let Some(meant) = command.rollout.as_ref().filter(|meant| **meant != rollout.id) {
            return reject(input, cant(format!("it is meant for {meant}, and {} is the rollout now", rollout.id)));
        }
        match (state.active().is_none(), *verb == Verb::Retry) {
            (true, true) => match self.wish_again(state, rollout, order) {
                Ok((wish, request)) => self.retried(input, workload, id, wish, &request),
                Err(instead) => reject(input, cant(instead)),
            },
            (true, false) => {
                let ending = rollout.ending().map_or_else(|| "over".to_owned(), |ending| ending.to_string());
                reject(input, cant(format!("no rollout of {workload} runs; the last, {}, is {ending}", rollout.id)))
            }
            (false, _) => {
                let mut refusal = None;
                let mut transition = self.known(input, workload, |state, now, out| {
                    refusal = state.obey(verb, (id, order), now, out);
                    refusal.is_none()
                });
                if let Some(reason) = refusal {
                    transition.took = Disposition::Rejected;
                    transition.reason = reason;
                }
                transition
            }
        }
    }

    /// What the last rollout was asked for, once more, by the policy of today.
    fn wish_again(
        &self,
        state: &WorkloadState,
        rollout: &Rollout,
        order: Author,
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
        let reason = Reason::Retried { order, of: rollout.id.clone() };
        Ok((Proposal { task: rollout.task.clone(), policy, reason }, request.clone()))
    }

    fn retried(
        &mut self,
        input: Input,
        workload: &Workload,
        id: EventId,
        wish: Proposal,
        request: &Request,
    ) -> Transition {
        let policy = wish.policy.clone();
        let queued = QueuedRequest { event: id, task: wish.task, policy: wish.policy, reason: wish.reason };
        let asked_for = |name: &String, image: &String| {
            request.images.get(name) == Some(image) || request.image.as_ref() == Some(image)
        };
        let mut transition = self.known(input, workload, |state, now, out| {
            state.quarantine.retain(|failed| !failed.images.iter().all(|(name, image)| asked_for(name, image)));
            state.enqueue(queued, now, out);
            true
        });
        transition.policy = Some(policy);
        transition
    }
}

/// A verb that changes nothing.
fn unheard(command: &Command, input: Input, took: Disposition, reason: Reason) -> Transition {
    Transition { workload: command.scope.workload().cloned(), ..of_partition(input, took, reason) }
}
