//! The pods that answer. Every pod's address is local in here, so one listener is all of them: the local address of a
//! connection says which pod is meant, and the image of that pod how it behaves. `/metrics` is per pod, with the names
//! that OpenTelemetry's HTTP conventions have in Prometheus.

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

pub const PORT: u16 = 8080;

/// Answered by every pod and counted by none: how the harness asks whether the way to them is open.
pub const PROBE: &str = "/healthz";

/// A pod that is being deleted still answers for this long, as one with a `preStop` hook does: the gateway needs a
/// moment to hear of it, and errors that come from the harness would be counted as the version's.
const GRACE: Duration = Duration::from_secs(10);

/// The boundaries that OpenTelemetry's conventions advise for `http.server.request.duration`.
const EDGES: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

pub struct Pods {
    known: Arc<Known>,
    /// Rises when a pod has come or gone.
    pub changes: watch::Receiver<u64>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Default)]
struct Known {
    places: Mutex<Places>,
    weather: Mutex<HashMap<String, Weather>>,
}

/// What all pods of a namespace have in common, whichever their image.
#[derive(Default, Clone)]
pub struct Weather {
    /// How often they are scraped, where not as often as all others.
    pub scraped: Option<&'static str>,
    /// What else becomes of their requests: a dependency is ill.
    pub incident: Behaviour,
}

#[derive(Default)]
struct Places {
    /// Who answers at an address: the newest pod that got it.
    by_address: HashMap<IpAddr, Arc<Pod>>,
    /// Every pod that ever ran, by uid.
    all: HashMap<String, Arc<Pod>>,
}

/// A pod that runs or ran.
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub address: IpAddr,
    pub labels: BTreeMap<String, String>,
    pub container: String,
    pub image: String,
    pub started: Timestamp,
    uid: String,
    behaviour: Behaviour,
    /// What its node does to it.
    ill: Mutex<Behaviour>,
    born: Instant,
    gone: Mutex<Option<Instant>>,
    requests: AtomicU64,
    series: Mutex<BTreeMap<(String, u16), Histogram>>,
    /// By the host that was asked for. An address that is free again is soon another pod's, and a gateway that has not heard
    /// of it yet sends one story's requests to another story's pod: they stay that story's.
    by_host: Mutex<BTreeMap<String, Served>>,
}

#[derive(Default, Clone)]
struct Histogram {
    buckets: [u64; EDGES.len()],
    count: u64,
    sum: f64,
}

/// How many requests were answered, and how many of those with a 5xx.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    pub total: u64,
    pub errors: u64,
}

impl Pods {
    pub async fn start(client: Client) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).await.context("the pods' listener")?;
        let known = Arc::new(Known::default());
        let router = Router::new().fallback(answer).with_state(known.clone());
        let service = router.into_make_service_with_connect_info::<Local>();
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, service).await {
                eprintln!("the pods' listener ended: {error}");
            }
        });
        let (changed, changes) = watch::channel(0);
        let watcher = tokio::spawn(follow(client, known.clone(), changed));
        Ok(Self { known, changes, tasks: [server, watcher] })
    }

    /// From now on it is like this in a namespace; how often it is scraped, from the next pod on.
    pub fn set_weather(&self, namespace: &str, weather: Weather) {
        lock(&self.known.weather).insert(namespace.to_owned(), weather);
    }

    /// How it is there.
    pub fn weather(&self, namespace: &str) -> Weather {
        self.known.weather(namespace)
    }

    /// The pods of a namespace that ran at some time, those that are gone included.
    pub fn of(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let places = lock(&self.known.places);
        places.all.values().filter(|pod| pod.namespace == namespace).cloned().collect()
    }

    /// All pods that run now.
    pub fn running(&self) -> Vec<Arc<Pod>> {
        lock(&self.known.places).all.values().filter(|pod| pod.runs()).cloned().collect()
    }

    /// What the pods of a namespace counted themselves, by version.
    pub fn served(&self, namespace: &str) -> BTreeMap<String, Served> {
        let mut versions = BTreeMap::<String, Served>::new();
        for pod in self.of(namespace) {
            let (sum, served) = (versions.entry(pod.version().to_owned()).or_default(), pod.served());
            sum.total += served.total;
            sum.errors += served.errors;
        }
        versions
    }
}

impl Pods {
    /// What all pods counted of the requests to one host.
    pub fn served_to(&self, host: &str) -> Served {
        let mut sum = Served::default();
        for pod in lock(&self.known.places).all.values() {
            let served = lock(&pod.by_host).get(host).copied().unwrap_or_default();
            sum.total += served.total;
            sum.errors += served.errors;
        }
        sum
    }
}

impl Pod {
    pub fn version(&self) -> &str {
        behaviour::tag(&self.image)
    }

    pub fn runs(&self) -> bool {
        lock(&self.gone).is_none()
    }

