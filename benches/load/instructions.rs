//! The paths that every rollout takes in every tick, each alone, for `tests/instructions`: it counts the instructions of a number of
//! calls, and takes those of the same program without a call away.
//!
//! The workloads are in a step whose checks compare two arms. The sampler's queries are answered by the stand-in for Prometheus, before
//! anything is counted.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bellwether::adapters::prometheus::answer::{ApiResponse, QueryData, read_points};
use bellwether::events::cdevents::{REQUESTED, wrap};
use bellwether::events::decode::{DecodeOptions, decode};
use bellwether::events::mapping::Mapping;
use bellwether::ledger::Ledger;
use bellwether::ports::{Batch, Metrics, MetricsError, PodDirectory, PodFacts, SeriesPoint};
use bellwether::sampling::{Options, Sampler};
use bellwether::show::StatusBoard;
use bellwether_core::engine::{Engine, WorkloadState};
use bellwether_core::ids::Workload;
use bellwether_core::input::event::Event;
use bellwether_core::measure::block::{Block, Sample};
use bellwether_core::time::{Span, TimeRange, Timestamp};
use bellwether_sim::story::{Story, workload};
use futures::FutureExt as _;

use super::stand_in;

/// The number of workloads.
const WORKLOADS: usize = 8;
/// The most ticks of a path: enough for a snapshot of each rollout.
const TICKS: u32 = 16;
const INTERVAL: Span = Span::from_secs(30);

/// Calls the path that the second argument of the program names as often as the third says.
///
/// # Errors
/// There is no such path, or it can't be called so often.
pub fn call_as_told() -> anyhow::Result<()> {
    let [path, times] = std::env::args()
        .skip(2)
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .context("the arguments: instructions PATH TIMES")?;
    call(&path, times.parse().context("the number of calls")?)
}

/// Calls the path with this name `times` times.
///
/// # Errors
/// There is no such path, or it can't be called so often.
fn call(path: &str, times: u32) -> anyhow::Result<()> {
    anyhow::ensure!(times <= TICKS, "at most {TICKS} times");
    match path {
        "decode" => decoding(times),
        "answer" => answer(times),
        "sample" => World::new()?.sample(times),
        "step" => World::new()?.step(times),
        "show" => World::new()?.show(times),
        other => bail!("no path {other:?}"),
    }
}

/// Decodes a request for a rollout.
fn decoding(times: u32) -> anyhow::Result<()> {
    let request = super::request(7);
    let (key, now) = (request.workload.to_string(), Timestamp::UNIX_EPOCH);
    let record = wrap(REQUESTED, "/load", "7", now, &key, serde_json::json!(request)).to_record(&key);
    let options = DecodeOptions::new("load", Mapping::default());
    for _ in 0..times {
        black_box(decode(&record, &options, now));
    }
    Ok(())
}

