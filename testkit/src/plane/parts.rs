//! All parts of the plane together.
#![expect(clippy::print_stdout, reason = "the test binary shows how long each part takes to start")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::gateway::Traefik;
use super::kafka::KafkaBroker;
use super::kubernetes::ControlPlane;
use super::metrics_api::MetricsApi;
use super::paths::{PlanePaths, cache};
use super::pods::PodServer;
use super::prometheus::PrometheusServer;
use super::s3::S3Server;
use super::targets::TargetFile;

/// The interval at which Prometheus scrapes. It is short, so that a story does not take minutes, and divides every window
/// of the policies.
pub const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// A running plane.
pub struct Plane {
    /// The Kafka broker.
    pub kafka: KafkaBroker,
    /// The Kubernetes control plane.
    pub kubernetes: ControlPlane,
    /// The Prometheus server.
    pub prometheus: PrometheusServer,
    /// The server that answers for all pods.
    pub pods: Arc<PodServer>,
    /// The folder with one log for each program.
    pub logs: PathBuf,
    /// The folder for data. It is in memory, and ends with the plane.
    pub data: PathBuf,
    /// The program `bellwether` under test.
    pub program: PathBuf,
    numbers: AtomicU16,
    _gateway: Traefik,
    _metrics: MetricsApi,
    _s3: S3Server,
    _targets: TargetFile,
}

impl Plane {
    /// Starts all parts. The process must be in the plane's namespace: see [`super::namespace::enter`].
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(paths: &PlanePaths, logs: &Path) -> Result<Self> {
        Self::start_scraping(paths, logs, SCRAPE_INTERVAL).await
    }

    /// Starts all parts, with another scrape interval of Prometheus.
    ///
    /// # Errors
    /// As for [`Plane::start`].
    pub async fn start_scraping(paths: &PlanePaths, logs: &Path, scrape_interval: Duration) -> Result<Self> {
        let (cache, data) = (&cache()?, &paths.data());
        let kafka = timed("Kafka", KafkaBroker::start(cache, data, logs));
        let prometheus = timed("Prometheus", PrometheusServer::start(cache, data, logs, scrape_interval));
        let s3 = timed("S3", S3Server::start(cache, data, logs));
        let cluster = async {
            let kubernetes = timed("Kubernetes", ControlPlane::start(cache, data, logs)).await?;
            let gateway = timed("the gateway", Traefik::start(cache, logs, &kubernetes)).await?;
            Ok((kubernetes, gateway))
        };
        let (kafka, prometheus, s3, (kubernetes, gateway)) = tokio::try_join!(kafka, prometheus, s3, cluster)?;
        let pods = Arc::new(PodServer::start(kubernetes.client.clone()).await?);
        let metrics = MetricsApi::start(&kubernetes, pods.clone()).await?;
        let targets = TargetFile::start(pods.clone(), prometheus.targets.clone());
        Ok(Self {
            kafka,
            kubernetes,
            prometheus,
            pods,
            logs: logs.to_owned(),
            data: data.clone(),
            program: paths.program.clone(),
            numbers: AtomicU16::new(0),
            _gateway: gateway,
            _metrics: metrics,
            _s3: s3,
            _targets: targets,
        })
    }

    /// Returns a number that is different each time, for unique names and ports.
    pub fn number(&self) -> u16 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

async fn timed<T>(name: &str, start: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let part = start.await.with_context(|| format!("starting {name}"))?;
    println!("plane: {name} is ready after {:.1} s", started.elapsed().as_secs_f64());
    Ok(part)
}