    /// From now on its node is ill, whatever runs on it.
    pub fn fall_ill(&self, how: Behaviour) {
        *lock(&self.ill) = how;
    }

    pub fn served(&self) -> Served {
        let mut served = Served::default();
        for ((_, status), histogram) in lock(&self.series).iter() {
            served.total += histogram.count;
            served.errors += if *status >= 500 { histogram.count } else { 0 };
        }
        served
    }

    /// `None` while no container of it runs, and for one whose tag is not understood.
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
            // A process knows its start more closely than Kubernetes, which cuts the time to the second.
            started: Timestamp::now(),
            uid: object.metadata.uid.clone()?,
            behaviour,
            ill: Mutex::default(),
            born: Instant::now(),
            gone: Mutex::default(),
            requests: AtomicU64::new(0),
            series: Mutex::default(),
            by_host: Mutex::default(),
        })
    }

    fn answers(&self) -> bool {
        lock(&self.gone).is_none_or(|since| since.elapsed() < GRACE)
    }

    async fn serve(&self, method: &Method, host: &str, incident: &Behaviour) -> (StatusCode, &'static str) {
        let received = Instant::now();
        let n = self.requests.fetch_add(1, Ordering::Relaxed);
        let age = self.born.elapsed();
        let ill = lock(&self.ill).answer(n, age);
        let answer = self.behaviour.answer(n, age).and(incident.answer(n, age)).and(ill);
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        let (status, body) = match answer.fails {
            true => (StatusCode::INTERNAL_SERVER_ERROR, "error\n"),
            false => (StatusCode::OK, "ok\n"),
        };
        // Counted before it is sent: who has the answer finds it in the count.
        let mut hosts = lock(&self.by_host);
        let served = hosts.entry(host.to_owned()).or_default();
        served.total += 1;
        served.errors += u64::from(answer.fails);
        drop(hosts);
        let mut series = lock(&self.series);
        series.entry((method.to_string(), status.as_u16())).or_default().record(received.elapsed());
        (status, body)
    }

    /// Prometheus' text format. As with a real library, a series exists once it has been used.
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
struct Local(Option<IpAddr>);

impl Connected<IncomingStream<'_, TcpListener>> for Local {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(stream.io().local_addr().ok().map(|address| address.ip()))
    }
}

async fn answer(State(known): State<Arc<Known>>, ConnectInfo(local): ConnectInfo<Local>, request: Request) -> Response {
    let pod = local.0.and_then(|address| lock(&known.places).by_address.get(&address).cloned());
    let Some(pod) = pod.filter(|pod| pod.answers()) else {
        return (StatusCode::SERVICE_UNAVAILABLE, [("connection", "close")], "no pod has this address\n")
            .into_response();
    };
    if request.uri().path() == "/metrics" {
        return ([("content-type", "text/plain; version=0.0.4")], pod.metrics()).into_response();
    }
    if request.uri().path() == PROBE {
        return "ok\n".into_response();
    }
    let method = request.method().clone();
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let incident = known.weather(&pod.namespace).incident;
    let (status, body) = pod.serve(&method, &host, &incident).await;
    let who = [("x-pod", pod.name.as_str()), ("x-version", pod.version())];
    (status, who, body).into_response()
}

// ---- the watch ----

async fn follow(client: Client, known: Arc<Known>, changed: watch::Sender<u64>) {
    let events = watcher::watcher(Api::<core::Pod>::all(client), watcher::Config::default());
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(event)) => known.learn(event, &mut listed),
            Ok(None) => return,
            // The watcher starts again by itself; it only wants time.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        changed.send_modify(|n| *n += 1);
    }
}

impl Known {
    fn weather(&self, namespace: &str) -> Weather {
        lock(&self.weather).get(namespace).cloned().unwrap_or_default()
    }

    fn learn(&self, event: Event<core::Pod>, listed: &mut HashSet<String>) {
        let mut places = lock(&self.places);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                places.see(&pod);
            }
            Event::InitDone => {
                for pod in places.all.values().filter(|pod| !listed.contains(&pod.uid)) {
                    pod.leave();
                }
            }
            Event::Apply(pod) => places.see(&pod),
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                places.all.get(&uid).into_iter().for_each(|pod| pod.leave());
            }
        }
    }
}

impl Places {
    fn see(&mut self, object: &core::Pod) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        match self.all.get(&uid) {
            Some(pod) if object.metadata.deletion_timestamp.is_some() => pod.leave(),
            Some(_) => {}
            None => {
                if let Some(pod) = Pod::read(object).map(Arc::new) {
                    self.by_address.insert(pod.address, pod.clone());
                    self.all.insert(uid, pod);
                }
            }
        }
    }
}

impl Pod {
    fn leave(&self) {
        lock(&self.gone).get_or_insert_with(Instant::now);
    }
}

/// A panic elsewhere leaves counters that are still good to read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
