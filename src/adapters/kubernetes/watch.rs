//! The watches: one per kind (and per namespace, where only some may be seen), whatever the number of rollouts.
//!
//! A change marks the workloads that it may concern; a moment later each of them is looked at once, and the sighting is
//! sent if it is another one than the last. So a rollout of a hundred pods costs tens of sightings and not thousands, and
//! what is sent is a level and not an edge: a change that was missed is in the next sighting.
//!
//! A watch that fails is begun again by kube's watcher, which waits longer each time (0.8 s to 30 s, with jitter). A kind
//! that the API server does not know (the Gateway API is not installed) counts as listed and empty, and is asked for
//! again like any other failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::time::Timestamp;
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject, Resource, ResourceExt};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::facts::{Deployment, PodState, ReplicaSet};
use super::failure;
use super::marks::POD_TEMPLATE_HASH;
use super::objects::{Change, Objects, Update};
use super::server::{Server, deployment_type, replica_set_type, route_type};
use crate::clock::Clock;
use crate::ports::Wake;

/// From a change to the look at what it concerns. Changes come in bursts: a pod that starts makes five.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The API server is asked this often whether it is there: quiet watches say nothing for minutes.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Watches are begun anew this often by the server's clock; one that has silently died is noticed 5 s later.
const WATCH_SECONDS: u32 = 60;

/// Says which workloads are of interest.
type Filter = Box<dyn Fn(&Workload) -> bool + Send + Sync>;

/// What is watched.
pub struct WatchScope<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The namespaces; empty: all.
    pub namespaces: &'a [String],
    /// The workloads whose sightings are sent.
    pub wanted: Filter,
}

/// What the watches know, shared between the task that fills it and those that ask.
#[derive(Debug, Default)]
pub struct ClusterCache {
    objects: RwLock<Objects>,
    state: Mutex<State>,
    /// Workloads whose sighting is to be sent again, changed or not.
    asked: Mutex<BTreeSet<Workload>>,
    ask: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By watch: why its list is not through yet; `None`: it is.
    lists: BTreeMap<String, Option<String>>,
    contact: Option<Timestamp>,
    error: Option<String>,
}

/// Whether the watches can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The lists that are not through yet, each with the reason; empty: all are.
    pub waiting: Vec<String>,
    /// When the API server last answered.
    pub contact: Option<Timestamp>,
    /// Why it did not answer after that.
    pub error: Option<String>,
}

impl Readiness {
    /// All lists are through. It stays so: after that, only the API server may be away.
    pub fn is_ready(&self) -> bool {
        self.contact.is_some() && self.waiting.is_empty()
    }
}

impl ClusterCache {
    /// Reads what is known.
    pub fn with<T>(&self, read: impl FnOnce(&Objects) -> T) -> T {
        read(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the sightings of these workloads sent again, changed or not.
    pub fn ask(&self, workloads: impl IntoIterator<Item = Workload>) {
        lock(&self.asked).extend(workloads);
        self.ask.notify_one();
    }

    /// Whether the watches can be relied on.
    pub fn readiness(&self) -> Readiness {
        let state = lock(&self.state);
        Readiness {
            waiting: state.lists.values().flatten().cloned().collect(),
            contact: state.contact,
            error: state.error.clone(),
        }
    }

    fn listed_all(&self) -> bool {
        let state = lock(&self.state);
        !state.lists.is_empty() && state.lists.values().all(Option::is_none)
    }

    fn expect(&self, watch: &str) {
        lock(&self.state).lists.insert(watch.to_owned(), Some(format!("{watch} are not listed yet")));
    }

    fn listed(&self, watch: &str, now: Timestamp) {
        lock(&self.state).lists.insert(watch.to_owned(), None);
        self.answered(now);
    }

    fn answered(&self, now: Timestamp) {
        let mut state = lock(&self.state);
        state.contact = Some(now);
        state.error = None;
    }

    fn failed(&self, watch: &str, error: String) {
        let mut state = lock(&self.state);
        if let Some(reason @ Some(_)) = state.lists.get_mut(watch) {
            *reason = Some(error.clone());
        }
        state.error = Some(error);
    }
}

/// What comes out of a watch.
enum Report {
    Update(Box<Update>),
    Failed(String),
}

type Reports = SelectAll<BoxStream<'static, (String, Report)>>;

/// Watches until `cancel` says so or nobody listens, and sends a [`Wake::Observed`] for each workload of interest that has
/// changed.
pub async fn run(
    server: &Server,
    scope: WatchScope<'_>,
    seen: &ClusterCache,
    clock: &dyn Clock,
    wakes: &mpsc::Sender<Wake>,
    cancel: &CancellationToken,
) {
    let WatchScope { cluster, namespaces, wanted } = scope;
    let mut reports = watches(server, namespaces, seen);
    let mut sender = Sender {
        cluster,
        seen,
        clock,
        wanted,
        wakes,
        sent: BTreeMap::new(),
        marked: BTreeSet::new(),
        burst: false,
        begun: false,
    };
    let mut pause: BoxStream<'_, ()> = Box::pin(futures::stream::pending());
    let mut heart = std::pin::pin!(heartbeat(server, seen, clock));
    loop {
        if sender.is_due() {
            pause = once(tokio::time::sleep(DEBOUNCE));
        }
        let alive = tokio::select! {
            () = cancel.cancelled() => false,
            Some((watch, report)) = reports.next() => {
                sender.take(&watch, report);
                true
            }
            Some(()) = pause.next() => sender.send(cancel).await,
            () = seen.ask.notified() => {
                sender.mark_asked();
                true
            }
            () = &mut heart => false,
        };
        if !alive {
            return;
        }
    }
}

/// A future that is awaited beside others, and that never ends a second time.
fn once<'a>(future: impl Future<Output = ()> + Send + 'a) -> BoxStream<'a, ()> {
    futures::stream::once(future).chain(futures::stream::pending()).boxed()
}

