//! The facts that the watches have collected of every object, by namespace and name, and the facts of deleted pods.
//!
//! A pod's counters outlive the pod: Prometheus returns them for minutes, and the sampling has to know the pod's arm.
//! So the facts of the last [`REMEMBERED`] deleted pods are kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bellwether_core::ids::{Weight, Workload, WorkloadKind};
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::policy::RouterKind;
use k8s_openapi::api::core::v1::Service;
use kube::core::DynamicObject;

use super::facts::{PodState, RevisionFacts, WorkloadFacts};
use super::marks::{BASELINE, CANARY};
use super::preflight;
use super::router::{self, Routed};
use super::table::{Change, ObjectKey, Owned, OwnedTable, Table};
use crate::ports::{PodFacts, PodTemplate};

/// The number of deleted pods that are remembered: about 15 MB, or the pods of 500 rollouts with 100 pods each.
const REMEMBERED: usize = 50_000;

/// The objects of one kind of workload.
#[derive(Debug, Default)]
struct WorkloadTables {
    workloads: Table<WorkloadFacts>,
    revisions: OwnedTable<RevisionFacts>,
    pods: OwnedTable<PodState>,
}

/// The objects of a cluster.
#[derive(Debug, Default)]
pub struct Objects {
    kinds: BTreeMap<WorkloadKind, WorkloadTables>,
    routes: BTreeMap<RouterKind, OwnedTable<Route>>,
    services: Table<Box<Service>>,
    deleted_pods: DeletedPods,
}

/// A route, which belongs to the workloads whose canary or record it has.
#[derive(Debug)]
struct Route {
    object: Box<DynamicObject>,
    /// The workloads, each as namespace and name.
    workloads: Vec<String>,
}

impl Route {
    fn new(router: RouterKind, (namespace, _): &ObjectKey, object: Box<DynamicObject>) -> Route {
        let names = router::provider(router).workloads(&object);
        Route { object, workloads: names.iter().map(|name| route_owner(namespace, name)).collect() }
    }
}

impl Owned for Route {
    fn owners(&self) -> impl Iterator<Item = &str> {
        self.workloads.iter().map(String::as_str)
    }
}

/// Returns the owner of a route.
fn route_owner(namespace: &str, workload: &str) -> String {
    format!("{namespace}/{workload}")
}

/// The facts of deleted pods; the oldest are forgotten first.
#[derive(Debug, Default)]
struct DeletedPods {
    pods: BTreeMap<ObjectKey, PodFacts>,
    order: VecDeque<ObjectKey>,
}

impl DeletedPods {
    fn keep(&mut self, key: ObjectKey, facts: PodFacts) {
        if self.pods.insert(key.clone(), facts).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.pods.remove(&oldest);
            }
        }
    }
}

/// A change of an object, with its kind.
#[derive(Debug)]
pub enum Update {
    /// A change of a workload object.
    Workload(WorkloadKind, Change<WorkloadFacts>),
    /// A change of a revision.
    Revision(WorkloadKind, Change<RevisionFacts>),
    /// A change of a pod.
    Pod(WorkloadKind, Change<PodState>),
    /// A change of a route.
    Route(RouterKind, Change<Box<DynamicObject>>),
    /// A change of a Service.
    Service(Change<Box<Service>>),
}

/// The workload object by which the status of a workload may have changed: its own, its canary's or its baseline's.
pub type Concerned = (WorkloadKind, ObjectKey);

impl Update {
    /// Returns whether the update completes the list of its kind.
    pub fn is_complete(&self) -> bool {
        matches!(
            self,
            Update::Workload(_, Change::Complete)
                | Update::Revision(_, Change::Complete)
                | Update::Pod(_, Change::Complete)
                | Update::Route(_, Change::Complete)
                | Update::Service(Change::Complete)
        )
    }
}

impl Objects {
    /// Applies a change. Returns the workload objects of the workloads whose status may have changed.
    pub fn apply(&mut self, update: Update) -> Vec<Concerned> {
        match update {
            Update::Workload(kind, change) => {
                let touched = self.kinds.entry(kind).or_default().workloads.apply(change);
                touched.into_iter().map(|(key, _)| (kind, key)).collect()
            }
            Update::Revision(kind, change) => self.apply_revision(kind, change),
            Update::Pod(kind, change) => self.apply_pod(kind, change),
            Update::Route(router, change) => self.apply_route(router, change),
            // Services are looked up, but are no part of a status.
            Update::Service(change) => {
                self.services.apply(change);
                Vec::new()
            }
        }
    }

