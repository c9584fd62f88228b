//! The run of a simulation, second by second.

use std::collections::{BTreeSet, VecDeque};

use bellwether_core::engine::Engine;
use bellwether_core::engine::record::{AuditRecord, Replayer};
use bellwether_core::ids::Scope;
use bellwether_core::input::command::Verb;
use bellwether_core::input::event::Event;
use bellwether_core::time::{Span, Timestamp};

use super::api::ApiServer;
use super::counters::Counters;
use super::defect::Defect;
use super::oracle::Oracle;
use super::policies::random_policy;
use super::workloads::{NAMES, workload};
use super::world::{Daemon, GRID, PARTITION, Simulator};
use crate::broker::Broker;
use crate::dice::Dice;
use crate::sinks::sinks;
use crate::story::images;

/// The seconds between two checks that no wake-up is missing: a check costs as much as a tick of every workload.
const IDLE_CHECK_EVERY: u64 = 7;

impl Simulator {
    /// Makes the simulation of a seed, with a planted defect if one is given.
    pub fn new(seed: u64, defect: Option<Defect>) -> Simulator {
        let mut dice = Dice(seed);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut api = ApiServer::default();
        for name in NAMES {
            let replicas = 1 + dice.below(12) as u32;
            api.model.deploy(workload(name), images("v1"), replicas, Span::from_secs(1 + dice.below(60)));
        }
        let policy = random_policy(&mut dice);
        let blank = Engine::new("test".into(), vec![policy], Span::from_secs(7 * 86_400)).with_sinks(sinks());
        let rps = *dice.pick(&[0, 1, 20, 200]);
        let mut broker = Broker::new(1);
        let producer = broker.init(PARTITION);
        let mut simulator = Simulator {
            dice,
            defect,
            daemon: Daemon { engine: blank.clone(), producer, epoch: 0, offset: 0 },
            blank,
            broker,
            api,
            counters: Counters::default(),
            oracle: Oracle::default(),
            now,
            faults: true,
            flights: VecDeque::new(),
            outcomes: VecDeque::new(),
            repeated: Vec::new(),
            interfered: BTreeSet::new(),
            requests: 0,
            rps,
            away: Timestamp::MIN,
            recounts: BTreeSet::new(),
            unobserved: BTreeSet::new(),
        };
        simulator.take_over();
        simulator
    }

    /// Runs an hour of faults and requests, then up to a day in which every rollout must end, and replays the audit.
    /// Returns the endings of all rollouts, as texts. Panics at the first broken invariant.
    pub fn run(mut self) -> Vec<String> {
        self.faulty_hour();
        self.faults = false;
        for scope in self.journal().freezes.keys().cloned().collect::<Vec<Scope>>() {
            self.command(scope, Verb::Unfreeze);
        }
        for second in 0..24 * 3600 {
            if second % 60 == 59 && self.daemon.engine.states().all(|state| state.active().is_none()) {
                break;
            }
            self.second(second);
        }
        for state in self.daemon.engine.states() {
            // After an external change a rollout may have to wait for a person; it must then be held.
            let is_held = state.active().is_some_and(|rollout| rollout.current.hold.is_some());
            if self.interfered.contains(&state.workload) && is_held {
                continue;
            }
            let stuck = state.active().map(|rollout| (&rollout.current, &rollout.reason));
            let unseen = state.active().map(|rollout| rollout.unseen_since);
            let next = self.daemon.engine.next_wakeup();
            assert!(
                state.active().is_none(),
                "a rollout has not ended at {}: {stuck:#?}, unseen since {unseen:?}, changed at {}, next wake-up {next:?}",
                self.now,
                state.changed
            );
            let rollout = state.rollout.as_ref();
            assert!(rollout.is_none_or(|rollout| rollout.ending().is_some()));
        }
        self.replay();
        let endings = self.journal().decisions.iter().filter_map(|decision| decision.ending);
        endings.map(|ending| ending.to_string()).collect()
    }

    /// Runs an hour of faults and requests.
    pub fn faulty_hour(&mut self) {
        for second in 0..3600 {
            self.second(second);
        }
    }

    fn second(&mut self, second: u64) {
        self.now = Span::from_secs(1).after(self.now);
        if self.faults {
            self.disturb();
        }
        let now = self.now;
        for (_, event) in self.repeated.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.broker.append(PARTITION, event);
        }
        self.land();
        self.consume();
        while self.outcomes.front().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, event)) = self.outcomes.pop_front() {
                self.tell(event);
            }
        }
        if second.is_multiple_of(5) {
            // The watches report that they are complete, as they do at intervals.
            self.daemon.engine.sighted(now);
            for name in NAMES {
                self.observe(name);
            }
        }
        if self.daemon.engine.next_wakeup().is_some_and(|at| at <= self.now) {
            let is_committed = self.turn(Event::Tick, self.now, None);
            let next = self.daemon.engine.next_wakeup();
            assert!(!is_committed || next.is_none_or(|at| at > self.now), "a wakeup without a change is due again");
        }
        if self.now.as_second() % GRID == 0 {
            self.measure();
        }
        if second.is_multiple_of(IDLE_CHECK_EVERY) {
            self.check_idle();
        }
    }

    /// Asserts that the list of wake-ups covers every condition that waits for a time: before the next wake-up, a tick
    /// would change nothing.
    fn check_idle(&self) {
        let engine = &self.daemon.engine;
        if engine.next_wakeup().is_some_and(|at| at <= self.now) {
            return;
        }
        for state in engine.states() {
            let next = engine.next_wakeup();
            assert!(
                engine.is_idle(&state.workload, self.now),
                "a tick at {} changes {}, due at {next:?}",
                self.now,
                state.workload
            );
        }
    }

    /// Replays the audit and asserts that it gives the same decisions.
    fn replay(&self) {
        let mut replayer = Replayer::default();
        for record in &self.journal().records {
            let json = serde_json::to_vec(record).unwrap();
            let record: AuditRecord = serde_json::from_slice(&json).unwrap();
            if let Err(difference) = replayer.replay(&record) {
                panic!("{difference}\n  inputs: {}", serde_json::to_string(&record.inputs).unwrap());
            }
        }
        assert_eq!(replayer.same, self.journal().decisions.len(), "the replay gives another number of decisions");
    }
}