/// Never ends.
async fn heartbeat(server: &Server, seen: &ClusterCache, clock: &dyn Clock) {
    loop {
        match server.call("asking the API server for its version", server.client.apiserver_version()).await {
            Ok(_) => seen.answered(clock.now()),
            Err(failure) => seen.failed("", failure.message),
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Collects what is to be looked at, and sends what has changed.
struct Sender<'a> {
    cluster: &'a str,
    seen: &'a ClusterCache,
    clock: &'a dyn Clock,
    wanted: Filter,
    wakes: &'a mpsc::Sender<Wake>,
    /// The last sighting of each workload.
    sent: BTreeMap<Workload, WorkloadStatus>,
    marked: BTreeSet<Workload>,
    /// Something is marked and the wait for more has begun.
    burst: bool,
    /// All lists are through. Before, a sighting would be of half a cluster.
    begun: bool,
}

impl Sender<'_> {
    fn take(&mut self, watch: &str, report: Report) {
        match report {
            Report::Failed(error) => {
                tracing::warn!(watch, error, "a watch failed; it is begun again");
                self.seen.failed(watch, error);
            }
            Report::Update(update) => {
                let whole = update.is_whole();
                let mut objects = self.seen.objects.write().unwrap_or_else(PoisonError::into_inner);
                let concerned: BTreeSet<_> = objects.take(*update).into_iter().collect();
                let mut workloads = Vec::new();
                for (namespace, name) in concerned {
                    if name.is_none() {
                        // A Deployment that is gone may still have its reference in the route.
                        let sent = self.sent.keys().filter(|workload| workload.namespace == namespace);
                        workloads.extend(sent.cloned());
                    }
                    workloads.extend(objects.workloads(self.cluster, (namespace, name)));
                }
                drop(objects);
                if whole {
                    self.seen.listed(watch, self.clock.now());
                }
                self.mark(workloads);
            }
        }
        if !self.begun && self.seen.listed_all() {
            self.begun = true;
            let all = self.seen.with(|objects| objects.all_workloads(self.cluster));
            self.mark(all);
        }
    }

    fn mark(&mut self, workloads: impl IntoIterator<Item = Workload>) {
        if !self.begun {
            return;
        }
        let wanted = &self.wanted;
        self.marked.extend(workloads.into_iter().filter(|workload| wanted(workload)));
    }

    /// Whether the wait for more is to begin now: once for each burst.
    fn is_due(&mut self) -> bool {
        let begins = !self.burst && !self.marked.is_empty();
        self.burst |= begins;
        begins
    }

    fn mark_asked(&mut self) {
        let asked = std::mem::take(&mut *lock(&self.seen.asked));
        for workload in &asked {
            self.sent.remove(workload);
        }
        self.mark(asked);
    }

    /// Whether somebody still listens.
    async fn send(&mut self, cancel: &CancellationToken) -> bool {
        self.burst = false;
        for workload in std::mem::take(&mut self.marked) {
            let Some((status, templates)) = self.seen.with(|objects| objects.status(&workload)) else { continue };
            let last = self.sent.get(&workload);
            if last == Some(&status) || (last.is_none() && is_nothing(&status)) {
                continue;
            }
            if is_nothing(&status) {
                self.sent.remove(&workload);
            } else {
                self.sent.insert(workload.clone(), status.clone());
            }
            let wake = Wake::Observed { workload, status: Box::new(status), templates };
            let heard = tokio::select! {
                () = cancel.cancelled() => false,
                sent = self.wakes.send(wake) => sent.is_ok(),
            };
            if !heard {
                return false;
            }
        }
        true
    }
}

fn is_nothing(status: &WorkloadStatus) -> bool {
    status.stable.is_none() && status.has_no_rollout_objects()
}

fn watches(server: &Server, namespaces: &[String], seen: &ClusterCache) -> Reports {
    let scopes: Vec<Option<&str>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(|it| Some(it.as_str())).collect() };
    let mut all = SelectAll::new();
    for scope in scopes {
        let dynamic = |kind: ApiResource| -> Api<DynamicObject> {
            match scope {
                Some(namespace) => Api::namespaced_with(server.client.clone(), namespace, &kind),
                None => Api::all_with(server.client.clone(), &kind),
            }
        };
        let pods: Api<Pod> = scoped(server, scope);
        let services: Api<Service> = scoped(server, scope);
        let name = |kind: &str| {
            let name = scope.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"));
            seen.expect(&name);
            name
        };
        let plain = watcher::Config::default().timeout(WATCH_SECONDS);
        all.push(watch(
            name("Deployments"),
            dynamic(deployment_type()),
            plain.clone(),
            Deployment::read,
            Update::Deployment,
        ));
        all.push(watch(
            name("ReplicaSets"),
            dynamic(replica_set_type()),
            plain.clone(),
            ReplicaSet::read,
            Update::ReplicaSet,
        ));
        // Pods of Deployments alone.
        let of_sets = plain.clone().labels(POD_TEMPLATE_HASH);
        all.push(watch(name("Pods"), pods, of_sets, PodState::read, Update::Pod));
        all.push(watch(name("HTTPRoutes"), dynamic(route_type()), plain.clone(), trimmed_route, Update::Route));
        all.push(watch(name("Services"), services, plain, trimmed_service, Update::Service));
    }
    all
}

