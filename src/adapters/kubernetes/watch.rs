//! The watches of the cluster: one per kind of object, and per namespace if the configuration names namespaces. Their
//! number does not depend on the number of rollouts.
//!
//! A change marks the workloads that it concerns. After a short wait the status of each marked workload is computed
//! once, and it is sent if it differs from the last one sent. So a rollout of a hundred pods causes tens of status
//! messages and not thousands; and because a message is a whole status and not a change, a missed one is covered by the
//! next.
//!
//! kube's watcher restarts a failed watch with backoff (0.8 s to 30 s, see [`Pause`]). A kind that the API server does
//! not know, such as a router's routes without their CRD, counts as listed and empty, and is retried like any other
//! failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::PoisonError;
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::time::Timestamp;
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::Api;
use kube::core::{DynamicObject, NamespaceResourceScope, Resource, ResourceExt};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::failure;
use super::kind::{FieldPath, KINDS};
use super::objects::{Objects, Update};
use super::owners;
use super::router::ROUTERS;
use super::server::Server;
use super::table::Change;
use crate::clock::Clock;
use crate::ports::Wake;

mod cache;

pub use self::cache::{ClusterCache, Readiness};

/// The time from a change to the computation of the status. Changes come in bursts: a starting pod causes five.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The interval at which the API server is asked for its version, because quiet watches report nothing for minutes. After
/// each answer the daemon is told that it knows every change.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// The time after which the API server ends a watch, which then restarts. A watch that died silently is noticed 5 s
/// later.
const WATCH_SECONDS: u32 = 60;

/// The longest wait until a failed watch is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The number of objects in a page of a list. Of a pod about 2 % are kept, so whole pages of the client's default, which is 500,
/// would be most of the memory that a daemon at rest has ever had.
const PAGE: u32 = 50;

/// Returns whether the status of a workload is to be sent.
type Filter = Box<dyn Fn(&Workload) -> bool + Send + Sync>;

/// The part of a cluster that is watched.
pub struct WatchScope<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The namespaces; empty: all.
    pub namespaces: &'a [String],
    /// The workloads whose status is sent.
    pub wanted: Filter,
}

/// A report of a watch.
enum Report {
    Update(Box<Update>),
    Failed(String),
}

/// The reports of all watches, each with the watch's name.
type Reports = SelectAll<BoxStream<'static, (String, Report)>>;

/// Watches until `cancel` is cancelled or the receiver of `wakes` is dropped, and sends a [`Wake::Observed`] for each
/// wanted workload whose status has changed.
pub async fn run(
    server: &Server,
    scope: WatchScope<'_>,
    cache: &ClusterCache,
    clock: &dyn Clock,
    wakes: &mpsc::Sender<Wake>,
    cancel: &CancellationToken,
) {
    let WatchScope { cluster, namespaces, wanted } = scope;
    let mut reports = watches(server, namespaces, cache);
    let mut sender = StatusSender {
        cluster,
        cache,
        clock,
        wanted,
        wakes,
        sent: BTreeMap::new(),
        marked: BTreeSet::new(),
        asked: BTreeSet::new(),
        sighted: None,
        is_waiting: false,
        is_listed: false,
    };
    let mut pause: BoxStream<'_, ()> = Box::pin(futures::stream::pending());
    let mut beats = std::pin::pin!(heartbeats(server, cache, clock));
    loop {
        if sender.begins_wait() {
            pause = once(tokio::time::sleep(DEBOUNCE));
        }
        let is_running = tokio::select! {
            () = cancel.cancelled() => false,
            Some((watch, report)) = reports.next() => {
                sender.take(&watch, report);
                true
            }
            Some(()) = pause.next() => sender.send(cancel).await,
            () = cache.requested() => {
                sender.mark_requested();
                true
            }
            Some(()) = beats.next() => true,
        };
        if !is_running || !sender.report_sight(cancel).await {
            return;
        }
    }
}

/// Returns a stream that yields once when `future` is done and never ends, so that it can be polled beside others.
fn once<'a>(future: impl Future<Output = ()> + Send + 'a) -> BoxStream<'a, ()> {
    futures::stream::once(future).chain(futures::stream::pending()).boxed()
}

/// Asks the API server for its version at every [`HEARTBEAT`], and yields after each answer. It never ends.
fn heartbeats<'a>(server: &'a Server, cache: &'a ClusterCache, clock: &'a dyn Clock) -> impl Stream<Item = ()> + 'a {
    futures::stream::unfold(Duration::ZERO, move |wait| async move {
        tokio::time::sleep(wait).await;
        // The answer is no older than the question.
        let asked = clock.now();
        match server.call("asking the API server for its version", server.client.apiserver_version()).await {
            Ok(_) => cache.note_contact(asked),
            Err(failure) => cache.note_failure("", failure.message),
        }
        Some(((), HEARTBEAT))
    })
}

