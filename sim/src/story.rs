//! One engine with one workload in a model cluster, driven second by second: the driver of the core's lifecycle tests.

use std::collections::{BTreeMap, VecDeque};

use crate::model::Model;
use crate::sinks::{events, people, sinks};
use bellwether_core::engine::{Disposition, Engine, Transition};
use bellwether_core::ids::{EventId, Images, Workload, WorkloadKind};
use bellwether_core::input::command::Command;
use bellwether_core::input::effect::{Act, Effect, Notify};
use bellwether_core::input::event::{Event, Failure, FailureKind, Outcome, Request};
use bellwether_core::input::notification::Message;
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::metric::{Against, ArmSource, Distance, HistogramUnit, Hits, Metric, MetricKind};
use bellwether_core::policy::{Policy, RawPolicy};
use bellwether_core::rollout::Rollout;
use bellwether_core::rollout::decision::Decision;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::{Span, Timestamp};

/// The time between two blocks, in seconds.
pub const GRID: i64 = 15;

/// Returns the workload of all stories, `test/shop/Deployment/web`.
pub fn workload() -> Workload {
    Workload { cluster: "test".into(), namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}

/// Returns the images of a revision with the given tag.
///
/// The tag determines the behaviour of its requests: `err5` lets 5 % of them fail, `slow` makes their p95 5 s, and
/// `late` lets half of them fail after the promotion only. The tags of [`crate::model`] determine the behaviour of its
/// pods.
pub fn images(tag: &str) -> Images {
    Images::from_iter([("app".to_owned(), format!("registry.test/shop/web:{tag}"))])
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
        pod_label: None,
        namespace_label: None,
        strata_label: None,
        process: Vec::new(),
        targets: None,
        native: false,
    }
}

/// Returns the metrics of all stories: `error-rate`, `response-time` and `availability`.
pub fn metrics() -> BTreeMap<String, Metric> {
    let hits = Hits { label: Some("code".into()), matches: Some("5..".into()), not: None, series: None };
    BTreeMap::from([
        ("error-rate".to_owned(), Metric { hits: Some(hits), ..metric(MetricKind::Ratio, Some("requests_total")) }),
        ("response-time".to_owned(), metric(MetricKind::Histogram, Some("request_seconds"))),
        ("availability".to_owned(), metric(MetricKind::Availability, None)),
    ])
}

/// Returns a small policy whose top-level keys are replaced by those of `changes`. The changed policy must be valid.
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

/// Returns the behaviour of an image by its tag (see [`images`]): the percentage of failed requests, and whether
/// requests are slow.
fn behaviour(image: &str, guarding: bool) -> (u64, bool) {
    let errors = image.rsplit_once("err").and_then(|(_, percent)| percent.parse().ok()).unwrap_or(0);
    let errors = if image.contains("late") && guarding { 50 } else { errors };
    (errors, image.contains("slow"))
}

/// The engine, its cluster and everything that the engine has decided.
pub struct Story {
    /// The engine under test.
    pub engine: Engine,
    /// The cluster, with the workload at revision `v1` and ten pods at the start.
    pub model: Model,
    /// The current time.
    pub now: Timestamp,
    /// The traffic in requests per second, over both arms.
    pub rps: u64,
    /// Whether Prometheus is unavailable, so that all blocks are gaps.
    pub away: bool,
    /// Whether the API server is unavailable, so that no status comes and all effects except messages fail.
    pub api_away: bool,
    /// Whether writes and probes fail although statuses come, as behind an admission webhook that does not answer.
    pub acts_fail: bool,
    /// The failure of acts that fail. At the start no connection can be made.
    pub failure: Failure,
    /// Whether the outcomes of acts are not told to the engine. They are told once this ends.
    pub acts_hang: bool,
    /// Whether no blocks are measured, not even gaps.
    pub silent: bool,
    /// The behaviour of the new version's requests, in place of that of its tag.
    behaviour: Option<String>,
    /// The decisions so far.
    pub decisions: Vec<Decision>,
    /// The effects so far, each of which was attempted once.
    pub effects: Vec<Effect>,
    /// The messages so far.
    pub messages: Vec<Message>,
    /// The number of commands so far, which numbers their ids.
    commands: u32,
    /// The reason of the last told event's transition.
    answer: String,
    /// The outcomes that the engine has not been told of.
    queue: VecDeque<Event>,
    /// The status that the engine was told of last.
    observed: Option<WorkloadStatus>,
    /// The errors of canary and stable in hundredths that are carried to the next block.
    carry: (u64, u64),
}

