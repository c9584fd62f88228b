//! The part of the plane that belongs to one story: a namespace, a host name, topics and a consumer group.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_core::ids::{EventId, RolloutId, Workload, WorkloadKind};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::kafka::KafkaRecord;
use super::load::{TrafficCounts, TrafficLoad};
use super::parts::Plane;
use super::pods::{PROBE, RequestCounts};
use super::program::tail;
use super::specs::{self, ObjectSpecs, REQUEST_SOURCE, STRUCTURED};
use super::{gateway, http, wait};

const FLOWS: &str = "flowcontrol.apiserver.k8s.io/v1";
const ROUTES: (&str, &str) = ("gateway.networking.k8s.io/v1", "HTTPRoute");

/// Deadline for the plane's own work, such as making a Deployment available. It is long, because the whole plane may run on
/// two cores.
const SOON: Duration = Duration::from_secs(60);

/// The objects and names of one story.
pub struct Sandbox {
    /// The plane that it is a part of.
    pub plane: Arc<Plane>,
    /// The namespace of its objects.
    pub namespace: String,
    /// The host name of its route.
    pub host: String,
}

/// A task that writes to objects until it is dropped.
pub struct BackgroundWriter(tokio::task::JoinHandle<()>);

impl Drop for BackgroundWriter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sandbox {
    /// Creates a namespace. Its name is made from `name`, which may be any text, and is unique.
    ///
    /// # Errors
    /// The namespace can't be created, or has no service account in time.
    pub async fn create(plane: Arc<Plane>, name: &str) -> Result<Self> {
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let plain = plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        let short: String = plain.chars().take(40).collect();
        let namespace = format!("{}-{}", short.trim_end_matches('-'), plane.number());
        let host = format!("{namespace}.test");
        let sandbox = Self { plane, namespace, host };
        let kubernetes = &sandbox.plane.kubernetes;
        let metadata = json!({"name": sandbox.namespace});
        kubernetes.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
        let accounts = kubernetes.objects("v1", "ServiceAccount", Some(&sandbox.namespace));
        // Pods are refused until the namespace has its default service account.
        wait::until("the default service account", SOON, async || Ok(accounts.get("default").await?)).await?;
        Ok(sandbox)
    }

    /// Requests the deletion of the namespace, and does not wait for it.
    pub async fn delete(&self) {
        let namespaces = self.plane.kubernetes.objects("v1", "Namespace", None);
        let _ = namespaces.delete(&self.namespace, &DeleteParams::background()).await;
    }

    // ---- the user's objects ----

    /// Creates the Deployment, the Service and the HTTPRoute `web`. Waits until the gateway reaches the pods.
    ///
    /// # Errors
    /// An object is refused, or is not available in time.
    pub async fn create_web(&self, replicas: u32, image: &str) -> Result<()> {
        self.create_web_of(replicas, &[("app", image)]).await
    }

    /// Does the same as [`Sandbox::create_web`] with several containers, given as names and images.
    ///
    /// # Errors
    /// An object is refused, or is not available in time.
    pub async fn create_web_of(&self, replicas: u32, containers: &[(&str, &str)]) -> Result<()> {
        self.create_workload("web", replicas, containers).await?;
        self.create_route("web", &[("web", None)]).await
    }

