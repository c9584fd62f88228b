//! A seeded simulator: random policies, versions, requests, verbs and traffic, in a model of the whole world. The broker
//! loses commits and answers, and fences; the API server meets conflicts, loses answers, fences, and has other people's
//! hands in it; Prometheus has gaps, and processes that restart; the daemon dies between any two steps, or sleeps while
//! another takes over and wakes with writes in its hands. After every commit and every write the invariants of the design
//! are asserted; after the faults have stopped, every rollout ends. A failing seed is printed, and `BELLWETHER_SEED=N`
//! plays it again; `BELLWETHER_SEEDS=N` plays N of them.
//!
//! The simulator is tested too: six defects that a shell could have are each found by it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bellwether_core::engine::record::{AuditRecord, Replayer, requests_rollout};
use bellwether_core::engine::{Disposition, Engine, WorkloadState};
use bellwether_core::ids::{Scope, Workload};
use bellwether_core::input::command::Verb;
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Event, Failure, FailureKind, Outcome};
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::measure::block::Gap;
use bellwether_core::time::{Span, Timestamp};

use crate::broker::{Answer, Batch, Broker, Fate, Producer};
use crate::dice::Dice;
use crate::story::images;

mod api;
mod counters;
mod defect;
mod disturbances;
mod journal;
mod oracle;

use api::Api;
use counters::{Counters, gap};
pub use defect::Defect;
use disturbances::{NAMES, random_policy, workload};
use journal::{Kept, Step, Writes};
use oracle::Oracle;

const GRID: i64 = 15;
/// All is on one partition here.
const PARTITION: usize = 0;

/// A process: an engine, and what it may write as.
struct Daemon {
    engine: Engine,
    producer: Producer,
    epoch: u64,
    offset: usize,
}

/// A write on its way to the API server.
struct Flight {
    at: Timestamp,
    effect: Effect,
    epoch: u64,
}

pub struct Simulator {
    dice: Dice,
    defect: Option<Defect>,
    blank: Engine,
    daemon: Daemon,
    broker: Broker<Kept>,
    api: Api,
    counters: Counters,
    oracle: Oracle,
    now: Timestamp,
    faults: bool,
    /// Writes on their way, in the order in which they were sent; those of one workload land in that order.
    flights: VecDeque<Flight>,
    /// Answers on their way to the daemon.
    on_the_way: VecDeque<(Timestamp, Event)>,
    /// Events that a producer sends once more.
    late: Vec<(Timestamp, Event)>,
    interfered: BTreeSet<Workload>,
    requests: u32,
    rps: u64,
    /// Prometheus does not answer until then.
    away: Timestamp,
    /// The successor's first count.
    recounts: BTreeSet<Workload>,
}

impl Simulator {
    pub fn new(seed: u64, defect: Option<Defect>) -> Simulator {
        let mut dice = Dice(seed);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut api = Api::default();
        for name in NAMES {
            let replicas = 1 + dice.below(12) as u32;
            api.model.deploy(workload(name), images("v1"), replicas, Span::from_secs(1 + dice.below(60)));
        }
        let policy = random_policy(&mut dice);
        let blank = Engine::new("test".into(), vec![policy], Span::from_secs(7 * 86_400));
        let rps = *dice.pick(&[0, 1, 20, 200]);
        let mut broker = Broker::new(1);
        let producer = broker.init(PARTITION);
        let mut sim = Simulator {
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
            on_the_way: VecDeque::new(),
            late: Vec::new(),
            interfered: BTreeSet::new(),
            requests: 0,
            rps,
            away: Timestamp::MIN,
            recounts: BTreeSet::new(),
        };
        sim.take_over();
        sim
    }

    /// An hour of faults and requests, then a day in which everything must end.
    pub fn run(mut self) -> Vec<String> {
        self.faulty_hour();
        self.faults = false;
        for scope in self.kept().freezes.keys().cloned().collect::<Vec<Scope>>() {
            self.command(scope, Verb::Unfreeze);
        }
        for second in 0..24 * 3600 {
            if second % 60 == 59 && self.daemon.engine.states().all(|state| state.active().is_none()) {
                break;
            }
            self.second(second);
        }
        for state in self.daemon.engine.states() {
            // Somebody else's hand in the middle may leave a rollout nothing but to ask; and then it has asked.
            let asks = state.active().is_some_and(|rollout| rollout.current.hold.is_some());
            if self.interfered.contains(&state.workload) && asks {
                continue;
            }
            let stuck = state.active().map(|rollout| (&rollout.current, &rollout.reason));
            assert!(state.active().is_none(), "still running at {}: {stuck:#?}", self.now);
            let rollout = state.rollout.as_ref();
            assert!(rollout.is_none_or(|rollout| rollout.ending().is_some()));
        }
        self.replay();
        self.kept().decisions.iter().filter_map(|decision| decision.ending).map(|ending| ending.to_string()).collect()
    }