impl Story {
    /// Starts a story with a policy, at a fixed time, with 100 requests per second.
    pub fn new(policy: Policy) -> Story {
        let mut model = Model::default();
        model.deploy(workload(), images("v1"), 10, Span::from_secs(5));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let engine = Engine::new("test".into(), vec![policy], Span::from_secs(7 * 86_400)).with_sinks(sinks());
        let mut story = Story {
            engine,
            model,
            now,
            rps: 100,
            away: false,
            api_away: false,
            acts_fail: false,
            failure: Failure { kind: FailureKind::Unavailable, message: "connection refused".into() },
            acts_hang: false,
            silent: false,
            behaviour: None,
            decisions: Vec::new(),
            effects: Vec::new(),
            messages: Vec::new(),
            commands: 0,
            answer: String::new(),
            queue: VecDeque::new(),
            observed: None,
            carry: (0, 0),
        };
        story.observe();
        story
    }

    /// Requests a rollout of the revision with the given tag (see [`images`]).
    pub fn request(&mut self, tag: &str) -> Disposition {
        self.ask(tag, serde_json::json!({}))
    }

    /// Requests a rollout of a revision, with the request's keys replaced by those of `changes`. The event's id is the
    /// tag.
    pub fn ask(&mut self, tag: &str, changes: serde_json::Value) -> Disposition {
        let mut json = serde_json::json!({ "workload": workload(), "images": images(tag) });
        if let (Some(json), Some(changes)) = (json.as_object_mut(), changes.as_object()) {
            json.extend(changes.clone());
        }
        let request: Request = serde_json::from_value(json).unwrap();
        let id = EventId { source: "ci".into(), id: tag.into() };
        self.tell(Event::Requested { id, time: Some(self.now), request })
    }

    /// Sends a [`command`](Self::command). Returns the disposition and the reason as one sentence.
    pub fn say(&mut self, verb: &str, changes: serde_json::Value) -> (Disposition, String) {
        let event = self.command(verb, changes);
        (self.tell(event), self.answer.clone())
    }

    /// Sends a [`command`](Self::command) from another source than `ann`. Returns the disposition and the reason as one sentence.
    pub fn say_as(&mut self, source: &str, verb: &str, changes: serde_json::Value) -> (Disposition, String) {
        let mut event = self.command(verb, changes);
        if let Event::Commanded { id, .. } = &mut event {
            id.source = source.to_owned();
        }
        (self.tell(event), self.answer.clone())
    }

    /// Returns the event of a new command with the given verb, such as `pause`, for the workload. `changes` are keys of the
    /// command, or of the verb for `full`, `approval` and `until`.
    pub fn command(&mut self, verb: &str, changes: serde_json::Value) -> Event {
        let mut json = serde_json::json!({ "scope": workload().to_string(), "verb": { "verb": verb } });
        if verb == "promote" {
            json["verb"]["full"] = false.into();
        }
        for (key, value) in changes.as_object().unwrap() {
            let belongs_to_verb = ["full", "approval", "until"].contains(&key.as_str());
            if belongs_to_verb { json["verb"][key] = value.clone() } else { json[key] = value.clone() }
        }
        let command: Command = serde_json::from_value(json).unwrap();
        self.commands += 1;
        let id = EventId { source: "ann".into(), id: self.commands.to_string() };
        Event::Commanded { id, time: Some(self.now), command }
    }

    /// Returns the reason of the newest told event's transition.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// Returns the workload's rollout, which must exist.
    pub fn rollout(&self) -> &Rollout {
        self.engine.state(&workload()).unwrap().rollout.as_ref().unwrap()
    }

    /// Runs until the rollout is held for a reason that contains `why`, for at most three hours, and panics otherwise.
    pub fn run_until_held(&mut self, why: &str) {
        for _ in 0..3 * 3600 {
            self.second();
            if self.rollout().current.hold.as_ref().is_some_and(|held| held.reason.to_string().contains(why)) {
                return;
            }
        }
        panic!("never held for {why:?}: {:#?}", self.whys());
    }

    /// Gives an event to the engine, performs the resulting effects and gives their outcomes to the engine. Returns the
    /// disposition of the event.
    pub fn tell(&mut self, event: Event) -> Disposition {
        let transitions = self.engine.step(event, self.now);
        let disposition = transitions.first().map_or(Disposition::Ignored, |transition| transition.disposition);
        self.answer = transitions.first().map_or_else(String::new, |transition| transition.reason.to_string());
        self.take(transitions);
        while !self.acts_hang
            && let Some(event) = self.queue.pop_front()
        {
            let transitions = self.engine.step(event, self.now);
            self.take(transitions);
        }
        disposition
    }

