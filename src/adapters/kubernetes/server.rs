//! The API server, one call at a time: every call has a deadline, none is repeated here, and every error comes back as
//! what it means for the next attempt.
//!
//! Reads are quorum reads (no resourceVersion): what is decided on a stale answer is written over somebody's work.

use std::fmt::Debug;
use std::time::Duration;

use bellwether_core::input::event::{Failure, FailureKind};
use json_patch::Patch as JsonPatch;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, NamespaceResourceScope, Resource, TypeMeta};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure;
use super::marks::MANAGER;

/// One cluster's API server.
#[derive(Clone)]
pub struct Server {
    /// The connection.
    pub client: Client,
    /// The deadline of a call.
    pub timeout: Duration,
    /// Whether objects of all namespaces may be read.
    pub cluster_wide: bool,
}

/// Deployments as they are, with the fields that this program does not know.
pub fn deployment_type() -> ApiResource {
    ApiResource::erase::<apps::Deployment>(&())
}

/// ReplicaSets as they are: their templates are hashed like a Deployment's.
pub fn replica_set_type() -> ApiResource {
    ApiResource::erase::<apps::ReplicaSet>(&())
}

/// HTTPRoutes of the Gateway API.
pub fn route_type() -> ApiResource {
    custom("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
}

fn monitor_types() -> [ApiResource; 2] {
    [("ServiceMonitor", "servicemonitors"), ("PodMonitor", "podmonitors")]
        .map(|(kind, plural)| custom("monitoring.coreos.com", "v1", kind, plural))
}

fn custom(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

impl Server {
    /// One call, within the deadline.
    ///
    /// # Errors
    /// What the API server's answer, or its silence, means.
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

    /// Deployments of a namespace.
    pub fn deployments(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &deployment_type())
    }

    /// HTTPRoutes of a namespace.
    pub fn routes(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &route_type())
    }

    /// Objects of a built-in kind in a namespace.
    pub fn of<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// One Deployment; `None`: there is none.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn deployment(&self, namespace: &str, name: &str) -> Result<Option<DynamicObject>, Failure> {
        self.call(&format!("reading Deployment {namespace}/{name}"), self.deployments(namespace).get_opt(name)).await
    }

    /// One Service; `None`: there is none.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn service(&self, namespace: &str, name: &str) -> Result<Option<Service>, Failure> {
        self.call(&format!("reading Service {namespace}/{name}"), self.of::<Service>(namespace).get_opt(name)).await
    }

    /// All objects of a kind that match; `what` is for messages.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list<K>(&self, what: &str, api: Api<K>, params: &ListParams) -> Result<Vec<K>, Failure>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        Ok(self.call(&format!("listing {what}"), api.list(params)).await?.items)
    }

    /// All HTTPRoutes of a namespace; none where the Gateway API is not installed.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list_routes(&self, namespace: &str) -> Result<Vec<DynamicObject>, Failure> {
        none_if_unknown(self.list("HTTPRoutes", self.routes(namespace), &ListParams::default()).await)
    }

    /// The Prometheus operator's monitors that may be about `namespace`: they often live in a namespace of their own. None
    /// where the operator is not installed.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn list_monitors(&self, namespace: &str) -> Result<Vec<DynamicObject>, Failure> {
        let lists = monitor_types().map(|kind| async move {
            let api = if self.cluster_wide {
                Api::all_with(self.client.clone(), &kind)
            } else {
                Api::namespaced_with(self.client.clone(), namespace, &kind)
            };
            let found = none_if_unknown(self.list(&kind.plural, api, &ListParams::default()).await)?;
            // Items of a list do not say what they are.
            let types = TypeMeta { api_version: kind.api_version.clone(), kind: kind.kind.clone() };
            Ok(found
                .into_iter()
                .map(move |object: DynamicObject| DynamicObject { types: Some(types.clone()), ..object }))
        });
        let found: Vec<_> = futures::future::try_join_all(lists).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Server-side apply of an object that is ours.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn apply<K>(&self, api: Api<K>, what: &str, name: &str, object: &Value) -> Result<(), Failure>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let params = PatchParams::apply(MANAGER).force();
        self.call(&format!("applying {what} {name}"), api.patch(name, &params, &Patch::Apply(object))).await?;
        Ok(())
    }

    /// A JSON Patch of an object that is somebody else's.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn patch(
        &self,
        api: Api<DynamicObject>,
        what: &str,
        name: &str,
        patch: JsonPatch,
    ) -> Result<(), Failure> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.call(&format!("patching {what} {name}"), api.patch(name, &params, &Patch::Json::<()>(patch))).await?;
        Ok(())
    }

    /// Removes the object with this uid, and what it owns after it. What is gone is removed.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn delete<K>(&self, api: Api<K>, what: &str, name: &str, uid: Option<String>) -> Result<(), Failure>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
        match self.call(&format!("removing {what} {name}"), api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == FailureKind::Gone => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Makes an object; one that is there already is made.
    ///
    /// # Errors
    /// See [`Server::call`].
    pub async fn create<K>(&self, api: Api<K>, what: &str, object: &K) -> Result<(), Failure>
    where
        K: Clone + DeserializeOwned + Debug + Serialize,
    {
        match self.call(&format!("creating {what}"), api.create(&kube::api::PostParams::default(), object)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == FailureKind::Conflict => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// A list of a kind that the API server does not know is empty.
fn none_if_unknown<T>(listed: Result<Vec<T>, Failure>) -> Result<Vec<T>, Failure> {
    match listed {
        Err(Failure { kind: FailureKind::Gone, .. }) => Ok(Vec::new()),
        listed => listed,
    }
}