    fn apply_route(&mut self, router: RouterKind, change: Change<Box<DynamicObject>>) -> Vec<Concerned> {
        let routes = self.routes.entry(router).or_default();
        let touched = routes.apply(change.map(|key, object| Route::new(router, key, object)));
        let mut owners = BTreeSet::new();
        for ((namespace, name), old) in &touched {
            let both = old.iter().chain(routes.get(namespace, name));
            owners.extend(both.flat_map(|route| route.workloads.iter().cloned()));
        }
        let objects = owners.iter().filter_map(|owner| owner.split_once('/'));
        let keys = objects.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        keys.flat_map(|key| self.kinds.keys().map(move |kind| (*kind, key.clone()))).collect()
    }

    fn apply_revision(&mut self, kind: WorkloadKind, change: Change<RevisionFacts>) -> Vec<Concerned> {
        let tables = self.kinds.entry(kind).or_default();
        let mut concerned = Vec::new();
        for ((namespace, name), old) in tables.revisions.apply(change) {
            let new = tables.revisions.get(&namespace, &name);
            if let (None, Some(old)) = (new, &old) {
                // A revision is deleted before its pods are: their facts are kept while their arm is known.
                for pod in tables.pods.of_owner(&old.uid) {
                    self.deleted_pods.keep((namespace.clone(), pod.name.clone()), pod.directory_entry(old));
                }
            }
            let workload = new.or(old.as_ref()).map(|revision| revision.workload.name.clone());
            concerned.extend(workload.map(|workload| (kind, (namespace, workload))));
        }
        concerned
    }

    fn apply_pod(&mut self, kind: WorkloadKind, change: Change<PodState>) -> Vec<Concerned> {
        let tables = self.kinds.entry(kind).or_default();
        let mut concerned = Vec::new();
        for ((namespace, name), old) in tables.pods.apply(change) {
            let new = tables.pods.get(&namespace, &name);
            let Some(revision) = new.or(old.as_ref()).and_then(|pod| tables.revision_of(&namespace, pod)) else {
                continue;
            };
            if let (None, Some(old)) = (new, &old) {
                self.deleted_pods.keep((namespace.clone(), name), old.directory_entry(revision));
            }
            concerned.push((kind, (namespace, revision.workload.name.clone())));
        }
        concerned
    }

    /// Returns the workloads of a workload object. An object `NAME-canary` or `NAME-baseline` concerns the workload `NAME` as
    /// well as a workload of its own name.
    pub fn workloads(cluster: &str, (kind, (namespace, name)): Concerned) -> Vec<Workload> {
        let stable = |track: &str| name.strip_suffix(track)?.strip_suffix('-');
        let names = [CANARY, BASELINE].into_iter().filter_map(stable).chain([name.as_str()]);
        names.map(|name| workload(cluster, kind, &namespace, name)).collect()
    }

    /// Returns all workloads: every workload object that Bellwether did not create.
    pub fn all_workloads(&self, cluster: &str) -> Vec<Workload> {
        let stables = self.kinds.iter().flat_map(|(kind, tables)| {
            let found = tables.workloads.rows().filter(|(_, facts)| !facts.ours);
            found.map(|((namespace, name), _)| workload(cluster, *kind, namespace, name))
        });
        stables.collect()
    }

    /// Returns the workload's status and the stable's pod template; `None` if the workload is an object that Bellwether
    /// created.
    pub fn status(&self, workload: &Workload) -> Option<(WorkloadStatus, Vec<PodTemplate>)> {
        let namespace = workload.namespace.as_str();
        let none = WorkloadTables::default();
        let tables = self.kinds.get(&workload.kind).unwrap_or(&none);
        let stable = tables.workloads.get(namespace, &workload.name);
        if stable.is_some_and(|stable| stable.ours) {
            return None;
        }
        let ours = |name: String| {
            let found = tables.workloads.get(namespace, &name).filter(|found| found.ours);
            found.filter(|found| stable.is_none_or(|stable| found.owners.contains(&stable.uid)))
        };
        let canary = ours(workload.canary_name());
        let arm = |facts: &WorkloadFacts| {
            let revisions = || tables.revisions.of_owner(&facts.uid);
            facts.status(revisions(), revisions().flat_map(|revision| tables.pods.of_owner(&revision.uid)))
        };
        let status = WorkloadStatus {
            stable: stable.map(arm),
            canary: canary.map(arm),
            baseline: ours(workload.baseline_name()).map(arm),
            route: router::observe(self.routes_with(workload), workload),
            route_by: router::last_writer(self.routes_with(workload), workload).map(str::to_owned),
            released: canary.and_then(|canary| canary.released.clone()),
        };
        Some((status, stable.map(|stable| stable.template.clone()).into_iter().collect()))
    }

    /// Returns the uid of the workload's object; `None` if it is unknown.
    pub fn uid(&self, workload: &Workload) -> Option<String> {
        Some(self.kinds.get(&workload.kind)?.workloads.get(&workload.namespace, &workload.name)?.uid.clone())
    }

