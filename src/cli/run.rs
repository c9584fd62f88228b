//! `bellwether run`: the composition root. Here, and nowhere else, the real adapters are made and handed to the daemon.
//!
//! Read from top to bottom it is the list of what a daemon consists of. Whatever can be known to be wrong ends it before
//! it owns a partition; what is only away for a while (Prometheus, the API server) does not.

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

/// So much may wait for the daemon.
const WAKES: usize = 1024;
/// How often the conditions of `/readyz` are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A consumer that has not polled for so long hangs.
const SILENT: Duration = Duration::from_secs(10);
/// How often the metrics are tidied up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What `run` takes.
#[derive(Debug, Args)]
pub struct RunArgs {}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// The configuration is wrong, something that it names can't be used, or the journal is broken.
pub async fn run(_: RunArgs, common: &Common) -> anyhow::Result<u8> {
    let config = load(common)?;
    telemetry::install(&config.log);
    telemetry::install_tls();
    let metrics = crate::metrics::install().context("the metrics recorder")?;
    let stop = stop_on_signals()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let listener = http::bind(&config.http).await?;
    let (policies_now, policies) = watch::channel(config.policies.clone());
    let (wakes, inbox) = mpsc::channel(WAKES);
    let decoding = Arc::new(DecodeOptions::new(config.cluster.clone(), config.events.mapping.clone()));

    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)).await?;
    let prometheus = Arc::new(Prometheus::new(&config.prometheus)?);
    let notify: Arc<dyn Notify> = match Slack::open(&config.slack)? {
        Some(slack) => Arc::new(slack),
        None => Arc::new(NoNotify),
    };
    let mut memory = Memory::open(&config, wakes.clone(), &decoding).await?;

    let shows = StatusBoard::default();
    let sampling = sampling_options(&config);
    let prober = Prober::new(prometheus.clone(), Arc::new(cluster.clone()), Arc::clone(&clock), sampling);
    let models = RegistryModels::new(config.registry.clone(), Arc::clone(&clock));
    let (heartbeat, beat) = watch::channel(Stopwatch::start());
    let (owned, owns) = watch::channel(Vec::new());
    let parts = Parts {
        shared: Shared {
            clock: Arc::clone(&clock),
            hands: Executor::new(Arc::new(cluster.clone()), notify, Arc::new(prober), Arc::new(models)),
            journals: memory.journals(),
            decoding,
            shows: shows.clone(),
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
    let conditions_task = tokio::spawn(follow_conditions(cluster, owns, memory.pulse(), conditions_now));
    let upkeep = tokio::spawn(keep_up(metrics.clone()));
    let shown = Shown { view: shows.watch(), conditions, heartbeat: beat, metrics, intake: memory.http_intake() };
    let server = tokio::spawn(serve(listener, config.http.clone(), shown, stop.clone()));
    let reloading = tokio::spawn(reload_on_signal(common.clone(), policies_now)?);
    tracing::info!(cluster = config.cluster, policies = config.policies.len(), listen = %config.http.listen, "running");

    let result = tokio::select! {
        result = daemon::run(parts) => result,
        ended = memory.ended() => Err(ended),
    };
    // Nothing is decided because of the shutdown: what was committed is taken up by whoever comes next.
    stop.cancel();
    memory.stop().await;
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

/// How the counters are read.
pub(super) fn sampling_options(config: &Config) -> sampling::Options {
    let prometheus = &config.prometheus;
    sampling::Options {
        interval: prometheus.interval,
        lag: prometheus.lag,
        scrape_interval: prometheus.scrape_interval,
        ..sampling::Options::default()
    }
}

/// Where the daemon keeps its memory, and where its events come from.
enum Memory {
    Kafka { kafka: Kafka, intake: Option<kafka::KafkaIntake>, http: mpsc::Sender<Wake> },
    Embedded { journal: Embedded, http: mpsc::Sender<Wake> },
}

impl Memory {
    async fn open(config: &Config, wakes: mpsc::Sender<Wake>, decoding: &Arc<DecodeOptions>) -> anyhow::Result<Memory> {
        let (http, posted) = mpsc::channel(WAKES);
        match config.journal.kind {
            JournalKind::Kafka => {
                let kafka = Kafka::connect(config.kafka.clone()).await?;
                let intake = Some(kafka.consume(wakes)?);
                tokio::spawn(produce(posted, kafka.emitter()?, Arc::clone(decoding)));
                Ok(Memory::Kafka { kafka, intake, http })
            }
            JournalKind::Embedded => {
                let journal = Embedded::open(&config.journal.path)?;
                let intake = journal.intake(wakes).await;
                tokio::spawn(submit(posted, Arc::new(intake)));
                Ok(Memory::Embedded { journal, http })
            }
        }
    }

    fn journals(&self) -> Arc<dyn Journals> {
        match self {
            Memory::Kafka { kafka, .. } => Arc::new(kafka.clone()),
            Memory::Embedded { journal, .. } => Arc::new(journal.clone()),
        }
    }

    fn http_intake(&self) -> mpsc::Sender<Wake> {
        match self {
            Memory::Kafka { http, .. } | Memory::Embedded { http, .. } => http.clone(),
        }
    }

    /// Whether the consumer lives, where there is one.
    fn pulse(&self) -> Option<Arc<kafka::Pulse>> {
        match self {
            Memory::Kafka { intake, .. } => intake.as_ref().map(kafka::KafkaIntake::pulse),
            Memory::Embedded { .. } => None,
        }
    }

    /// Why no events come any more.
    async fn ended(&mut self) -> anyhow::Error {
        match self {
            Memory::Kafka { intake: Some(intake), .. } => match intake.ended().await {
                Ok(()) => anyhow!("the Kafka consumer has ended"),
                Err(error) => error.into(),
            },
            Memory::Kafka { intake: None, .. } | Memory::Embedded { .. } => std::future::pending().await,
        }
    }

    async fn stop(self) {
        if let Memory::Kafka { intake: Some(intake), .. } = self
            && let Err(error) = intake.stop().await
        {
            tracing::warn!(%error, "the Kafka consumer did not leave its group");
        }
    }
}

/// Events that were posted go to the topic, so that they are ordered and journaled like any other.
async fn produce(mut posted: mpsc::Receiver<Wake>, emitter: Emitter, decoding: Arc<DecodeOptions>) {
    while let Some(wake) = posted.recv().await {
        let Wake::Record(record) = wake else { continue };
        let taken = match decode(&record, &decoding, SystemClock.now()) {
            Decoded::Event { scope, .. } => send(&emitter, &record, &scope).await,
            Decoded::Ignored(why) => Some(Receipt::Ignored(why.to_string())),
            Decoded::Dead(error) => Some(Receipt::Dead(error.to_string())),
        };
        answer(&record, taken).await;
    }
}

async fn send(emitter: &Emitter, record: &EventRecord, scope: &Scope) -> Option<Receipt> {
    let keyed = EventRecord { key: Some(scope.to_string().into_bytes()), answer: None, ..record.clone() };
    match emitter.send(&keyed).await {
        Ok(written) => Some(Receipt::Decided(format!("on partition {}, offset {}", written.partition, written.offset))),
        Err(error) => {
            tracing::warn!(%error, %scope, "an event that was posted could not be produced");
            None
        }
    }
}

/// Events that were posted are the embedded journal's records.
async fn submit(mut posted: mpsc::Receiver<Wake>, intake: Arc<embedded::EmbeddedIntake>) {
    while let Some(wake) = posted.recv().await {
        let Wake::Record(record) = wake else { continue };
        let intake = Arc::clone(&intake);
        tokio::spawn(async move {
            let taken = intake.submit(EventRecord { answer: None, ..record.clone() }).await;
            answer(&record, taken.ok()).await;
        });
    }
}

/// Without an answer the sender is told that nothing is known.
async fn answer(record: &EventRecord, taken: Option<Receipt>) {
    if let Some(slot) = &record.answer
        && let Some(sender) = slot.lock().await.take()
        && let Some(taken) = taken
    {
        // Whoever asked has gone away.
        let _ = sender.send(taken);
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
        let seen = if cluster.readiness().is_ready() { Ok(()) } else { Err("not listed yet".to_owned()) };
        let mut now = vec![("partitions".to_owned(), partitions), ("kubernetes".to_owned(), seen)];
        now.extend(consumer.as_deref().map(|pulse| ("kafka".to_owned(), polled(pulse))));
        if conditions.send(now).is_err() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn polled(pulse: &kafka::Pulse) -> Result<(), String> {
    let silent = pulse.silent_for();
    if silent <= SILENT { Ok(()) } else { Err(format!("the consumer has not polled for {} s", silent.as_secs())) }
}

/// What histograms take in is put into their buckets now and then, also where nobody scrapes.
async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
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

/// A reload is for rollouts that begin after it. A bad one changes nothing, and says so.
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
                    // The daemon has gone: so will this task.
                    let _ = policies.send(config.policies);
                }
                Err(report) => {
                    crate::metrics::config_reload(false);
                    tracing::error!("the new configuration is refused, and the old one stays in force:\n{report}");
                }
            }
        }
    })
}
