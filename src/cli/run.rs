//! `bellwether run`: the composition root, the only place that creates the real adapters and passes them to the daemon.
//!
//! A permanent fault, such as a wrong configuration, ends the process before it owns a partition. A dependency that is
//! unavailable for a while (Prometheus, the API server) does not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bellwether_core::engine::Engine;
use bellwether_core::ids::{Scope, Workload};
use bellwether_core::policy::Policy;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Common;
use crate::adapters::kafka::{self, Emitter, Kafka};
use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::prometheus::Prometheus;
use crate::adapters::registry::RegistryModels;
use crate::adapters::slack::{NoNotify, Slack};
use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::config::{self, Config};
use crate::daemon::{self, Grid, Parts};
use crate::events::decode::{DecodeOptions, Decoded, decode};
use crate::exit;
use crate::http::{self, Conditions, Shown};
use crate::journal::JournalKind;
use crate::journal::embedded::{self, Embedded};
use crate::perform::Executor;
use crate::ports::{EventRecord, Journals, Notify, Partition, Receipt, Wake};
use crate::sampling::probe::Prober;
use crate::sampling::{self, Sampler};
use crate::shard::Shared;
use crate::show::StatusBoard;
use crate::telemetry;

/// The capacity of the queue of wakes to the daemon, and of the queue of posted events.
const QUEUE_CAPACITY: usize = 1024;
/// The interval at which the conditions of `/readyz` are refreshed.
const CONDITIONS_INTERVAL: Duration = Duration::from_secs(1);
/// The time without a poll after which the Kafka consumer is reported as not ready.
const MAX_SILENCE: Duration = Duration::from_secs(10);
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
    let decoding = Arc::new(DecodeOptions::new(config.cluster.clone(), config.events.mapping.clone()));

    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)).await?;
    let prometheus = Arc::new(Prometheus::new(&config.prometheus)?);
    let notify: Arc<dyn Notify> = match Slack::open(&config.slack)? {
        Some(slack) => Arc::new(slack),
        None => Arc::new(NoNotify),
    };
    let mut backend = Backend::open(&config, wakes.clone(), &decoding).await?;

    let shows = StatusBoard::default();
    let sampling = sampling_options(&config);
    let prober = Prober::new(prometheus.clone(), Arc::new(cluster.clone()), Arc::clone(&clock), sampling);
    let models = RegistryModels::new(config.registry.clone(), Arc::clone(&clock));
    let (heartbeat, beat) = watch::channel(Stopwatch::start());
    let (owned, owns) = watch::channel(Vec::new());
    let parts = Parts {
        shared: Shared {
            clock: Arc::clone(&clock),
            executor: Executor::new(Arc::new(cluster.clone()), notify, Arc::new(prober), Arc::new(models)),
            journals: backend.journals(),
            decoding,
            board: shows.clone(),
            blank: Engine::new(config.cluster.clone(), config.policies.clone(), config.kafka.events_retention),
        },
        wakes: inbox,
        counts: Box::new(Sampler::new(prometheus, Arc::new(cluster.clone()), sampling)),
        grid: Grid { interval: config.prometheus.interval, lag: config.prometheus.lag },
        sights: Arc::new(cluster.clone()),
        policies: policies.clone(),
        heartbeat,
        owned,
        stop: stop.clone(),
    };

    let analysis = tokio::spawn(watch_cluster(cluster.clone(), config.cluster.clone(), policies, wakes, stop.clone()));
    let (conditions_now, conditions) = watch::channel(unready());
    let conditions_task = tokio::spawn(follow_conditions(cluster, owns, backend.pulse(), conditions_now));
    let upkeep = tokio::spawn(run_upkeep(metrics.clone()));
    let shown = Shown { view: shows.watch(), conditions, heartbeat: beat, metrics, intake: backend.http_intake() };
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
    for task in [analysis, conditions_task, reloading, upkeep] {
        task.abort();
    }
    server.await.context("the HTTP server")??;
    result?;
    tracing::info!("stopped");
    Ok(exit::OK)
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

/// The journal of the configured kind, with the intake of its events.
enum Backend {
    Kafka { kafka: Kafka, intake: Option<kafka::KafkaIntake>, http: mpsc::Sender<Wake> },
    Embedded { journal: Embedded, http: mpsc::Sender<Wake> },
}

impl Backend {
    async fn open(
        config: &Config,
        wakes: mpsc::Sender<Wake>,
        decoding: &Arc<DecodeOptions>,
    ) -> anyhow::Result<Backend> {
        let (http, posted) = mpsc::channel(QUEUE_CAPACITY);
        match config.journal.kind {
            JournalKind::Kafka => {
                let kafka = Kafka::connect(config.kafka.clone()).await?;
                let intake = Some(kafka.consume(wakes)?);
                tokio::spawn(produce(posted, kafka.emitter()?, Arc::clone(decoding)));
                Ok(Backend::Kafka { kafka, intake, http })
            }
            JournalKind::Embedded => {
                let journal = Embedded::open(&config.journal.path)?;
                let intake = journal.intake(wakes).await;
                tokio::spawn(submit(posted, Arc::new(intake)));
                Ok(Backend::Embedded { journal, http })
            }
        }
    }

