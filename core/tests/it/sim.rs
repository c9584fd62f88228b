//! A seeded simulator: random policies, versions, requests and traffic, in a world where answers are lost, effects fail
//! or happen although they seemed to fail, sightings come late or twice, clocks jump back and the daemon dies between
//! any two steps. After every step the invariants of the design are asserted; after the faults have stopped, every
//! rollout ends. A failing seed is printed, and `BELLWETHER_SEED=N` plays it again; `BELLWETHER_SEEDS=N` plays N of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bellwether_core::command::{Command, Freeze, Verb};
use bellwether_core::decision::{Decision, Kind as Decided};
use bellwether_core::effect::{Act, Effect};
use bellwether_core::engine::{Engine, State, Took, Transition};
use bellwether_core::event::{Block, Event, Failure, FailureKind, Gap, Input, Outcome, Reading, Request, Sample};
use bellwether_core::ids::{EventId, Images, Kind, Scope, Weight, Workload};
use bellwether_core::model::Model;
use bellwether_core::phase::Phase;
use bellwether_core::policy::{Policy, Then};
use bellwether_core::reason::Reason;
use bellwether_core::record::{ENGINE, Record, Replayer, asks};
use bellwether_core::sighting::Sighting;
use bellwether_core::time::{Span, Timestamp};
use bellwether_core::verdict::Verdict;
use serde_json::json;

use crate::story::{images, policy};

#[test]
fn every_seed_keeps_the_invariants() {
    let one = std::env::var("BELLWETHER_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let many = std::env::var("BELLWETHER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    let seeds = one.map_or(0..many, |seed| seed..seed + 1);
    let mut ended = BTreeMap::new();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| Sim::new(seed).run());
        match outcome {
            Ok(endings) => endings.into_iter().for_each(|ending| *ended.entry(ending).or_insert(0u32) += 1),
            Err(_) => panic!("seed={seed}; play it again with BELLWETHER_SEED={seed}"),
        }
    }
    println!("{ended:?}");
    if one.is_none() {
        for ending in ["promoted", "rolled back", "given up", "aborted", "superseded", "refused"] {
            assert!(ended.contains_key(ending), "the simulator never came to {ending:?}: {ended:?}");
        }
    }
}

/// A small generator with a good spread (Steele, Lea, Flood 2014: SplitMix64); seeds are reproducible for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

struct Sim {
    dice: Dice,
    engine: Engine,
    blank: Engine,
    /// The journal: a snapshot of each workload and the inputs since.
    journal: BTreeMap<Workload, (State, Vec<Input>)>,
    seen: Vec<(EventId, Timestamp)>,
    freezes: BTreeMap<Scope, Freeze>,
    records: Vec<Record>,
    model: Model,
    now: Timestamp,
    faults: bool,
    /// Answers on their way, with the second at which they arrive.
    on_the_way: VecDeque<(Timestamp, Event)>,
    decisions: Vec<Decision>,
    weights: BTreeMap<Workload, Weight>,
    started: BTreeSet<String>,
    interfered: BTreeSet<Workload>,
    /// Workloads on whose canary or route somebody else has had a hand.
    meddled: BTreeSet<Workload>,
    requests: u32,
    rps: u64,
}

const NAMES: [&str; 3] = ["api", "web", "worker"];
const TAGS: [&str; 8] = ["good", "err8", "err3", "slow", "late", "nopull", "neverready", "good-too"];

