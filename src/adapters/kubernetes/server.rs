//! The calls to the API server: every call has a deadline and is made once, and every error is a [`Failure`] whose kind
//! says whether another attempt can succeed.
//!
//! Reads are quorum reads (without a resourceVersion), because a decision on an outdated answer would overwrite a newer
//! change.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::input::event::{Failure, FailureKind};
use json_patch::Patch as JsonPatch;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{DynamicObject, NamespaceResourceScope, Resource, TypeMeta};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_kind::ApiKind;
use super::failure;
use super::foreign::{self, ForeignKind, ForeignPolicy};
use super::joint_reads::JointReads;
use super::kind;
use super::marks::MANAGER;

/// The kinds of the Prometheus operator and of Google's managed Prometheus that select pods to scrape.
const MONITORS: [ApiKind; 3] = [
    ApiKind { group: "monitoring.googleapis.com", version: "v1", kind: "PodMonitoring", plural: "podmonitorings" },
    ApiKind { group: "monitoring.coreos.com", version: "v1", kind: "ServiceMonitor", plural: "servicemonitors" },
    ApiKind { group: "monitoring.coreos.com", version: "v1", kind: "PodMonitor", plural: "podmonitors" },
];

/// The API server of one cluster.
#[derive(Clone)]
pub struct Server {
    /// The client with its connections.
    pub client: Client,
    /// The deadline of a call.
    pub timeout: Duration,
    /// Whether objects of all namespaces may be read.
    pub cluster_wide: bool,
    /// The reads that several acts share.
    pub joint: JointReads,
}