/// Marks the workloads that changes concern, and sends the statuses that have changed.
struct StatusSender<'a> {
    cluster: &'a str,
    cache: &'a ClusterCache,
    clock: &'a dyn Clock,
    wanted: Filter,
    wakes: &'a mpsc::Sender<Wake>,
    /// The last status sent of each workload.
    sent: BTreeMap<Workload, WorkloadStatus>,
    /// The workloads whose status is to be computed.
    marked: BTreeSet<Workload>,
    /// Those of the marked workloads whose status is sent even if they do not exist.
    asked: BTreeSet<Workload>,
    /// The time of the last report that every change was sent.
    sighted: Option<Timestamp>,
    /// Whether the wait for further changes has begun.
    is_waiting: bool,
    /// Whether all lists are complete. Before that a status would be computed from a part of the cluster.
    is_listed: bool,
}

impl StatusSender<'_> {
    fn take(&mut self, watch: &str, report: Report) {
        match report {
            Report::Failed(error) => {
                if self.cache.note_watch_failure(watch, error.clone()) {
                    tracing::warn!(watch, error, "watch failed; retrying");
                }
            }
            Report::Update(update) => {
                let is_complete = update.is_complete();
                let mut objects = self.cache.objects.write().unwrap_or_else(PoisonError::into_inner);
                let concerned: BTreeSet<_> = objects.apply(*update).into_iter().collect();
                let workloads = concerned.into_iter().flat_map(|object| Objects::workloads(self.cluster, object));
                let workloads: Vec<Workload> = workloads.collect();
                drop(objects);
                if is_complete {
                    self.cache.note_list(watch, self.clock.now());
                }
                self.mark(workloads);
            }
        }
        if !self.is_listed && self.cache.has_all_lists() {
            self.is_listed = true;
            let all = self.cache.with(|objects| objects.all_workloads(self.cluster));
            self.mark(all);
        }
    }

    fn mark(&mut self, workloads: impl IntoIterator<Item = Workload>) {
        if !self.is_listed {
            return;
        }
        let wanted = &self.wanted;
        self.marked.extend(workloads.into_iter().filter(|workload| wanted(workload)));
    }

    /// Returns whether the wait for further changes begins now: once per burst.
    fn begins_wait(&mut self) -> bool {
        let begins = !self.is_waiting && !self.marked.is_empty();
        self.is_waiting |= begins;
        begins
    }

    fn mark_requested(&mut self) {
        let requested = self.cache.take_requested();
        for workload in &requested {
            self.sent.remove(workload);
        }
        self.asked.extend(requested.iter().cloned());
        self.mark(requested);
        // The partition that asked has no report yet.
        self.sighted = None;
    }

    /// Reports that every change was sent, if that is so and was not reported. Returns `false` if the watches are to end.
    async fn report_sight(&mut self, cancel: &CancellationToken) -> bool {
        let Some(until) = self.cache.complete_until().filter(|_| self.is_listed && self.marked.is_empty()) else {
            return true;
        };
        // The clock may have been turned back since the last report.
        if self.sighted == Some(until) {
            return true;
        }
        self.sighted = Some(until);
        self.wake(Wake::Sighted(until), cancel).await
    }

    /// Sends a message. Returns `false` if the watches are to end.
    async fn wake(&self, wake: Wake, cancel: &CancellationToken) -> bool {
        tokio::select! {
            () = cancel.cancelled() => false,
            sent = self.wakes.send(wake) => sent.is_ok(),
        }
    }

    /// Sends the changed statuses of the marked workloads. Returns `false` if the watches are to end.
    async fn send(&mut self, cancel: &CancellationToken) -> bool {
        self.is_waiting = false;
        for workload in std::mem::take(&mut self.marked) {
            let Some((status, templates)) = self.cache.with(|objects| objects.status(&workload)) else { continue };
            let last = self.sent.get(&workload);
            let is_asked = self.asked.remove(&workload);
            if last == Some(&status) || (last.is_none() && is_empty(&status) && !is_asked) {
                continue;
            }
            if is_empty(&status) {
                self.sent.remove(&workload);
            } else {
                self.sent.insert(workload.clone(), status.clone());
            }
            let wake = Wake::Observed { workload, status: Box::new(status), templates };
            if !self.wake(wake, cancel).await {
                return false;
            }
        }
        true
    }
}

fn is_empty(status: &WorkloadStatus) -> bool {
    status.stable.is_none() && status.has_no_rollout_objects()
}

