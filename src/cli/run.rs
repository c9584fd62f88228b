//! `bellwether run`: the composition root, the only place that creates the real adapters and passes them to the daemon.
//!
//! A permanent fault, such as a wrong configuration, ends the process before it owns a partition. A dependency that is
//! unavailable for a while (Prometheus, the API server) does not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bellwether_core::engine::Engine;
use bellwether_core::ids::Workload;
use bellwether_core::policy::Policy;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::backend::Backend;
use super::{Common, sinks};
use crate::access::Access;
use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::prometheus::{Prometheus, PrometheusForPreparing};
use crate::adapters::registry::RegistryModels;
use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::config::{self, Config};
use crate::daemon::{self, Grid, Parts};
use crate::events::decode::DecodeOptions;
use crate::events::identity::{SHORTEST_STAMP_KEY, StampKey};
use crate::exit;
use crate::http::{self, Senders, Shown};
use crate::perform::Executor;
use crate::ports::Wake;
use crate::sampling::probe::Prober;
use crate::sampling::{self, Sampler};
use crate::secret;
use crate::shard::Shared;
use crate::show::StatusBoard;
use crate::telemetry;

mod backend;
mod readiness;
mod split;

/// The capacity of the queue of wakes to the daemon, and of the queue of posted events.
const QUEUE_CAPACITY: usize = 1024;
/// The interval at which the metrics recorder moves observations of histograms into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The arguments of `run`; it has none of its own.
#[derive(Debug, Args)]
pub struct RunArgs {}

/// Runs the daemon until SIGTERM or SIGINT, and returns the exit code.
///
/// # Errors
/// The configuration is wrong, a thing that it names can't be used, the Kafka consumer has ended, or the journal is broken.
pub async fn run(_: RunArgs, common: &Common) -> anyhow::Result<u8> {
    let config = load(common)?;
    telemetry::install(&config.log);
    telemetry::install_tls();
    let metrics = crate::metrics::install().context("the metrics recorder")?;
    let stop = stop_on_signals()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let listener = http::bind(&config.http).await?;
    let (policies_now, policies) = watch::channel(config.policies.clone());
    let (wakes, inbox) = mpsc::channel(QUEUE_CAPACITY);
    let access = Access::new(&config.access, stamp_key(&config.http)?, config.kafka.events_retention);
    let access = access.context("[access.keys]")?;
    let decoding = DecodeOptions::new(config.cluster.clone(), config.events.mapping.clone());
    let decoding = Arc::new(decoding.with_access(access));

    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)).await?;
    let prometheus = Arc::new(Prometheus::new(&config.prometheus)?);
    let mut backend = Backend::open(&config, wakes.clone(), &decoding).await?;

    let senders = config.http.authenticate.then(|| {
        let reviews = Arc::new(cluster.reviews(config.http.audiences.clone()));
        Arc::new(Senders { reviews, decoding: Arc::clone(&decoding), clock: Arc::clone(&clock) })
    });
    let shows = StatusBoard::default();
    let sampling = sampling_options(&config);
    let preparing = Arc::new(PrometheusForPreparing(prometheus.clone()));
    let prober = Prober::new(preparing, Arc::new(cluster.clone()), Arc::clone(&clock), sampling);
    let models = RegistryModels::new(config.registry.clone(), Arc::clone(&clock));
    let mut sinks = sinks::open(&config)?;
    sinks.push(Arc::new(cluster.events()));
    let executor = Executor::new(Arc::new(cluster.clone()), Arc::new(prober), Arc::new(models), sinks);
    let engine = Engine::new(config.cluster.clone(), config.policies.clone(), config.kafka.events_retention);
    let (heartbeat, beat) = watch::channel(Stopwatch::start());
    let (owned, owns) = watch::channel(Vec::new());
    let parts = Parts {
        shared: Shared {
            clock: Arc::clone(&clock),
            journals: backend.journals(),
            decoding,
            board: shows.clone(),
            blank: engine.with_sinks(executor.sinks()),
            executor,
        },
        wakes: inbox,
        counts: Box::new(Sampler::new(prometheus, Arc::new(cluster.clone()), sampling)),
        grid: Grid { interval: config.prometheus.interval, lag: config.prometheus.lag },
        statuses: Arc::new(cluster.clone()),
        policies: policies.clone(),
        heartbeat,
        owned,
        stop: stop.clone(),
    };

    let analysis = tokio::spawn(watch_cluster(cluster.clone(), config.cluster.clone(), policies, wakes, stop.clone()));
    let (conditions_now, conditions) = watch::channel(readiness::at_start());
    let split = tokio::spawn(split::follow(cluster.clone(), config.cluster.clone(), shows.watch()));
    let conditions_task = tokio::spawn(readiness::follow(cluster, owns, backend.pulse(), conditions_now));
    let upkeep = tokio::spawn(run_upkeep(metrics.clone()));
    let intake = backend.http_intake();
    let shown = Shown { view: shows.watch(), conditions, heartbeat: beat, metrics, intake, senders };
    let server = tokio::spawn(serve(listener, config.http.clone(), shown, stop.clone()));
    let reloading = tokio::spawn(reload_on_signal(common.clone(), policies_now)?);
    tracing::info!(cluster = config.cluster, policies = config.policies.len(), listen = %config.http.listen, "running");

    let result = tokio::select! {
        result = daemon::run(parts) => result,
        ended = backend.ended() => Err(ended),
    };
    // A shutdown makes no decisions: the next owner of each partition continues from the committed state.
    stop.cancel();
    backend.stop().await;
    for task in [analysis, conditions_task, split, reloading, upkeep] {
        task.abort();
    }
    server.await.context("the HTTP server")??;
    result?;
    tracing::info!("stopped");
    Ok(exit::OK)
}

