//! A load generator through the real gateway, which keeps counts of its own: what a user would have seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::gateway;
use super::pods::Served;

const TIMEOUT: Duration = Duration::from_secs(15);

/// Requests at a steady rate, whether or not the answers come (open loop): a slow version gets no less traffic for it.
pub struct Load {
    counts: Arc<Mutex<Counts>>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub sent: u64,
    /// No answer at all: refused, cut off, or none within the timeout.
    pub lost: u64,
    pub by_status: BTreeMap<u16, u64>,
    /// By the version that answered; an answer of the gateway itself has none.
    pub by_version: BTreeMap<String, Served>,
    pub by_pod: BTreeMap<String, Served>,
    latencies: BTreeMap<String, Vec<Duration>>,
}

impl Counts {
    pub fn answered(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// What a user calls broken: a 5xx, or no answer.
    pub fn failed(&self) -> u64 {
        self.lost + self.by_status.range(500..).map(|(_, count)| count).sum::<u64>()
    }

    pub fn of_version(&self, version: &str) -> Served {
        self.by_version.get(version).copied().unwrap_or_default()
    }

    /// The share of the answers that this version gave, from 0 to 1.
    pub fn share(&self, version: &str) -> f64 {
        self.of_version(version).total as f64 / (self.answered().max(1)) as f64
    }

    /// The latency that this share (0 to 1) of a version's answers did not exceed.
    pub fn quantile(&self, version: &str, share: f64) -> Option<Duration> {
        let mut sorted = self.latencies.get(version)?.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    fn add(&mut self, answer: &reqwest::Response, took: Duration) {
        let status = answer.status().as_u16();
        *self.by_status.entry(status).or_default() += 1;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (Some(version), Some(pod)) = (header("x-version"), header("x-pod")) else { return };
        self.latencies.entry(version.clone()).or_default().push(took);
        for served in [self.by_version.entry(version).or_default(), self.by_pod.entry(pod).or_default()] {
            served.total += 1;
            served.errors += u64::from(status >= 500);
        }
    }
}

/// What a cohort's requests carry.
pub type Header = Option<(&'static str, &'static str)>;

impl Load {
    /// Sends until [`Load::stop`], or until `limit` requests are sent.
    pub fn start(host: &str, per_second: f64, limit: Option<u64>, header: Header) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("the load's client")?;
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (stop, stopped) = watch::channel(false);
        let sender = Sender { http, host: host.to_owned(), header, counts: counts.clone() };
        let task = tokio::spawn(sender.run(Duration::from_secs_f64(1.0 / per_second), limit, stopped));
        Ok(Self { counts, stop, task: Some(task) })
    }

    /// Sends so many requests and waits for all the answers.
    pub async fn send(host: &str, per_second: f64, requests: u64) -> Result<Counts> {
        let mut load = Self::start(host, per_second, Some(requests), None)?;
        load.join().await
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops sending, waits for the answers that are under way, and returns the final counts.
    pub async fn stop(mut self) -> Result<Counts> {
        self.stop.send_replace(true);
        self.join().await
    }

    async fn join(&mut self) -> Result<Counts> {
        if let Some(task) = self.task.take() {
            task.await.context("the load's task")?;
        }
        Ok(self.counts())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.take().inspect(JoinHandle::abort);
    }
}

struct Sender {
    http: reqwest::Client,
    host: String,
    header: Header,
    counts: Arc<Mutex<Counts>>,
}

impl Sender {
    async fn run(self, interval: Duration, limit: Option<u64>, mut stopped: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(interval);
        // A late tick is made up for: the rate is a promise.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut under_way = JoinSet::new();
        for _ in 0..limit.unwrap_or(u64::MAX) {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopped.changed() => break,
            }
            under_way.spawn(self.request());
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    fn request(&self) -> impl Future<Output = ()> + use<> {
        let request = self.http.get(format!("http://{}/", gateway::ADDRESS)).header("host", &self.host);
        let request = self.header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let counts = self.counts.clone();
        let lock =
            move |change: &dyn Fn(&mut Counts)| change(&mut counts.lock().unwrap_or_else(PoisonError::into_inner));
        lock(&|counts| counts.sent += 1);
        async move {
            let sent = Instant::now();
            match request.send().await {
                Ok(answer) => lock(&|counts| counts.add(&answer, sent.elapsed())),
                Err(_) => lock(&|counts| counts.lost += 1),
            }
        }
    }
}
