//! The rollouts of the story: on each workload one after another, until the faults are over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::{EventId, RolloutId};
use bellwether_sim::dice::Dice;
use bellwether_testkit::plane::kafka::TopicTail;
use bellwether_testkit::plane::specs::{REQUEST_SOURCE, STRUCTURED, request};
use futures::future::{try_join, try_join_all};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::arena::{Arena, ChaosWorkload};
use super::plan::ChaosFault;

/// Pause between two looks at the decisions.
const PAUSE: Duration = Duration::from_millis(300);
/// Rollouts of each workload at least.
const LEAST: usize = 2;

/// The running rollouts.
pub struct Rollouts<'a> {
    arena: &'a Arena<'a>,
    seed: u64,
    decisions: TopicTail,
    /// By rollout.
    last: Mutex<BTreeMap<String, LastDecision>>,
    /// The last request of each workload, as it was written.
    requests: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The workloads of which the next version is to be requested at once.
    impatient: Mutex<BTreeMap<String, Timestamp>>,
    last_round: AtomicBool,
    over: AtomicBool,
}

/// The last decision of a rollout.
#[derive(Debug, Clone)]
struct LastDecision {
    workload: String,
    phase: String,
    why: String,
    ended: bool,
}

impl<'a> Rollouts<'a> {
    pub async fn new(arena: &'a Arena<'a>, seed: u64) -> Result<Self> {
        let decisions = arena.broker.tail(&arena.sandbox.topic("decisions")).await?;
        Ok(Self {
            arena,
            seed,
            decisions,
            last: Mutex::default(),
            requests: Mutex::default(),
            impatient: Mutex::default(),
            last_round: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    /// Lets the running rollouts be the last ones.
    pub fn request_no_more(&self) {
        self.last_round.store(true, Ordering::Relaxed);
    }

    /// Returns whether all rollouts have ended.
    pub fn are_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Requests rollouts until [`Rollouts::request_no_more`], and waits for the end of all.
    ///
    /// # Errors
    /// A rollout has not ended `deadline` after the last request was allowed.
    pub async fn run(&self, deadline: Duration) -> Result<()> {
        let watch = async {
            while !self.are_over() {
                self.read_decisions().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        let all = async {
            let of_workloads = self.arena.workloads.iter().enumerate();
            try_join_all(of_workloads.map(|(n, workload)| self.of_workload(n as u64, workload, deadline))).await?;
            self.over.store(true, Ordering::Relaxed);
            Ok(())
        };
        try_join(watch, all).await.map(|_: ((), ())| ())
    }

    async fn of_workload(&self, number: u64, workload: &ChaosWorkload, deadline: Duration) -> Result<()> {
        let mut dice = Dice(self.seed.wrapping_add(1000 * (number + 1)));
        tokio::time::sleep(Duration::from_millis(dice.below(8000))).await;
        let mut open: Vec<String> = Vec::new();
        for n in 0.. {
            if n >= LEAST && self.last_round.load(Ordering::Relaxed) {
                break;
            }
            open.push(self.request(workload, n, dice.chance(35)).await?);
            self.until_next(workload, n + 1 >= LEAST, &mut open).await?;
        }
        let mut since: Option<Instant> = None;
        loop {
            let waiting = self.open(&open);
            if waiting.is_empty() {
                return Ok(());
            }
            if self.last_round.load(Ordering::Relaxed) {
                let since = *since.get_or_insert_with(Instant::now);
                ensure!(since.elapsed() < deadline, "not ended after {deadline:?}: {}", waiting.join("; "));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until all requested rollouts of the workload have ended, or the next version is to be requested at once, or these
    /// are the last ones.
    async fn until_next(&self, workload: &ChaosWorkload, are_enough: bool, open: &mut Vec<String>) -> Result<()> {
        loop {
            if self.open(open).is_empty() {
                open.clear();
                // The next request comes from a pipeline that has seen the end of the one before.
                tokio::time::sleep(PAUSE).await;
                return Ok(());
            }
            if let Some(at) = lock(&self.impatient).remove(&workload.name) {
                self.arena.note(ChaosFault::NewerRequest, &workload.name, at);
                return Ok(());
            }
            if are_enough && self.last_round.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns those of these rollouts that have not ended, each with its last decision.
    fn open(&self, ids: &[String]) -> Vec<String> {
        let last = lock(&self.last);
        let open = ids.iter().filter(|id| last.get(*id).is_none_or(|last| !last.ended));
        open.map(|id| format!("{id}: {}", last.get(id).map_or("not begun", |last| &last.why))).collect()
    }

    async fn request(&self, workload: &ChaosWorkload, n: usize, bad: bool) -> Result<String> {
        let sandbox = self.arena.sandbox;
        let object = sandbox.workload(&workload.name);
        let image = format!("registry.test/shop/web:v{}{}", n + 2, if bad { "-err50" } else { "" });
        let id = format!("{}/{image}", workload.name);
        let content = json!({"workload": object, "image": image, "policy": workload.policy(bad)});
        let event = request(&id, &content, Timestamp::now());
        lock(&self.requests).insert(workload.name.clone(), event.clone());
        let topic = sandbox.topic("events");
        self.arena.broker.produce(&topic, Some(&object.to_string()), &[STRUCTURED], &event).await?;
        Ok(RolloutId::of(&object, &EventId { source: REQUEST_SOURCE.to_owned(), id }).to_string())
    }

    async fn read_decisions(&self) -> Result<()> {
        for record in self.decisions.records().await? {
            let value = record.json()?;
            for decision in value["decisions"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let last = LastDecision {
                    workload: text(&decision["workload"]["name"]),
                    phase: text(&decision["to"]),
                    why: text(&decision["why"]),
                    ended: decision["ending"].is_string(),
                };
                lock(&self.last).insert(text(&decision["rollout"]), last);
            }
        }
        Ok(())
    }

    // ---- for the faults ----

    /// Returns the workloads whose rollout is in one of these phases, in a fixed order.
    pub fn in_phase(&self, phases: &[&str]) -> Vec<&'a ChaosWorkload> {
        let last = lock(&self.last);
        let running = |workload: &&ChaosWorkload| {
            let of_workload = last.values().filter(|last| last.workload == workload.name);
            of_workload.into_iter().any(|last| phases.contains(&last.phase.as_str()) && !last.ended)
        };
        self.arena.workloads.iter().filter(running).collect()
    }

    /// Returns the last request of a workload.
    ///
    /// # Errors
    /// There was none yet.
    pub fn last_request(&self, workload: &str) -> Result<Vec<u8>> {
        lock(&self.requests).get(workload).cloned().context("no request yet")
    }

    /// Lets the next version of a workload be requested at once.
    pub fn supersede(&self, workload: &str) {
        lock(&self.impatient).insert(workload.to_owned(), Timestamp::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