impl Server {
    /// Makes one call within the deadline. `operation` begins the message of a failure.
    ///
    /// # Errors
    /// The API server refused the call or did not answer in time; the failure's kind says whether to try again.
    pub async fn call<T>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure::of(operation, &error)),
            Err(_) => Err(failure::new(
                FailureKind::Unavailable,
                format!("{operation}: no answer from the API server within {} s", self.timeout.as_secs_f64()),
            )),
        }
    }

    /// Returns the untyped API of a kind, with the fields that this program does not know; without a namespace, of all.
    pub fn objects(&self, kind: &ApiKind, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind.resource()),
            None => Api::all_with(self.client.clone(), &kind.resource()),
        }
    }

    /// Returns the API of a built-in kind in a namespace.
    pub fn of<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Returns the API of the workload's kind in its namespace.
    pub fn workloads(&self, workload: &Workload) -> Api<DynamicObject> {
        self.objects(kind::provider(workload.kind).api_kind(), Some(&workload.namespace))
    }

    /// Reads the object of the workload's kind and namespace with this name: the workload's own, its canary's or its
    /// baseline's. `None` if it does not exist.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn workload_object(&self, workload: &Workload, name: &str) -> Result<Option<DynamicObject>, Failure> {
        let Workload { namespace, kind, .. } = workload;
        self.call(&format!("reading {kind} {namespace}/{name}"), self.workloads(workload).get_opt(name)).await
    }

    /// Reads a Service; `None` if it does not exist.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn service(&self, namespace: &str, name: &str) -> Result<Option<Service>, Failure> {
        self.call(&format!("reading Service {namespace}/{name}"), self.of::<Service>(namespace).get_opt(name)).await
    }

    /// Lists all objects of an API that match; `objects` names them in messages.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list<K>(&self, objects: &str, api: Api<K>, params: &ListParams) -> Result<Vec<K>, Failure>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        Ok(self.call(&format!("listing {objects}"), api.list(params)).await?.items)
    }

    /// Lists all objects of this kind in a namespace, or without one in all; none if the API server does not know the kind.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list_if_known(&self, kind: &ApiKind, namespace: Option<&str>) -> Result<Vec<DynamicObject>, Failure> {
        let api = self.objects(kind, namespace);
        none_if_unknown(self.list(&kind.objects(), api, &ListParams::default()).await)
    }

    /// Lists the monitors that may select objects of `namespace`: they often live in another one. A kind that is not
    /// installed has none.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list_monitors(&self, namespace: &str) -> Result<Vec<DynamicObject>, Failure> {
        let lists = MONITORS.iter().map(|kind| async move {
            let api = self.objects(kind, (!self.cluster_wide).then_some(namespace));
            let found = none_if_unknown(self.list(kind.plural, api, &ListParams::default()).await)?;
            // The items of a list have no types.
            let types = TypeMeta { api_version: kind.api_version(), kind: kind.kind.to_owned() };
            Ok(found
                .into_iter()
                .map(move |object: DynamicObject| DynamicObject { types: Some(types.clone()), ..object }))
        });
        let found: Vec<_> = futures::future::try_join_all(lists).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Lists the policies of other controllers in `namespace`, and those of other namespaces that may name its pods.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list_foreign(&self, namespace: &str) -> Result<Vec<ForeignPolicy>, Failure> {
        let groups = self.call("listing API groups", self.client.list_api_groups()).await?.groups;
        let lists = foreign::KINDS.iter().filter_map(|kind| {
            let group = groups.iter().find(|group| group.name == kind.group)?;
            let versions = group.versions.iter().map(|version| version.version.clone()).collect::<Vec<_>>();
            Some(self.list_foreign_kind(kind, versions, namespace))
        });
        Ok(futures::future::try_join_all(lists).await?.into_iter().flatten().collect())
    }

    /// Lists the policies of one kind in the first of `versions` that knows it.
    async fn list_foreign_kind(
        &self,
        kind: &ForeignKind,
        versions: Vec<String>,
        namespace: &str,
    ) -> Result<Vec<ForeignPolicy>, Failure> {
        for version in versions {
            let resource = kind.resource(&version);
            let api: Api<DynamicObject> = if kind.reaches_out && self.cluster_wide {
                Api::all_with(self.client.clone(), &resource)
            } else {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            };
            match self.list(kind.plural, api, &ListParams::default()).await {
                Err(Failure { kind: FailureKind::Gone, .. }) => (),
                listed => {
                    let named = |object| ForeignPolicy { kind: kind.kind, object };
                    return Ok(listed?.into_iter().map(named).collect());
                }
            }
        }
        Ok(Vec::new())
    }

    /// Lists the NetworkPolicies of `namespace`, and with the right to read them those of all others.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list_network_policies(&self, namespace: &str) -> Result<Vec<NetworkPolicy>, Failure> {
        let api = if self.cluster_wide { Api::all(self.client.clone()) } else { self.of(namespace) };
        self.list("NetworkPolicies", api, &ListParams::default()).await
    }

    /// Reads the labels of a namespace; none without the right to read objects of other namespaces.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn namespace_labels(&self, namespace: &str) -> Result<BTreeMap<String, String>, Failure> {
        if !self.cluster_wide {
            return Ok(BTreeMap::new());
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = self.call(&format!("reading Namespace {namespace}"), api.get_opt(namespace)).await?;
        Ok(found.and_then(|found| found.metadata.labels).unwrap_or_default())
    }

    /// Applies an object of Bellwether server-side; `kind` names it in messages.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn apply<K>(&self, api: Api<K>, kind: &str, name: &str, object: &Value) -> Result<(), Failure>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let params = PatchParams::apply(MANAGER).force();
        self.call(&format!("applying {kind} {name}"), api.patch(name, &params, &Patch::Apply(object))).await?;
        Ok(())
    }

    /// Creates an object; `kind` names it in messages. Unlike an apply, it never changes an object that another process has
    /// created since the read.
    ///
    /// # Errors
    /// [`FailureKind::Conflict`] if an object of this name exists; otherwise see [`Server::call`].
    pub async fn create<K>(&self, api: &Api<K>, kind: &str, object: &Value) -> Result<(), Failure>
    where
        K: Clone + DeserializeOwned + Debug + Serialize,
    {
        let invalid =
            |error: serde_json::Error| failure::new(FailureKind::Refused, format!("creating {kind}: {error}"));
        let object: K = serde_json::from_value(object.clone()).map_err(invalid)?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.call(&format!("creating {kind}"), api.create(&params, &object)).await?;
        Ok(())
    }

    /// Applies a JSON Patch to an object of another owner; `kind` names it in messages.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn patch(
        &self,
        api: Api<DynamicObject>,
        kind: &str,
        name: &str,
        patch: JsonPatch,
    ) -> Result<(), Failure> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.call(&format!("patching {kind} {name}"), api.patch(name, &params, &Patch::Json::<()>(patch))).await?;
        Ok(())
    }

    /// Deletes the object with this uid; the API server deletes its dependents afterwards. Succeeds if it does not
    /// exist.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn delete<K>(&self, api: Api<K>, kind: &str, name: &str, uid: Option<String>) -> Result<(), Failure>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
        match self.call(&format!("removing {kind} {name}"), api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == FailureKind::Gone => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// Turns the failed list of a kind that the API server does not know into an empty one.
fn none_if_unknown<T>(listed: Result<Vec<T>, Failure>) -> Result<Vec<T>, Failure> {
    match listed {
        Err(Failure { kind: FailureKind::Gone, .. }) => Ok(Vec::new()),
        listed => listed,
    }
}