/// Reads an answer with the buckets of the pods of ten workloads.
fn answer(times: u32) -> anyhow::Result<()> {
    let pods: Vec<String> = (0..10).map(|n| format!("{}-.*", stand_in::name(n))).collect();
    let query = format!(r#"sum by (namespace, pod, le) (web_bucket{{pod=~"{}"}})"#, pods.join("|"));
    let text = stand_in::answer_to(&query, 1.8e9);
    for _ in 0..times {
        black_box(points(&text)?);
    }
    Ok(())
}

fn points(text: &str) -> anyhow::Result<Vec<SeriesPoint>> {
    let answer: ApiResponse<QueryData> = serde_json::from_str(text)?;
    Ok(read_points(answer.data)?)
}

/// The workloads with their rollouts, and their blocks.
struct World {
    ledger: Ledger,
    began: Timestamp,
    pods: Arc<StatePods>,
    answers: Arc<KnownAnswers>,
    /// The blocks of all ticks, in order.
    blocks: Vec<(Workload, Block)>,
}

impl World {
    fn new() -> anyhow::Result<World> {
        let policies = super::policies(tempfile::tempdir()?.path())?;
        let policy = policies.first().context("a policy")?;
        let mut story = Story::new(policy.clone());
        story.request("v2");
        story.run(300);
        let state = story.engine.basis(&workload());
        let mut entries = BTreeMap::new();
        for n in 0..WORKLOADS {
            let own = as_workload(&state, &stand_in::name(n))?;
            let snapshot = serde_json::json!({ "seq": 1, "next_record": 1, "state": own });
            entries.insert(format!("{}/snap", own.workload), serde_json::to_vec(&snapshot)?);
        }
        let blank = Engine::new("test".to_owned(), policies, Span::from_secs(86_400));
        let (ledger, _) = Ledger::restore(&entries, blank)?;
        let mut world = World {
            ledger,
            // The next instant of the grid.
            began: INTERVAL.after(story.now),
            pods: Arc::new(StatePods(state)),
            answers: Arc::default(),
            blocks: Vec::new(),
        };
        let watched = world.ledger.engine().watches().len();
        anyhow::ensure!(watched == WORKLOADS, "{watched} of {WORKLOADS} workloads are measured");
        let is_counted = |block: &Block| block.metrics.values().all(|sample| matches!(sample, Sample::Arms { .. }));
        world.blocks = world.sampled(TICKS);
        let counted = world.blocks.iter().filter(|(_, block)| is_counted(block)).count();
        anyhow::ensure!(counted == WORKLOADS * TICKS as usize, "{counted} blocks have counts");
        Ok(world)
    }

    /// Returns the instant of a tick.
    fn at(&self, tick: u32) -> Timestamp {
        Span::from_millis(INTERVAL.as_millis() * u64::from(tick)).after(self.began)
    }

    /// Returns the blocks of the first ticks, of all workloads.
    fn sampled(&self, ticks: u32) -> Vec<(Workload, Block)> {
        let mut sampler =
            Sampler::new(self.answers.clone(), self.pods.clone(), Options { interval: INTERVAL, ..Options::default() });
        let mut watches = self.ledger.engine().watches();
        let mut blocks = Vec::new();
        for tick in 0..ticks {
            // Every answer is there at once.
            let more = sampler.tick(&watches, self.at(tick)).now_or_never().unwrap_or_default();
            for (workload, block) in &more {
                watches
                    .iter_mut()
                    .filter(|watch| watch.workload == *workload)
                    .for_each(|watch| watch.last = Some(block.to));
            }
            blocks.extend(more);
        }
        blocks
    }

    /// Samples all workloads.
    fn sample(self, times: u32) -> anyhow::Result<()> {
        black_box(self.sampled(times));
        Ok(())
    }

    /// Takes a block of each workload in, with its journal entries.
    fn step(mut self, times: u32) -> anyhow::Result<()> {
        for (workload, block) in self.blocks.into_iter().take(WORKLOADS * times as usize) {
            let (now, mut batch) = (block.to, Batch::default());
            black_box(self.ledger.step(Event::Measured { workload, block }, now, &mut batch)?);
            black_box(batch);
        }
        Ok(())
    }

    /// Shows each workload.
    fn show(self, times: u32) -> anyhow::Result<()> {
        let board = StatusBoard::default();
        for _ in 0..times {
            self.ledger.engine().states().for_each(|state| board.show(state));
        }
        Ok(())
    }
}

/// Returns the state of a workload in a rollout as that of another one.
fn as_workload(state: &WorkloadState, name: &str) -> anyhow::Result<WorkloadState> {
    let mut own = state.clone();
    own.workload.name = name.to_owned();
    let rollout = own.rollout.as_mut().context("a rollout")?;
    rollout.workload = own.workload.clone();
    let basis = rollout.basis.as_mut().context("a rollout after its preflight")?;
    basis.stable_uid = uid(&basis.stable_uid, name);
    let status = own.status.as_mut().context("a status")?;
    for arm in [&mut status.stable, &mut status.canary].into_iter().flatten() {
        arm.uid = uid(&arm.uid, name);
    }
    Ok(own)
}

/// Returns the uid of a Deployment for another workload.
fn uid(of_story: &str, name: &str) -> String {
    format!("{of_story}-{name}")
}

/// The pods of the workloads, whose arms are those of one state.
struct StatePods(WorkloadState);

impl PodDirectory for StatePods {
    fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
        let (name, is_canary) = stand_in::owner_of(pod)?;
        let status = self.0.status.as_ref()?;
        let arm = if is_canary { status.canary.as_ref() } else { status.stable.as_ref() }?;
        let facts = PodFacts {
            deployment_uid: uid(&arm.uid, name),
            pod_hash: arm.pod_hash.clone()?,
            started: stand_in::started(),
            restarts: BTreeMap::new(),
        };
        Some(facts.into())
    }

    fn service(&self, _: &Workload) -> Option<(String, u16)> {
        None
    }
}

/// The answers of the stand-in, each of which is made once.
#[derive(Default)]
struct KnownAnswers(Mutex<BTreeMap<(String, Timestamp), Vec<SeriesPoint>>>);

#[async_trait]
impl Metrics for KnownAnswers {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = known
            .entry((query.to_owned(), at))
            .or_insert_with(|| points(&stand_in::answer_to(query, at.as_second() as f64)).unwrap_or_default());
        Ok(answer.clone())
    }

    async fn type_of(&self, _: &str) -> Result<Option<String>, MetricsError> {
        Ok(None)
    }

    async fn range(&self, _: &str, _: TimeRange) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
        Ok(BTreeMap::new())
    }
}
