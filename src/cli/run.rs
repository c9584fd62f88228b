//! `bellwether run`: the composition root, the only place that creates the real adapters and passes them to the daemon.
//!
//! A permanent fault, such as a wrong configuration, ends the process before it owns a partition. A dependency that is
//! unavailable for a while (Kafka, Prometheus, the API server) does not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bellwether_core::engine::Engine;
use bellwether_core::ids::Workload;
use bellwether_core::policy::Policy;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::ErrorCounter;

use self::backend::Backend;
use super::{Common, sinks};
use crate::access::Access;
use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::prometheus::{Prometheus, PrometheusForPreparing};
use crate::adapters::registry::RegistryModels;
use crate::adapters::registry::directory::RegistryDirectory;
use crate::clock::jumps::{self, Jump};
use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::config::{self, Config};
use crate::daemon::{self, Grid, Parts};
use crate::events::decode::DecodeOptions;
use crate::events::identity::{SHORTEST_STAMP_KEY, StampKey};
use crate::exit;
use crate::follow::Followed;
use crate::health::Health;
use crate::http::{self, SHORTEST_PROXY_SECRET, Senders, Shown, SignInProxy, Starting};
use crate::perform::Executor;
use crate::ports::Wake;
use crate::sampling::arms::NamedArms;
use crate::sampling::probe::Prober;
use crate::sampling::{self, Sampler};
use crate::secret;
use crate::shard::Shared;
use crate::show::StatusBoard;
use crate::supervise::Tasks;
use crate::telemetry::{self, Log};