/// Returns the key of the stamps of posted events; `None` if they need no token. Without a file it is this process's own, which is
/// enough for the embedded journal.
fn stamp_key(options: &http::Options) -> anyhow::Result<Option<StampKey>> {
    if !options.authenticate {
        return Ok(None);
    }
    let key = match &options.stamp_key_file {
        Some(file) => StampKey::of(&secret::read(file).context("http.stamp-key-file")?)
            .with_context(|| format!("http.stamp-key-file needs at least {SHORTEST_STAMP_KEY} bytes"))?,
        None => StampKey::random().context("no random numbers can be had")?,
    };
    Ok(Some(key))
}

fn load(common: &Common) -> anyhow::Result<Config> {
    config::load(&common.sources()).map_err(|report| anyhow!("{report}"))
}

/// Returns the sampler's options, from the configuration of Prometheus.
pub(super) fn sampling_options(config: &Config) -> sampling::Options {
    let prometheus = &config.prometheus;
    sampling::Options {
        interval: prometheus.interval,
        lag: prometheus.lag,
        scrape_interval: prometheus.scrape_interval,
        ..sampling::Options::default()
    }
}

async fn watch_cluster(
    cluster: Kubernetes,
    name: String,
    policies: watch::Receiver<Vec<Policy>>,
    wakes: mpsc::Sender<Wake>,
    stop: CancellationToken,
) {
    let wanted = move |workload: &Workload| {
        workload.cluster == name && policies.borrow().iter().any(|policy| policy.covers(workload))
    };
    cluster.watch(wanted, wakes, stop).await;
}

/// Moves the observations of histograms into their buckets at intervals, so that memory stays bounded without a scrape.
async fn run_upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        metrics.run_upkeep();
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    options: http::Options,
    shown: Shown,
    stop: CancellationToken,
) -> Result<(), http::HttpError> {
    http::serve(listener, &options, shown, stop).await
}

fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: stopping"),
            _ = int.recv() => tracing::info!("SIGINT: stopping"),
        }
        cancel.cancel();
    });
    Ok(stop)
}

/// Reloads the policies on each SIGHUP. They apply to rollouts that begin later. A configuration with problems is logged
/// and changes nothing.
fn reload_on_signal(
    common: Common,
    policies: watch::Sender<Vec<Policy>>,
) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut hup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hup.recv().await.is_some() {
            match config::load(&common.sources()) {
                Ok(config) => {
                    tracing::info!(policies = config.policies.len(), "policies reloaded; other changes need a restart");
                    crate::metrics::config_reload(true);
                    // Sending fails only if the daemon has ended; this task then ends as well.
                    let _ = policies.send(config.policies);
                }
                Err(report) => {
                    crate::metrics::config_reload(false);
                    tracing::error!(
                        "the new configuration is refused and the old one stays in force; correct it and send SIGHUP again:\n{report}"
                    );
                }
            }
        }
    })
}