    /// Records the decisions and messages of transitions, and performs their effects.
    fn take(&mut self, transitions: Vec<Transition>) {
        for transition in transitions {
            assert_eq!(transition.defect, None, "the engine has panicked");
            self.decisions.extend(transition.decisions);
            for effect in transition.effects {
                let needs_api = match &effect.act {
                    Act::Cluster(_) | Act::Metrics(_) | Act::Registry(_) => true,
                    Act::People(Notify { sink, notification, .. }) => {
                        self.messages.extend(notification.message.clone().filter(|_| *sink == people()));
                        *sink == events()
                    }
                };
                let outcome = if (self.api_away || self.acts_fail) && needs_api {
                    Outcome::Failed(self.failure.clone())
                } else {
                    self.model.perform(&effect, self.now)
                };
                let (workload, id) = (effect.workload.clone(), effect.id.clone());
                self.queue.push_back(Event::Performed { workload, effect: id, outcome });
                self.effects.push(effect);
            }
        }
    }

    /// Lets the new version's requests behave as those of a revision with the given tag from now on.
    pub fn behaves_as(&mut self, tag: &str) {
        self.behaviour = images(tag).get("app").cloned();
    }

    /// Tells the engine of the workload's status, changed or not, as the watches do after a restart.
    pub fn reobserve(&mut self) {
        self.observed = None;
        self.observe();
    }

    /// Tells the engine of the workload's status if it has changed.
    fn observe(&mut self) {
        let status = self.model.status(&workload(), self.now);
        if !self.api_away && self.observed.as_ref() != Some(&status) {
            self.observed = Some(status.clone());
            self.tell(Event::Observed { workload: workload(), status: Box::new(status) });
        }
    }

    /// Runs until the rollout has ended, for at most `seconds`. Returns its ending, or `None` if it has not ended.
    pub fn run(&mut self, seconds: u64) -> Option<Ending> {
        for _ in 0..seconds {
            self.second();
            let rollout = self.engine.state(&workload()).and_then(|state| state.rollout.as_ref());
            if let Some(ending) = rollout.and_then(|rollout| rollout.ending()) {
                return Some(ending);
            }
        }
        None
    }

    /// Advances the time by one second: observes the cluster, wakes the engine, and measures a block every [`GRID`]
    /// seconds.
    pub fn second(&mut self) {
        self.now = Span::from_secs(1).after(self.now);
        if !self.api_away {
            self.engine.sighted(self.now);
        }
        self.observe();
        if self.engine.next_wakeup().is_some_and(|at| at <= self.now) {
            self.tell(Event::Tick);
        }
        if self.now.as_second() % GRID == 0 && !self.silent {
            for watch in self.engine.watches() {
                let block = self.block(watch.canary.is_none());
                self.tell(Event::Measured { workload: watch.workload, block });
            }
        }
    }

    /// Returns the block that ends now. In the guard it has the stable alone.
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
                    canary: canary.map(|arm| {
                        let image = self.behaviour.as_ref().or_else(|| arm.images.values().next()).unwrap();
                        reading(name, image, canary_n, guarding, &mut self.carry.0)
                    }),
                    stable: status
                        .stable
                        .as_ref()
                        .and_then(|arm| arm.images.values().next())
                        .map(|image| reading(name, image, n - canary_n, guarding, &mut self.carry.1)),
                }
            };
            metrics.insert(name.to_owned(), sample);
        }
        Block::new(from, to, metrics)
    }

    /// Returns the kinds of all decisions so far, as texts.
    pub fn kinds(&self) -> Vec<String> {
        self.decisions.iter().map(|decision| decision.kind.to_string()).collect()
    }

    /// Returns the reasons of all decisions so far, as sentences.
    pub fn whys(&self) -> Vec<&str> {
        self.decisions.iter().map(|decision| decision.why.as_str()).collect()
    }

    /// Returns the images that the stable runs.
    pub fn running(&self) -> Images {
        self.model.status(&workload(), self.now).stable.unwrap().images
    }
}

/// Returns an arm's reading of a metric for `n` requests.
fn reading(metric: &str, image: &str, n: u64, guarding: bool, carry: &mut u64) -> Reading {
    let (percent, slow) = behaviour(image, guarding);
    if metric == "error-rate" {
        let hundredths = n * percent + *carry;
        *carry = hundredths % 100;
        return Reading::Ratio { hits: hundredths / 100, total: n };
    }
    let quick = if slow { n * 80 / 100 } else { n };
    Reading::Histogram { edges: vec![0.25, 0.5, 1.0, 5.0], counts: vec![quick, 0, 0, n - quick, 0] }
}