    /// Returns the facts of a pod that exists or is remembered; `None` if it is unknown.
    pub fn locate(&self, namespace: &str, name: &str) -> Option<PodFacts> {
        let present = self.kinds.values().find_map(|tables| {
            let pod = tables.pods.get(namespace, name)?;
            Some(pod.directory_entry(tables.revision_of(namespace, pod)?))
        });
        present.or_else(|| self.deleted_pods.pods.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    /// Returns name and port of the Service that selects the workload's pods: the one that a route sends traffic to,
    /// otherwise the first by name. `None` if there is none.
    pub fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        let stable = self.kinds.get(&workload.kind)?.workloads.get(&workload.namespace, &workload.name)?;
        let all = self.services.of(&workload.namespace).map(|service| &**service);
        let services = preflight::selecting(all, &stable.pod_labels, workload);
        let routed = services.iter().find_map(|service| {
            let name = service.metadata.name.as_deref()?;
            let port = self.routes_of(&workload.namespace).find_map(|(router, route)| router.port(route, name))?;
            Some((name.to_owned(), port))
        });
        routed.or_else(|| {
            let first = services.first()?;
            let port = first.spec.as_ref()?.ports.as_ref()?.first()?.port;
            Some((first.metadata.name.clone()?, u16::try_from(port).ok()?))
        })
    }

    /// Returns the routes of other namespaces that send traffic to a Service of the workload's namespace.
    pub fn routes_elsewhere(&self, kind: RouterKind, workload: &Workload) -> Vec<DynamicObject> {
        let router = router::provider(kind);
        let services = || self.services.of(&workload.namespace).filter_map(|service| service.metadata.name.as_deref());
        let others = self.routes.get(&kind).into_iter().flat_map(OwnedTable::rows);
        others
            .filter(|((namespace, _), _)| *namespace != workload.namespace)
            .filter(|(_, route)| services().any(|service| router.reaches(&route.object, workload, service)))
            .map(|(_, route)| (*route.object).clone())
            .collect()
    }

    /// Returns the workloads whose canary has traffic: by its weight in a route, or by pods that the stable's Service selects.
    pub fn split_workloads(&self, cluster: &str) -> BTreeSet<Workload> {
        let routed = self.routes.values().flat_map(OwnedTable::rows).flat_map(|((namespace, _), route)| {
            let named = router::recorded(&route.object).into_iter().map(move |name| (namespace, name));
            named.flat_map(|(namespace, name)| self.named(cluster, namespace, &name))
        });
        let has_weight = |workload: &Workload| {
            let status = router::observe(self.routes_with(workload), workload);
            status.is_some_and(|status| status.weight > Weight::ZERO)
        };
        routed.filter(has_weight).chain(self.split_by_pods(cluster)).collect()
    }

    /// Returns the workloads of this name, of every kind.
    fn named(&self, cluster: &str, namespace: &str, name: &str) -> Vec<Workload> {
        let has = |tables: &WorkloadTables| tables.workloads.get(namespace, name).is_some();
        let kinds = self.kinds.iter().filter(|(_, tables)| has(tables));
        kinds.map(|(kind, _)| workload(cluster, *kind, namespace, name)).collect()
    }

    fn split_by_pods(&self, cluster: &str) -> impl Iterator<Item = Workload> {
        self.kinds.iter().flat_map(move |(kind, tables)| {
            let shares = |facts: &WorkloadFacts| facts.ours && !facts.has_own_service && facts.own_status.total > 0;
            let canaries = tables.workloads.rows().filter(move |(_, facts)| shares(facts));
            canaries.filter_map(move |((namespace, name), _)| {
                let stable = name.strip_suffix(CANARY)?.strip_suffix('-')?;
                Some(workload(cluster, *kind, namespace, stable))
            })
        })
    }

    /// Returns the routes of a namespace, of all routers.
    fn routes_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = Routed<'a>> {
        self.routes.iter().flat_map(move |(kind, table)| {
            let router = router::provider(*kind);
            table.of(namespace).map(move |route| (router, &*route.object))
        })
    }

    /// Returns the routes that have the workload's canary or its record, of all routers.
    fn routes_with(&self, workload: &Workload) -> impl Iterator<Item = Routed<'_>> {
        let owner = route_owner(&workload.namespace, &workload.name);
        self.routes.iter().flat_map(move |(kind, table)| {
            let router = router::provider(*kind);
            table.of_owner(&owner).map(move |route| (router, &*route.object))
        })
    }
}

impl WorkloadTables {
    /// Returns the revision that the pod belongs to; `None` if it is unknown.
    fn revision_of(&self, namespace: &str, pod: &PodState) -> Option<&RevisionFacts> {
        self.revisions.get(namespace, &pod.revision.name).filter(|revision| revision.uid == pod.revision.uid)
    }
}

fn workload(cluster: &str, kind: WorkloadKind, namespace: &str, name: &str) -> Workload {
    Workload { cluster: cluster.to_owned(), namespace: namespace.to_owned(), kind, name: name.to_owned() }
}

#[cfg(test)]
mod tests;
