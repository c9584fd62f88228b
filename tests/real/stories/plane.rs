//! The plane itself: the properties that all other stories rely on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::fixture::STABLE;
use bellwether_testkit::plane::kubernetes::SERVER;
use bellwether_testkit::plane::pods::RequestCounts;
use bellwether_testkit::plane::{Sandbox, wait};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::{SOON, Story, V2, exclusive_story, story};

pub fn stories() -> Vec<Story> {
    vec![
        story("plane::a_deployment_becomes_available", deployment),
        // The gateway restarts its weighted rounds whenever another story changes its configuration.
        exclusive_story("plane::a_route_splits_the_traffic_by_its_weights", weights),
        story("plane::a_bad_image_fails_as_its_tag_says", bad_image),
        story("plane::an_image_with_a_later_mark_turns_bad_later", image_that_turns_bad),
        story("plane::prometheus_has_the_counts_of_the_pods", counts_in_prometheus),
        story("plane::a_written_record_is_read_back", record),
        story("plane::an_image_that_cannot_be_pulled_keeps_its_pod_waiting", image_that_cannot_be_pulled),
        story("plane::a_crashing_image_keeps_its_pod_waiting", crashing_image),
        story("plane::an_account_has_the_rights_of_its_role", account),
        story("plane::changed_objects_are_named", changed_objects),
    ]
}

async fn deployment(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_web(3, STABLE).await?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    ensure!(pods.len() == 3, "{} pods answer", pods.len());
    ensure!(sandbox.images("web").await?["app"] == STABLE);
    ensure!(sandbox.weights("web").await?["web"] == 1);
    Ok(())
}

async fn weights(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_workload("web", 3, &[("app", STABLE)]).await?;
    sandbox.create_workload("other", 2, &[("app", V2)]).await?;
    sandbox.create_route("web", &[("web", Some(90)), ("other", Some(10))]).await?;

    let first = sandbox.send(100.0, 200).await?;
    ensure!(first.failed() == 0 && first.answered() == 200, "{first:?}");
    ensure!(first.of_version("v2").total.abs_diff(20) <= 2, "{:?}", first.by_version);
    ensure!(
        sandbox.counts_of_pods() == first.by_version,
        "counted by the pods: {:?}, by the users: {:?}",
        sandbox.counts_of_pods(),
        first.by_version
    );

    sandbox.set_weights("web", &[("web", 50), ("other", 50)]).await?;
    let second = wait::until("an even split after the weights have changed", SOON, async || {
        let counts = sandbox.send(200.0, 40).await?;
        ensure!(counts.of_version("v2").total.abs_diff(20) <= 2, "{:?}", counts.by_version);
        Ok(counts)
    })
    .await?;
    ensure!(second.failed() == 0, "{second:?}");
    Ok(())
}

async fn bad_image(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_web(2, "registry.test/shop/web:v2-err5-slow10_700").await?;
    let counts = sandbox.send(100.0, 200).await?;
    let version = "v2-err5-slow10_700";
    let seen = counts.of_version(version);
    ensure!(counts.lost == 0 && seen.total == 200, "{counts:?}");
    // The share is exact in each hundred requests of a pod, and the gateway may send one pod a few more than the other.
    ensure!(seen.errors.abs_diff(10) <= 2, "{seen:?}");
    let of_pods = sandbox.counts_of_pods();
    ensure!(of_pods[version] == seen, "counted by the pods: {of_pods:?}, by the users: {seen:?}");
    let p95 = counts.latency(version, 0.95).context("no latency")?;
    ensure!(p95 >= Duration::from_millis(700), "p95 is {p95:?}");
    let p50 = counts.latency(version, 0.5).context("no latency")?;
    ensure!(p50 < Duration::from_millis(500), "p50 is {p50:?}");
    Ok(())
}