fn workload(name: &str) -> Workload {
    Workload { cluster: "test".into(), namespace: "shop".into(), kind: Kind::Deployment, name: name.into() }
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut dice = Dice(seed);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut model = Model::default();
        for name in NAMES {
            let replicas = 1 + dice.below(12) as u32;
            model.deploy(workload(name), images("v1"), replicas, Span::from_secs(1 + dice.below(60)));
        }
        let policy = random_policy(&mut dice);
        let blank = Engine::new("test".into(), vec![policy], Span::from_secs(7 * 86_400));
        let rps = *dice.pick(&[0, 1, 20, 200]);
        Sim {
            dice,
            engine: blank.clone(),
            blank,
            journal: BTreeMap::new(),
            seen: Vec::new(),
            freezes: BTreeMap::new(),
            records: Vec::new(),
            model,
            now,
            faults: true,
            on_the_way: VecDeque::new(),
            decisions: Vec::new(),
            weights: BTreeMap::new(),
            started: BTreeSet::new(),
            interfered: BTreeSet::new(),
            meddled: BTreeSet::new(),
            requests: 0,
            rps,
        }
    }

    /// An hour of faults and requests, then a day in which everything must end.
    fn run(mut self) -> Vec<String> {
        for second in 0..3600 {
            self.second(second);
        }
        self.faults = false;
        for scope in self.freezes.keys().cloned().collect::<Vec<_>>() {
            self.command(scope, Verb::Unfreeze);
        }
        for second in 0..24 * 3600 {
            if second % 60 == 0 && self.engine.states().all(|state| state.active().is_none()) {
                break;
            }
            self.second(second);
        }
        for state in self.engine.states() {
            // Somebody else's hand in the middle may leave a rollout nothing but to ask; and then it has asked.
            let asks = state.active().is_some_and(|rollout| rollout.held.is_some());
            if self.interfered.contains(&state.workload) && asks {
                continue;
            }
            let stuck = state.active().map(|rollout| (rollout.phase, rollout.since, &rollout.reason, &rollout.held));
            assert!(state.active().is_none(), "still running at {}: {stuck:#?}", self.now);
            let rollout = state.rollout.as_ref();
            assert!(rollout.is_none_or(|rollout| rollout.ending().is_some()));
        }
        self.replay();
        self.decisions.iter().filter_map(|decision| decision.ending).map(|ending| ending.to_string()).collect()
    }

    fn second(&mut self, second: u64) {
        self.now = Span::from_secs(1).after(self.now);
        if self.faults {
            self.mischief();
        }
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
        if self.engine.next_wakeup().is_some_and(|at| at <= self.now) {
            self.tell_at(Event::Tick, self.now);
            assert!(
                self.engine.next_wakeup().is_none_or(|at| at > self.now),
                "a wakeup that changes nothing comes again"
            );
        }
        if self.now.as_second() % 15 == 0 {
            self.measure();
        }
    }

    fn mischief(&mut self) {
        if self.dice.below(300) == 0 {
            self.request();
        }
        if self.dice.below(200) == 0 {
            self.die();
        }
        if self.dice.below(150) == 0 {
            self.verb();
        }
        if self.dice.below(500) == 0 {
            self.rps = *self.dice.pick(&[0, 1, 20, 200]);
        }
        if self.dice.below(400) == 0 {
            self.meddle();
        }
        if self.dice.below(3000) == 0 {
            let name = *self.dice.pick(&NAMES);
            self.model.delete(&workload(name));
        }
    }

    /// Somebody else's hand, on what is ours or on what we rest on.
    fn meddle(&mut self) {
        let workload = workload(self.dice.pick::<&str>(&NAMES));
        let now = self.now;
        self.meddled.insert(workload.clone());
        match self.dice.below(7) {
            0 => {
                self.model.set_images(&workload, images("v1"), now);
                self.interfered.insert(workload);
            }
            1 => self.model.scale(&workload, 1 + self.dice.below(12) as u32, "kube-controller-manager", now),
            2 => self.model.scale(&workload, 1 + self.dice.below(12) as u32, "kubectl", now),
            3 => self.model.edit_canary(&workload, images("v0-hand"), now),
            4 => self.model.delete_canary(&workload),
            5 => self.model.edit_route(&workload, None),
            _ => self.model.edit_route(&workload, Some(Weight::percent(self.dice.below(100) as u16))),
        }
    }

    /// Somebody steps in, at any time and whether or not it makes sense.
    fn verb(&mut self) {
        let name = workload(self.dice.pick::<&str>(&NAMES));
        let until = self.dice.chance(50).then(|| Span::from_secs(self.dice.below(900)).after(self.now));
        let verb = match self.dice.below(10) {
            0 => Verb::Abort,
            1 => Verb::Promote { full: self.dice.chance(50) },
            2 => Verb::Pause,
            3 | 4 => Verb::Resume,
            5 => Verb::Retry,
            6 | 7 => Verb::Approve { gate: None },
            8 => Verb::Freeze { until },
            _ => Verb::Unfreeze,
        };
        let broad = matches!(verb, Verb::Freeze { .. } | Verb::Unfreeze) && self.dice.chance(50);
        let scope = if broad { "test/shop".parse().unwrap() } else { Scope::Workload(name) };
        self.command(scope, verb);
    }

    fn command(&mut self, scope: Scope, verb: Verb) {
        self.requests += 1;
        let id = EventId { source: "ann".into(), id: self.requests.to_string() };
        let command = Command { scope, verb, rollout: None, reason: None };
        let event = Event::Commanded { id, time: Some(self.now), command };
        if self.faults && self.dice.chance(30) {
            self.tell(event.clone());
        }
        self.tell(event);
    }

    fn request(&mut self) {
        self.requests += 1;
        let name = *self.dice.pick(&NAMES);
        let tag = format!("v{}-{}", self.requests, self.dice.pick(&TAGS));
        let id = EventId { source: "ci".into(), id: self.requests.to_string() };
        let time = Some(self.now);
        if self.dice.chance(10) {
            // Somebody else deploys, and says so.
            let to = images(&tag);
            self.interfered.insert(workload(name));
            self.model.set_images(&workload(name), to, self.now);
            let event = Event::Deployed { id, time, workload: workload(name), artifact: None };
            return self.tell(event);
        }
        let mut wanted = images(&tag);
        if self.dice.chance(5) {
            wanted.insert("side".to_owned(), "registry.test/shop/side:v1".to_owned());
        }
        let request: Request = serde_json::from_value(json!({ "workload": workload(name), "images": wanted })).unwrap();
        let event = Event::Requested { id, time, request };
        if self.dice.chance(30) {
            self.tell(event.clone());
        }
        self.tell(event);
    }

    /// The daemon dies, and its successor restores from the journal: the same state, and the same effects again.
    fn die(&mut self) {
        let mut engine = self.blank.clone();
        for (workload, (state, inputs)) in &self.journal {
            let mut alone = self.blank.clone();
            alone.restore(state.clone());
            for input in inputs {
                let _ = alone.step(input.event.clone(), input.at);
            }
            assert_eq!(alone.state(workload), self.engine.state(workload), "restored otherwise");
            engine.restore(alone.state(workload).unwrap().clone());
        }
        for (event, until) in &self.seen {
            engine.restore_seen(event.clone(), *until);
        }
        for (scope, freeze) in &self.freezes {
            engine.restore_freeze(scope.clone(), freeze.clone());
        }
        self.engine = engine;
        // What was on its way to the dead one is lost.
        if self.dice.chance(50) {
            self.on_the_way.clear();
        }
        for effect in self.engine.unfinished() {
            self.perform(effect);
        }
    }

    fn look(&mut self, name: &str) {
        let sighting = self.model.sighting(&workload(name), self.now);
        if self.faults && self.dice.chance(30) {
            return;
        }
        self.tell(Event::Seen { workload: workload(name), sighting: Box::new(sighting) });
    }

    fn tell(&mut self, event: Event) {
        // The clock of the machine is set back now and then.
        let now = if self.faults && self.dice.chance(2) { Span::from_secs(30).before(self.now) } else { self.now };
        self.tell_at(event, now);
    }

    fn tell_at(&mut self, event: Event, now: Timestamp) {
        let about = about(&event);
        let concerned =
            self.engine.states().filter(|state| about.as_ref().is_none_or(|about| *about == state.workload));
        let before: BTreeMap<Workload, State> =
            concerned.map(|state| (state.workload.clone(), state.clone())).collect();
        let transitions = self.engine.step(event, now);
        for transition in &transitions {
            self.seen.extend(transition.seen.clone());
            match transition.freeze.clone() {
                Some((scope, Some(freeze))) => self.freezes.insert(scope, freeze),
                Some((scope, None)) => self.freezes.remove(&scope),
                None => None,
            };
            let Some(workload) = &transition.workload else { continue };
            self.check(transition, before.get(workload));
            if transition.took == Took::Changed {
                self.commit(workload, transition, before.get(workload));
            } else {
                assert_eq!(self.engine.state(workload), before.get(workload), "ignored, yet changed");
            }
        }
        for effect in transitions.into_iter().flat_map(|transition| transition.effects) {
            self.perform(effect);
        }
    }

    /// What the engine makes of a workload that it has just heard of.
    fn fresh(&self, workload: &Workload) -> State {
        let freezes = self.freezes.iter().filter(|(scope, _)| scope.covers(workload));
        let freezes = freezes.map(|(scope, freeze)| (scope.clone(), freeze.clone())).collect();
        State { freezes, ..State::new(workload.clone()) }
    }

    fn commit(&mut self, workload: &Workload, transition: &Transition, before: Option<&State>) {
        let state = self.engine.state(workload).unwrap().clone();
        let matters = !transition.decisions.is_empty() || !transition.effects.is_empty() || transition.seen.is_some();
        self.decisions.extend(transition.decisions.clone());
        let basis =
            asks(&transition.input.event).then(|| Box::new(before.cloned().unwrap_or_else(|| self.fresh(workload))));
        self.records.push(Record {
            engine: ENGINE.into(),
            workload: workload.clone(),
            n: self.records.len() as u64,
            basis,
            policies: transition.policy.iter().cloned().collect(),
            inputs: vec![transition.input.clone()],
            decisions: transition.decisions.clone(),
        });
        let entry = self.journal.entry(workload.clone()).or_insert_with(|| (state.clone(), Vec::new()));
        if matters || entry.1.len() >= 16 {
            *entry = (through_json(&state), Vec::new());
        } else if entry.0 != state {
            entry.1.push(transition.input.clone());
        }
    }

    /// What the design promises, of one step.
    fn check(&mut self, transition: &Transition, before: Option<&State>) {
        let was = before.and_then(|state| state.rollout.as_ref());
        for decision in &transition.decisions {
            match decision.kind {
                Decided::Promote => assert!(
                    all_pass(&decision.reason) || ordered(&decision.reason),
                    "promoted on {:?}",
                    decision.reason
                ),
                Decided::Advance if decision.from == Phase::Stepping => {
                    assert!(
                        all_pass(&decision.reason) || ordered(&decision.reason),
                        "advanced on {:?}",
                        decision.reason
                    );
                }
                Decided::RollBack => {
                    assert!(condemns(&decision.reason, &was.unwrap().policy), "rolled back on {:?}", decision.reason)
                }
                Decided::Start => {
                    let id = decision.rollout.to_string();
                    assert!(self.started.insert(id.clone()), "{id} started twice");
                }
                _ => {}
            }
        }
        let waits = before.is_some_and(|before| before.queued.is_some());
        if was.is_some_and(|was| was.phase == Phase::Ended) && !asks(&transition.input.event) && !waits {
            let only_messages = |effect: &Effect| matches!(effect.act, Act::Notify { .. } | Act::Note { .. });
            assert!(
                transition.effects.iter().all(only_messages) && transition.decisions.is_empty(),
                "acts after its end"
            );
        }
        for effect in &transition.effects {
            if let Act::SetWeight { weight, .. } = effect.act {
                let old = self.weights.insert(effect.workload.clone(), weight).unwrap_or_default();
                let again = was.and_then(|was| was.doing.as_ref()).is_some_and(|doing| doing.effect.id == effect.id);
                let decided = transition.decisions.iter().any(|decision| decision.kind == Decided::Advance);
                assert!(weight <= old || again || decided, "the weight rises from {old} to {weight} undecided");
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        let lost = self.faults && self.dice.chance(10);
        let done_all_the_same = self.dice.chance(50);
        let outcome = if lost && !done_all_the_same {
            unavailable()
        } else {
            self.check_safe(&effect);
            let outcome = self.model.perform(&effect, self.now);
            let times = self.model.changes.iter().filter(|id| **id == effect.id).count();
            // An attempt whose answer was lost is made again, and what somebody did in between is put right by it.
            let meddled = self.meddled.contains(&effect.workload);
            assert!(times <= 1 || meddled, "{effect:?} changed the world twice");
            if lost { unavailable() } else { outcome }
        };
        let delay = if self.faults { self.dice.below(20) } else { 1 };
        let at = Span::from_secs(delay).after(self.now);
        let event = Event::Performed { workload: effect.workload, effect: effect.id, outcome };
        if self.faults && self.dice.chance(5) {
            self.on_the_way.push_back((at, event.clone()));
        }
        self.on_the_way.push_back((at, event));
        self.on_the_way.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    /// Traffic goes only to what is available, and a canary goes only when it has none.
    fn check_safe(&self, effect: &Effect) {
        let sighting: Sighting = self.model.sighting(&effect.workload, self.now);
        let known =
            self.engine.state(&effect.workload).and_then(|state| state.sighting.clone()).unwrap_or(sighting.clone());
        let available = |arm: &Option<bellwether_core::sighting::Arm>| arm.as_ref().map_or(0, |arm| arm.available);
        match &effect.act {
            Act::SetWeight { weight, .. } if *weight > Weight::ZERO && sighting.stable.is_some() => {
                let repeated = sighting.routed.is_some_and(|routed| routed.weight == *weight);
                // What somebody did to the canary since the last look can't be known.
                let meddled = self.meddled.contains(&effect.workload) && available(&known.canary) > 0;
                assert!(
                    available(&sighting.canary) > 0 || repeated || meddled,
                    "traffic to a canary that is not available"
                );
            }
            Act::SetWeight { weight: Weight::ZERO, .. } if sighting.stable.is_some() && sighting.canary.is_some() => {
                assert!(
                    available(&sighting.stable) > 0 || available(&sighting.canary) == 0,
                    "traffic to a workload that is not available"
                );
            }
            Act::ApplyCanary { images, .. } => {
                // What has traffic is never changed under it, unless somebody else did and it is put back.
                let serves = sighting.routed.is_some_and(|routed| routed.weight > Weight::ZERO);
                if let Some(canary) = sighting.canary.as_ref().filter(|_| serves) {
                    let same = images.iter().all(|(name, image)| canary.images.get(name) == Some(image));
                    assert!(same || canary.template_by.is_some(), "the canary is changed under its traffic");
                }
            }
            Act::RemoveCanary { .. } if sighting.stable.is_some() => {
                let routed = sighting.routed.map_or(Weight::ZERO, |routed| routed.weight);
                // Taking it out of the route is the act's first half, so a share by hand in the last moment does no harm.
                let by_hand = sighting.route_by.is_some();
                assert!(routed == Weight::ZERO || by_hand, "a canary with traffic is removed");
            }
            _ => {}
        }
    }

    fn measure(&mut self) {
        for watch in self.engine.watches() {
            if self.faults && self.dice.chance(10) {
                continue;
            }
            let gap = self.faults && self.dice.chance(10);
            let from = watch.last.unwrap_or_else(|| Span::from_secs(15).before(self.now));
            let block = self.block(&watch.workload, from, watch.canary.is_none(), gap);
            let event = Event::Measured { workload: watch.workload, block };
            if self.faults && self.dice.chance(10) {
                self.tell(event.clone());
            }
            self.tell(event);
        }
    }

    fn block(&mut self, workload: &Workload, from: Timestamp, guarding: bool, gap: bool) -> Block {
        let sighting = self.model.sighting(workload, self.now);
        let n = self.rps * Span::between(from, self.now).as_millis() / 1000;
        let canary_n = (n as f64 * self.model.share(workload, self.now)) as u64;
        let mut metrics = BTreeMap::new();
        for name in ["error-rate", "response-time"] {
            let mut arm = |arm: Option<&bellwether_core::sighting::Arm>, n: u64| {
                arm.map(|arm| reading(name, &arm.images, n, guarding, &mut self.dice))
            };
            let sample = if gap {
                Sample::Gap(Gap::Unanswered { error: "timeout".into() })
            } else {
                Sample::Arms {
                    canary: arm(sighting.canary.as_ref().filter(|_| !guarding), canary_n),
                    stable: arm(sighting.stable.as_ref(), n - canary_n),
                }
            };
            metrics.insert(name.to_owned(), sample);
        }
        Block { from, to: self.now, metrics }
    }

    fn replay(&self) {
        let mut replayer = Replayer::default();
        for record in &self.records {
            let json = serde_json::to_vec(record).unwrap();
            let record: Record = serde_json::from_slice(&json).unwrap();
            if let Err(difference) = replayer.replay(&record) {
                panic!("{difference}");
            }
        }
        assert_eq!(replayer.same, self.decisions.len() - skipped(&self.records), "all decisions come out again");
    }
}

/// The workload that an event is about; `None`: it may be any.
fn about(event: &Event) -> Option<Workload> {
    match event {
        Event::Requested { request, .. } => Some(request.workload.clone()),
        Event::Deployed { workload, .. }
        | Event::Seen { workload, .. }
        | Event::Measured { workload, .. }
        | Event::Performed { workload, .. } => Some(workload.clone()),
        Event::Commanded { command, .. } => command.scope.workload().cloned(),
        Event::Tick => None,
    }
}

/// Decisions on records before the first basis of their workload can't be replayed: there are none.
fn skipped(records: &[Record]) -> usize {
    let mut begun = BTreeSet::new();
    let mut skipped = 0;
    for record in records {
        if record.basis.is_some() {
            begun.insert(&record.workload);
        }
        if !begun.contains(&record.workload) {
            skipped += record.decisions.len();
        }
    }
    assert_eq!(skipped, 0);
    skipped
}

fn through_json(state: &State) -> State {
    let back: State = serde_json::from_slice(&serde_json::to_vec(state).unwrap()).unwrap();
    assert_eq!(&back, state, "a state survives its journal");
    back
}

fn unavailable() -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Unavailable, message: "connection reset".into() })
}

