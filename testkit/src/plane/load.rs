//! A load generator that sends requests through the gateway and counts the answers, as users would see them.
//!
//! It uses no random numbers: the requests are sent at a constant rate, and [`super::behaviour`] determines the answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::gateway;
use super::pods::RequestCounts;

const TIMEOUT: Duration = Duration::from_secs(15);
/// The number of failures of the gateway that are kept with their time and status.
const SHOWN_FAILURES: usize = 5;

/// Requests at a constant rate, independent of the answers (open loop), so that a slow version gets no less traffic.
pub struct TrafficLoad {
    counts: Arc<Mutex<TrafficCounts>>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// The counts of a load.
#[derive(Debug, Clone, Default)]
pub struct TrafficCounts {
    /// Number of requests sent.
    pub sent: u64,
    /// Requests without an answer: refused, cut off, or not answered within the timeout.
    pub lost: u64,
    /// Answers by HTTP status.
    pub by_status: BTreeMap<u16, u64>,
    /// Answers of pods by their version. An answer of the gateway itself has no version.
    pub by_version: BTreeMap<String, RequestCounts>,
    /// Answers of pods by their name.
    pub by_pod: BTreeMap<String, RequestCounts>,
    /// Failures that no pod gave: answers of the gateway itself, and requests without an answer.
    pub of_gateway: GatewayFailures,
    latencies: BTreeMap<String, Vec<Duration>>,
}

/// Failures that no pod gave.
#[derive(Debug, Clone, Default)]
pub struct GatewayFailures {
    count: u64,
    first: Vec<String>,
    last: Option<String>,
}

impl GatewayFailures {
    fn add(&mut self, failure: &str) {
        let failure = format!("{} {failure}", jiff::Timestamp::now());
        self.count += 1;
        if self.first.len() < SHOWN_FAILURES {
            self.first.push(failure.clone());
        }
        self.last = Some(failure);
    }
}

impl fmt::Display for GatewayFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.last.as_deref().unwrap_or("none");
        write!(f, "{} failures of the gateway, the first: {}; the last: {last}", self.count, self.first.join(", "))
    }
}

impl TrafficCounts {
    /// Returns the number of answers.
    pub fn answered(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// Returns the number of failures that users would see: answers with 5xx, and requests without an answer.
    pub fn failed(&self) -> u64 {
        self.lost + self.by_status.range(500..).map(|(_, count)| count).sum::<u64>()
    }

    /// Returns the answers of a version.
    pub fn of_version(&self, version: &str) -> RequestCounts {
        self.by_version.get(version).copied().unwrap_or_default()
    }

    /// Returns the latency that the share `quantile` (0 to 1) of a version's answers did not exceed. `None`: it gave no
    /// answer.
    pub fn latency(&self, version: &str, quantile: f64) -> Option<Duration> {
        let mut sorted = self.latencies.get(version)?.clone();
        sorted.sort_unstable();
        let rank = (quantile * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    fn add(&mut self, answer: &reqwest::Response, latency: Duration) {
        let status = answer.status().as_u16();
        *self.by_status.entry(status).or_default() += 1;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (Some(version), Some(pod)) = (header("x-version"), header("x-pod")) else {
            if status >= 500 {
                self.of_gateway.add(&status.to_string());
            }
            return;
        };
        self.latencies.entry(version.clone()).or_default().push(latency);
        for counts in [self.by_version.entry(version).or_default(), self.by_pod.entry(pod).or_default()] {
            counts.total += 1;
            counts.errors += u64::from(status >= 500);
        }
    }
}

impl TrafficLoad {
    /// Sends requests to `host` until [`TrafficLoad::stop`], or until `limit` requests are sent. Each has `header`, a name
    /// and a value.
    ///
    /// # Errors
    /// The HTTP client can't be built.
    pub fn start(
        host: &str,
        per_second: f64,
        limit: Option<u64>,
        header: Option<(&'static str, &'static str)>,
    ) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("the load's client")?;
        let counts = Arc::new(Mutex::new(TrafficCounts::default()));
        let (stop, stopped) = watch::channel(false);
        let sender = Sender { http, host: host.to_owned(), header, counts: counts.clone() };
        let task = tokio::spawn(sender.run(Duration::from_secs_f64(1.0 / per_second), limit, stopped));
        Ok(Self { counts, stop, task: Some(task) })
    }

    /// Sends this number of requests and waits for all answers.
    ///
    /// # Errors
    /// The HTTP client can't be built.
    pub async fn send(host: &str, per_second: f64, requests: u64) -> Result<TrafficCounts> {
        let mut load = Self::start(host, per_second, Some(requests), None)?;
        load.join().await
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> TrafficCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops sending, waits for the answers to all requests, and returns the final counts.
    ///
    /// # Errors
    /// The load's task has panicked.
    pub async fn stop(mut self) -> Result<TrafficCounts> {
        self.stop.send_replace(true);
        self.join().await
    }

    async fn join(&mut self) -> Result<TrafficCounts> {
        if let Some(task) = self.task.take() {
            task.await.context("the load's task")?;
        }
        Ok(self.counts())
    }
}

impl Drop for TrafficLoad {
    fn drop(&mut self) {
        self.task.take().inspect(JoinHandle::abort);
    }
}

struct Sender {
    http: reqwest::Client,
    host: String,
    header: Option<(&'static str, &'static str)>,
    counts: Arc<Mutex<TrafficCounts>>,
}

impl Sender {
    async fn run(self, interval: Duration, limit: Option<u64>, mut stopped: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(interval);
        // After a delay the missed requests are sent at once, so that the rate is right on average.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut requests = JoinSet::new();
        for _ in 0..limit.unwrap_or(u64::MAX) {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopped.changed() => break,
            }
            requests.spawn(self.request());
            while requests.try_join_next().is_some() {}
        }
        while requests.join_next().await.is_some() {}
    }

    fn request(&self) -> impl Future<Output = ()> + use<> {
        let request = self.http.get(format!("http://{}/", gateway::ADDRESS)).header("host", &self.host);
        let request = self.header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let counts = self.counts.clone();
        let update = move |change: &dyn Fn(&mut TrafficCounts)| {
            change(&mut counts.lock().unwrap_or_else(PoisonError::into_inner));
        };
        update(&|counts| counts.sent += 1);
        async move {
            let sent = Instant::now();
            match request.send().await {
                Ok(answer) => update(&|counts| counts.add(&answer, sent.elapsed())),
                Err(error) => update(&|counts| {
                    counts.lost += 1;
                    counts.of_gateway.add(&error.to_string());
                }),
            }
        }
    }
}
