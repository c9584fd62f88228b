//! The state of a rollout that belongs to its present phase. It is made anew when a phase is entered.

use serde::{Deserialize, Serialize};

use super::cause::Hold;
use super::in_flight::InFlight;
use super::phase::Phase;
use crate::ids::Weight;
use crate::time::{Span, Timestamp};

/// The state that belongs to the present phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PhaseState {
    /// The phase.
    pub phase: Phase,
    /// The time at which it was entered.
    pub since: Timestamp,
    /// The number of its acts that are done.
    pub done: usize,
    /// Whether the step's share was seen as it was asked for.
    #[serde(default)]
    pub settled: bool,
    /// The farthest point so far of the pods that the phase waits for, as a number that rises with each step, with the time
    /// at which it was reached; `None` before the first status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<(i64, Timestamp)>,
    /// The time at which the last act was carried out from which the pods have their time to start; `None` before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted: Option<Timestamp>,
    /// Whether the cluster did not run the pods that the phase waits for, at the last look.
    #[serde(default)]
    pub lacks_room: bool,
    /// The canary's requests in the blocks of this phase.
    #[serde(default)]
    pub requests: CanaryRequests,
    /// The weight that the canary keeps for the present; `None` if the phase leaves or gives it its whole weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remainder: Option<Remainder>,
    /// The act that is not confirmed.
    pub in_flight: Option<InFlight>,
    /// The present hold.
    pub hold: Option<Hold>,
    /// The time that doesn't count against the phase's deadline: that of the ended holds, and that in which the cluster
    /// could not be seen.
    #[serde(default)]
    pub uncounted: Span,
}

/// The canary's requests in the blocks of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CanaryRequests {
    /// No block tells.
    #[default]
    Unknown,
    /// The newest block has some.
    Coming,
    /// The newest block has none, and an earlier one had some.
    Ended,
    /// No block has any.
    None,
}

impl CanaryRequests {
    /// Returns the state after a block with this number of requests; `None` if the block doesn't tell.
    pub fn after(self, requests: Option<u64>) -> CanaryRequests {
        match (requests, self) {
            (None, _) => CanaryRequests::Unknown,
            (Some(0), CanaryRequests::Coming | CanaryRequests::Ended) => CanaryRequests::Ended,
            (Some(0), CanaryRequests::Unknown | CanaryRequests::None) => CanaryRequests::None,
            (Some(_), _) => CanaryRequests::Coming,
        }
    }
}

/// The weight that the canary keeps while its traffic returns, and the time since which it has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Remainder {
    /// The weight.
    pub weight: Weight,
    /// The time at which it was asked for.
    pub since: Timestamp,
}

impl PhaseState {
    /// Returns the state of a phase that is entered now.
    pub fn enter(phase: Phase, now: Timestamp) -> PhaseState {
        PhaseState {
            phase,
            since: now,
            done: 0,
            settled: false,
            progress: None,
            acted: None,
            lacks_room: false,
            requests: CanaryRequests::Unknown,
            remainder: None,
            in_flight: None,
            hold: None,
            uncounted: Span::ZERO,
        }
    }

    /// Notes the point that the pods have reached. The phase's deadline begins anew with each further one.
    pub fn note_progress(&mut self, reached: i64, now: Timestamp) {
        if self.progress.is_none_or(|(most, _)| reached > most) {
            if self.progress.is_some() {
                self.uncounted = Span::ZERO;
            }
            self.progress = Some((reached, if self.progress.is_some() { now } else { self.since }));
        }
    }

    /// Lets the phase's deadline begin anew.
    pub fn start_anew(&mut self, now: Timestamp) {
        self.uncounted = Span::ZERO;
        self.progress = Some((self.progress.map_or(i64::MIN, |(reached, _)| reached), now));
    }

    /// Returns the time of the last progress.
    pub fn progressed(&self) -> Option<Timestamp> {
        self.progress.map(|(_, at)| at)
    }

    /// Records that the act in flight was carried out. In a phase that waits for pods the deadline begins anew: an act may have
    /// had no answer for nearly as long as the pods have to start.
    pub fn act_done(&mut self, now: Timestamp) {
        self.in_flight = None;
        self.done += 1;
        if self.phase.waits_for_pods() {
            self.acted = Some(now);
            self.uncounted = Span::ZERO;
        }
    }

    /// Repeats the acts of a phase that removes objects: another client may have restored them.
    pub fn repeat_removal(&mut self) {
        if self.phase.cleans_up() && self.in_flight.is_none() {
            self.done = 0;
        }
    }

    /// Ends the present hold, if there is one.
    pub fn release(&mut self, now: Timestamp) {
        if let Some(hold) = self.hold.take() {
            self.uncounted = self.uncounted + Span::between(hold.since, now);
        }
    }

    /// Grants the phase its whole time again, and retries the act in flight at once.
    pub fn renew(&mut self, now: Timestamp) {
        self.hold = None;
        self.uncounted = Span::between(self.since, now);
        self.repeat_removal();
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.retry_at(now);
        }
    }
}