mod backend;
mod readiness;
mod reload;
mod split;
mod starting;

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
    let log = Log::install(&config.log);
    telemetry::install_tls();
    let metrics = crate::metrics::install().context("the metrics recorder")?;
    let stop = stop_on_signals()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let listener = Arc::new(http::bind(&config.http).await?);
    let listen = listener.local_addr().context("the address of the HTTP server")?;
    let (policies_now, policies) = watch::channel(config.policies.clone());
    let (wakes, inbox) = mpsc::channel(QUEUE_CAPACITY);
    let access = Access::new(&config.access, stamp_key(&config.http)?, config.kafka.events_retention);
    let access = access.context("[access.keys]")?;
    let decoding = DecodeOptions::new(config.cluster.clone(), config.events.mapping.clone());
    let decoding = Arc::new(decoding.with_access(access));

    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock))?;
    let prometheus = Arc::new(Prometheus::new(&config.prometheus)?);
    let mut tasks = Tasks::default();
    let (conditions_now, conditions) = watch::channel(readiness::at_start());
    let opening = Backend::open(&config, wakes.clone(), &decoding, &mut tasks, &conditions_now);
    let named: Arc<str> = config.cluster.as_str().into();
    let while_starting =
        Starting { cluster: Arc::clone(&named), conditions: conditions.clone(), metrics: metrics.clone() };
    let opened = starting::serve_while(opening, &listener, &config.http, while_starting, &stop).await?;
    let Some(mut backend) = opened else { return Ok(exit::OK) };

    let proxy = sign_in_proxy(&config.http)?;
    let senders = config.http.authenticate.then(|| {
        let reviews = Arc::new(cluster.reviews(config.http.audiences.clone()));
        Arc::new(Senders { reviews, decoding: Arc::clone(&decoding), clock: Arc::clone(&clock), proxy })
    });
    let shows = StatusBoard::of_partitions(backend.journals().partitions());
    backend.follow(Followed::new(config.cluster.clone(), Arc::clone(&clock), shows.clone()))?;
    let sampling = sampling_options(&config);
    let preparing = Arc::new(PrometheusForPreparing(prometheus.clone()));
    let prober = Prober::new(preparing, Arc::new(cluster.clone()), Arc::clone(&clock), sampling);
    let arms = NamedArms::new(prometheus.clone(), Arc::clone(&clock), config.cluster.clone(), sampling);
    let models = Arc::new(RegistryModels::new(config.registry.clone(), Arc::clone(&clock)));
    let directory = RegistryDirectory::new(Arc::clone(&models));
    let mut sinks = sinks::open(&config)?;
    sinks.push(Arc::new(cluster.events()));
    let executor = Executor::new(Arc::new(cluster.clone()), Arc::new(prober), models, sinks);
    let engine = Engine::new(config.cluster.clone(), config.policies.clone(), config.kafka.events_retention);
    let (heartbeat, beat) = watch::channel(Stopwatch::start());
    let health = Health::default();
    let parts = Parts {
        shared: Shared {
            clock: Arc::clone(&clock),
            journals: backend.journals(),
            decoding,
            board: shows.clone(),
            health: health.clone(),
            blank: engine.with_sinks(executor.sinks()),
            executor,
        },
        wakes: inbox,
        counts: Box::new(Sampler::new(prometheus, Arc::new(cluster.clone()), sampling)),
        grid: Grid { interval: config.prometheus.interval, lag: config.prometheus.lag },
        statuses: Arc::new(cluster.clone()),
        policies: policies.clone(),
        heartbeat,
        stop: stop.clone(),
    };

    let (watched, name, board, cancel) = (cluster.clone(), config.cluster.clone(), shows.clone(), stop.clone());
    tasks.restarted("watches", move || {
        watch_cluster(watched.clone(), name.clone(), policies.clone(), board.clone(), wakes.clone(), cancel.clone())
    });
    let (watched, name, view) = (cluster.clone(), config.cluster.clone(), shows.watch());
    tasks.restarted("split", move || split::follow(watched.clone(), name.clone(), view.clone()));
    let (pulse, embedded) = (backend.pulse(), backend.embedded());
    tasks.restarted("readiness", move || {
        readiness::follow(cluster.clone(), health.clone(), pulse.clone(), embedded.clone(), conditions_now.clone())
    });
    let (handle, dropped) = (metrics.clone(), log.dropped_lines());
    tasks.restarted("upkeep", move || run_upkeep(handle.clone(), dropped.clone()));
    let (config_now, config_shown) = watch::channel(reload::shown(&common.sources(), clock.now()));
    let policies_shown = policies_now.subscribe();
    let (common, shown_clock, reload_clock) = (common.clone(), Arc::clone(&clock), Arc::clone(&clock));
    tasks.restarted("clock", move || jumps::watch(Arc::clone(&clock), report_jump));
    tasks.restarted("reload", move || {
        reload::follow(common.clone(), Arc::clone(&reload_clock), policies_now.clone(), config_now.clone())
    });
    let intake = backend.http_intake();
    let shown = Shown {
        cluster: named,
        view: shows.watch(),
        ages: shows.ages(),
        courses: shows.courses(),
        clock: shown_clock,
        config: config_shown,
        policies: policies_shown,
        models: Some(Arc::new(directory)),
        dead_letters: Some(backend.dead_letters()),
        arms: Some(Arc::new(arms)),
        conditions,
        heartbeat: beat,
        metrics,
        intake,
        senders,
    };
    tasks.vital("http", serve(listener, config.http.clone(), shown, stop.clone()));
    tracing::info!(cluster = config.cluster, policies = config.policies.len(), %listen, "running");

    let result = tokio::select! {
        result = daemon::run(parts) => result,
        ended = backend.ended() => Err(ended),
        ended = tasks.ended_unasked(&stop) => Err(ended.into()),
    };
    // A shutdown makes no decisions: the next owner of each partition continues from the committed state.
    stop.cancel();
    backend.stop().await;
    let stopped = tasks.stop().await;
    result?;
    stopped?;
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

