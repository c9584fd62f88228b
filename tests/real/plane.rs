//! The plane: a real Kafka, Kubernetes API, gateway, Prometheus and S3, started once for all stories.
//!
//! Nothing in it is made up but the containers: [`pods`] plays those. Each file is one part; [`story`] is what a test sees.

// The stories use what they need of it, and the plane comes before the stories.
#![allow(dead_code, reason = "a kit for the stories, of which each uses a part")]

pub mod wait;
pub mod process;
pub mod kafka;
pub mod kubernetes;
pub mod gateway;
pub mod prometheus;
pub mod s3;
pub mod behaviour;
pub mod pods;
pub mod targets;
pub mod load;
pub mod proxy;
pub mod slack;
pub mod story;
pub mod bellwether;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::gateway::Gateway;
use self::kafka::Kafka;
use self::kubernetes::Kubernetes;
use self::pods::Pods;
use self::prometheus::Prometheus;
use self::s3::S3;
use self::targets::Targets;

/// Short, so that a story does not take minutes; a whole number of them is in every window.
pub const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

pub struct Plane {
    pub kafka: Kafka,
    pub kubernetes: Kubernetes,
    pub prometheus: Prometheus,
    pub pods: Arc<Pods>,
    /// One file per program.
    pub logs: PathBuf,
    /// In memory, and gone with the plane.
    pub data: PathBuf,
    numbers: AtomicU16,
    _gateway: Gateway,
    _s3: S3,
    _targets: Targets,
}

impl Plane {
    pub async fn start(cache: &Path, data: &Path, logs: &Path) -> Result<Self> {
        let kafka = timed("Kafka", Kafka::start(cache, data, logs));
        let prometheus = timed("Prometheus", Prometheus::start(cache, data, logs, SCRAPE_INTERVAL));
        let s3 = timed("S3", S3::start(cache, data, logs));
        let cluster = async {
            let kubernetes = timed("Kubernetes", Kubernetes::start(cache, data, logs)).await?;
            let gateway = timed("the gateway", Gateway::start(cache, logs, &kubernetes)).await?;
            Ok((kubernetes, gateway))
        };
        let (kafka, prometheus, s3, (kubernetes, gateway)) = tokio::try_join!(kafka, prometheus, s3, cluster)?;
        let pods = Arc::new(Pods::start(kubernetes.client.clone()).await?);
        let targets = Targets::start(pods.clone(), prometheus.targets.clone());
        Ok(Self {
            kafka,
            kubernetes,
            prometheus,
            pods,
            logs: logs.to_owned(),
            data: data.to_owned(),
            numbers: AtomicU16::new(0),
            _gateway: gateway,
            _s3: s3,
            _targets: targets,
        })
    }

    /// Another number each time, for names and ports that nobody else has.
    pub fn number(&self) -> u16 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

async fn timed<T>(what: &str, start: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let part = start.await.with_context(|| format!("starting {what}"))?;
    println!("plane: {what} is ready after {:.1} s", started.elapsed().as_secs_f64());
    Ok(part)
}

/// For all HTTP of the harness: never by a proxy, never for ever.
pub fn http_client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?)
}

/// Where `tests/provision` puts things.
pub fn cache() -> Result<PathBuf> {
    if let Some(cache) = env::var_os("BELLWETHER_CACHE") {
        return Ok(cache.into());
    }
    let caches = match env::var_os("XDG_CACHE_HOME") {
        Some(caches) => PathBuf::from(caches),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(caches.join("bellwether"))
}

/// A folder for this run's logs; those of runs that failed stay for a day.
pub fn fresh_logs() -> Result<PathBuf> {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("logs");
    fs::create_dir_all(&all)?;
    for entry in fs::read_dir(&all)?.flatten() {
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > Duration::from_secs(24 * 3600) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let logs = all.join(jiff::Timestamp::now().as_millisecond().to_string());
    fs::create_dir_all(&logs)?;
    Ok(logs)
}
