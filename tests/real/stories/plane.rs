//! The plane itself: that what the other stories stand on is so.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::{Told, told, told_alone};
use crate::plane::kubernetes::SERVER;
use crate::plane::pods::Served;
use crate::plane::story::Story;

const GOOD: &str = "registry.test/shop/web:v1";
const SOON: Duration = Duration::from_secs(60);

pub fn stories() -> Vec<Told> {
    vec![
        told("plane::a_deployment_becomes_available", a_deployment_becomes_available),
        // A round of the gateway's split begins anew whenever another story changes its configuration.
        told_alone("plane::the_route_splits_the_traffic", the_route_splits_the_traffic),
        told("plane::a_bad_image_fails_as_its_tag_says", a_bad_image_fails_as_its_tag_says),
        told("plane::an_image_turns_bad_after_a_while", an_image_turns_bad_after_a_while),
        told("plane::prometheus_has_what_the_pods_counted", prometheus_has_what_the_pods_counted),
        told("plane::a_record_is_read_back", a_record_is_read_back),
        told("plane::an_image_that_cannot_be_pulled_says_so", an_image_that_cannot_be_pulled_says_so),
        told("plane::a_crashing_image_says_so", a_crashing_image_says_so),
        told("plane::an_account_has_the_rights_it_was_given", an_account_has_the_rights_it_was_given),
        told("plane::changed_objects_are_named", changed_objects_are_named),
    ]
}

async fn a_deployment_becomes_available(story: &Story) -> Result<()> {
    story.create_web(3, GOOD).await?;
    let pods = story.plane.pods.of(&story.namespace);
    ensure!(pods.len() == 3, "{} pods answer", pods.len());
    ensure!(story.images("web").await?["app"] == GOOD);
    ensure!(story.weights("web").await?["web"] == 1);
    Ok(())
}

async fn the_route_splits_the_traffic(story: &Story) -> Result<()> {
    story.create_workload("web", 3, &[("app", GOOD)]).await?;
    story.create_workload("other", 2, &[("app", "registry.test/shop/web:v2")]).await?;
    story.create_route("web", &[("web", Some(90)), ("other", Some(10))]).await?;

    let first = story.send(100.0, 200).await?;
    ensure!(first.failed() == 0 && first.answered() == 200, "{first:?}");
    ensure!(first.of_version("v2").total.abs_diff(20) <= 2, "{:?}", first.by_version);
    ensure!(
        story.served() == first.by_version,
        "the pods counted {:?}, the users {:?}",
        story.served(),
        first.by_version
    );

    story.set_weights("web", &[("web", 50), ("other", 50)]).await?;
    let what = "an even split after the weights have changed";
    let second = story
        .wait_until(what, SOON, async || {
            let counts = story.send(200.0, 40).await?;
            ensure!(counts.of_version("v2").total.abs_diff(20) <= 2, "{:?}", counts.by_version);
            Ok(counts)
        })
        .await?;
    ensure!(second.failed() == 0, "{second:?}");
    Ok(())
}

async fn a_bad_image_fails_as_its_tag_says(story: &Story) -> Result<()> {
    story.create_web(2, "registry.test/shop/web:v2-err5-slow10_700").await?;
    let counts = story.send(100.0, 200).await?;
    let version = "v2-err5-slow10_700";
    let seen = counts.of_version(version);
    ensure!(counts.lost == 0 && seen.total == 200, "{counts:?}");
    // Exact in each hundred requests of a pod; the gateway may give one pod a few more than the other.
    ensure!(seen.errors.abs_diff(10) <= 2, "{seen:?}");
    ensure!(story.served()[version] == seen, "the pods counted {:?}, the users {seen:?}", story.served());
    let p95 = counts.quantile(version, 0.95).context("no latency")?;
    ensure!(p95 >= Duration::from_millis(700), "p95 is {p95:?}");
    let p50 = counts.quantile(version, 0.5).context("no latency")?;
    ensure!(p50 < Duration::from_millis(500), "p50 is {p50:?}");
    Ok(())
}

