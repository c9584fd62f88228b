//! The way of an effect to the API server, and of its outcome back to the daemon.

use std::collections::VecDeque;

use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Event, Failure, FailureKind, Outcome};
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::time::{Span, Timestamp};

use super::world::{Flight, Simulator};

impl Simulator {
    /// Sends an effect of the current daemon to the API server.
    pub(super) fn send(&mut self, effect: Effect) {
        let delay = if self.faults { self.dice.below(4) } else { 0 };
        let mut at = Span::from_secs(delay).after(self.now);
        // The effects of one workload arrive one at a time, in the order of their decisions.
        let epoch = self.daemon.epoch;
        let same = |flight: &&Flight| flight.effect.workload == effect.workload && flight.epoch == epoch;
        at = at.max(self.flights.iter().rev().find(same).map_or(Timestamp::MIN, |before| before.at));
        self.flights.push_back(Flight { at, effect, epoch });
    }

    /// Performs the effects that have arrived.
    pub(super) fn land(&mut self) {
        let now = self.now;
        let (due, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| flight.at <= now);
        self.flights = rest;
        for flight in due {
            self.perform(flight);
        }
    }

    /// Performs an effect, or fails, and sends the outcome to the daemon.
    fn perform(&mut self, flight: Flight) {
        let Flight { effect, epoch, .. } = flight;
        assert!(self.journal().intents.contains(&effect.id), "{} is performed without being committed", effect.id);
        let is_lost = self.faults && self.dice.chance(10);
        let is_performed_anyway = self.dice.chance(50);
        let outcome = if is_lost && !is_performed_anyway {
            failed(if self.dice.chance(30) { FailureKind::Conflict } else { FailureKind::Unavailable })
        } else {
            let outcome = self.attempt(&effect, epoch);
            if is_lost { failed(FailureKind::Unavailable) } else { outcome }
        };
        if epoch != self.daemon.epoch {
            return;
        }
        let delay = if self.faults { self.dice.below(16) } else { 1 };
        let at = Span::from_secs(delay).after(self.now);
        let event = Event::Performed { workload: effect.workload, effect: effect.id, outcome };
        if self.faults && self.dice.chance(5) {
            self.outcomes.push_back((at, event.clone()));
        }
        self.outcomes.push_back((at, event));
        self.outcomes.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    /// Attempts an effect at the API server and asserts the invariants of effects.
    fn attempt(&mut self, effect: &Effect, epoch: u64) -> Outcome {
        let status = self.api.model.status(&effect.workload, self.now);
        if epoch == self.daemon.epoch {
            self.oracle.check_safety(effect, &status);
        }
        let outcome = self.api.perform(effect, epoch, self.now, self.defect);
        if outcome == Outcome::Done {
            let status: WorkloadStatus = self.api.model.status(&effect.workload, self.now);
            self.oracle.check_restored(effect, &status);
        }
        let times = self.api.model.changes.iter().filter(|id| **id == effect.id).count();
        // An attempt whose answer was lost is repeated, and then reverts an external change made in between.
        let meddled = self.oracle.meddled.contains(&effect.workload) || self.interfered.contains(&effect.workload);
        assert!(times <= 1 || meddled, "{effect:?} changed the cluster twice");
        outcome
    }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure { kind, message: "connection reset".into() })
}
