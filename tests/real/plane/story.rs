//! What one test sees of the plane: a namespace of its own with a user's Deployment, Service and HTTPRoute in it, a host
//! name, topics and a consumer group that nobody else has.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::kafka::Record;
use super::load::{Counts, Load};
use super::pods::{PORT, Served};
use super::process::tail;
use super::{Plane, gateway, wait};

/// The header of an event in structured mode.
pub const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");

const FLOWS: &str = "flowcontrol.apiserver.k8s.io/v1";
const ROUTES: (&str, &str) = ("gateway.networking.k8s.io/v1", "HTTPRoute");

/// For what the plane does by itself, like rolling out a Deployment. Generous: two cores do all of it.
const SOON: Duration = Duration::from_secs(60);

pub struct Story {
    pub plane: Arc<Plane>,
    pub namespace: String,
    /// The host name that this story's route has, and nobody else's.
    pub host: String,
}

/// Ends with the story.
pub struct Writing(tokio::task::JoinHandle<()>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The user's objects as they are in the API: `Kind/name` to `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects(pub BTreeMap<String, Value>);

impl Story {
    /// `name` may be any text; the namespace is made from it, and is another one each time.
    pub async fn begin(plane: Arc<Plane>, name: &str) -> Result<Self> {
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let plain = plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        let short: String = plain.chars().take(40).collect();
        let namespace = format!("{}-{}", short.trim_end_matches('-'), plane.number());
        let host = format!("{namespace}.test");
        let story = Self { plane, namespace, host };
        let metadata = json!({"name": story.namespace});
        story.plane.kubernetes.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
        let accounts = story.plane.kubernetes.objects("v1", "ServiceAccount", Some(&story.namespace));
        // Pods are refused until the namespace has its default account.
        wait::until("the default service account", SOON, async || Ok(accounts.get("default").await?)).await?;
        Ok(story)
    }

    /// Deletes the namespace, without waiting: the next story does not need its pods gone.
    pub async fn end(&self) {
        let namespaces = self.plane.kubernetes.objects("v1", "Namespace", None);
        let _ = namespaces.delete(&self.namespace, &DeleteParams::background()).await;
    }

    // ---- the user's objects ----

    /// Deployment, Service and HTTPRoute `web`, as a user has them; available, and reached through the gateway.
    pub async fn create_web(&self, replicas: u32, image: &str) -> Result<()> {
        self.create_web_of(replicas, &[("app", image)]).await
    }

    /// The same with several containers (name, image).
    pub async fn create_web_of(&self, replicas: u32, containers: &[(&str, &str)]) -> Result<()> {
        self.create_workload("web", replicas, containers).await?;
        self.create_route("web", &[("web", None)]).await
    }

    /// A Deployment and a Service of that name; waits until the Deployment is available.
    pub async fn create_workload(&self, name: &str, replicas: u32, containers: &[(&str, &str)]) -> Result<()> {
        self.create(deployment(name, replicas, containers)?).await?;
        self.create(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .await?;
        self.wait_available(name, replicas).await?;
        self.wait_endpoints(name, replicas).await
    }

    /// An HTTPRoute for this story's host to Services with their weights; waits until the gateway obeys it.
    pub async fn create_route(&self, name: &str, backends: &[(&str, Option<i32>)]) -> Result<()> {
        let backends = backends.iter().map(|(service, weight)| match weight {
            Some(weight) => json!({"name": service, "port": 80, "weight": weight}),
            None => json!({"name": service, "port": 80}),
        });
        self.create(json!({
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
        let http = super::http_client()?;
        wait::until("the gateway to know the route", SOON, async || {
            let request =
                http.get(format!("http://{}{}", gateway::ADDRESS, super::pods::PROBE)).header("host", &self.host);
            request.send().await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// A workload of one pod with a route and a host of its own, for stories of many. Nobody waits for the gateway.
    pub async fn create_routed(&self, name: &str, image: &str) -> Result<()> {
        self.create_workload(name, 1, &[("app", image)]).await?;
        self.create(json!({
            "apiVersion": ROUTES.0,
            "kind": ROUTES.1,
            "metadata": {"name": name},
            "spec": {
                "hostnames": [format!("{name}.{}", self.host)],
                "parentRefs": [{"name": gateway::NAME, "namespace": gateway::NAMESPACE}],
                "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
            },
        }))
        .await?;
        Ok(())
    }

    /// Asks for a rollout as any producer could: without the CLI. The event's id is the workload's name.
    pub async fn ask_for(&self, name: &str, image: &str) -> Result<()> {
        let content = json!({"workload": self.workload(name), "image": image});
        let key = format!("test/{}/Deployment/{name}", self.namespace);
        self.produce(
            "events",
            Some(&key),
            &[STRUCTURED],
            &request(&format!("{name}/{image}"), &content, Timestamp::now()),
        )
        .await?;
        Ok(())
    }

    /// A workload of this story, as an event names it.
    pub fn workload(&self, name: &str) -> Value {
        json!({"cluster": "test", "namespace": self.namespace, "kind": "Deployment", "name": name})
    }

    /// Creates an object in the story's namespace.
    pub async fn create(&self, mut object: Value) -> Result<DynamicObject> {
        object["metadata"]["namespace"] = self.namespace.clone().into();
        self.plane.kubernetes.create(object).await
    }

    /// What a user does with `kubectl set image`.
    pub async fn set_image(&self, deployment: &str, container: &str, image: &str) -> Result<()> {
        Behaviour::of(image)?;
        let containers = json!([{"name": container, "image": image}]);
        let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
        self.deployments().patch(deployment, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Changes the weights of the first rule, by the Services' names.
    pub async fn set_weights(&self, route: &str, weights: &[(&str, i32)]) -> Result<()> {
        let current = self.routes().get(route).await?;
        let mut backends = current.data.pointer("/spec/rules/0/backendRefs").context("no backends")?.clone();
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

    // ---- looking ----

    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.plane.kubernetes.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.kubernetes.client.clone(), &self.namespace)
    }

    pub fn routes(&self) -> Api<DynamicObject> {
        self.objects(ROUTES.0, ROUTES.1)
    }

    pub fn objects(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        self.plane.kubernetes.objects(api_version, kind, Some(&self.namespace))
    }

    /// Probes until it succeeds; an error of the probe means "not yet" and says what was seen.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        probe: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        wait::until(what, deadline, probe).await
    }

    /// Waits until the whole Deployment runs its newest template and is available.
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

    /// Container name to image, of the Deployment's template.
    pub async fn images(&self, deployment: &str) -> Result<BTreeMap<String, String>> {
        let found = self.deployments().get(deployment).await?;
        let pod = found.spec.and_then(|spec| spec.template.spec).context("a Deployment without a template")?;
        Ok(pod.containers.into_iter().map(|container| (container.name, container.image.unwrap_or_default())).collect())
    }

    /// Service name to weight, of all rules of a route.
    pub async fn weights(&self, route: &str) -> Result<BTreeMap<String, i64>> {
        let found = self.routes().get(route).await?;
        let rules = found.data.pointer("/spec/rules").and_then(Value::as_array).cloned().unwrap_or_default();
        let backends = rules.iter().flat_map(|rule| rule["backendRefs"].as_array().into_iter().flatten());
        let weight = |backend: &Value| {
            (backend["name"].as_str().unwrap_or_default().to_owned(), backend["weight"].as_i64().unwrap_or(1))
        };
        Ok(backends.map(weight).collect())
    }

    /// Why containers wait, as `kubectl describe pod` shows it: (pod, reason, message).
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

    /// What the pods counted themselves, by version (the image's tag); pods that are gone count too.
    pub fn served(&self) -> BTreeMap<String, Served> {
        self.plane.pods.served(&self.namespace)
    }

    // ---- "as they were" ----

    /// The specs of all Deployments, Services and HTTPRoutes of the namespace.
    pub async fn snapshot(&self) -> Result<Objects> {
        let mut specs = BTreeMap::new();
        for (api_version, kind) in [("apps/v1", "Deployment"), ("v1", "Service"), ROUTES] {
            for object in self.objects(api_version, kind).list(&ListParams::default()).await? {
                specs.insert(format!("{kind}/{}", object.name_any()), object.data["spec"].clone());
            }
        }
        Ok(Objects(specs))
    }

    /// What of Bellwether's is still there: anything named `*-canary`, or with a label or annotation `bellwether.dev/*`.
    /// ReplicaSets and pods are left out: Kubernetes makes and keeps those by itself.
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

    /// The API server answers this user with 429 and nothing else until [`Story::unjail`]: a flow without any share.
    pub async fn jail(&self, user: &str) -> Result<String> {
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

    /// Ends what [`Story::jail`] began.
    pub async fn unjail(&self, name: String) -> Result<()> {
        for kind in ["FlowSchema", "PriorityLevelConfiguration"] {
            self.plane.kubernetes.objects(FLOWS, kind, None).delete(&name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// Somebody who writes to the Deployment and the route `web` all the time, and changes nothing that matters, until this
    /// is dropped.
    pub fn writing_to_everything(&self) -> Writing {
        let (deployments, routes) = (self.objects("apps/v1", "Deployment"), self.routes());
        Writing(tokio::spawn(async move {
            for n in 0u64.. {
                let patch = Patch::Merge(json!({"metadata": {"annotations": {"somebody.test/else": n.to_string()}}}));
                // A conflict is what this is for.
                let _ = deployments.patch("web", &PatchParams::default(), &patch).await;
                let _ = routes.patch("web", &PatchParams::default(), &patch).await;
                // Seldom enough for the gateway to get its own status in between; it serves all the stories.
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }))
    }

    // ---- traffic ----

    /// Traffic to this story's host until it is stopped.
    pub fn load(&self, per_second: f64) -> Result<Load> {
        Load::start(&self.host, per_second, None, None)
    }

    /// The same, of those who have this header.
    pub fn load_of(&self, per_second: f64, header: (&'static str, &'static str)) -> Result<Load> {
        Load::start(&self.host, per_second, None, Some(header))
    }

    /// So many requests, and all their answers.
    pub async fn send(&self, per_second: f64, requests: u64) -> Result<Counts> {
        Load::send(&self.host, per_second, requests).await
    }

    // ---- Kafka ----

    /// This story's topic of that kind: `events`, `journal`, `decisions`, …
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.namespace)
    }

    pub fn group(&self) -> String {
        format!("{}.group", self.namespace)
    }

    pub async fn create_topic(&self, kind: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        self.plane.kafka.create_topic(&self.topic(kind), partitions, settings).await
    }

    pub async fn produce(
        &self,
        kind: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        value: &[u8],
    ) -> Result<(i32, i64)> {
        self.plane.kafka.produce(&self.topic(kind), key, headers, value).await
    }

    /// All committed records of this story's topic; none when it does not exist.
    pub async fn records(&self, kind: &str) -> Result<Vec<Record>> {
        self.plane.kafka.records(&self.topic(kind)).await
    }

    // ---- when it fails ----

    /// Everything that a reader of a failure wants to know.
    pub async fn describe(&self) -> String {
        let mut text = format!("namespace {}\n", self.namespace);
        if let Err(error) = self.describe_objects(&mut text).await {
            let _ = writeln!(text, "  (the API server does not answer: {error:#})");
        }
        let _ = writeln!(text, "  the pods served {:?}", self.served());
        let files = fs::read_dir(&self.plane.logs).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in files
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&self.namespace)))
        {
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
            writeln!(text, "  Pod {}: {:?}", pod.name_any(), status.and_then(|status| status.phase.as_deref()))?;
        }
        for (pod, reason, message) in self.waiting().await? {
            writeln!(text, "  Pod {pod} waits: {reason}: {message}")?;
        }
        let events: Api<Event> = Api::namespaced(self.plane.kubernetes.client.clone(), &self.namespace);
        for event in events.list(&ListParams::default()).await? {
            let of = event.involved_object;
            let (kind, name) = (of.kind.unwrap_or_default(), of.name.unwrap_or_default());
            let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
            // A rollout of pods makes pages of these, and the pods are above.
            if kind == "Deployment" || kind == "HTTPRoute" || event.type_.as_deref() == Some("Warning") {
                writeln!(text, "  Event on {kind} {name}: {reason}: {message}")?;
            }
        }
        Ok(())
    }
}

impl Objects {
    /// The same, but with another image in one container: what a promotion is allowed to change.
    pub fn with_image(mut self, deployment: &str, container: &str, image: &str) -> Self {
        let spec = self.0.get_mut(&format!("Deployment/{deployment}"));
        let containers =
            spec.and_then(|spec| spec.pointer_mut("/template/spec/containers")).and_then(Value::as_array_mut);
        for found in containers.into_iter().flatten().filter(|found| found["name"] == container) {
            found["image"] = image.into();
        }
        self
    }

    /// An error that names each difference.
    pub fn ensure_same(&self, now: &Self) -> Result<()> {
        let mut differences = String::new();
        for name in self.0.keys().chain(now.0.keys().filter(|name| !self.0.contains_key(*name))) {
            match (self.0.get(name), now.0.get(name)) {
                (Some(_), None) => writeln!(differences, "{name} is gone")?,
                (None, _) => writeln!(differences, "{name} is new")?,
                (Some(before), Some(now)) if before != now => {
                    writeln!(differences, "{name} was changed: {}", json_patch::diff(before, now))?;
                }
                _ => {}
            }
        }
        ensure!(differences.is_empty(), "the user's objects are not as they were:\n{differences}");
        Ok(())
    }
}

/// A request with this content, as a CloudEvent in structured mode.
pub fn request(id: &str, content: &Value, at: Timestamp) -> Vec<u8> {
    let ty = "dev.cdeventsx.bellwether-rollout.requested.0.1.0";
    let context = json!({"specversion": "0.5.1", "id": id, "source": "/ci", "type": ty, "timestamp": at});
    let data = json!({"context": context, "subject": {"id": id, "source": "/ci", "content": content}});
    let event = json!({"specversion": "1.0", "id": id, "source": "/ci", "type": ty, "datacontenttype": "application/json", "data": data});
    event.to_string().into_bytes()
}

/// As a user's chart would have it, with the port and the requests that a canary has to copy.
fn deployment(name: &str, replicas: u32, containers: &[(&str, &str)]) -> Result<Value> {
    let mut list = Vec::new();
    for (index, (container, image)) in containers.iter().enumerate() {
        Behaviour::of(image)?;
        let mut fields = json!({
            "name": container,
            "image": image,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        });
        if index == 0 {
            fields["ports"] = json!([{"name": "http", "containerPort": PORT}]);
        }
        list.push(fields);
    }
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": list},
            },
        },
    }))
}
