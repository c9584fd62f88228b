use std::sync::Arc;

use bellwether_core::ids::WorkloadKind;
use expect_test::{Expect, expect};

use super::super::options::Options;
use super::super::tests::store::Store;
use super::*;
use crate::ports::{Bucket, Native, PodFacts};

#[tokio::test]
async fn metrics_that_can_be_read_give_no_finding() {
    check(&[("up", ""), ("requests_total", "code=200")], RATIO, &[], expect![""]).await;
    check(&[("up", ""), ("seconds_bucket", "le=0.25"), ("seconds_bucket", "le=+Inf")], HISTOGRAM, &[0.25], expect![""])
        .await;
}

#[tokio::test]
async fn each_problem_is_one_sentence() {
    check(
        &[("up", ""), ("requests_total", "status=200")],
        RATIO,
        &[],
        expect![[r#"Problem("m: the series of requests_total have no label \"code\"")"#]],
    )
    .await;
    check(
        &[("up", ""), ("request_total", "code=200")],
        RATIO,
        &[],
        expect![[r#"Problem("m: there is no series requests_total; did you mean request_total?")"#]],
    )
    .await;
    check(
        &[("up", ""), ("requests_total", "pod=,code=200")],
        RATIO,
        &[],
        expect![[r#"Problem("m: the series of requests_total have no label \"pod\", so canary and stable can't be told apart")"#]],
    )
    .await;
    check(
        &[("up", ""), ("seconds_bucket", "le=0.25"), ("seconds_bucket", "le=1.0"), ("seconds_bucket", "le=+Inf")],
        HISTOGRAM,
        &[0.5, 2.0, 1.0],
        expect![[r#"
            Problem("m: 500 ms is not an edge of seconds; the nearest are 250 ms and 1 s")
            Problem("m: 2 s is not an edge of seconds; the nearest is 1 s")"#]],
    )
    .await;
    check(
        &[("up", ""), ("seconds_bucket", "le=0.25")],
        HISTOGRAM,
        &[],
        expect![[r#"Problem("m: seconds has no +Inf bucket")"#]],
    )
    .await;
    check(
        &[("up", ""), ("seconds", "quantile=0.95")],
        HISTOGRAM,
        &[],
        expect![[
            r#"Problem("m: seconds is a summary, and the quantiles of several pods can't be combined; it needs a histogram")"#
        ]],
    )
    .await;
    check(
        &[("up", ""), ("requests_total", "code=200")],
        "kind = \"ratio\"\nseries = \"requests_total\"\nhits = { label = \"code\", matches = \"5(\" }",
        &[],
        expect![[r#"Problem("m: \"5(\" is not a regular expression: regex parse error:\n    ^(?s:5()$\n     ^\nerror: unclosed group")"#]],
    )
    .await;
}

#[tokio::test]
async fn labels_by_other_names_are_a_problem_that_names_them() {
    check(
        &[("requests_total", "namespace=,pod=,k8s_namespace_name=shop,k8s_pod_name=web-1,code=200")],
        RATIO,
        &[],
        expect![[r#"
            Problem("m: the pods of requests_total are named by the label \"k8s_pod_name\"; write pod-label = \"k8s_pod_name\", namespace-label = \"k8s_namespace_name\"")
            Warning("m: no `up` series has the labels of its targets, so a scrape that fails looks like a pod that is gone")"#]],
    )
    .await;
    // The labels of a collector's own pod are not those of the workload's.
    check(
        &[("requests_total", "namespace=mon,pod=collector-1,exported_namespace=shop,exported_pod=web-1,code=200")],
        RATIO,
        &[],
        expect![[r#"
            Problem("m: the pods of requests_total are named by the label \"exported_pod\"; write pod-label = \"exported_pod\", namespace-label = \"exported_namespace\"")
            Warning("m: no `up` series has the labels of its targets, so a scrape that fails looks like a pod that is gone")"#]],
    )
    .await;
    let named = format!("{RATIO}\npod-label = \"exported_pod\"\nnamespace-label = \"exported_namespace\"");
    check(
        &[("requests_total", "namespace=mon,pod=collector-1,exported_namespace=shop,exported_pod=web-1,code=200")],
        &named,
        &[],
        expect![[r#"Warning("m: no `up` series has the labels of its targets, so a scrape that fails looks like a pod that is gone")"#]],
    )
    .await;
}

#[tokio::test]
async fn strata_without_their_label_are_a_problem() {
    let by_route = format!("{RATIO}\nstrata-label = \"route\"");
    check(&[("up", ""), ("requests_total", "code=200,route=/pay")], &by_route, &[], expect![""]).await;
    check(
        &[("up", ""), ("requests_total", "code=200")],
        &by_route,
        &[],
        expect![[r#"Problem("m: the series of requests_total have no label \"route\" to compare them by")"#]],
    )
    .await;
}

/// Envoy counts in milliseconds up to an hour. A limit of 500 ms is 0.5 in seconds, which is its first edge.
#[tokio::test]
async fn milliseconds_without_their_unit_are_a_problem() {
    let buckets = ["0.5", "500", "3.6e+06", "+Inf"].map(|edge| ("seconds_bucket", format!("le={edge}")));
    let mut series: Vec<(&str, &str)> = buckets.iter().map(|(name, label)| (*name, label.as_str())).collect();
    series.push(("up", ""));
    check(
        &series,
        HISTOGRAM,
        &[0.5],
        expect![[
            r#"Problem("m: the last edge of seconds is 3600000, which can't be seconds; write unit = \"milliseconds\"")"#
        ]],
    )
    .await;
    let unit = "kind = \"histogram\"\nseries = \"seconds\"\nunit = \"milliseconds\"";
    check(&series, unit, &[500.0], expect![""]).await;
}

/// Returns the findings about the times of a job whose samples come every `every` seconds, and are visible `delay` seconds later.
/// The stretches in `outages` have none.
async fn timing_of(every: i64, delay: i64, outage: std::ops::Range<i64>) -> Vec<String> {
    let now = 1_000_000;
    let store = Store::default();
    let labels = [
        ("namespace", "shop"),
        ("pod", "web-1"),
        ("container", "app"),
        ("instance", "i"),
        ("job", "web"),
        ("code", "200"),
    ];
    for at in (now - 600..=now - delay).filter(|at| at % every == 7 && !outage.contains(&(now - at))) {
        store.put("requests_total", &labels, Timestamp::from_second(at).unwrap(), 1.0);
    }
    let workload =
        Workload { cluster: "c".into(), namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() };
    let stable = ArmKey { deployment_uid: "stable".to_owned(), pod_hash: None, name: "web".to_owned() };
    let run =
        ProbeRun { metrics: &store, pods: &OnePod, workload: &workload, stable: &stable, window: Span::from_secs(60) };
    let probed = ProbeTarget { name: "m".to_owned(), metric: toml::from_str(RATIO).unwrap(), limits: Vec::new() };
    let now = Timestamp::from_second(now).unwrap();
    let found = run.timing_findings(&[probed], now, &Options::default()).await;
    found.iter().map(|finding| format!("{finding:?}")).collect()
}

#[tokio::test]
async fn the_scrape_interval_and_the_lag_are_compared_with_each_jobs_samples() {
    assert_eq!(timing_of(15, 0, 0..0).await, [""; 0]);
    assert_eq!(timing_of(15, 1, 100..240).await, [""; 0], "an outage is no other interval");
    assert_eq!(
        timing_of(60, 1, 0..0).await,
        [
            "Problem(\"job \\\"web\\\" has a sample every 1m, and prometheus.scrape-interval is 15s, so most readings are stale; \
             set prometheus.scrape-interval to 1m\")",
            "Warning(\"job \\\"web\\\": its newest sample is 33s old and it has one every 1m, and prometheus.lag is 15s, so \
             requests are counted a block late; set prometheus.lag to 1m or more\")",
        ]
    );
    assert_eq!(
        timing_of(30, 1, 0..0).await[0],
        "Warning(\"job \\\"web\\\" has a sample every 30s, and prometheus.scrape-interval is 15s, so one late scrape is stale; \
         set prometheus.scrape-interval to 30s\")"
    );
    assert_eq!(
        timing_of(8, 0, 0..0).await,
        [
            "Warning(\"job \\\"web\\\" has a sample every 8s, and prometheus.scrape-interval is 15s, so an outage of its scrapes is \
          seen after 37s; set prometheus.scrape-interval to 8s\")"
        ]
    );
    assert_eq!(
        timing_of(15, 40, 0..0).await,
        [
            "Warning(\"job \\\"web\\\": its newest sample is 48s old and it has one every 15s, and prometheus.lag is 15s, so \
          requests are counted a block late; set prometheus.lag to 50s or more\")"
        ]
    );
}

#[tokio::test]
async fn native_histograms_are_probed() {
    let problem = |text: &str| format!("Problem(\"m: {text}\")");
    let between = "300 ms is not an edge of seconds; the nearest are 297.3 ms and 353.6 ms";
    let beyond = "524.3 s is not an edge of seconds";
    for (name, samples, metric, limits, wanted) in [
        ("limits with four digits", &[native("a", 3)][..], NATIVE, &[0.5, 0.2973, 0.595, 4.757][..], vec![]),
        ("a limit between two edges", &[native("a", 3)], NATIVE, &[0.3], vec![problem(between)]),
        (
            "an edge of the finer of two histograms",
            &[native("a", 3), native("b", 0)],
            NATIVE,
            &[0.2973, 0.5],
            vec![problem("297.3 ms is not an edge of seconds; the nearest are 250 ms and 500 ms")],
        ),
        ("a histogram without observations", &[empty()], NATIVE, &[0.3, 0.5], vec![problem(between)]),
        (
            "a native histogram without `native`",
            &[native("a", 3)],
            HISTOGRAM,
            &[0.5],
            vec![problem("seconds is a native histogram: write native = true")],
        ),
        (
            "a throughput of a native histogram",
            &[native("a", 3)],
            "kind = \"throughput\"\nseries = \"seconds\"",
            &[],
            vec![problem("seconds is a native histogram; read it with kind = \\\"histogram\\\" and native = true")],
        ),
        (
            "numbers and native histograms of one name",
            &[native("a", 3), number("b")],
            NATIVE,
            &[0.5],
            vec![problem("some of seconds are native histograms and some are not")],
        ),
        (
            "a plain number",
            &[number("a")],
            NATIVE,
            &[0.5],
            vec![problem("seconds has plain numbers and is not a native histogram; leave out `native`")],
        ),
        (
            "custom buckets",
            &[("a", Some(Native { count: 1.0, buckets: vec![bucket(0.1, 0.25)] }))],
            NATIVE,
            &[0.5],
            vec![problem(
                "seconds can't be counted: its bucket (0.1, 0.25] is not of an exponential schema; use its classic \
                 histogram without `native`",
            )],
        ),
    ] {
        let found = native_findings_of(samples, metric, limits).await;
        assert_eq!(found, wanted, "{name}");
    }
    let found = native_findings_of(&[native("a", 3)], NATIVE, &[f64::from(1 << 20) + 1e6]).await;
    assert_eq!(found.len(), 1, "{found:?} {beyond}");
}

#[tokio::test]
async fn a_classic_histogram_is_not_taken_for_a_native_one() {
    let classic = [("up", ""), ("seconds_bucket", "le=0.25"), ("seconds_bucket", "le=+Inf")];
    check(&classic, NATIVE, &[0.5], expect![[
        r#"Problem("m: there is no native histogram seconds, but a classic one, seconds_bucket: leave out `native`")"#
    ]])
    .await;
    // The edges are known before there is any data.
    check(
        &[("up", "")],
        NATIVE,
        &[0.3, 0.5],
        expect![[r#"
        Warning("m: there is no series seconds at all; there was no traffic yet, or the name is wrong")
        Problem("m: 300 ms is not an edge of seconds; the nearest are 297.3 ms and 353.6 ms")"#]],
    )
    .await;
}

const NATIVE: &str = "kind = \"histogram\"\nseries = \"seconds\"\nnative = true";

type Routed = (&'static str, Option<Native>);

/// A native histogram of a route with one bucket up to 0.5.
fn native(route: &'static str, schema: i32) -> Routed {
    let width = f64::from(-schema).exp2().exp2();
    (route, Some(Native { count: 1.0, buckets: vec![bucket(0.5 / width, 0.5)] }))
}

fn empty() -> Routed {
    ("a", Some(Native::default()))
}

fn number(route: &'static str) -> Routed {
    (route, None)
}

fn bucket(lower: f64, upper: f64) -> Bucket {
    Bucket { rule: 0, lower, upper, count: 1.0 }
}

/// Returns the findings for routes with native histograms or plain numbers.
async fn native_findings_of(samples: &[Routed], metric: &str, limits: &[f64]) -> Vec<String> {
    let at = Timestamp::from_second(1000).unwrap();
    let store = Store::default();
    let labels = |pod| [("namespace", "shop"), ("pod", pod), ("container", "app"), ("instance", "i")];
    store.put("up", &labels("web-1"), at, 1.0);
    for (index, (route, native)) in samples.iter().enumerate() {
        let mixed = samples.iter().any(|(_, native)| native.is_none());
        // The store can't add up histograms of different schemas as Prometheus can, so each is in a process of its own.
        let instance = if mixed { "i".to_owned() } else { format!("i{index}") };
        let mut labels = labels("web-1");
        labels[3].1 = &instance;
        let labels = [&labels[..], &[("route", *route)]].concat();
        match native {
            Some(native) => store.put_native("seconds", &labels, at, native.clone()),
            None => store.put("seconds", &labels, at, 1.0),
        }
    }
    found(&store, metric, limits, at).await.iter().map(|finding| format!("{finding:?}")).collect()
}

#[tokio::test]
async fn no_traffic_yet_is_a_warning() {
    check(
        &[("up", ""), ("requests_total", "pod=other-1,code=200")],
        RATIO,
        &[],
        expect![[r#"Warning("m: c/shop/Deployment/web has no series of requests_total yet")"#]],
    )
    .await;
    check(&[], RATIO, &[], expect![[r#"
        Warning("m: there is no series requests_total at all; there was no traffic yet, or the name is wrong")
        Warning("m: no `up` series has the labels of its targets, so a scrape that fails looks like a pod that is gone")"#]]).await;
}

const RATIO: &str = "kind = \"ratio\"\nseries = \"requests_total\"\nhits = { label = \"code\", matches = \"5..\" }";
const HISTOGRAM: &str = "kind = \"histogram\"\nseries = \"seconds\"";

struct OnePod;

impl PodDirectory for OnePod {
    fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
        (pod == "web-1").then(|| PodFacts::by_name("stable", "h1").into())
    }

    fn service(&self, _: &Workload) -> Option<(String, u16)> {
        Some(("web".to_owned(), 80))
    }
}

#[tokio::test]
async fn a_gauge_in_place_of_a_counter_is_a_problem() {
    for (kind, wanted) in [
        (
            "gaugehistogram",
            "[Problem(\"m: requests_total is a gaugehistogram, and only counters can be compared; name a counter\")]",
        ),
        ("gauge", "[Problem(\"m: requests_total is a gauge, and only counters can be compared; name a counter\")]"),
        ("counter", "[]"),
    ] {
        let at = Timestamp::from_second(1000).unwrap();
        let store = Store::default();
        let labels = [("namespace", "shop"), ("pod", "web-1"), ("container", "app"), ("instance", "i")];
        store.put("up", &labels, at, 1.0);
        store.put("requests_total", &[&labels[..], &[("code", "200")]].concat(), at, 1.0);
        store.declare("requests_total", kind);
        assert_eq!(format!("{:?}", found(&store, RATIO, &[], at).await), wanted);
    }
}

/// Checks the findings for series that are given by name and `label=value,…`, beside the pod's own labels.
async fn check(series: &[(&str, &str)], metric: &str, limits: &[f64], expected: Expect) {
    let at = Timestamp::from_second(1000).unwrap();
    let store = Store::default();
    for (name, labels) in series {
        let mut all =
            BTreeMap::from([("namespace", "shop"), ("pod", "web-1"), ("container", "app"), ("instance", "i")]);
        all.extend(labels.split(',').filter_map(|pair| pair.split_once('=')));
        let all: Vec<(&str, &str)> = all.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        store.put(name, &all, at, 1.0);
    }
    let found: Vec<String> =
        found(&store, metric, limits, at).await.iter().map(|finding| format!("{finding:?}")).collect();
    expected.assert_eq(&found.join("\n"));
}

async fn found(store: &Store, metric: &str, limits: &[f64], at: Timestamp) -> Vec<ProbeFinding> {
    let workload = Workload {
        cluster: "c".to_owned(),
        namespace: "shop".to_owned(),
        kind: WorkloadKind::Deployment,
        name: "web".to_owned(),
    };
    let stable = ArmKey { deployment_uid: "stable".to_owned(), pod_hash: None, name: "web".to_owned() };
    let run =
        ProbeRun { metrics: store, pods: &OnePod, workload: &workload, stable: &stable, window: Span::from_secs(60) };
    let probed = ProbeTarget { name: "m".to_owned(), metric: toml::from_str(metric).unwrap(), limits: limits.to_vec() };
    probe(&run, &[probed], at).await
}

#[tokio::test]
async fn the_reported_queries_are_the_ones_that_are_sent() {
    let workload =
        Workload { cluster: "c".into(), namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() };
    let stable = ArmKey { deployment_uid: "stable".to_owned(), pod_hash: None, name: "web".to_owned() };
    let store = Store::default();
    let window = Span::from_secs(60);
    let run = ProbeRun { metrics: &store, pods: &OnePod, workload: &workload, stable: &stable, window };
    let query_texts = |metric: &str| {
        run.query_texts(&ProbeTarget {
            name: "m".to_owned(),
            metric: toml::from_str(metric).unwrap(),
            limits: Vec::new(),
        })
    };
    let ratio = query_texts("kind = 'ratio'\nseries = 'requests_total'\nhits = { label = 'code', matches = '5..' }");
    assert!(ratio.iter().any(|text| text.contains("requests_total")), "{ratio:?}");
    assert!(ratio.iter().any(|text| text.contains("up")), "the `up` series are queried as well: {ratio:?}");
    let raw = query_texts("kind = 'query'\nquery = 'avg(load{namespace=\"{{namespace}}\"})'");
    assert_eq!(raw, ["avg(load{namespace=\"shop\"})"]);
}
