//! The daemon: it consumes events, steps its engine, commits and acts, and is replaced by a successor after a fault.

use std::collections::BTreeMap;

use bellwether_core::engine::record::requests_rollout;
use bellwether_core::engine::{Disposition, WorkloadState};
use bellwether_core::ids::Workload;
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::Event;
use bellwether_core::time::{Span, Timestamp};

use super::defect::Defect;
use super::journal::{JournalStep, JournalWrites};
use super::workloads::{NAMES, workload};
use super::world::{Daemon, PARTITION, Simulator};
use crate::broker::{CommitAnswer, Fate, TransactionBatch};
use crate::dice::Dice;

impl Simulator {
    /// Replaces the daemon by a successor, which fences it, restores the committed state and repeats the unfinished
    /// effects.
    pub(super) fn take_over(&mut self) {
        let producer = self.broker.init(PARTITION);
        let repaired = self.broker.repair(producer).unwrap();
        for step in repaired.iter().flat_map(|writes| &writes.steps) {
            self.oracle.check_step(step);
        }
        let epoch = self.journal().epoch + 1;
        let mut engine = self.blank.clone();
        for (workload, entry) in &self.journal().entries {
            let mut replayed = self.blank.clone();
            replayed.restore(entry.snapshot.clone());
            for input in &entry.inputs {
                let _ = replayed.replay(input.clone());
            }
            let restored = replayed.state(workload).unwrap();
            assert_eq!(
                restored, &entry.committed,
                "restored otherwise: the state of {workload} is not the committed one"
            );
            engine.restore(restored.clone());
        }
        if self.defect != Some(Defect::SkipDedup) {
            for (event, until) in &self.journal().seen {
                engine.restore_seen(event.digest(), Some(*until));
            }
        }
        for (scope, freeze) in &self.journal().freezes {
            engine.restore_freeze(scope.clone(), freeze.clone());
        }
        self.daemon = Daemon { engine, producer, epoch, offset: self.broker.at(PARTITION).offset };
        let writes = JournalWrites { epoch: Some(epoch), steps: Vec::new() };
        let batch = TransactionBatch { next_offset: None, writes };
        let (answer, _) = self.broker.commit(producer, batch, Fate::Written);
        assert_eq!(answer, CommitAnswer::Written);
        // Outcomes that were on their way to the old daemon are lost.
        self.outcomes.clear();
        self.recounts = NAMES.map(workload).into();
        self.unobserved = NAMES.map(workload).into();
        for effect in self.daemon.engine.unfinished() {
            self.send(effect);
        }
    }

    /// Kills the daemon (SIGKILL). Each write in flight is lost with a probability of a half.
    pub(super) fn crash(&mut self) {
        let Dice(seed) = self.dice;
        let mut coin = Dice(seed ^ 0x5bd1_e995);
        self.flights.retain(|_| coin.chance(50));
        self.dice.below(2);
        self.take_over();
    }

    /// Suspends the daemon (SIGSTOP) while a successor takes over. Its writes arrive when it resumes, and its commit
    /// must be refused.
    pub(super) fn pause_and_take_over(&mut self) {
        let pause = Span::from_secs(self.dice.below(120));
        for flight in &mut self.flights {
            flight.at = pause.after(flight.at);
        }
        let (zombie, offset) = (self.daemon.producer, self.daemon.offset);
        self.take_over();
        let batch = TransactionBatch { next_offset: Some(offset), ..TransactionBatch::default() };
        let (answer, _) = self.broker.commit(zombie, batch, Fate::Written);
        assert_eq!(answer, CommitAnswer::Fenced, "a fenced producer commits");
    }

    /// Consumes the next events of the topic, each with its offset in the transaction of its results.
    pub(super) fn consume(&mut self) {
        while self.daemon.offset < self.broker.at(PARTITION).events.len() {
            let offset = self.daemon.offset;
            let event = self.broker.at(PARTITION).events[offset].clone();
            self.daemon.offset += 1;
            self.turn(event, self.now, Some(offset + 1));
        }
    }

