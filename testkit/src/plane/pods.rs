//! One HTTP server that answers for all pods. The addresses of pods are local in the plane's namespace: the local address
//! of a connection tells the pod, and the pod's image its behaviour. Every pod has its own `/metrics`, with the names that
//! OpenTelemetry's HTTP conventions have in Prometheus.
#![expect(clippy::print_stderr, reason = "the test binary shows the output of its threads")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::behaviour::{self, Behaviour};

/// The port of every pod.
pub const PORT: u16 = 8080;

/// A path that pods answer and do not count, by which the harness checks whether they can be reached.
pub const PROBE: &str = "/healthz";

/// The time for which a pod still answers after its deletion, like one with a `preStop` hook. The gateway needs a moment to
/// learn of the deletion, longer on a machine under load, and until then errors would be counted as the version's.
const GRACE: Duration = Duration::from_secs(60);

/// The time for which a request to an unknown address waits. The gateway may learn of a new pod before this server does.
const UNKNOWN: Duration = Duration::from_secs(10);

/// The bucket boundaries that OpenTelemetry's conventions recommend for `http.server.request.duration`.
const EDGES: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The running server.
pub struct PodServer {
    known: Arc<Known>,
    /// Changes whenever a pod starts or ends.
    pub changes: watch::Receiver<u64>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for PodServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Default)]
struct Known {
    pods: Mutex<KnownPods>,
    conditions: Mutex<HashMap<String, NamespaceConditions>>,
}

/// The conditions of all pods of a namespace, independent of their images.
#[derive(Default, Clone)]
pub struct NamespaceConditions {
    /// The interval at which Prometheus scrapes them. `None`: that of all other pods.
    pub scrape_interval: Option<&'static str>,
    /// Additional faults of their requests, as if a dependency was at fault.
    pub incident: Behaviour,
}

#[derive(Default)]
struct KnownPods {
    /// The pods that answer, by address: the newest pod that has it.
    by_address: HashMap<IpAddr, Arc<SimulatedPod>>,
    /// All pods that have run, by uid.
    all: HashMap<String, Arc<SimulatedPod>>,
}

/// A pod that runs or has run.
pub struct SimulatedPod {
    /// The namespace that it is in.
    pub namespace: String,
    /// The name of its object.
    pub name: String,
    /// Its IP address.
    pub address: IpAddr,
    /// The labels of its object.
    pub labels: BTreeMap<String, String>,
    /// Name of the container that answers.
    pub container: String,
    /// Image of that container.
    pub image: String,
    started: Timestamp,
    uid: String,
    behaviour: Behaviour,
    /// Additional faults, as if its node was at fault.
    node_faults: Mutex<Behaviour>,
    started_at: Instant,
    ended_at: Mutex<Option<Instant>>,
    requests: AtomicU64,
    /// Requests that came after its deletion.
    late_requests: AtomicU64,
    series: Mutex<BTreeMap<(String, u16), Histogram>>,
    /// Counts by requested host. The address of an ended pod soon belongs to another pod, and until the gateway learns of
    /// it, it sends requests of one story to a pod of another. They are counted for the story that sent them.
    by_host: Mutex<BTreeMap<String, RequestCounts>>,
}

#[derive(Default, Clone)]
struct Histogram {
    buckets: [u64; EDGES.len()],
    count: u64,
    sum: f64,
}

/// Counts of answered requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Number of all answers.
    pub total: u64,
    /// Number of answers with a status of 500 or more.
    pub errors: u64,
}

impl PodServer {
    /// Starts the server, and follows the pods of all namespaces.
    ///
    /// # Errors
    /// The port is in use.
    pub async fn start(client: Client) -> Result<Self> {
        let listener =
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).await.context("the listener of the pods")?;
        let known = Arc::new(Known::default());
        let (changed, changes) = watch::channel(0);
        let router = Router::new().fallback(answer).with_state((known.clone(), changes.clone()));
        let service = router.into_make_service_with_connect_info::<LocalAddress>();
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, service).await {
                eprintln!("the server of the pods ended: {error}");
            }
        });
        let watcher = tokio::spawn(follow(client, known.clone(), changed));
        Ok(Self { known, changes, tasks: [server, watcher] })
    }

    /// Sets the conditions of a namespace. The scrape interval takes effect with the next pod that starts or ends.
    pub fn set_conditions(&self, namespace: &str, conditions: NamespaceConditions) {
        lock(&self.known.conditions).insert(namespace.to_owned(), conditions);
    }

    /// Returns the conditions of a namespace.
    pub fn conditions(&self, namespace: &str) -> NamespaceConditions {
        self.known.conditions(namespace)
    }

    /// Returns the pods of a namespace that run or have run.
    pub fn of(&self, namespace: &str) -> Vec<Arc<SimulatedPod>> {
        let pods = lock(&self.known.pods);
        pods.all.values().filter(|pod| pod.namespace == namespace).cloned().collect()
    }

    /// Returns all pods that run now.
    pub fn running(&self) -> Vec<Arc<SimulatedPod>> {
        lock(&self.known.pods).all.values().filter(|pod| pod.runs()).cloned().collect()
    }

    /// Returns the requests that the pods of a namespace have counted, by version.
    pub fn counts(&self, namespace: &str) -> BTreeMap<String, RequestCounts> {
        let mut versions = BTreeMap::<String, RequestCounts>::new();
        for pod in self.of(namespace) {
            let (sum, counts) = (versions.entry(pod.version().to_owned()).or_default(), pod.counts());
            sum.total += counts.total;
            sum.errors += counts.errors;
        }
        versions
    }

    /// Returns the requests to `host` that all pods have counted.
    pub fn counts_of_host(&self, host: &str) -> RequestCounts {
        let mut sum = RequestCounts::default();
        for pod in lock(&self.known.pods).all.values() {
            let counts = lock(&pod.by_host).get(host).copied().unwrap_or_default();
            sum.total += counts.total;
            sum.errors += counts.errors;
        }
        sum
    }
}

