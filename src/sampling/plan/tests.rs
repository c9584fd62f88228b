//! The texts of the queries, as they appear in Prometheus' query log.

use std::sync::Arc;

use bellwether_core::ids::WorkloadKind;
use bellwether_core::time::Timestamp;
use expect_test::expect;

use super::*;
use crate::ports::PodFacts;

#[test]
fn an_error_rate_and_a_throughput_of_two_workloads_are_one_query() {
    let text =
        texts(&[watch("web", "shop", &[("errors", RATIO), ("rate", RATE)]), watch("api", "pay", &[("errors", RATIO)])]);
    expect![[r#"
        sum by (namespace, pod, container, instance, code) (requests_total{route!="/healthz", namespace=~"pay|shop", pod=~"api-.*|web-.*"}) or label_replace(count by (namespace, pod, container, instance, code) (requests_total{route!="/healthz", namespace=~"pay|shop", pod=~"api-.*|web-.*"}), "bellwether_part", "members", "", "")
        min by (namespace, pod, container, instance) (up{namespace=~"pay|shop", pod=~"api-.*|web-.*"}) or label_replace(max by (namespace, pod, container, instance) (timestamp(up{namespace=~"pay|shop", pod=~"api-.*|web-.*"})), "bellwether_part", "scraped", "", "") or label_replace(max by (namespace, pod, container, instance) (process_start_time_seconds{namespace=~"pay|shop", pod=~"api-.*|web-.*"}), "bellwether_part", "started", "", "")"#]]
    .assert_eq(&text);
}

#[test]
fn a_gateways_series_are_selected_by_the_services_of_both_arms() {
    let gateway = r#"
        kind = "histogram"
        series = "gateway_seconds"
        arms = { service = { label = "service", value = "{{namespace}}-{{service}}-{{port}}" } }
        targets = '{job="gateway",}'
    "#;
    expect![[r#"
        sum by (instance, service, le) (gateway_seconds_bucket{service=~"shop-web-80|shop-web-canary-80"}) or label_replace(count by (instance, service, le) (gateway_seconds_bucket{service=~"shop-web-80|shop-web-canary-80"}), "bellwether_part", "members", "", "")
        min by (instance) (up{job="gateway"}) or label_replace(max by (instance) (timestamp(up{job="gateway"})), "bellwether_part", "scraped", "", "") or label_replace(max by (instance) (process_start_time_seconds{job="gateway"}), "bellwether_part", "started", "", "")"#]]
    .assert_eq(&texts(&[watch("web", "shop", &[("time", gateway)])]));
}

/// A mesh names workloads, and a collector names pods by OpenTelemetry's labels. The workload has no Service.
#[test]
fn arms_are_told_by_the_labels_that_the_metric_names() {
    let mesh = r#"
        kind = "throughput"
        series = "mesh_requests"
        arms = { service = { label = "destination_workload", value = "{{workload}}" } }
        namespace-label = "destination_namespace"
    "#;
    let pushed = r#"
        kind = "throughput"
        series = "requests"
        pod-label = "k8s_pod_name"
        namespace-label = "k8s_namespace_name"
        process = ["service_instance_id"]
    "#;
    let watches = [watch("web", "shop", &[("mesh", mesh), ("pushed", pushed)])];
    let families = series_requests(&watches);
    let texts: Vec<String> = families
        .keys()
        .filter_map(|request| match request {
            SeriesRequest::Series(family, _) => Some(SeriesRequest::Newest(family.clone())),
            _ => None,
        })
        .flat_map(|request| queries(&request, &[0], &watches, &NoService))
        .map(|query| query.text)
        .collect();
    expect![[r#"
        max by (instance, destination_workload, destination_namespace, job) (timestamp(mesh_requests{destination_namespace="shop", destination_workload=~"web|web-canary"}))
        max by (k8s_namespace_name, k8s_pod_name, service_instance_id, job) (timestamp(requests{k8s_namespace_name="shop", k8s_pod_name=~"web-.*"}))"#]]
    .assert_eq(&texts.join("\n"));
    let SeriesRequest::Series(mesh, _) = families.keys().next().unwrap() else { panic!("{families:?}") };
    let owners = service_owners(&mesh.source, &watches[0], &NoService).unwrap();
    assert_eq!(owners, ["shop/web", "shop/web-canary"]);
}

struct NoService;

impl PodDirectory for NoService {
    fn locate(&self, _: &str, _: &str) -> Option<Arc<PodFacts>> {
        None
    }

    fn service(&self, _: &Workload) -> Option<(String, u16)> {
        None
    }
}

#[test]
fn a_native_histogram_is_queried_by_its_plain_name() {
    let native = "kind = \"histogram\"\nseries = \"seconds\"\nnative = true";
    let drift = "kind = \"drift\"\nseries = \"seconds\"\nnative = true";
    let text = texts(&[watch("web", "shop", &[("time", native), ("shape", drift)])]);
    expect![[r#"sum by (namespace, pod, container, instance) (seconds{namespace="shop", pod=~"web-.*"}) or label_replace(count by (namespace, pod, container, instance) (seconds{namespace="shop", pod=~"web-.*"}), "bellwether_part", "members", "", "") or label_replace(histogram_count(seconds{namespace="shop", pod=~"web-.*"}), "bellwether_part", "behind", "", "")"#]]
    .assert_eq(text.lines().next().unwrap());
    assert_eq!(text.lines().count(), 2, "the histogram and the drift share one family");
}

#[test]
fn a_gauge_has_no_number_of_series_and_a_name_with_a_dot_is_quoted() {
    let gauge = "kind = \"gauge\"\nseries = \"queue.depth\"\nprocess = [\"pod\", \"shard.id\"]";
    expect![[r#"
        sum by (namespace, pod, "shard.id") ({"queue.depth", namespace="shop", pod=~"web-.*"})
        min by (namespace, pod, "shard.id") (up{namespace="shop", pod=~"web-.*"}) or label_replace(max by (namespace, pod, "shard.id") (timestamp(up{namespace="shop", pod=~"web-.*"})), "bellwether_part", "scraped", "", "") or label_replace(max by (namespace, pod, "shard.id") (process_start_time_seconds{namespace="shop", pod=~"web-.*"}), "bellwether_part", "started", "", "")"#]]
    .assert_eq(&texts(&[watch("web", "shop", &[("depth", gauge)])]));
}

#[test]
fn a_long_query_is_split_and_no_watch_is_left_out() {
    let watches: Vec<Watch> =
        (0..3000).map(|n| watch(&format!("web{n}"), &format!("n{}", n % 700), &[("errors", RATIO)])).collect();
    for (request, wanted) in series_requests(&watches) {
        let queries = queries(&request, &wanted, &watches, &ServiceNames);
        let mut members: Vec<usize> = queries.iter().flat_map(|query| query.watches.clone()).collect();
        members.sort_unstable();
        assert_eq!(members, (0..3000).collect::<Vec<_>>());
        assert!(queries.iter().all(|query| query.text.len() <= MAX_TEXT), "{}", queries[0].text.len());
    }
}

#[test]
fn the_presets_are_metrics_without_problems() {
    for (name, text) in crate::config::PRESETS {
        let mut preset: BTreeMap<String, BTreeMap<String, Metric>> = toml::from_str(text).unwrap();
        let metrics = preset.remove("metric").unwrap();
        assert!(preset.is_empty());
        for (metric, definition) in &metrics {
            assert_eq!(definition.problems(), [], "{name}: {metric}");
            let mut patterns = definition.hits.iter().filter(|hits| hits.series.is_none());
            assert!(patterns.all(|hits| super::super::reading::hit_pattern(hits).is_ok()));
        }
        // Every preset defines the metrics that policies use.
        let usual = ["availability", "error-rate", "response-time", "success-rate", "throughput"];
        assert!(usual.iter().all(|usual| metrics.contains_key(*usual)), "{name}");
        let rates = ["error-rate", "success-rate", "throughput"].map(|name| families(&metrics[name]));
        assert!(rates.windows(2).all(|pair| pair[0] == pair[1]), "{name}: the three read one family");
    }
}

#[test]
fn every_raw_query_of_the_presets_uses_existing_parameters() {
    let names = ["namespace", "workload", "service", "pod-hash", "window"];
    let parameters: BTreeMap<&str, Option<String>> = names.map(|name| (name, Some("a-1".to_owned()))).into();
    for (name, text) in crate::config::PRESETS {
        let preset: BTreeMap<String, BTreeMap<String, Metric>> = toml::from_str(text).unwrap();
        for (metric, definition) in &preset["metric"] {
            let Some(query) = &definition.query else { continue };
            // The window is written outside of quotes, where a hyphen is not allowed.
            let parameters = parameters.clone().into_iter().chain([("window", Some("300s".to_owned()))]).collect();
            let filled =
                super::super::promql::fill(query, &parameters).unwrap_or_else(|why| panic!("{name}: {metric}: {why}"));
            assert!(!filled.contains("{{") && filled.contains("[300s]"), "{filled}");
        }
    }
}

const RATIO: &str = r#"
    kind = "ratio"
    series = "requests_total"
    matching = 'route!="/healthz"'
    hits = { label = "code", matches = "5.." }
"#;
const RATE: &str = "kind = \"throughput\"\nseries = \"requests_total\"\nmatching = ' route!=\"/healthz\"'";

/// A directory in which every workload has a Service of its own name.
struct ServiceNames;

impl PodDirectory for ServiceNames {
    fn locate(&self, _: &str, _: &str) -> Option<Arc<PodFacts>> {
        None
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        Some((workload.name.clone(), 80))
    }
}

fn watch(name: &str, namespace: &str, metrics: &[(&str, &str)]) -> Watch {
    let metrics = metrics.iter().map(|(name, text)| ((*name).to_owned(), toml::from_str(text).unwrap()));
    Watch {
        per_process: BTreeSet::new(),
        per_pod: BTreeSet::new(),
        warm_up: Span::ZERO,
        workload: Workload {
            cluster: "c".to_owned(),
            namespace: namespace.to_owned(),
            kind: WorkloadKind::Deployment,
            name: name.to_owned(),
        },
        metrics: Arc::new(metrics.collect()),
        canary: Some(ArmKey { deployment_uid: "u2".to_owned(), pod_hash: None, name: format!("{name}-canary") }),
        stable: ArmKey { deployment_uid: "u1".to_owned(), pod_hash: None, name: name.to_owned() },
        since: Timestamp::UNIX_EPOCH,
        last: None,
    }
}

fn texts(watches: &[Watch]) -> String {
    let texts: Vec<String> = series_requests(watches)
        .iter()
        .flat_map(|(request, wanted)| queries(request, wanted, watches, &ServiceNames))
        .map(|query| query.text)
        .collect();
    texts.join("\n")
}