async fn image_that_turns_bad(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_web(1, "registry.test/shop/web:v3-after5-err100").await?;
    let load = sandbox.load(20.0)?;
    wait::until("the version to turn bad", SOON, async || {
        ensure!(load.counts().failed() > 0, "{:?}", load.counts());
        Ok(())
    })
    .await?;
    let counts = load.stop().await?;
    let seen = counts.of_version("v3-after5-err100");
    ensure!(seen.errors < seen.total, "it was bad from the start: {seen:?}");
    Ok(())
}

async fn counts_in_prometheus(sandbox: &Sandbox) -> Result<()> {
    let before = Timestamp::now();
    sandbox.create_web(2, "registry.test/shop/web:v2-err10").await?;
    let counts = sandbox.send(100.0, 200).await?;
    ensure!(counts.lost == 0, "{counts:?}");

    let of_pods =
        format!(r#"http_server_request_duration_seconds_count{{namespace="{}",job="pods"}}"#, sandbox.namespace);
    let at = wait::until("Prometheus to have the counts of all pods", SOON, async || {
        let at = Timestamp::now();
        compare(sandbox, &of_pods, at).await?;
        Ok(at)
    })
    .await?;
    // The same query as of the same time has the same answer, and there was none before.
    compare(sandbox, &of_pods, at).await?;
    let earlier = sandbox.plane.prometheus.query(&of_pods, before).await?;
    ensure!(earlier.is_empty(), "{earlier:?}");

    // The gateway's own counts of the same traffic. They include the probes of the harness, which are answered with 200.
    let service = format!("{}-web-http-80@kubernetesgateway", sandbox.namespace);
    let of_gateway = format!(r#"sum by (code) (traefik_service_requests_total{{service="{service}"}})"#);
    let errors = counts.by_status.get(&500).copied().unwrap_or_default();
    wait::until("Prometheus to have the counts of the gateway", SOON, async || {
        let samples = sandbox.plane.prometheus.query(&of_gateway, Timestamp::now()).await?;
        let failed = samples.iter().find(|sample| sample.labels["code"] == "500").context("no errors yet")?;
        ensure!(failed.value == errors as f64, "{samples:?}; the users saw {errors} errors");
        Ok(())
    })
    .await
}

/// Compares the counts in Prometheus with those of each of the two pods.
async fn compare(sandbox: &Sandbox, query: &str, at: Timestamp) -> Result<()> {
    let samples = sandbox.plane.prometheus.query(query, at).await?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    ensure!(pods.len() == 2, "{} pods", pods.len());
    for pod in pods {
        let mut scraped = RequestCounts::default();
        for sample in samples.iter().filter(|sample| sample.labels["pod"] == pod.name) {
            ensure!(sample.labels["container"] == "app" && sample.labels["app"] == "web", "{sample:?}");
            scraped.total += sample.value as u64;
            scraped.errors += if sample.labels["http_response_status_code"] == "500" { sample.value as u64 } else { 0 };
        }
        ensure!(scraped == pod.counts(), "{}: scraped {scraped:?}, counted {:?}", pod.name, pod.counts());
    }
    Ok(())
}

async fn record(sandbox: &Sandbox) -> Result<()> {
    ensure!(sandbox.records("events").await?.is_empty(), "a topic that does not exist has no records");
    sandbox.create_topic("events", 3, &[("cleanup.policy", "compact")]).await?;
    let value = br#"{"image": "registry.test/shop/web:v2"}"#;
    let (partition, offset) = sandbox.produce("events", Some("a/b"), &[("ce_type", "test")], value).await?;
    let records = sandbox.records("events").await?;
    ensure!(records.len() == 1, "{records:?}");
    let record = &records[0];
    ensure!((record.partition, record.offset) == (partition, offset), "{record:?}");
    ensure!(record.key_text() == "a/b" && record.headers["ce_type"] == "test", "{record:?}");
    ensure!(record.json()?["image"] == "registry.test/shop/web:v2", "{record:?}");
    Ok(())
}

async fn image_that_cannot_be_pulled(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_web_of(2, &[("app", STABLE), ("sidecar", "registry.test/shop/proxy:v1")]).await?;
    sandbox.set_image("web", "app", "registry.test/shop/web:v2-nopull").await?;
    let (_, reason, message) = first_waiting(sandbox).await?;
    ensure!(reason == "ImagePullBackOff", "{reason}");
    ensure!(message.contains("registry.test/shop/web:v2-nopull") && message.contains("not found"), "{message}");
    // The old pods still serve: a rolling update waits for the new one.
    let counts = sandbox.send(50.0, 20).await?;
    ensure!(counts.of_version("v1").total == 20 && counts.failed() == 0, "{counts:?}");
    Ok(())
}

async fn crashing_image(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_web(1, STABLE).await?;
    sandbox.set_image("web", "app", "registry.test/shop/web:v2-crash").await?;
    let (_, reason, message) = first_waiting(sandbox).await?;
    ensure!(reason == "CrashLoopBackOff", "{reason}: {message}");
    Ok(())
}

/// Waits until a container waits, and returns its pod, the reason and the message.
async fn first_waiting(sandbox: &Sandbox) -> Result<(String, String, String)> {
    let probe = async || sandbox.waiting().await?.into_iter().next().context("no container waits");
    wait::until("a container that waits", SOON, probe).await
}

async fn account(sandbox: &Sandbox) -> Result<()> {
    let kubernetes = &sandbox.plane.kubernetes;
    let manifests = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: reader\n---
apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: reader
rules:\n  - {{apiGroups: [apps], resources: [deployments], verbs: [list]}}\n---
apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: reader
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}
subjects: [{{kind: ServiceAccount, name: reader, namespace: {}}}]\n",
        sandbox.namespace
    );
    kubernetes.apply_yaml(&manifests, Some(&sandbox.namespace)).await?;
    let file = kubernetes.kubeconfig_of_account(&sandbox.namespace, "reader", SERVER).await?;
    let kubeconfig = Kubeconfig::read_from(file)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;

    let deployments =
        kube::Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(client.clone(), &sandbox.namespace);
    let list = async || Ok(deployments.list(&ListParams::default()).await?);
    wait::until("the rights to be in effect", SOON, list).await?;
    let pods = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(client, &sandbox.namespace);
    let refused = pods.list(&ListParams::default()).await.err().context("the pods could be listed")?;
    ensure!(refused.to_string().contains("forbidden"), "{refused}");

    let user = json!(format!("system:serviceaccount:{}:reader", sandbox.namespace));
    wait::until("the reads in the audit log", SOON, async || {
        let entries = kubernetes.audit()?;
        let reads = entries.iter().filter(|entry| entry["user"]["username"] == user);
        let codes: Vec<_> = reads.map(|entry| entry["responseStatus"]["code"].clone()).collect();
        ensure!(codes.contains(&json!(200)) && codes.contains(&json!(403)), "{codes:?}");
        Ok(())
    })
    .await
}

async fn changed_objects(sandbox: &Sandbox) -> Result<()> {
    sandbox.create_web(1, STABLE).await?;
    let before = sandbox.specs().await?;
    before.ensure_same(&sandbox.specs().await?)?;
    ensure!(sandbox.leftovers().await?.is_empty(), "{:?}", sandbox.leftovers().await?);

    sandbox.set_image("web", "app", V2).await?;
    let after = sandbox.specs().await?;
    let difference = before.ensure_same(&after).err().context("no difference")?.to_string();
    ensure!(difference.contains("Deployment/web") && difference.contains("web:v2"), "{difference}");
    before.with_image("web", "app", V2).ensure_same(&after)?;

    sandbox
        .create_object(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "note", "annotations": {"bellwether.dev/epoch": "1"}},
        }))
        .await?;
    let leftovers = sandbox.leftovers().await?;
    ensure!(leftovers.len() == 1 && leftovers[0].contains("ConfigMap/note"), "{leftovers:?}");
    Ok(())
}