/// Returns the watches of every kind of object, in every namespace of the configuration.
fn watches(server: &Server, namespaces: &[String], cache: &ClusterCache) -> Reports {
    let scopes: Vec<Option<&str>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(|name| Some(name.as_str())).collect() };
    let mut all = SelectAll::new();
    for scope in scopes {
        let name = |objects: &str| {
            let name = scope.map_or_else(|| objects.to_owned(), |namespace| format!("{objects} in {namespace}"));
            cache.expect_list(&name);
            name
        };
        let plain = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        for provider in KINDS {
            let kind = provider.kind();
            let workloads = provider.api_kind();
            all.push(watch(
                name(&workloads.objects()),
                server.objects(workloads, scope),
                plain.clone(),
                move |object| provider.read(object),
                move |change| Update::Workload(kind, change),
            ));
            let revisions = provider.revision_kind();
            all.push(watch(
                name(&revisions.objects()),
                server.objects(revisions, scope),
                plain.clone(),
                move |object| provider.read_revision(object),
                move |change| Update::Revision(kind, change),
            ));
            all.push(watch(
                name(&format!("Pods of {}", workloads.objects())),
                scoped::<Pod>(server, scope),
                plain.clone().labels(provider.revision_label()),
                move |pod| provider.read_pod(pod),
                move |change| Update::Pod(kind, change),
            ));
        }
        for router in ROUTERS {
            let (kind, Some(routes)) = (router.kind(), router.resource()) else { continue };
            all.push(watch(
                name(&routes.objects()),
                server.objects(routes, scope),
                plain.clone(),
                move |route| trimmed_route(route, router.rules_path()),
                move |change| Update::Route(kind, change),
            ));
        }
        all.push(watch(name("Services"), scoped::<Service>(server, scope), plain, trimmed_service, Update::Service));
    }
    all
}

fn scoped<K>(server: &Server, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(server.client.clone(), namespace),
        None => Api::all(server.client.clone()),
    }
}

fn trimmed_route(route: &DynamicObject, rules: FieldPath) -> Option<Box<DynamicObject>> {
    let mut route = route.clone();
    owners::keep_writers(&mut route.metadata, rules);
    Some(Box::new(route))
}

fn trimmed_service(service: &Service) -> Option<Box<Service>> {
    let mut service = service.clone();
    service.managed_fields_mut().clear();
    service.status = None;
    Some(Box::new(service))
}

/// The waits until a failed watch is tried again: kube's own, whose jitter makes the longest ones up to twice as long as its limit.
/// After [`cache::RECOVERY`] a watch counts as complete again, so none may be longer than that.
#[derive(Default)]
struct Pause(DefaultBackoff);

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Returns one watch as a stream of reports. An object for which `read` returns `None` counts as deleted.
fn watch<K, T>(
    name: String,
    api: Api<K>,
    config: watcher::Config,
    read: impl Fn(&K) -> Option<T> + Send + Copy + 'static,
    update: impl Fn(Change<T>) -> Update + Send + 'static,
) -> BoxStream<'static, (String, Report)>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
{
    let stream = watcher::watcher(api, config).backoff(Pause::default());
    stream
        .filter_map(move |event| {
            let report = match event {
                Ok(event) => change(event, read).map(|change| Report::Update(Box::new(update(change)))),
                // The API server does not know this kind, so there are no objects of it.
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => {
                    Some(Report::Update(Box::new(update(Change::Complete))))
                }
                // The resourceVersion has expired: the watcher lists again.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => None,
                Err(error) => Some(Report::Failed(error_message(&name, &error))),
            };
            let named = report.map(|report| (name.clone(), report));
            async move { named }
        })
        .boxed()
}

/// Returns the API server's message if it answered, otherwise the watcher's.
fn error_message(watch: &str, error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => failure::of(&format!("watching {watch}"), error).message,
        watcher::Error::WatchError(status) => failure::of_status(&format!("watching {watch}"), status).message,
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

fn change<K: Resource, T>(event: watcher::Event<K>, read: impl Fn(&K) -> Option<T>) -> Option<Change<T>> {
    let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
    Some(match event {
        watcher::Event::Init => Change::Begin,
        watcher::Event::InitApply(object) => Change::Listed(key(&object), read(&object)?),
        watcher::Event::InitDone => Change::Complete,
        watcher::Event::Apply(object) => match read(&object) {
            Some(row) => Change::Set(key(&object), row),
            None => Change::Gone(key(&object)),
        },
        watcher::Event::Delete(object) => Change::Gone(key(&object)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_watch_is_tried_again_before_it_counts_as_complete() {
        assert!(Pause::default().take(200).all(|pause| pause < cache::RECOVERY));
        let is_too_long = |pause: Duration| pause > cache::RECOVERY;
        assert!(DefaultBackoff::default().take(200).any(is_too_long), "kube's own would do");
    }

    #[tokio::test]
    async fn a_clock_that_is_turned_back_ends_no_report() {
        let (cache, cancel) = (ClusterCache::default(), CancellationToken::new());
        let (wakes, mut inbox) = mpsc::channel(8);
        let mut sender = StatusSender {
            cluster: "test",
            cache: &cache,
            clock: &crate::clock::SystemClock,
            wanted: Box::new(|_| true),
            wakes: &wakes,
            sent: BTreeMap::new(),
            marked: BTreeSet::new(),
            asked: BTreeSet::new(),
            sighted: None,
            is_waiting: false,
            is_listed: true,
        };
        for time in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:05Z", "2026-01-30T12:00:10Z"] {
            let now: Timestamp = time.parse().unwrap();
            cache.note_list("Pods", now);
            assert!(sender.report_sight(&cancel).await);
            assert!(sender.report_sight(&cancel).await, "the second of the same contact, which is not sent");
            assert!(matches!(inbox.try_recv(), Ok(Wake::Sighted(at)) if at == now), "{time}");
            assert!(inbox.try_recv().is_err());
        }
    }
}