impl SimulatedPod {
    /// Returns the version that it reports: the tag of its image.
    pub fn version(&self) -> &str {
        behaviour::tag(&self.image)
    }

    /// Returns whether it runs and is not being deleted.
    pub fn runs(&self) -> bool {
        lock(&self.ended_at).is_none()
    }

    /// Adds faults that do not depend on its image, as if its node was at fault.
    pub fn set_node_faults(&self, faults: Behaviour) {
        *lock(&self.node_faults) = faults;
    }

    /// Returns the number of requests that it has received, answered or not.
    pub fn received(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that it has received after its deletion.
    pub fn received_late(&self) -> u64 {
        self.late_requests.load(Ordering::Relaxed)
    }

    /// Returns the requests that it has counted.
    pub fn counts(&self) -> RequestCounts {
        let mut counts = RequestCounts::default();
        for ((_, status), histogram) in lock(&self.series).iter() {
            counts.total += histogram.count;
            counts.errors += if *status >= 500 { histogram.count } else { 0 };
        }
        counts
    }

    /// Returns the pod of an API object. `None`: its container does not run, or the image's tag is invalid.
    fn read(object: &core::Pod) -> Option<Self> {
        let (spec, status) = (object.spec.as_ref()?, object.status.as_ref()?);
        let container = spec.containers.iter().find(|container| container.name == "app");
        let container = container.or(spec.containers.first())?;
        let statuses = status.container_statuses.as_ref()?;
        let running = statuses.iter().find(|status| status.name == container.name)?.state.as_ref()?.running.is_some();
        if !running || status.phase.as_deref() != Some("Running") {
            return None;
        }
        let image = container.image.clone()?;
        let behaviour = Behaviour::of(&image).inspect_err(|error| eprintln!("pods: {error:#}")).ok()?;
        Some(Self {
            namespace: object.metadata.namespace.clone()?,
            name: object.metadata.name.clone()?,
            address: status.pod_ip.as_ref()?.parse().ok()?,
            labels: object.metadata.labels.clone().unwrap_or_default(),
            container: container.name.clone(),
            image,
            // As a process reports its start: more precisely than Kubernetes, whose times are whole seconds.
            started: Timestamp::now(),
            uid: object.metadata.uid.clone()?,
            behaviour,
            node_faults: Mutex::default(),
            started_at: Instant::now(),
            ended_at: Mutex::default(),
            requests: AtomicU64::new(0),
            late_requests: AtomicU64::new(0),
            series: Mutex::default(),
            by_host: Mutex::default(),
        })
    }

    /// Returns whether it answers requests: while it runs, and for a grace period afterwards.
    fn answers(&self) -> bool {
        lock(&self.ended_at).is_none_or(|since| since.elapsed() < GRACE)
    }

    async fn serve(&self, method: &Method, host: &str, incident: &Behaviour) -> (StatusCode, &'static str) {
        let received = Instant::now();
        let n = self.requests.fetch_add(1, Ordering::Relaxed);
        self.late_requests.fetch_add(u64::from(!self.runs()), Ordering::Relaxed);
        let age = self.started_at.elapsed();
        let of_node = lock(&self.node_faults).answer(n, age);
        let answer = self.behaviour.answer(n, age).and(incident.answer(n, age)).and(of_node);
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        let (status, body) = match answer.fails {
            true => (StatusCode::INTERNAL_SERVER_ERROR, "error\n"),
            false => (StatusCode::OK, "ok\n"),
        };
        // Counted before it is sent, so that the counts include every answer that a client has.
        let mut hosts = lock(&self.by_host);
        let counts = hosts.entry(host.to_owned()).or_default();
        counts.total += 1;
        counts.errors += u64::from(answer.fails);
        drop(hosts);
        let mut series = lock(&self.series);
        series.entry((method.to_string(), status.as_u16())).or_default().record(received.elapsed());
        (status, body)
    }

    /// Returns `/metrics` in Prometheus' text format. As with real libraries, a series exists from its first request on.
    fn metrics(&self) -> String {
        const NAME: &str = "http_server_request_duration_seconds";
        let started = self.started.as_millisecond() as f64 / 1000.0;
        let mut text = format!("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {started:.3}\n");
        text.push_str("# TYPE http_server_request_duration_seconds histogram\n");
        for ((method, status), histogram) in lock(&self.series).iter() {
            let labels =
                format!(r#"http_request_method="{method}",http_route="/",http_response_status_code="{status}""#);
            for (edge, count) in EDGES.iter().zip(histogram.buckets) {
                let _ = writeln!(text, r#"{NAME}_bucket{{{labels},le="{edge}"}} {count}"#);
            }
            let Histogram { count, sum, .. } = histogram;
            let _ = writeln!(text, r#"{NAME}_bucket{{{labels},le="+Inf"}} {count}"#);
            let _ = writeln!(text, "{NAME}_sum{{{labels}}} {sum}\n{NAME}_count{{{labels}}} {count}");
        }
        text
    }
}

impl Histogram {
    fn record(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (bucket, edge) in self.buckets.iter_mut().zip(EDGES) {
            *bucket += u64::from(seconds <= edge);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

// ---- the listener ----

#[derive(Clone, Copy)]
struct LocalAddress(Option<IpAddr>);

impl Connected<IncomingStream<'_, TcpListener>> for LocalAddress {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(stream.io().local_addr().ok().map(|address| address.ip()))
    }
}

async fn answer(
    State((known, changes)): State<(Arc<Known>, watch::Receiver<u64>)>,
    ConnectInfo(local): ConnectInfo<LocalAddress>,
    request: Request,
) -> Response {
    let is_scrape = request.uri().path() == "/metrics";
    let pod = match local.0 {
        Some(address) if is_scrape => known.answering_pod(address),
        Some(address) => known.until_answering_pod(address, changes).await,
        None => None,
    };
    let Some(pod) = pod else {
        return (StatusCode::SERVICE_UNAVAILABLE, [("connection", "close")], "no pod has this address\n")
            .into_response();
    };
    if is_scrape {
        return ([("content-type", "text/plain; version=0.0.4")], pod.metrics()).into_response();
    }
    if request.uri().path() == PROBE {
        return "ok\n".into_response();
    }
    let method = request.method().clone();
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let incident = known.conditions(&pod.namespace).incident;
    let (status, body) = pod.serve(&method, &host, &incident).await;
    let headers = [("x-pod", pod.name.as_str()), ("x-version", pod.version())];
    (status, headers, body).into_response()
}

// ---- the watch ----

async fn follow(client: Client, known: Arc<Known>, changed: watch::Sender<u64>) {
    let events = watcher::watcher(Api::<core::Pod>::all(client), watcher::Config::default());
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(event)) => known.update(event, &mut listed),
            Ok(None) => return,
            // The watcher restarts itself.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        changed.send_modify(|n| *n += 1);
    }
}

impl Known {
    fn conditions(&self, namespace: &str) -> NamespaceConditions {
        lock(&self.conditions).get(namespace).cloned().unwrap_or_default()
    }

    fn answering_pod(&self, address: IpAddr) -> Option<Arc<SimulatedPod>> {
        lock(&self.pods).by_address.get(&address).filter(|pod| pod.answers()).cloned()
    }

    /// Waits until the pod of an address is known. `None`: it is not in time.
    async fn until_answering_pod(
        &self,
        address: IpAddr,
        mut changes: watch::Receiver<u64>,
    ) -> Option<Arc<SimulatedPod>> {
        let wait = async {
            loop {
                changes.mark_unchanged();
                if let Some(pod) = self.answering_pod(address) {
                    return Some(pod);
                }
                // The sender ends with the watch of the pods.
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(UNKNOWN, wait).await.ok().flatten()
    }

    fn update(&self, event: Event<core::Pod>, listed: &mut HashSet<String>) {
        let mut pods = lock(&self.pods);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                pods.update(&pod);
            }
            Event::InitDone => {
                for pod in pods.all.values().filter(|pod| !listed.contains(&pod.uid)) {
                    pod.end();
                }
            }
            Event::Apply(pod) => pods.update(&pod),
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                pods.all.get(&uid).into_iter().for_each(|pod| pod.end());
            }
        }
    }
}

impl KnownPods {
    fn update(&mut self, object: &core::Pod) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        match self.all.get(&uid) {
            Some(pod) if object.metadata.deletion_timestamp.is_some() => pod.end(),
            Some(_) => {}
            None => {
                if let Some(pod) = SimulatedPod::read(object).map(Arc::new) {
                    self.by_address.insert(pod.address, pod.clone());
                    self.all.insert(uid, pod);
                }
            }
        }
    }
}

impl SimulatedPod {
    fn end(&self) {
        lock(&self.ended_at).get_or_insert_with(Instant::now);
    }
}

/// Locks a mutex. Poisoning is harmless: after a panic elsewhere the counters can still be read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