    pub fn kept(&self) -> &Kept {
        &self.broker.at(PARTITION).topics
    }

    pub fn faulty_hour(&mut self) {
        for second in 0..3600 {
            self.second(second);
        }
    }

    fn second(&mut self, second: u64) {
        self.now = Span::from_secs(1).after(self.now);
        if self.faults {
            self.mischief();
        }
        let now = self.now;
        for (_, event) in self.late.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.broker.append(PARTITION, event);
        }
        self.land();
        self.consume();
        while self.on_the_way.front().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, event)) = self.on_the_way.pop_front() {
                self.tell(event);
            }
        }
        if second.is_multiple_of(5) {
            for name in NAMES {
                self.look(name);
            }
        }
        if self.daemon.engine.next_wakeup().is_some_and(|at| at <= self.now) {
            let stood = self.turn(Event::Tick, self.now, None);
            let next = self.daemon.engine.next_wakeup();
            assert!(!stood || next.is_none_or(|at| at > self.now), "a wakeup that changes nothing comes again");
        }
        if self.now.as_second() % GRID == 0 {
            self.measure();
        }
    }

    // --- the daemon

    /// A new owner: fences the old one, restores what was committed, and takes up what was begun.
    fn take_over(&mut self) {
        let producer = self.broker.init(PARTITION);
        let epoch = self.kept().epoch + 1;
        let mut engine = self.blank.clone();
        for (workload, entry) in &self.kept().journal {
            let mut alone = self.blank.clone();
            alone.restore(entry.snapshot.clone());
            for input in &entry.inputs {
                let _ = alone.step(input.event.clone(), input.at);
            }
            let restored = alone.state(workload).unwrap();
            assert_eq!(restored, &entry.committed, "restored otherwise");
            engine.restore(restored.clone());
        }
        if self.defect != Some(Defect::SkipDedup) {
            for (event, until) in &self.kept().seen {
                engine.restore_seen(event.clone(), *until);
            }
        }
        for (scope, freeze) in &self.kept().freezes {
            engine.restore_freeze(scope.clone(), freeze.clone());
        }
        self.daemon = Daemon { engine, producer, epoch, offset: self.broker.at(PARTITION).offset };
        let batch = Batch { next_offset: None, writes: Writes { epoch: Some(epoch), steps: Vec::new() } };
        let (answer, _) = self.broker.commit(producer, batch, Fate::Written);
        assert_eq!(answer, Answer::Written);
        // What was on its way to the dead one is lost.
        self.on_the_way.clear();
        self.recounts = NAMES.map(workload).into();
        for effect in self.daemon.engine.unfinished() {
            self.send(effect);
        }
    }

    /// SIGKILL. What it had sent is sent, or is not.
    fn crash(&mut self) {
        let Dice(seed) = self.dice;
        let mut coin = Dice(seed ^ 0x5bd1_e995);
        self.flights.retain(|_| coin.chance(50));
        self.dice.below(2);
        self.take_over();
    }

    /// SIGSTOP: another takes over, and later the first one wakes, with its writes in its hands and a commit on its lips.
    fn pause_and_take_over(&mut self) {
        let sleeps = Span::from_secs(self.dice.below(120));
        for flight in &mut self.flights {
            flight.at = sleeps.after(flight.at);
        }
        let (zombie, offset) = (self.daemon.producer, self.daemon.offset);
        self.take_over();
        let batch = Batch { next_offset: Some(offset), ..Batch::default() };
        let (answer, _) = self.broker.commit(zombie, batch, Fate::Written);
        assert_eq!(answer, Answer::Fenced, "a producer that was fenced commits");
    }

    /// The next records of the topic, each with its offset in the transaction of what it leads to.
    fn consume(&mut self) {
        while self.daemon.offset < self.broker.at(PARTITION).events.len() {
            let offset = self.daemon.offset;
            let event = self.broker.at(PARTITION).events[offset].clone();
            self.daemon.offset += 1;
            self.turn(event, self.now, Some(offset + 1));
        }
    }

    fn look(&mut self, name: &str) {
        let status = self.api.model.status(&workload(name), self.now);
        let known = self.daemon.engine.state(&workload(name)).and_then(|state| state.status.as_ref());
        // A watch sends what has changed; now and then it begins again and sends all.
        let same = known == Some(&status);
        if (same && !self.dice.chance(5)) || (self.faults && self.dice.chance(30)) {
            return;
        }
        self.tell(Event::Observed { workload: workload(name), status: Box::new(status) });
    }

    fn tell(&mut self, event: Event) -> bool {
        // The clock of the machine is set back now and then.
        let now = if self.faults && self.dice.chance(2) { Span::from_secs(30).before(self.now) } else { self.now };
        self.turn(event, now, None)
    }

    /// Step, commit, and only then act. `false`: it is not known whether that was written, and another has taken over.
    fn turn(&mut self, event: Event, now: Timestamp, next_offset: Option<usize>) -> bool {
        let about = about(&event);
        let engine = &mut self.daemon.engine;
        let concerned = engine.states().filter(|state| about.as_ref().is_none_or(|about| *about == state.workload));
        let before: BTreeMap<Workload, WorkloadState> =
            concerned.map(|state| (state.workload.clone(), state.clone())).collect();
        let basis = about.as_ref().filter(|_| requests_rollout(&event)).map(|workload| engine.basis(workload));
        let mut steps = Vec::new();
        for transition in engine.step(event, now) {
            let workload = transition.workload.as_ref();
            let (before, after) = (
                workload.and_then(|workload| before.get(workload)),
                workload.and_then(|workload| engine.state(workload)),
            );
            let ignored = transition.disposition != Disposition::Changed;
            assert!(!ignored || before == after, "ignored, yet changed");
            let (before, after) = if ignored { (None, None) } else { (before.cloned(), after.cloned()) };
            steps.push(Step { transition, before, basis: basis.clone(), after });
        }
        let effects: Vec<Effect> = steps.iter().flat_map(|step| step.transition.effects.clone()).collect();
        if self.defect == Some(Defect::ActBeforeCommit) {
            effects.iter().cloned().for_each(|effect| self.send(effect));
        }
        let fate = match self.dice.below(if self.faults { 400 } else { u64::MAX }) {
            0 => Fate::WrittenUnheard,
            1 => Fate::Lost,
            _ => Fate::Written,
        };
        let batch = Batch { next_offset, writes: Writes { epoch: None, steps } };
        let (answer, written) = self.broker.commit(self.daemon.producer, batch, fate);
        for step in written.iter().flat_map(|batch| &batch.writes.steps) {
            self.oracle.committed(step);
        }
        match answer {
            Answer::Written if self.defect == Some(Defect::ActBeforeCommit) => {}
            Answer::Written => effects.into_iter().for_each(|effect| self.send(effect)),
            Answer::Unknown => self.take_over(),
            Answer::Fenced => panic!("the owner is fenced"),
        }
        answer == Answer::Written
    }

    // --- the cluster

    fn send(&mut self, effect: Effect) {
        let delay = if self.faults { self.dice.below(4) } else { 0 };
        let mut at = Span::from_secs(delay).after(self.now);
        // One at a time for each workload, in the order in which they were decided.
        let epoch = self.daemon.epoch;
        let before = self.flights.iter().rev().find(|it| it.effect.workload == effect.workload && it.epoch == epoch);
        at = at.max(before.map_or(Timestamp::MIN, |before| before.at));
        self.flights.push_back(Flight { at, effect, epoch });
    }

    fn land(&mut self) {
        let now = self.now;
        let (due, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| flight.at <= now);
        self.flights = rest;
        for flight in due {
            self.perform(flight);
        }
    }

    fn perform(&mut self, flight: Flight) {
        let Flight { effect, epoch, .. } = flight;
        assert!(self.kept().intents.contains(&effect.id), "{} is performed, and nobody has committed it", effect.id);
        let lost = self.faults && self.dice.chance(10);
        let done_all_the_same = self.dice.chance(50);
        let outcome = if lost && !done_all_the_same {
            unavailable(if self.dice.chance(30) { FailureKind::Conflict } else { FailureKind::Unavailable })
        } else {
            let outcome = self.attempt(&effect, epoch);
            if lost { unavailable(FailureKind::Unavailable) } else { outcome }
        };
        if epoch != self.daemon.epoch {
            return;
        }
        let delay = if self.faults { self.dice.below(16) } else { 1 };
        let at = Span::from_secs(delay).after(self.now);
        let event = Event::Performed { workload: effect.workload, effect: effect.id, outcome };
        if self.faults && self.dice.chance(5) {
            self.on_the_way.push_back((at, event.clone()));
        }
        self.on_the_way.push_back((at, event));
        self.on_the_way.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    fn attempt(&mut self, effect: &Effect, epoch: u64) -> Outcome {
        let world = self.api.model.status(&effect.workload, self.now);
        if epoch == self.daemon.epoch {
            self.oracle.safe(effect, &world);
        }
        let outcome = self.api.perform(effect, epoch, self.now, self.defect);
        if outcome == Outcome::Done {
            let world: WorkloadStatus = self.api.model.status(&effect.workload, self.now);
            self.oracle.restored(effect, &world);
        }
        let times = self.api.model.changes.iter().filter(|id| **id == effect.id).count();
        // An attempt whose answer was lost is made again, and what somebody did in between is put right by it.
        let meddled = self.oracle.meddled.contains(&effect.workload) || self.interfered.contains(&effect.workload);
        assert!(times <= 1 || meddled, "{effect:?} changed the world twice");
        outcome
    }

    // --- the counts

    fn measure(&mut self) {
        if self.faults && self.dice.below(100) == 0 {
            self.away = Span::from_secs(self.dice.below(600)).after(self.now);
        }
        let watches = self.daemon.engine.watches();
        for watch in &watches {
            let status = self.api.model.status(&watch.workload, self.now);
            let traffic = (self.rps * GRID as u64, self.api.model.share(&watch.workload, self.now));
            self.counters.advance(&watch.workload, &status, traffic, self.now, &mut self.dice);
        }
        for watch in watches {
            if self.faults && self.dice.chance(10) {
                continue;
            }
            let status = self.api.model.status(&watch.workload, self.now);
            let mut from = watch.last.unwrap_or_else(|| Span::from_secs(GRID as u64).before(self.now));
            if self.recounts.remove(&watch.workload) && self.defect == Some(Defect::CountTwice) {
                from = Span::from_secs(GRID as u64).before(from);
            }
            let known = self.counters.has(&watch.workload, from);
            let gone = self.now < self.away || (self.faults && self.dice.chance(5));
            let unseen = gone || !known;
            let guards = watch.canary.is_none();
            let mut block = self.counters.block(&watch.workload, &status, (from, self.now), guards);
            if gone {
                let error = "timeout".to_owned();
                block = gap(from, self.now, &Gap::Unanswered { error });
            }
            if unseen && self.defect == Some(Defect::BlindPromotes) {
                block = self.counters.healthy(from, self.now);
            }
            let event = Event::Measured { workload: watch.workload.clone(), block };
            if unseen {
                self.oracle.blind.insert(watch.workload.clone());
            } else {
                self.oracle.blind.remove(&watch.workload);
            }
            if self.faults && self.dice.chance(10) {
                self.tell(event.clone());
            }
            if !self.tell(event) {
                // It is not known whether the successor has been told, so nothing can be asked of it.
                self.oracle.blind.remove(&watch.workload);
            }
        }
    }

    // --- the audit

    fn replay(&self) {
        let mut replayer = Replayer::default();
        for record in &self.kept().records {
            let json = serde_json::to_vec(record).unwrap();
            let record: AuditRecord = serde_json::from_slice(&json).unwrap();
            if let Err(difference) = replayer.replay(&record) {
                panic!("{difference}");
            }
        }
        assert_eq!(replayer.same, self.kept().decisions.len(), "all decisions come out again");
    }
}

/// The workload that an event is about; `None`: it may be any.
fn about(event: &Event) -> Option<Workload> {
    match event {
        Event::Requested { request, .. } => Some(request.workload.clone()),
        Event::Deployed { workload, .. }
        | Event::Tested { workload, .. }
        | Event::Observed { workload, .. }
        | Event::Measured { workload, .. }
        | Event::Performed { workload, .. } => Some(workload.clone()),
        Event::Commanded { command, .. } => command.scope.workload().cloned(),
        Event::Tick => None,
    }
}

fn unavailable(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure { kind, message: "connection reset".into() })
}