/// A person said so, and what it skips is said too.
fn ordered(reason: &Reason) -> bool {
    matches!(reason, Reason::Promoted { .. })
}

fn all_pass(reason: &Reason) -> bool {
    match reason {
        Reason::Passed { evidence, .. } => {
            !evidence.is_empty() && evidence.iter().all(|evidence| evidence.verdict == Verdict::Pass)
        }
        _ => false,
    }
}

/// `blind` and `insufficient` never roll back unless the policy says so: only a regression, or pods that do not run, do.
fn condemns(reason: &Reason, policy: &Policy) -> bool {
    match reason {
        Reason::Blind { .. } => policy.patience.on_blind == Then::RollBack,
        Reason::Insufficient { .. } => policy.patience.on_insufficient == Then::RollBack,
        Reason::Regressed { evidence } => evidence.iter().all(|evidence| evidence.verdict == Verdict::Regressed),
        Reason::CanaryFailed { .. }
        | Reason::StableFailed { .. }
        | Reason::NotReady { .. }
        | Reason::StableNotReady { .. } => true,
        _ => false,
    }
}

fn reading(metric: &str, images: &Images, n: u64, guarding: bool, dice: &mut Dice) -> Reading {
    let image = images.values().next().unwrap();
    let percent = if image.contains("err8") || (guarding && image.contains("late")) {
        8
    } else if image.contains("err3") {
        3
    } else {
        0
    };
    if metric == "error-rate" {
        let hits = (0..n.min(2000)).filter(|_| dice.chance(percent)).count() as u64;
        return Reading::Ratio { hits, total: n };
    }
    let quick = if image.contains("slow") { n * 80 / 100 } else { n };
    Reading::Histogram { edges: vec![0.25, 1.0, 5.0], counts: vec![quick, 0, n - quick, 0] }
}

