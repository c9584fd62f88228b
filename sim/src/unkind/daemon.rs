//! The daemon around the engine: it tells what was observed, measured and performed, wakes the engine, and acts.

use bellwether_core::engine::{Engine, Transition};
use bellwether_core::ids::{EventId, Workload};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Event, Request};
use bellwether_core::measure::block::{Block, Sample};
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::{Span, Timestamp};

use super::absence::Party;
use super::agenda::{Happening, MINUTE, Ms, SECOND};
use super::defect::Defect;
use super::policies::policy_of;
use super::row::Row;
use super::scrape::GRID;
use super::world::{World, workload};

/// The time of the request in milliseconds since 1970. It is a multiple of [`GRID`].
pub(super) const BEGIN: i64 = 1_800_000_000_000;
/// The time from a reading to its block.
pub(super) const LAG: Ms = GRID;
/// The age of the newest block from which a verdict is stale: two intervals and the lag, and a little more.
const STALE: Ms = MINUTE;
/// The time in which an effect reaches its executor.
const ACTING: Ms = SECOND / 2;
/// A time that does not come.
pub(super) const NEVER: Ms = Ms::MAX / 2;

impl World {
    /// Returns the time of the daemon's clock.
    pub(super) fn timestamp(&self, at: Ms) -> Timestamp {
        Timestamp::from_millisecond(BEGIN + at + self.fast).unwrap_or(Timestamp::MAX)
    }

    /// Returns whether the daemon can't change anything at present.
    pub(super) fn is_helpless(&self) -> bool {
        self.absences.is_undecided(self.now) || self.absences.is_away(Party::Api, self.now)
    }

    /// Requests the rollout of the candidate.
    pub(super) fn request(&mut self) {
        let request = Request {
            workload: workload(),
            images: self.versions[1].requested(),
            image: None,
            expected_current: None,
            policy: None,
            model: None,
            prompt: None,
            tools: None,
            traceparent: None,
            reason: None,
        };
        let id = EventId { source: "ci".into(), id: "1".into() };
        let time = Some(self.timestamp(self.now));
        self.before = self.stable.version;
        self.tell(Event::Requested { id, time, request });
    }

    /// Tells the engine of the workload's status if there is a new one and the watch is there.
    pub(super) fn watch(&mut self) {
        if self.is_helpless() {
            if self.defect == Some(Defect::StaleStatus) {
                self.engine.sighted(self.timestamp(self.now));
                self.plan_wake();
            }
            return;
        }
        self.engine.sighted(self.timestamp(self.now));
        let status = self.status();
        if self.told.as_ref() == Some(&status) {
            self.plan_wake();
            return;
        }
        let told = Some(status.clone());
        let lacks_ready = self.canary.as_ref().is_some_and(|canary| canary.ready() == 0);
        self.told_at = if lacks_ready { self.told_at.min(self.now) } else { NEVER };
        self.tell_story(|_| {
            let arm = |arm: &Option<bellwether_core::input::status::DeploymentStatus>| {
                arm.as_ref().map_or_else(
                    || "none".to_owned(),
                    |arm| {
                        let problem = arm.problem.as_ref().map(|it| format!(" {}", it.reason)).unwrap_or_default();
                        format!("{}/{} of {}{problem}", arm.available, arm.updated, arm.replicas)
                    },
                )
            };
            format!("  seen: stable {}, canary {}, route {:?}", arm(&status.stable), arm(&status.canary), status.route)
        });
        self.told = told;
        self.tell(Event::Observed { workload: workload(), status: Box::new(status) });
    }

    /// Tells the engine of a block.
    pub(super) fn measured(&mut self, workload: Workload, block: Block) {
        let is_hidden = self.defect == Some(Defect::StaleVerdict)
            && block.metrics.values().all(|sample| matches!(sample, Sample::Gap(_)));
        if !self.absences.is_undecided(self.now) && !is_hidden {
            self.tell_story(|_| format!("  counted: {}", in_short(&block)));
            self.measured_at = self.now;
            self.tell(Event::Measured { workload, block });
        }
    }

    /// Steps the engine, and sends its effects.
    fn tell(&mut self, event: Event) {
        let transitions = self.engine.step(event, self.timestamp(self.now));
        self.take(transitions);
        self.plan_wake();
    }

