//! What the watches have seen: the facts of every object, by namespace and name, and the pods that are gone.
//!
//! A pod's counters outlive the pod: Prometheus answers about it for minutes, and the differences need to know whose it
//! was. So pods that go are remembered, the last [`REMEMBERED`] of them.

use std::collections::{BTreeMap, VecDeque};

use bellwether_core::ids::{Workload, WorkloadKind};
use bellwether_core::input::status::WorkloadStatus;
use k8s_openapi::api::core::v1::Service;
use kube::core::DynamicObject;

use super::facts::{Deployment, PodState, ReplicaSet};
use super::marks::{BASELINE, CANARY};
use super::{preflight, route};
use crate::ports::{PodFacts, PodTemplate};

/// Pods that are gone and still known: about 15 MB, or the churn of 500 rollouts of 100 pods.
const REMEMBERED: usize = 50_000;

/// An object's namespace and name.
pub type ObjectKey = (String, String);

/// One change that a watch has reported.
#[derive(Debug)]
pub enum Change<T> {
    /// A new list begins.
    Begin,
    /// An object of that list.
    Listed(ObjectKey, T),
    /// The list is whole.
    Whole,
    /// The object is new, or another.
    Set(ObjectKey, T),
    /// The object is gone.
    Gone(ObjectKey),
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Table<T> {
    rows: BTreeMap<ObjectKey, T>,
    /// A list that is being read. It takes effect when it is whole, so that half a list is never half a cluster.
    pending: Option<BTreeMap<ObjectKey, T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { rows: BTreeMap::new(), pending: None }
    }
}

impl<T> Table<T> {
    /// The object, if it is there.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.rows.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The objects of one namespace.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a T> {
        self.rows
            .range((namespace.to_owned(), String::new())..)
            .take_while(move |((at, _), _)| at == namespace)
            .map(|(_, row)| row)
    }

    /// The names of all objects.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.rows.keys()
    }

    /// Takes a change in; the answer is every object that it touched, as it was before (`None`: it is new).
    fn take(&mut self, change: Change<T>) -> Vec<(ObjectKey, Option<T>)> {
        match change {
            Change::Begin => {
                self.pending = Some(BTreeMap::new());
                Vec::new()
            }
            Change::Listed(key, row) => {
                self.pending.get_or_insert_default().insert(key, row);
                Vec::new()
            }
            Change::Whole => {
                let old = std::mem::replace(&mut self.rows, self.pending.take().unwrap_or_default());
                let new: Vec<ObjectKey> = self.rows.keys().filter(|key| !old.contains_key(*key)).cloned().collect();
                old.into_iter()
                    .map(|(key, row)| (key, Some(row)))
                    .chain(new.into_iter().map(|key| (key, None)))
                    .collect()
            }
            Change::Set(key, row) => {
                let old = self.rows.insert(key.clone(), row);
                vec![(key, old)]
            }
            Change::Gone(key) => {
                let old = self.rows.remove(&key);
                vec![(key, old)]
            }
        }
    }
}

/// All that is known of a cluster.
#[derive(Debug, Default)]
pub struct Objects {
    deployments: Table<Deployment>,
    replica_sets: Table<ReplicaSet>,
    pods: Table<PodState>,
    routes: Table<Box<DynamicObject>>,
    services: Table<Box<Service>>,
    gone: Memory,
}

/// Pods that are gone, the oldest first out.
#[derive(Debug, Default)]
struct Memory {
    pods: BTreeMap<ObjectKey, PodFacts>,
    order: VecDeque<ObjectKey>,
}

impl Memory {
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

/// A change of some kind of object.
#[derive(Debug)]
pub enum Update {
    /// Of a Deployment.
    Deployment(Change<Deployment>),
    /// Of a ReplicaSet.
    ReplicaSet(Change<ReplicaSet>),
    /// Of a pod.
    Pod(Change<PodState>),
    /// Of an HTTPRoute.
    Route(Change<Box<DynamicObject>>),
    /// Of a Service.
    Service(Change<Box<Service>>),
}

impl Update {
    /// Whether with this the list of its kind is whole.
    pub fn is_whole(&self) -> bool {
        matches!(
            self,
            Update::Deployment(Change::Whole)
                | Update::ReplicaSet(Change::Whole)
                | Update::Pod(Change::Whole)
                | Update::Route(Change::Whole)
                | Update::Service(Change::Whole)
        )
    }
}

impl Objects {
    /// Takes a change in. The answer is the Deployments that it may concern, by namespace and name; a whole namespace where
    /// the name is `None`.
    pub fn take(&mut self, update: Update) -> Vec<(String, Option<String>)> {
        match update {
            Update::Deployment(change) => self
                .deployments
                .take(change)
                .into_iter()
                .map(|((namespace, name), _)| (namespace, Some(name)))
                .collect(),
            Update::ReplicaSet(change) => self.take_replica_set(change),
            Update::Pod(change) => self.take_pod(change),
            Update::Route(change) => {
                self.routes.take(change).into_iter().map(|((namespace, _), _)| (namespace, None)).collect()
            }
            // Services are asked for, but are no part of a sighting.
            Update::Service(change) => {
                self.services.take(change);
                Vec::new()
            }
        }
    }

    fn take_replica_set(&mut self, change: Change<ReplicaSet>) -> Vec<(String, Option<String>)> {
        let touched = self.replica_sets.take(change);
        let mut concerned = Vec::new();
        for ((namespace, name), old) in touched {
            let now = self.replica_sets.get(&namespace, &name);
            if let (None, Some(old)) = (now, &old) {
                self.remember_pods_of(&namespace, old);
            }
            let owner =
                self.replica_sets.get(&namespace, &name).or(old.as_ref()).map(|set| set.deployment.name.clone());
            concerned.extend(owner.map(|owner| (namespace, Some(owner))));
        }
        concerned
    }