/// Returns the check of the proxy that signs people in to the console; `None` if there is none.
fn sign_in_proxy(options: &http::Options) -> anyhow::Result<Option<SignInProxy>> {
    let (Some(header), Some(file)) = (options.proxy_header(), &options.proxy_secret_file) else { return Ok(None) };
    let proxy = SignInProxy::new(header, &secret::read(file).context("http.proxy-secret-file")?);
    let proxy =
        proxy.with_context(|| format!("http.proxy-secret-file needs at least {SHORTEST_PROXY_SECRET} bytes"))?;
    Ok(Some(proxy))
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

/// Sends the statuses of the workloads that a policy covers, and of those whose rollout runs here: a policy that was removed or
/// narrowed under a rollout does not blind it.
async fn watch_cluster(
    cluster: Kubernetes,
    name: String,
    policies: watch::Receiver<Vec<Policy>>,
    board: StatusBoard,
    wakes: mpsc::Sender<Wake>,
    stop: CancellationToken,
) {
    let wanted = move |workload: &Workload| is_wanted(workload, &name, &policies.borrow(), &board);
    cluster.watch(wanted, wakes, stop).await;
}

fn is_wanted(workload: &Workload, cluster: &str, policies: &[Policy], board: &StatusBoard) -> bool {
    let is_covered = policies.iter().any(|policy| policy.covers(workload));
    workload.cluster == cluster && (is_covered || board.is_running(workload))
}

/// Logs and counts a jump of the clock.
fn report_jump(jump: Jump) {
    crate::metrics::clock_jump(jump.direction());
    tracing::warn!(
        direction = jump.direction(),
        by = %jump.by(),
        "the clock has jumped, or the machine was suspended; deadlines leave that time out. Check the time service of this machine"
    );
}

/// Moves the observations of histograms into their buckets at intervals, so that memory stays bounded without a scrape.
async fn run_upkeep(recorder: PrometheusHandle, dropped: ErrorCounter) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        recorder.run_upkeep();
        crate::metrics::log_lines_dropped(dropped.dropped_lines() as u64);
    }
}

async fn serve(
    listener: Arc<TcpListener>,
    options: http::Options,
    shown: Shown,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    Ok(http::serve(listener, &options, shown, stop).await?)
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

#[cfg(test)]
mod tests {
    use bellwether_core::engine::{Engine, WorkloadState};
    use bellwether_core::input::event::Event;
    use bellwether_core::time::{Span, Timestamp};
    use serde_json::json;

    use super::*;

    pub(super) const POLICY: &str = r#"
cluster = "prod"

[metric.errors]
kind = "ratio"
series = "requests_total"
hits = { label = "code", matches = "5.." }

[[policy]]
name = "shop"
match = { namespaces = ["shop"], workloads = ["*"], images = ["r/*"] }

[[policy.check]]
metric = "errors"
judge = "threshold"
max = "5%"
every = "15s"
window = "60s"

[[policy.step]]
weight = "10%"
min-time = "60s"
"#;

    /// Returns the state of a workload with a running rollout.
    fn running(workload: &Workload, policies: &[Policy]) -> WorkloadState {
        let mut engine = Engine::new("prod".to_owned(), policies.to_vec(), Span::from_secs(60));
        let request = json!({ "workload": workload, "images": { "app": "r/web:2" } });
        let id = bellwether_core::ids::EventId { source: "/test".to_owned(), id: "1".to_owned() };
        let request = serde_json::from_value(request).unwrap();
        drop(engine.step(Event::Requested { id, time: None, request }, Timestamp::UNIX_EPOCH));
        engine.state(workload).unwrap().clone()
    }

    #[test]
    fn a_workload_is_observed_while_a_policy_covers_it_or_its_rollout_runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, POLICY).unwrap();
        let policies = config::load(&config::Sources { files: vec![file], ..Default::default() }).unwrap().policies;
        let workload: Workload = "prod/shop/Deployment/web".parse().unwrap();
        let board = StatusBoard::default();
        assert!(is_wanted(&workload, "prod", &policies, &board));
        assert!(!is_wanted(&workload, "edge", &policies, &board), "another cluster");
        assert!(!is_wanted(&workload, "prod", &[], &board));
        board.show(&running(&workload, &policies));
        assert!(is_wanted(&workload, "prod", &[], &board), "its policy was removed under its rollout");
        board.show(&WorkloadState::new(workload.clone()));
        assert!(!is_wanted(&workload, "prod", &[], &board), "its rollout is over");
        board.show(&running(&workload, &policies));
        board.release(0, false);
        assert!(!is_wanted(&workload, "prod", &[], &board), "its partition is released");
    }
}