    fn journals(&self) -> Arc<dyn Journals> {
        match self {
            Backend::Kafka { kafka, .. } => Arc::new(kafka.clone()),
            Backend::Embedded { journal, .. } => Arc::new(journal.clone()),
        }
    }

    fn http_intake(&self) -> mpsc::Sender<Wake> {
        match self {
            Backend::Kafka { http, .. } | Backend::Embedded { http, .. } => http.clone(),
        }
    }

    /// Returns the pulse of the Kafka consumer; `None` with the embedded journal.
    fn pulse(&self) -> Option<Arc<kafka::Pulse>> {
        match self {
            Backend::Kafka { intake, .. } => intake.as_ref().map(kafka::KafkaIntake::pulse),
            Backend::Embedded { .. } => None,
        }
    }

    /// Waits until the intake of events ends, and returns the reason. With the embedded journal it never ends.
    async fn ended(&mut self) -> anyhow::Error {
        match self {
            Backend::Kafka { intake: Some(intake), .. } => match intake.ended().await {
                Ok(()) => anyhow!("the Kafka consumer has ended"),
                Err(error) => error.into(),
            },
            Backend::Kafka { intake: None, .. } | Backend::Embedded { .. } => std::future::pending().await,
        }
    }

    async fn stop(self) {
        if let Backend::Kafka { intake: Some(intake), .. } = self
            && let Err(error) = intake.stop().await
        {
            tracing::warn!(%error, "the Kafka consumer could not leave its group; the broker removes it after its session timeout");
        }
    }
}

/// Produces posted events to the events topic, so that they are ordered and journaled like all others.
async fn produce(mut posted: mpsc::Receiver<Wake>, emitter: Emitter, decoding: Arc<DecodeOptions>) {
    while let Some(wake) = posted.recv().await {
        let Wake::Record(record) = wake else { continue };
        let receipt = match decode(&record, &decoding, SystemClock.now()) {
            Decoded::Event { scope, .. } => send(&emitter, &record, &scope).await,
            Decoded::Ignored(reason) => Some(Receipt::Ignored(reason.to_string())),
            Decoded::Dead(error) => Some(Receipt::Dead(error.to_string())),
        };
        answer(&record, receipt).await;
    }
}

async fn send(emitter: &Emitter, record: &EventRecord, scope: &Scope) -> Option<Receipt> {
    let keyed = EventRecord { key: Some(scope.to_string().into_bytes()), answer: None, ..record.clone() };
    match emitter.send(&keyed).await {
        Ok(written) => Some(Receipt::Decided(format!("on partition {}, offset {}", written.partition, written.offset))),
        Err(error) => {
            tracing::warn!(%error, %scope, "posted event not produced to Kafka; the sender has to post it again");
            None
        }
    }
}

/// Submits posted events to the embedded journal.
async fn submit(mut posted: mpsc::Receiver<Wake>, intake: Arc<embedded::EmbeddedIntake>) {
    while let Some(wake) = posted.recv().await {
        let Wake::Record(record) = wake else { continue };
        let intake = Arc::clone(&intake);
        tokio::spawn(async move {
            let receipt = intake.submit(EventRecord { answer: None, ..record.clone() }).await;
            answer(&record, receipt.ok()).await;
        });
    }
}

/// Sends the receipt to the HTTP handler that waits for it. `None` drops the channel, which tells the handler that the
/// result is unknown.
async fn answer(record: &EventRecord, receipt: Option<Receipt>) {
    if let Some(slot) = &record.answer
        && let Some(sender) = slot.lock().await.take()
        && let Some(receipt) = receipt
    {
        // Sending fails only if the handler no longer waits, because its client has disconnected.
        let _ = sender.send(receipt);
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

fn unready() -> Conditions {
    vec![("partitions".to_owned(), Err("none assigned yet".to_owned()))]
}

async fn follow_conditions(
    cluster: Kubernetes,
    owned: watch::Receiver<Vec<Partition>>,
    consumer: Option<Arc<kafka::Pulse>>,
    conditions: watch::Sender<Conditions>,
) {
    loop {
        let partitions = match owned.borrow().len() {
            0 => Err("none assigned; another replica may have them all".to_owned()),
            _ => Ok(()),
        };
        let listed = if cluster.readiness().is_ready() {
            Ok(())
        } else {
            Err("the cluster's objects are not listed yet".to_owned())
        };
        let mut current = vec![("partitions".to_owned(), partitions), ("kubernetes".to_owned(), listed)];
        current.extend(consumer.as_deref().map(|pulse| ("kafka".to_owned(), consumer_condition(pulse))));
        if conditions.send(current).is_err() {
            return;
        }
        tokio::time::sleep(CONDITIONS_INTERVAL).await;
    }
}

fn consumer_condition(pulse: &kafka::Pulse) -> Result<(), String> {
    let silent = pulse.silent_for();
    if silent <= MAX_SILENCE { Ok(()) } else { Err(format!("the consumer has not polled for {} s", silent.as_secs())) }
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
