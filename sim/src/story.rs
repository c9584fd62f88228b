//! One engine in a model world under a clock that goes in seconds: what the lifecycle tests are told in.

use std::collections::{BTreeMap, VecDeque};

use crate::model::Model;
use bellwether_core::engine::{Disposition, Engine, Transition};
use bellwether_core::ids::{EventId, Images, Workload, WorkloadKind};
use bellwether_core::input::command::Command;
use bellwether_core::input::effect::{Act, Effect, Message};
use bellwether_core::input::event::{Event, Failure, FailureKind, Outcome, Request};
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::metric::{Against, ArmSource, Distance, HistogramUnit, Hits, Metric, MetricKind};
use bellwether_core::policy::{Policy, RawPolicy};
use bellwether_core::rollout::Rollout;
use bellwether_core::rollout::decision::{Decision, Ending};
use bellwether_core::time::{Span, Timestamp};

/// The grid on which blocks come, in seconds.
pub const GRID: i64 = 15;

pub fn workload() -> Workload {
    Workload { cluster: "test".into(), namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}

pub fn images(tag: &str) -> Images {
    Images::from([("app".to_owned(), format!("registry.test/shop/web:{tag}"))])
}

fn metric(kind: MetricKind, series: Option<&str>) -> Metric {
    Metric {
        kind,
        series: series.map(str::to_owned),
        matching: None,
        hits: None,
        unit: HistogramUnit::Seconds,
        query: None,
        distance: Distance::Psi,
        against: Against::Stable,
        arms: ArmSource::Pods,
        process: Vec::new(),
        targets: None,
        native: false,
    }
}

pub fn metrics() -> BTreeMap<String, Metric> {
    let hits = Hits { label: Some("code".into()), matches: Some("5..".into()), not: None, series: None };
    BTreeMap::from([
        ("error-rate".to_owned(), Metric { hits: Some(hits), ..metric(MetricKind::Ratio, Some("requests_total")) }),
        ("response-time".to_owned(), metric(MetricKind::Histogram, Some("request_seconds"))),
        ("availability".to_owned(), metric(MetricKind::Availability, None)),
    ])
}

/// A policy from JSON that is laid over a small one.
pub fn policy(changes: serde_json::Value) -> Policy {
    let mut json = serde_json::json!({
        "name": "test",
        "match": { "namespaces": ["shop"], "workloads": ["*"], "images": ["registry.test/shop/*"] },
        "ready-within": "5m",
        "step": [{ "weight": "10%", "min-time": "5m" }],
        "check": [
            { "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "5m", "every": "30s" },
            { "metric": "response-time", "judge": "threshold", "max": "1s", "window": "5m", "every": "30s" },
        ],
    });
    if let (Some(json), Some(changes)) = (json.as_object_mut(), changes.as_object()) {
        json.extend(changes.clone());
    }
    let raw: RawPolicy = serde_json::from_value(json).unwrap();
    raw.check(&metrics()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// How the requests of an image fare, by what its tag says: `err5` is 5 % of errors, `slow` is a p95 of 5 s, `late`
/// turns bad in the guard.
fn behaviour(image: &str, guarding: bool) -> (u64, bool) {
    let errors = image.rsplit_once("err").and_then(|(_, percent)| percent.parse().ok()).unwrap_or(0);
    let errors = if image.contains("late") && guarding { 50 } else { errors };
    (errors, image.contains("slow"))
}

pub struct Story {
    pub engine: Engine,
    pub model: Model,
    pub now: Timestamp,
    pub rps: u64,
    /// Prometheus does not answer.
    pub away: bool,
    /// The API server does not answer.
    pub api_away: bool,
    pub decisions: Vec<Decision>,
    pub effects: Vec<Effect>,
    pub messages: Vec<Message>,
    said: u32,
    answer: String,
    queue: VecDeque<Event>,
    seen: Option<WorkloadStatus>,
    carry: (u64, u64),
}

impl Story {
    pub fn new(policy: Policy) -> Story {
        let mut model = Model::default();
        model.deploy(workload(), images("v1"), 10, Span::from_secs(5));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let engine = Engine::new("test".into(), vec![policy], Span::from_secs(7 * 86_400));
        let mut story = Story {
            engine,
            model,
            now,
            rps: 100,
            away: false,
            api_away: false,
            decisions: Vec::new(),
            effects: Vec::new(),
            messages: Vec::new(),
            said: 0,
            answer: String::new(),
            queue: VecDeque::new(),
            seen: None,
            carry: (0, 0),
        };
        story.look();
        story
    }

    pub fn request(&mut self, tag: &str) -> Disposition {
        self.ask(tag, serde_json::json!({}))
    }

    /// A request whose id is its tag, changed by `changes`.
    pub fn ask(&mut self, tag: &str, changes: serde_json::Value) -> Disposition {
        let mut json = serde_json::json!({ "workload": workload(), "images": images(tag) });
        if let (Some(json), Some(changes)) = (json.as_object_mut(), changes.as_object()) {
            json.extend(changes.clone());
        }
        let request: Request = serde_json::from_value(json).unwrap();
        let id = EventId { source: "ci".into(), id: tag.into() };
        self.tell(Event::Requested { id, time: Some(self.now), request })
    }

    /// A verb, told to the workload unless `changes` say otherwise: what became of it, in words.
    pub fn say(&mut self, verb: &str, changes: serde_json::Value) -> (Disposition, String) {
        let mut json = serde_json::json!({ "scope": workload().to_string(), "verb": { "verb": verb } });
        if verb == "promote" {
            json["verb"]["full"] = false.into();
        }
        for (key, value) in changes.as_object().unwrap() {
            let inner = ["full", "approval", "until"].contains(&key.as_str());
            if inner { json["verb"][key] = value.clone() } else { json[key] = value.clone() }
        }
        let command: Command = serde_json::from_value(json).unwrap();
        self.said += 1;
        let id = EventId { source: "ann".into(), id: self.said.to_string() };
        let took = self.tell(Event::Commanded { id, time: Some(self.now), command });
        (took, self.answer.clone())
    }

    pub fn rollout(&self) -> &Rollout {
        self.engine.state(&workload()).unwrap().rollout.as_ref().unwrap()
    }

    /// Goes on until the rollout is held for something that is said so.
    pub fn run_until_held(&mut self, why: &str) {
        for _ in 0..3 * 3600 {
            self.second();
            if self.rollout().current.hold.as_ref().is_some_and(|held| held.reason.to_string().contains(why)) {
                return;
            }
        }
        panic!("never held for {why:?}: {:#?}", self.whys());
    }

    pub fn tell(&mut self, event: Event) -> Disposition {
        let transitions = self.engine.step(event, self.now);
        let took = transitions.first().map_or(Disposition::Ignored, |transition| transition.disposition);
        self.answer = transitions.first().map_or_else(String::new, |transition| transition.reason.to_string());
        self.take(transitions);
        while let Some(event) = self.queue.pop_front() {
            let transitions = self.engine.step(event, self.now);
            self.take(transitions);
        }
        took
    }

    fn take(&mut self, transitions: Vec<Transition>) {
        for transition in transitions {
            self.decisions.extend(transition.decisions);
            for effect in transition.effects {
                if let Act::Notify { message } = &effect.act {
                    self.messages.push(message.clone());
                }
                let outcome = if self.api_away && !matches!(effect.act, Act::Notify { .. }) {
                    Outcome::Failed(Failure { kind: FailureKind::Unavailable, message: "connection refused".into() })
                } else {
                    self.model.perform(&effect, self.now)
                };
                let (workload, id) = (effect.workload.clone(), effect.id.clone());
                self.queue.push_back(Event::Performed { workload, effect: id, outcome });
                self.effects.push(effect);
            }
        }
    }

    fn look(&mut self) {
        let status = self.model.status(&workload(), self.now);
        if self.seen.as_ref() != Some(&status) {
            self.seen = Some(status.clone());
            self.tell(Event::Observed { workload: workload(), status: Box::new(status) });
        }
    }

    /// Goes on until a rollout has ended, for at most so long.
    pub fn run(&mut self, most: u64) -> Option<Ending> {
        for _ in 0..most {
            self.second();
            let rollout = self.engine.state(&workload()).and_then(|state| state.rollout.as_ref());
            if let Some(ending) = rollout.and_then(|rollout| rollout.ending()) {
                return Some(ending);
            }
        }
        None
    }

    pub fn second(&mut self) {
        self.now = Span::from_secs(1).after(self.now);
        self.look();
        if self.engine.next_wakeup().is_some_and(|at| at <= self.now) {
            self.tell(Event::Tick);
        }
        if self.now.as_second() % GRID == 0 {
            for watch in self.engine.watches() {
                let block = self.block(watch.canary.is_none());
                self.tell(Event::Measured { workload: watch.workload, block });
            }
        }
    }

    fn block(&mut self, guarding: bool) -> Block {
        let (from, to) = (Span::from_secs(GRID as u64).before(self.now), self.now);
        let status = self.model.status(&workload(), self.now);
        let n = self.rps * GRID as u64;
        let canary_n = (n as f64 * self.model.share(&workload(), self.now)).round() as u64;
        let mut metrics = BTreeMap::new();
        for name in ["error-rate", "response-time"] {
            let sample = if self.away {
                Sample::Gap(Gap::Unanswered { error: "connection refused".into() })
            } else {
                let canary = status.canary.as_ref().filter(|_| !guarding);
                Sample::Arms {
                    canary: canary.map(|arm| reading(name, &arm.images, canary_n, guarding, &mut self.carry.0)),
                    stable: status
                        .stable
                        .as_ref()
                        .map(|arm| reading(name, &arm.images, n - canary_n, guarding, &mut self.carry.1)),
                }
            };
            metrics.insert(name.to_owned(), sample);
        }
        Block::new(from, to, metrics)
    }

    pub fn kinds(&self) -> Vec<String> {
        self.decisions.iter().map(|decision| decision.kind.to_string()).collect()
    }

    pub fn whys(&self) -> Vec<&str> {
        self.decisions.iter().map(|decision| decision.why.as_str()).collect()
    }

    pub fn running(&self) -> Images {
        self.model.status(&workload(), self.now).stable.unwrap().images
    }
}

fn reading(metric: &str, images: &Images, n: u64, guarding: bool, carry: &mut u64) -> Reading {
    let image = images.values().next().unwrap();
    let (percent, slow) = behaviour(image, guarding);
    if metric == "error-rate" {
        let hundredths = n * percent + *carry;
        *carry = hundredths % 100;
        return Reading::Ratio { hits: hundredths / 100, total: n };
    }
    let quick = if slow { n * 80 / 100 } else { n };
    Reading::Histogram { edges: vec![0.25, 0.5, 1.0, 5.0], counts: vec![quick, 0, 0, n - quick, 0] }
}