    /// Creates a Deployment and a Service `name`, and waits until the Deployment is available. `containers` are names and
    /// images.
    ///
    /// # Errors
    /// An object is refused, or is not available in time.
    pub async fn create_workload(&self, name: &str, replicas: u32, containers: &[(&str, &str)]) -> Result<()> {
        self.create_object(specs::deployment(name, replicas, containers)?).await?;
        self.create_object(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .await?;
        self.wait_available(name, replicas).await?;
        self.wait_endpoints(name, replicas).await
    }

    /// Creates an HTTPRoute from this sandbox's host to Services with their weights, and waits until the gateway uses it.
    ///
    /// # Errors
    /// The route is refused, or the gateway does not use it in time.
    pub async fn create_route(&self, name: &str, backends: &[(&str, Option<i32>)]) -> Result<()> {
        let backends = backends.iter().map(|(service, weight)| match weight {
            Some(weight) => json!({"name": service, "port": 80, "weight": weight}),
            None => json!({"name": service, "port": 80}),
        });
        self.create_object(json!({
            "apiVersion": ROUTES.0,
            "kind": ROUTES.1,
            "metadata": {"name": name},
            "spec": {
                "hostnames": [self.host],
                "parentRefs": [{"name": gateway::NAME, "namespace": gateway::NAMESPACE}],
                "rules": [{"backendRefs": backends.collect::<Vec<_>>()}],
            },
        }))
        .await?;
        self.until_routed(&self.host).await
    }

    /// Waits until the gateway sends the requests for a host to pods.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn until_routed(&self, host: &str) -> Result<()> {
        let http = http::client()?;
        wait::until("the gateway to use the route", SOON, async || {
            let request = http.get(format!("http://{}{PROBE}", gateway::ADDRESS)).header("host", host);
            request.send().await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// Creates a workload with its own route and host, for stories with many workloads. Does not wait for the gateway.
    ///
    /// # Errors
    /// An object is refused, or the Deployment is not available in time.
    pub async fn create_routed(&self, name: &str, replicas: u32, image: &str) -> Result<()> {
        self.create_workload(name, replicas, &[("app", image)]).await?;
        self.create_object(json!({
            "apiVersion": ROUTES.0,
            "kind": ROUTES.1,
            "metadata": {"name": name},
            "spec": {
                "hostnames": [self.host_of(name)],
                "parentRefs": [{"name": gateway::NAME, "namespace": gateway::NAMESPACE}],
                "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
            },
        }))
        .await?;
        Ok(())
    }

    /// Returns the host of a workload of [`Sandbox::create_routed`].
    pub fn host_of(&self, name: &str) -> String {
        format!("{name}.{}", self.host)
    }

    /// Requests a rollout by writing the event to Kafka, without the CLI. Returns the rollout's id.
    ///
    /// # Errors
    /// The broker does not acknowledge the event.
    pub async fn request_rollout(&self, name: &str, image: &str) -> Result<RolloutId> {
        self.request_rollout_as(&format!("{name}/{image}"), name, image).await
    }

    /// Does the same as [`Sandbox::request_rollout`], with another id of the event.
    ///
    /// # Errors
    /// The broker does not acknowledge the event.
    pub async fn request_rollout_as(&self, id: &str, name: &str, image: &str) -> Result<RolloutId> {
        let workload = self.workload(name);
        let content = json!({"workload": workload, "image": image});
        let event = specs::request(id, &content, Timestamp::now());
        self.produce("events", Some(&workload.to_string()), &[STRUCTURED], &event).await?;
        Ok(RolloutId::of(&workload, &EventId { source: REQUEST_SOURCE.to_owned(), id: id.to_owned() }))
    }

    /// Returns the Deployment `name` of this sandbox as a workload.
    pub fn workload(&self, name: &str) -> Workload {
        let (cluster, namespace, name) = ("test".to_owned(), self.namespace.clone(), name.to_owned());
        Workload { cluster, namespace, kind: WorkloadKind::Deployment, name }
    }

    /// Creates an object in this sandbox's namespace.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn create_object(&self, mut object: Value) -> Result<DynamicObject> {
        object["metadata"]["namespace"] = self.namespace.clone().into();
        self.plane.kubernetes.create(object).await
    }

    /// Sets the image of a container, as `kubectl set image` does.
    ///
    /// # Errors
    /// The tag of the image is invalid, or the API server refuses the change.
    pub async fn set_image(&self, deployment: &str, container: &str, image: &str) -> Result<()> {
        Behaviour::of(image)?;
        let containers = json!([{"name": container, "image": image}]);
        let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
        self.deployments().patch(deployment, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Changes weights of the first rule of a route. `weights` are names of Services and their weights.
    ///
    /// # Errors
    /// The route has no backends, or the API server refuses the change.
    pub async fn set_weights(&self, route: &str, weights: &[(&str, i32)]) -> Result<()> {
        let current = self.routes().get(route).await?;
        let mut backends =
            current.data.pointer("/spec/rules/0/backendRefs").context("the route has no backends")?.clone();
        for backend in backends.as_array_mut().into_iter().flatten() {
            if let Some((_, weight)) = weights.iter().find(|(name, _)| backend["name"] == *name) {
                backend["weight"] = (*weight).into();
            }
        }
        let patch = json!([{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": backends}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch)?);
        self.routes().patch(route, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    // ---- reading ----

    /// Returns a client for the namespace's Deployments.
    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.plane.kubernetes.client.clone(), &self.namespace)
    }

    /// Returns a client for the namespace's Pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.kubernetes.client.clone(), &self.namespace)
    }

    /// Returns a client for the namespace's HTTPRoutes.
    pub fn routes(&self) -> Api<DynamicObject> {
        self.objects(ROUTES.0, ROUTES.1)
    }

    /// Returns a client for objects of a kind in the namespace.
    pub fn objects(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        self.plane.kubernetes.objects(api_version, kind, Some(&self.namespace))
    }

    /// Waits until all replicas of a Deployment run its newest template and are available.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn wait_available(&self, deployment: &str, replicas: u32) -> Result<()> {
        wait::until(&format!("{replicas} available replicas of {deployment}"), SOON, async || {
            let found = self.deployments().get(deployment).await?;
            let status = found.status.clone().unwrap_or_default();
            let counts =
                [status.replicas, status.updated_replicas, status.available_replicas].map(Option::unwrap_or_default);
            ensure!(status.observed_generation == found.metadata.generation, "the newest template is not seen yet");
            ensure!(counts == [replicas as i32; 3], "all, updated, available: {counts:?}");
            Ok(())
        })
        .await
    }

    async fn wait_endpoints(&self, service: &str, replicas: u32) -> Result<()> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.plane.kubernetes.client.clone(), &self.namespace);
        let ours = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        wait::until(&format!("{replicas} endpoints of {service}"), SOON, async || {
            let found = slices.list(&ours).await?;
            let ready: usize = found.iter().map(|slice| slice.endpoints.len()).sum();
            ensure!(ready == replicas as usize, "{ready} of {replicas}");
            Ok(())
        })
        .await
    }

    /// Returns the images in a Deployment's template by container.
    ///
    /// # Errors
    /// There is no such Deployment.
    pub async fn images(&self, deployment: &str) -> Result<BTreeMap<String, String>> {
        let found = self.deployments().get(deployment).await?;
        let pod = found.spec.and_then(|spec| spec.template.spec).context("the Deployment has no template")?;
        Ok(pod.containers.into_iter().map(|container| (container.name, container.image.unwrap_or_default())).collect())
    }

    /// Returns the weights of all rules of a route by Service. A backend without a weight has 1.
    ///
    /// # Errors
    /// There is no such route.
    pub async fn weights(&self, route: &str) -> Result<BTreeMap<String, i64>> {
        let found = self.routes().get(route).await?;
        let rules = found.data.pointer("/spec/rules").and_then(Value::as_array).cloned().unwrap_or_default();
        let backends = rules.iter().flat_map(|rule| rule["backendRefs"].as_array().into_iter().flatten());
        let weight = |backend: &Value| {
            (backend["name"].as_str().unwrap_or_default().to_owned(), backend["weight"].as_i64().unwrap_or(1))
        };
        Ok(backends.map(weight).collect())
    }

    /// Returns the waiting containers as `kubectl describe pod` shows them: pod, reason and message.
    ///
    /// # Errors
    /// The pods can't be listed.
    pub async fn waiting(&self) -> Result<Vec<(String, String, String)>> {
        let mut found = Vec::new();
        for pod in self.pods().list(&ListParams::default()).await? {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
            for state in statuses.into_iter().filter_map(|status| status.state?.waiting) {
                found.push((pod.name_any(), state.reason.unwrap_or_default(), state.message.unwrap_or_default()));
            }
        }
        Ok(found)
    }

    /// Returns the requests that the pods have counted, by version. Ended pods are included.
    pub fn counts_of_pods(&self) -> BTreeMap<String, RequestCounts> {
        self.plane.pods.counts(&self.namespace)
    }

    // ---- comparison with an earlier state ----

    /// Returns the specs of all Deployments, Services and HTTPRoutes of the namespace.
    ///
    /// # Errors
    /// They can't be listed.
    pub async fn specs(&self) -> Result<ObjectSpecs> {
        let mut specs = BTreeMap::new();
        for (api_version, kind) in [("apps/v1", "Deployment"), ("v1", "Service"), ROUTES] {
            for object in self.objects(api_version, kind).list(&ListParams::default()).await? {
                specs.insert(format!("{kind}/{}", object.name_any()), object.data["spec"].clone());
            }
        }
        Ok(ObjectSpecs(specs))
    }

    /// Returns the objects that Bellwether has made or marked: with `-canary` in their name, or with a label or annotation
    /// `bellwether.dev/*`. ReplicaSets and pods are left out, because Kubernetes creates and deletes them.
    ///
    /// # Errors
    /// The objects can't be listed.
    pub async fn leftovers(&self) -> Result<Vec<String>> {
        const KINDS: [(&str, &str); 7] = [
            ("apps/v1", "Deployment"),
            ("v1", "Service"),
            ("v1", "ConfigMap"),
            ("v1", "Secret"),
            ("coordination.k8s.io/v1", "Lease"),
            ("discovery.k8s.io/v1", "EndpointSlice"),
            ROUTES,
        ];
        let mut found = Vec::new();
        for (api_version, kind) in KINDS {
            for object in self.objects(api_version, kind).list(&ListParams::default()).await? {
                let name = object.name_any();
                let is_ours = |key: &&String| key.starts_with("bellwether.dev/");
                let marks: Vec<_> = object.labels().keys().chain(object.annotations().keys()).filter(is_ours).collect();
                if name.contains("-canary") || !marks.is_empty() {
                    found.push(format!("{kind}/{name} {marks:?}"));
                }
            }
        }
        Ok(found)
    }

    // ---- faults ----

    /// Makes the API server answer all requests of a user with 429 until [`Sandbox::end_throttling`], by a priority level
    /// without any share. Returns the name of the throttle.
    ///
    /// # Errors
    /// The API server refuses the objects.
    pub async fn throttle(&self, user: &str) -> Result<String> {
        let (kubernetes, name) = (&self.plane.kubernetes, self.namespace.clone());
        let limited = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}});
        kubernetes
            .create(json!({
                "apiVersion": FLOWS,
                "kind": "PriorityLevelConfiguration",
                "metadata": {"name": name},
                "spec": {"type": "Limited", "limited": limited},
            }))
            .await?;
        let everything =
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]});
        let subject = json!({"kind": "User", "user": {"name": user}});
        kubernetes
            .create(json!({
                "apiVersion": FLOWS,
                "kind": "FlowSchema",
                "metadata": {"name": name},
                "spec": {
                    "priorityLevelConfiguration": {"name": name},
                    "matchingPrecedence": 2,
                    "rules": [{"subjects": [subject], "resourceRules": [everything]}],
                },
            }))
            .await?;
        Ok(name)
    }

    /// Ends the throttling by [`Sandbox::throttle`].
    ///
    /// # Errors
    /// An object can't be deleted.
    pub async fn end_throttling(&self, name: String) -> Result<()> {
        for kind in ["FlowSchema", "PriorityLevelConfiguration"] {
            self.plane.kubernetes.objects(FLOWS, kind, None).delete(&name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// Starts a task that changes an unimportant label of the Deployment and the route `web` four times a second, until it is
    /// dropped. The Deployment's controller would copy an annotation to the ReplicaSet, with a write each time.
    pub fn write_in_background(&self) -> BackgroundWriter {
        let (deployments, routes) = (self.objects("apps/v1", "Deployment"), self.routes());
        BackgroundWriter(tokio::spawn(async move {
            for n in 0u64.. {
                let patch = Patch::Merge(json!({"metadata": {"labels": {"other.test/number": n.to_string()}}}));
                // Conflicts are intended.
                let _ = deployments.patch("web", &PatchParams::default(), &patch).await;
                let _ = routes.patch("web", &PatchParams::default(), &patch).await;
                // Rarely enough for the gateway to write its status in between.
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }))
    }

    // ---- traffic ----

    /// Starts traffic to this sandbox's host.
    ///
    /// # Errors
    /// The HTTP client can't be built.
    pub fn load(&self, per_second: f64) -> Result<TrafficLoad> {
        TrafficLoad::start(&self.host, per_second, None, None)
    }

    /// Starts traffic whose requests have a header, given as name and value.
    ///
    /// # Errors
    /// The HTTP client can't be built.
    pub fn load_with_header(&self, per_second: f64, header: (&'static str, &'static str)) -> Result<TrafficLoad> {
        TrafficLoad::start(&self.host, per_second, None, Some(header))
    }

    /// Sends this number of requests and waits for all answers.
    ///
    /// # Errors
    /// The HTTP client can't be built.
    pub async fn send(&self, per_second: f64, requests: u64) -> Result<TrafficCounts> {
        TrafficLoad::send(&self.host, per_second, requests).await
    }

    // ---- Kafka ----

    /// Returns the name of this sandbox's topic of a kind, such as `events`, `journal` and `decisions`.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.namespace)
    }

    /// Returns the name of the daemons' consumer group.
    pub fn group(&self) -> String {
        format!("{}.group", self.namespace)
    }

    /// Creates a topic of this sandbox.
    ///
    /// # Errors
    /// The broker refuses it.
    pub async fn create_topic(&self, kind: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        self.plane.kafka.create_topic(&self.topic(kind), partitions, settings).await
    }

    /// Writes one record to a topic of this sandbox, and returns its partition and offset.
    ///
    /// # Errors
    /// The broker does not acknowledge it in time.
    pub async fn produce(
        &self,
        kind: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        value: &[u8],
    ) -> Result<(i32, i64)> {
        self.plane.kafka.produce(&self.topic(kind), key, headers, value).await
    }

    /// Returns all committed records of a topic of this sandbox; none if there is no such topic.
    ///
    /// # Errors
    /// They can't be read in time.
    pub async fn records(&self, kind: &str) -> Result<Vec<KafkaRecord>> {
        self.plane.kafka.records(&self.topic(kind)).await
    }

    // ---- failures ----

    /// Returns the state of all objects and the ends of all logs, for the error of a failed story.
    pub async fn describe(&self) -> String {
        let mut text = format!("namespace {}\n", self.namespace);
        if let Err(error) = self.describe_objects(&mut text).await {
            let _ = writeln!(text, "  the objects could not be read: {error:#}");
        }
        let _ = writeln!(text, "  requests counted by the pods: {:?}", self.counts_of_pods());
        let files = fs::read_dir(&self.plane.logs).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_ours = |path: &std::path::PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&self.namespace))
        };
        for path in files.filter(is_ours) {
            let _ = writeln!(text, "  the end of {}:\n{}", path.display(), tail(&path, 60));
        }
        text
    }

    async fn describe_objects(&self, text: &mut String) -> Result<()> {
        for deployment in self.deployments().list(&ListParams::default()).await? {
            let (name, status) = (deployment.name_any(), deployment.status.unwrap_or_default());
            let counts =
                [status.replicas, status.updated_replicas, status.available_replicas].map(Option::unwrap_or_default);
            let images = self.images(&name).await?;
            writeln!(text, "  Deployment {name}: {images:?}; all, updated, available: {counts:?}")?;
        }
        for route in self.routes().list(&ListParams::default()).await? {
            writeln!(text, "  HTTPRoute {}: {:?}", route.name_any(), self.weights(&route.name_any()).await?)?;
        }
        for pod in self.pods().list(&ListParams::default()).await? {
            let status = pod.status.as_ref();
            let (created, phase) =
                (pod.creation_timestamp().map(|at| at.0), status.and_then(|status| status.phase.as_deref()));
            writeln!(text, "  Pod {}, created {created:?}: {phase:?}", pod.name_any())?;
        }
        for (pod, reason, message) in self.waiting().await? {
            writeln!(text, "  Pod {pod} waits: {reason}: {message}")?;
        }
        let events: Api<Event> = Api::namespaced(self.plane.kubernetes.client.clone(), &self.namespace);
        for event in events.list(&ListParams::default()).await? {
            let of = event.involved_object;
            let (kind, name) = (of.kind.unwrap_or_default(), of.name.unwrap_or_default());
            let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
            // Normal events of pods are left out: they are many, and the pods are listed above.
            if kind == "Deployment" || kind == "HTTPRoute" || event.type_.as_deref() == Some("Warning") {
                let at = event.last_timestamp.map(|at| at.0);
                writeln!(text, "  Event on {kind} {name} at {at:?}: {reason}: {message}")?;
            }
        }
        Ok(())
    }
}