fn random_policy(dice: &mut Dice) -> Policy {
    let mut weight = 0;
    let mut steps = Vec::new();
    for _ in 0..1 + dice.below(3) {
        weight += 5 + dice.below(25);
        let (min, pause) = (dice.below(300), if dice.chance(20) { dice.below(120) } else { 0 });
        steps.push(
            json!({ "weight": format!("{weight}%"), "min-time": format!("{min}s"), "pause": format!("{pause}s") }),
        );
    }
    let breaches = 1 + dice.below(3);
    let mut changes = json!({
        "step": steps,
        "traffic": dice.pick(&["gateway", "gateway", "replicas"]),
        "mode": if dice.chance(10) { "observe" } else { "enforce" },
        "ready-within": "2m",
        "promote-within": "3m",
        "max-hold": format!("{}m", 1 + dice.below(30)),
        "patience": { "blind": "2m", "insufficient": "5m" },
        "check": [
            { "metric": "error-rate", "max": "5%", "window": "2m", "every": "15s", "breaches": breaches },
            { "metric": "response-time", "max": "1s", "window": "1m", "every": "30s", "min-requests": 20 },
        ],
    });
    if dice.chance(20) {
        changes["strategy"] = "blue-green".into();
        changes["blue-green"] = json!({ "keep-stable": format!("{}s", dice.below(600)) });
        changes["traffic"] = "gateway".into();
        changes["step"] = json!([]);
    }
    if dice.chance(25) {
        let patience = format!("{}m", 1 + dice.below(20));
        changes["approval"] =
            json!([{ "name": "qa", "before": dice.pick(&["traffic", "promotion"]), "patience": patience }]);
    }
    if dice.chance(15) {
        // The simulated world begins at 8:00, and this opens within two hours for most of a day.
        changes["window"] = json!({ "from": format!("09:{}", 10 + dice.below(50)), "to": "08:05" });
    }
    if dice.chance(20) {
        let then = ["give-up", "hold", "roll-back"];
        changes["patience"] = json!({
            "blind": "2m", "insufficient": "5m", "on-blind": dice.pick(&then), "on-insufficient": dice.pick(&then) });
    }
    if dice.chance(50) {
        changes["guard"] = json!({ "for": "3m", "check": [
            { "metric": "error-rate", "max": "5%", "window": "1m", "every": "15s" },
            { "metric": "availability", "min": "50%", "window": "1m", "every": "15s", "breaches": 8 },
        ]});
    }
    policy(changes)
}