async fn an_image_turns_bad_after_a_while(story: &Story) -> Result<()> {
    story.create_web(1, "registry.test/shop/web:v3-after5-err100").await?;
    let load = story.load(20.0)?;
    let what = "the version to turn bad";
    story
        .wait_until(what, SOON, async || {
            ensure!(load.counts().failed() > 0, "{:?}", load.counts());
            Ok(())
        })
        .await?;
    let counts = load.stop().await?;
    let seen = counts.of_version("v3-after5-err100");
    ensure!(seen.errors < seen.total, "it was bad from the start: {seen:?}");
    Ok(())
}

async fn prometheus_has_what_the_pods_counted(story: &Story) -> Result<()> {
    let before = Timestamp::now();
    story.create_web(2, "registry.test/shop/web:v2-err10").await?;
    let counts = story.send(100.0, 200).await?;
    ensure!(counts.lost == 0, "{counts:?}");

    let of_pods =
        format!(r#"http_server_request_duration_seconds_count{{namespace="{}",job="pods"}}"#, story.namespace);
    let what = "Prometheus to have scraped all the pods' counts";
    let at = story
        .wait_until(what, SOON, async || {
            let at = Timestamp::now();
            compare(story, &of_pods, at).await?;
            Ok(at)
        })
        .await?;
    // The same question about the same time has the same answer, and there was nothing before.
    compare(story, &of_pods, at).await?;
    let earlier = story.plane.prometheus.query(&of_pods, before).await?;
    ensure!(earlier.is_empty(), "{earlier:?}");

    // The gateway's own count of the same traffic: the 200, and the probes of the harness, which get a 200 each.
    let service = format!("{}-web-http-80@kubernetesgateway", story.namespace);
    let of_gateway = format!(r#"sum by (code) (traefik_service_requests_total{{service="{service}"}})"#);
    let errors = counts.by_status.get(&500).copied().unwrap_or_default();
    story
        .wait_until("Prometheus to have scraped the gateway's counts", SOON, async || {
            let samples = story.plane.prometheus.query(&of_gateway, Timestamp::now()).await?;
            let failed = samples.iter().find(|sample| sample.labels["code"] == "500").context("no errors seen")?;
            ensure!(failed.value == errors as f64, "{samples:?}, the users saw {errors} errors");
            Ok(())
        })
        .await
}

/// Each pod by its name: what Prometheus has and what the pod itself counted.
async fn compare(story: &Story, query: &str, at: Timestamp) -> Result<()> {
    let samples = story.plane.prometheus.query(query, at).await?;
    for pod in story.plane.pods.of(&story.namespace) {
        let mut scraped = Served::default();
        for sample in samples.iter().filter(|sample| sample.labels["pod"] == pod.name) {
            ensure!(sample.labels["container"] == "app" && sample.labels["app"] == "web", "{sample:?}");
            scraped.total += sample.value as u64;
            scraped.errors += if sample.labels["http_response_status_code"] == "500" { sample.value as u64 } else { 0 };
        }
        ensure!(scraped == pod.served(), "{}: scraped {scraped:?}, counted {:?}", pod.name, pod.served());
    }
    Ok(())
}

async fn a_record_is_read_back(story: &Story) -> Result<()> {
    ensure!(story.records("events").await?.is_empty(), "a topic that does not exist has no records");
    story.create_topic("events", 3, &[("cleanup.policy", "compact")]).await?;
    let value = br#"{"image": "registry.test/shop/web:v2"}"#;
    let (partition, offset) = story.produce("events", Some("a/b"), &[("ce_type", "test")], value).await?;
    let records = story.records("events").await?;
    ensure!(records.len() == 1, "{records:?}");
    let record = &records[0];
    ensure!((record.partition, record.offset) == (partition, offset), "{record:?}");
    ensure!(record.key_text() == "a/b" && record.headers["ce_type"] == "test", "{record:?}");
    ensure!(record.json()?["image"] == "registry.test/shop/web:v2", "{record:?}");
    Ok(())
}

async fn an_image_that_cannot_be_pulled_says_so(story: &Story) -> Result<()> {
    story.create_web_of(2, &[("app", GOOD), ("sidecar", "registry.test/shop/proxy:v1")]).await?;
    story.set_image("web", "app", "registry.test/shop/web:v2-nopull").await?;
    let what = "a pod that waits for its image";
    let (_, reason, message) = story
        .wait_until(what, SOON, async || story.waiting().await?.into_iter().next().context("no container waits"))
        .await?;
    ensure!(reason == "ImagePullBackOff", "{reason}");
    ensure!(message.contains("registry.test/shop/web:v2-nopull") && message.contains("not found"), "{message}");
    // The old pods go on: a rolling update waits for the new one.
    let counts = story.send(50.0, 20).await?;
    ensure!(counts.of_version("v1").total == 20 && counts.failed() == 0, "{counts:?}");
    Ok(())
}

async fn a_crashing_image_says_so(story: &Story) -> Result<()> {
    story.create_web(1, GOOD).await?;
    story.set_image("web", "app", "registry.test/shop/web:v2-crash").await?;
    let what = "a pod that crashes";
    let (_, reason, message) = story
        .wait_until(what, SOON, async || story.waiting().await?.into_iter().next().context("no container waits"))
        .await?;
    ensure!(reason == "CrashLoopBackOff", "{reason}: {message}");
    Ok(())
}

async fn an_account_has_the_rights_it_was_given(story: &Story) -> Result<()> {
    let kubernetes = &story.plane.kubernetes;
    let account = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: reader\n---
apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: reader
rules:\n  - {{apiGroups: [apps], resources: [deployments], verbs: [list]}}\n---
apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: reader
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}
subjects: [{{kind: ServiceAccount, name: reader, namespace: {}}}]\n",
        story.namespace
    );
    kubernetes.apply_yaml(&account, Some(&story.namespace)).await?;
    let file = kubernetes.kubeconfig_of_account(&story.namespace, "reader", SERVER).await?;
    let kubeconfig = Kubeconfig::read_from(file)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;

    let deployments = kube::Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(client.clone(), &story.namespace);
    story.wait_until("the rights to count", SOON, async || Ok(deployments.list(&ListParams::default()).await?)).await?;
    let pods = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(client, &story.namespace);
    let refused = pods.list(&ListParams::default()).await.err().context("the pods could be listed")?;
    ensure!(refused.to_string().contains("forbidden"), "{refused}");

    let user = json!(format!("system:serviceaccount:{}:reader", story.namespace));
    story
        .wait_until("the audit log to name the reader", SOON, async || {
            let entries = kubernetes.audit()?;
            let reads = entries.iter().filter(|entry| entry["user"]["username"] == user);
            let codes: Vec<_> = reads.map(|entry| entry["responseStatus"]["code"].clone()).collect();
            ensure!(codes.contains(&json!(200)) && codes.contains(&json!(403)), "{codes:?}");
            Ok(())
        })
        .await
}

async fn changed_objects_are_named(story: &Story) -> Result<()> {
    story.create_web(1, GOOD).await?;
    let before = story.snapshot().await?;
    before.ensure_same(&story.snapshot().await?)?;
    ensure!(story.leftovers().await?.is_empty(), "{:?}", story.leftovers().await?);

    story.set_image("web", "app", "registry.test/shop/web:v2").await?;
    let after = story.snapshot().await?;
    let difference = before.ensure_same(&after).err().context("no difference")?.to_string();
    ensure!(difference.contains("Deployment/web") && difference.contains("web:v2"), "{difference}");
    before.with_image("web", "app", "registry.test/shop/web:v2").ensure_same(&after)?;

    story
        .create(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "note", "annotations": {"bellwether.dev/epoch": "1"}},
        }))
        .await?;
    let leftovers = story.leftovers().await?;
    ensure!(leftovers.len() == 1 && leftovers[0].contains("ConfigMap/note"), "{leftovers:?}");
    Ok(())
}