    fn take(&mut self, transitions: Vec<Transition>) {
        for transition in transitions {
            assert_eq!(transition.defect, None, "the engine has panicked");
            for decision in transition.decisions {
                self.tell_story(|_| {
                    format!("{}: {} to {}, {}", decision.kind, decision.from, decision.to, decision.why)
                });
                if decision.from != decision.to || self.entries.is_empty() {
                    self.entered(decision.to);
                }
                if decision.from == Phase::Stepping && matches!(decision.to, Phase::Growing | Phase::Promoting) {
                    self.ledger.rose_stale |= self.now - self.measured_at > STALE;
                }
                if decision.ending.is_some() {
                    self.ended.get_or_insert(self.now);
                }
            }
            for effect in transition.effects {
                self.send(effect);
            }
        }
    }

    fn send(&mut self, effect: Effect) {
        self.agenda.plan(self.now + ACTING, Happening::Land(Box::new(effect)));
    }

    /// Lets an effect arrive. Its outcome is lost if the daemon is killed meanwhile, and comes later if Kafka is away.
    pub(super) fn land(&mut self, effect: &Effect) {
        if self.absences.is_away(Party::Kafka, self.now) {
            self.agenda.plan(self.now + 30 * SECOND, Happening::Land(Box::new(effect.clone())));
            return;
        }
        let outcome = self.perform(effect);
        if !self.absences.is_away(Party::Daemon, self.now) {
            let event = Event::Performed { workload: workload(), effect: effect.id.clone(), outcome };
            self.tell(event);
        }
    }

    /// Plans the next wake-up at the time that the engine names, by the daemon's clock.
    pub(super) fn plan_wake(&mut self) {
        let at = self.engine.next_wakeup().map(|at| (at.as_millisecond() - BEGIN - self.fast).max(self.now));
        if at != self.wake {
            self.wake = at;
            if let Some(at) = at {
                self.agenda.plan(at, Happening::Wake);
            }
        }
    }

    /// Wakes the engine if this is the time of the last plan.
    pub(super) fn wake(&mut self) {
        if self.wake == Some(self.now) && !self.absences.is_undecided(self.now) {
            self.wake = None;
            self.tell(Event::Tick);
        }
    }

    /// Lets a party come back. A daemon first wakes its engine, as a shard does, then repeats its unfinished effects, and
    /// then hears of the cluster.
    pub(super) fn return_of(&mut self, party: Party) {
        match party {
            Party::Daemon => {
                self.restart();
                self.tell(Event::Tick);
                for effect in self.engine.unfinished() {
                    self.send(effect);
                }
            }
            Party::Kafka => self.tell(Event::Tick),
            Party::Api => {
                self.reconcile();
            }
            Party::Prometheus => {}
        }
    }
}

impl World {
    /// Replaces the engine by a new one that is restored from the journal.
    fn restart(&mut self) {
        self.told = None;
        let mut engine = new_engine(self.row, self.defect);
        self.engine.states().for_each(|state| engine.restore(state.clone()));
        self.engine = engine;
    }
}

/// Returns an engine that knows nothing but a row's policy.
pub(super) fn new_engine(row: Row, defect: Option<Defect>) -> Engine {
    Engine::new("test".into(), vec![policy_of(row, defect)], Span::from_secs(7 * 86_400))
}

/// Returns a block's counts in short.
fn in_short(block: &Block) -> String {
    use bellwether_core::measure::block::Reading;
    let reading = |reading: &Option<Reading>| match reading {
        None => "none".to_owned(),
        Some(Reading::Ratio { hits, total }) => format!("{hits} of {total}"),
        Some(Reading::Histogram { counts, .. }) => format!("{} slow", counts.iter().skip(2).sum::<u64>()),
        Some(other @ (Reading::Count(_) | Reading::Value(_))) => format!("{other:?}"),
    };
    let samples = block.metrics.values().map(|sample| match sample {
        Sample::Arms { canary, stable } => format!("canary {}, stable {}", reading(canary), reading(stable)),
        Sample::Gap(gap) => gap.to_string(),
    });
    samples.collect::<Vec<_>>().join("; ")
}