    /// Tells the daemon of a workload's status, as a watch does.
    pub(super) fn observe(&mut self, name: &str) {
        let status = self.api.model.status(&workload(name), self.now);
        let known = self.daemon.engine.state(&workload(name)).and_then(|state| state.status.as_ref());
        // A watch sends changes; occasionally it restarts and sends everything.
        let is_known = known == Some(&status) && !self.unobserved.contains(&workload(name));
        if (is_known && !self.dice.chance(5)) || (self.faults && self.dice.chance(30)) {
            return;
        }
        self.unobserved.remove(&workload(name));
        self.tell(Event::Observed { workload: workload(name), status: Box::new(status) });
    }

    /// Gives the daemon an event that does not come from the topic. Returns the result of [`Simulator::turn`].
    pub(super) fn tell(&mut self, event: Event) -> bool {
        let now = self.told_time();
        self.turn(event, now, None)
    }

    /// Returns the time of the machine's clock, which is occasionally set back.
    pub(super) fn told_time(&mut self) -> Timestamp {
        if self.faults && self.dice.chance(2) { Span::from_secs(30).before(self.now) } else { self.now }
    }

    /// Steps the engine by an event, commits, and then acts. Returns `false` if the daemon does not know whether the
    /// commit succeeded; a successor has then taken over.
    pub(super) fn turn(&mut self, event: Event, now: Timestamp, next_offset: Option<usize>) -> bool {
        let subject = event.workload().cloned();
        let engine = &mut self.daemon.engine;
        let concerned =
            engine.states().filter(|state| subject.as_ref().is_none_or(|subject| *subject == state.workload));
        let before: BTreeMap<Workload, WorkloadState> =
            concerned.map(|state| (state.workload.clone(), state.clone())).collect();
        let basis = subject.as_ref().filter(|_| requests_rollout(&event)).map(|workload| engine.basis(workload));
        let mut steps = Vec::new();
        for transition in engine.step(event, now) {
            assert_eq!(transition.defect, None, "the engine has panicked");
            let workload = transition.workload.as_ref();
            let (before, after) = (
                workload.and_then(|workload| before.get(workload)),
                workload.and_then(|workload| engine.state(workload)),
            );
            let is_ignored = transition.disposition != Disposition::Changed;
            assert!(!is_ignored || before == after, "an ignored input changes the state");
            let (before, after) = if is_ignored { (None, None) } else { (before.cloned(), after.cloned()) };
            steps.push(JournalStep { transition, before, basis: basis.clone(), after });
        }
        let effects: Vec<Effect> = steps.iter().flat_map(|step| step.transition.effects.clone()).collect();
        if self.defect == Some(Defect::ActBeforeCommit) {
            effects.iter().cloned().for_each(|effect| self.send(effect));
        }
        let fate = match self.dice.below(if self.faults { 400 } else { u64::MAX }) {
            0 => Fate::WrittenUnheard,
            1 => Fate::Lost,
            2 => Fate::WrittenUnmarked,
            _ => Fate::Written,
        };
        let batch = TransactionBatch { next_offset, writes: JournalWrites { epoch: None, steps } };
        let (answer, written) = self.broker.commit(self.daemon.producer, batch, fate);
        for step in written.iter().flat_map(|batch| &batch.writes.steps) {
            self.oracle.check_step(step);
        }
        match answer {
            CommitAnswer::Written if self.defect == Some(Defect::ActBeforeCommit) => {}
            CommitAnswer::Written => effects.into_iter().for_each(|effect| self.send(effect)),
            CommitAnswer::Unknown => self.take_over(),
            CommitAnswer::Fenced => panic!("the owner of the partition is fenced"),
        }
        answer == CommitAnswer::Written
    }
}