    /// A ReplicaSet goes before its pods do: what it knows of them is written down while it is known.
    fn remember_pods_of(&mut self, namespace: &str, set: &ReplicaSet) {
        let facts: Vec<_> = self
            .pods
            .of(namespace)
            .filter(|pod| pod.replica_set.uid == set.uid)
            .map(|pod| ((namespace.to_owned(), pod.name.clone()), facts(pod, set)))
            .collect();
        for (key, facts) in facts {
            self.gone.keep(key, facts);
        }
    }

    fn take_pod(&mut self, change: Change<PodState>) -> Vec<(String, Option<String>)> {
        let touched = self.pods.take(change);
        let mut concerned = Vec::new();
        for ((namespace, name), old) in touched {
            let now = self.pods.get(&namespace, &name);
            let Some(set) = now.or(old.as_ref()).map(|pod| pod.replica_set.clone()) else { continue };
            let Some(set) = self.replica_sets.get(&namespace, &set.name).filter(|found| found.uid == set.uid) else {
                continue;
            };
            if let (None, Some(old)) = (now, &old) {
                let facts = facts(old, set);
                self.gone.keep((namespace.clone(), name), facts);
            }
            concerned.push((namespace, Some(set.deployment.name.clone())));
        }
        concerned
    }

    /// The workloads that a change of this Deployment concerns: itself, and the one whose canary or baseline it is.
    pub fn workloads(&self, cluster: &str, (namespace, name): (String, Option<String>)) -> Vec<Workload> {
        let workload = |name: &str| Workload {
            cluster: cluster.to_owned(),
            namespace: namespace.clone(),
            kind: WorkloadKind::Deployment,
            name: name.to_owned(),
        };
        match name {
            Some(name) => {
                let stable = |track: &str| name.strip_suffix(track)?.strip_suffix('-').map(workload);
                [CANARY, BASELINE].into_iter().filter_map(stable).chain([workload(&name)]).collect()
            }
            None => self.deployments.of(&namespace).filter(|it| !it.ours).map(|it| workload(&it.name)).collect(),
        }
    }

    /// All workloads: every Deployment that is not a canary of ours.
    pub fn all_workloads(&self, cluster: &str) -> Vec<Workload> {
        self.deployments
            .keys()
            .filter(|(namespace, name)| self.deployments.get(namespace, name).is_some_and(|it| !it.ours))
            .map(|(namespace, name)| Workload {
                cluster: cluster.to_owned(),
                namespace: namespace.clone(),
                kind: WorkloadKind::Deployment,
                name: name.clone(),
            })
            .collect()
    }

    /// How the workload stands, with the stable's template; `None`: it is a canary of ours itself.
    pub fn status(&self, workload: &Workload) -> Option<(WorkloadStatus, Vec<PodTemplate>)> {
        let namespace = workload.namespace.as_str();
        let stable = self.deployments.get(namespace, &workload.name);
        if stable.is_some_and(|stable| stable.ours) {
            return None;
        }
        let ours = |name: String| {
            let found = self.deployments.get(namespace, &name).filter(|found| found.ours);
            found.filter(|found| stable.is_none_or(|stable| found.owners.contains(&stable.uid)))
        };
        let arm = |it: &Deployment| it.arm(self.replica_sets.of(namespace), self.pods.of(namespace));
        let status = WorkloadStatus {
            stable: stable.map(arm),
            canary: ours(workload.canary_name()).map(arm),
            baseline: ours(workload.baseline_name()).map(arm),
            route: route::routed(self.routes.of(namespace).map(|route| &**route), workload),
            route_by: route::written_by(self.routes.of(namespace).map(|route| &**route), workload),
        };
        Some((status, stable.map(|stable| stable.template.clone()).into_iter().collect()))
    }

    /// Whose pod it is, or was.
    pub fn locate(&self, namespace: &str, name: &str) -> Option<PodFacts> {
        let now = self.pods.get(namespace, name).and_then(|pod| {
            let set = self.replica_sets.get(namespace, &pod.replica_set.name)?;
            (set.uid == pod.replica_set.uid).then(|| facts(pod, set))
        });
        now.or_else(|| self.gone.pods.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    /// The Service that the workload's pods are behind, and its port: the one that a route sends traffic to, else the first
    /// by name.
    pub fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        let stable = self.deployments.get(&workload.namespace, &workload.name)?;
        let all = self.services.of(&workload.namespace).map(|service| &**service);
        let services = preflight::selecting(all, &stable.pod_labels, workload);
        let named = services.iter().find_map(|service| {
            let name = service.metadata.name.as_deref()?;
            let port = self.routes.of(&workload.namespace).find_map(|route| route::port_of(route, name))?;
            Some((name.to_owned(), port))
        });
        named.or_else(|| {
            let first = services.first()?;
            let port = first.spec.as_ref()?.ports.as_ref()?.first()?.port;
            Some((first.metadata.name.clone()?, u16::try_from(port).ok()?))
        })
    }
}

fn facts(pod: &PodState, set: &ReplicaSet) -> PodFacts {
    PodFacts {
        deployment_uid: set.deployment.uid.clone(),
        pod_hash: pod.pod_hash.clone(),
        started: pod.started,
        restarts: pod.restarts.clone(),
    }
}

#[cfg(test)]
mod tests;