fn scoped<K>(server: &Server, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(server.client.clone(), namespace),
        None => Api::all(server.client.clone()),
    }
}

fn trimmed_route(route: &DynamicObject) -> Option<Box<DynamicObject>> {
    let mut route = route.clone();
    route.managed_fields_mut().clear();
    Some(Box::new(route))
}

fn trimmed_service(service: &Service) -> Option<Box<Service>> {
    let mut service = service.clone();
    service.managed_fields_mut().clear();
    service.status = None;
    Some(Box::new(service))
}

/// One watch as a stream of reports. An object that `read` can't use is as good as gone.
fn watch<K, T>(
    name: String,
    api: Api<K>,
    config: watcher::Config,
    read: fn(&K) -> Option<T>,
    update: fn(Change<T>) -> Update,
) -> BoxStream<'static, (String, Report)>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
{
    let stream = watcher::watcher(api, config).default_backoff();
    stream
        .filter_map(move |event| {
            let report = match event {
                Ok(event) => change(event, read).map(|change| Report::Update(Box::new(update(change)))),
                // The API server does not know this kind: whatever there was of it is gone.
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => {
                    Some(Report::Update(Box::new(update(Change::Whole))))
                }
                // The list is begun anew: nothing is wrong.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => None,
                Err(error) => Some(Report::Failed(words(&name, &error))),
            };
            let named = report.map(|report| (name.clone(), report));
            async move { named }
        })
        .boxed()
}

/// The API server's own words, where it has spoken.
fn words(watch: &str, error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => failure::of(&format!("watching {watch}"), error).message,
        watcher::Error::WatchError(status) => failure::of_status(&format!("watching {watch}"), status).message,
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

fn change<K: Resource, T>(event: watcher::Event<K>, read: fn(&K) -> Option<T>) -> Option<Change<T>> {
    let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
    Some(match event {
        watcher::Event::Init => Change::Begin,
        watcher::Event::InitApply(object) => Change::Listed(key(&object), read(&object)?),
        watcher::Event::InitDone => Change::Whole,
        watcher::Event::Apply(object) => match read(&object) {
            Some(row) => Change::Set(key(&object), row),
            None => Change::Gone(key(&object)),
        },
        watcher::Event::Delete(object) => Change::Gone(key(&object)),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
