use std::sync::atomic::{AtomicBool, Ordering};

use bellwether_core::ids::WorkloadKind;
use bellwether_core::measure::calibration::Criterion;
use bellwether_core::measure::metric::Limit;

use super::*;
use crate::clock::{FastClock, StillClock};
use crate::ports::{PodFacts, QueryProbe as _};
use crate::sampling::tests::store::Store;

const RATIO: &str = "kind = \"ratio\"\nseries = \"requests_total\"\nhits = { label = \"code\", matches = \"5..\" }";
const SECONDS: &str = "kind = \"histogram\"\nseries = \"seconds\"";
const GATEWAY: &str = "kind = \"throughput\"\nseries = \"gateway_total\"\ntargets = 'job=\"gateway\"'\n\
                       arms = { service = { label = \"service\", value = \"{{service}}\" } }";

/// A pod `NAME-1` belongs to the Deployment `NAME`, unless the pods are not listed yet.
#[derive(Default)]
struct Pods {
    unlisted: AtomicBool,
}

impl PodDirectory for Pods {
    fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
        let deployment = pod.strip_suffix("-1").filter(|_| self.problem().is_none())?;
        Some(PodFacts::by_name(deployment, "h1").into())
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        (workload.name != "unknown").then(|| (workload.name.clone(), 80))
    }

    fn problem(&self) -> Option<String> {
        self.unlisted.load(Ordering::Relaxed).then(|| "Pods are not listed yet".to_owned())
    }
}

/// A store in which every workload has counted for ten minutes up to `now`.
fn store(names: &[&str], now: Timestamp) -> Arc<Store> {
    let store = Arc::new(Store::default());
    let at = |second: i64| Timestamp::from_second(now.as_second() - 600 + second).unwrap();
    for (index, name) in names.iter().enumerate() {
        let pod = format!("{name}-1");
        let labels = [("namespace", "shop"), ("pod", &*pod), ("container", "app"), ("instance", "i"), ("job", "web")];
        for n in 0..=40 {
            let total = f64::from(n) * (index + 1) as f64;
            store.put("up", &labels, at(i64::from(n) * 15), 1.0);
            for (code, count) in [("200", total * 100.0), ("500", total)] {
                let labels = [&labels[..], &[("code", code)]].concat();
                store.put("requests_total", &labels, at(i64::from(n) * 15), count);
            }
            for bound in ["0.25", "+Inf"] {
                let labels = [&labels[..], &[("le", bound)]].concat();
                store.put("seconds_bucket", &labels, at(i64::from(n) * 15), total);
            }
            let gateway = [("namespace", "infra"), ("pod", "gateway-1"), ("container", "gateway"), ("instance", "g")];
            store.put("up", &[&gateway[..], &[("job", "gateway")]].concat(), at(i64::from(n) * 15), 1.0);
            let routed = [&gateway[..], &[("service", *name)]].concat();
            store.put("gateway_total", &routed, at(i64::from(n) * 15), total);
        }
    }
    store
}

fn workload(name: &str) -> Workload {
    let (cluster, namespace) = ("c".to_owned(), "shop".to_owned());
    Workload { cluster, namespace, kind: WorkloadKind::Deployment, name: name.to_owned() }
}

fn probe_of(name: &str, metrics: &[(&str, &[f64])]) -> Probe {
    let targets = metrics.iter().enumerate().map(|(index, (metric, limits))| ProbeTarget {
        name: format!("m{index}"),
        metric: toml::from_str(metric).unwrap(),
        limits: limits.to_vec(),
    });
    let stable = ArmKey { deployment_uid: name.to_owned(), pod_hash: None, name: name.to_owned() };
    Probe { metrics: targets.collect(), stable, learn: Vec::new() }
}

fn prober(store: &Arc<Store>, clock: Arc<dyn Clock>) -> Prober {
    prober_with(store, Arc::default(), clock)
}

fn prober_with(store: &Arc<Store>, pods: Arc<Pods>, clock: Arc<dyn Clock>) -> Prober {
    Prober::new(Arc::clone(store) as _, pods, clock, Options::default())
}

/// Probes all at once. Returns the outcomes, and the number of queries.
async fn together(store: &Arc<Store>, now: Timestamp, probes: &[(Workload, Probe)]) -> (Vec<Outcome>, usize) {
    let prober = prober(store, Arc::new(StillClock(now)));
    store.take_instant_queries();
    store.take_range_queries();
    let outcomes = join_all(probes.iter().map(|(workload, probe)| prober.probe(workload, probe))).await;
    // The store answers a range query by instant queries of the same text.
    let ranges = store.take_range_queries();
    let instants = store.take_instant_queries().into_iter().filter(|text| !ranges.contains(text)).count();
    (outcomes, instants + ranges.len())
}

#[tokio::test(start_paused = true)]
async fn the_number_of_queries_does_not_grow_with_the_rollouts_that_begin_together() {
    let now = FastClock::new(1).now();
    let names = ["web", "api", "shop", "cart"];
    let store = store(&names, now);
    let learn = [Criterion { metric: "m0".to_owned(), limit: Limit::Max(0.02), distribution: false }];
    let probes = names.map(|name| {
        let probe = probe_of(name, &[(RATIO, &[]), (SECONDS, &[0.25]), (GATEWAY, &[])]);
        (workload(name), Probe { learn: learn.to_vec(), ..probe })
    });
    let (one, queries_of_one) = together(&store, now, &probes[..1]).await;
    let (all, queries_of_all) = together(&store, now, &probes).await;
    assert!(
        matches!(&one[0], Outcome::Probed { problems, calibrations, .. } if problems.is_empty() && !calibrations.is_empty()),
        "{one:?}"
    );
    assert_eq!(all[0], one[0], "the outcome is the same among others");
    assert_eq!(queries_of_all, queries_of_one);
}

#[tokio::test(start_paused = true)]
async fn each_workload_gets_the_outcome_that_it_gets_alone() {
    let now = FastClock::new(1).now();
    // The names of some pods begin with the names of other workloads.
    let store = store(&["web", "web-api", "api", "shop", "refused"], now);
    store.refuse("refused-");
    let other = RATIO.replace("code", "status");
    let absent = RATIO.replace("requests_total", "request_totals");
    let probes: Vec<(Workload, Probe)> = [
        ("web", vec![(RATIO, &[][..]), (SECONDS, &[0.25])]),
        ("web-api", vec![(RATIO, &[]), (SECONDS, &[0.3])]),
        ("api", vec![(&*other, &[])]),
        ("shop", vec![(&*absent, &[]), (GATEWAY, &[])]),
        ("nothing-yet", vec![(RATIO, &[]), (GATEWAY, &[])]),
        ("unknown", vec![(GATEWAY, &[])]),
        ("refused", vec![(RATIO, &[])]),
    ]
    .into_iter()
    .map(|(name, metrics)| (workload(name), probe_of(name, &metrics)))
    .collect();
    let (all, _) = together(&store, now, &probes).await;
    let mut problems = 0;
    for (probe, outcome) in probes.iter().zip(&all) {
        let (alone, _) = together(&store, now, std::slice::from_ref(probe)).await;
        assert_eq!(*outcome, alone[0], "{}", probe.0);
        problems += usize::from(matches!(outcome, Outcome::Probed { problems, .. } if !problems.is_empty()));
    }
    assert_eq!(problems, 5, "web and nothing-yet alone have none: {all:?}");
}

/// As after a start while the API server refuses connections: no series names a pod that is known then, which is no fault of the metric.
#[tokio::test(start_paused = true)]
async fn while_the_pods_are_not_listed_a_probe_fails_and_is_tried_again() {
    let now = FastClock::new(1).now();
    let (store, pods) = (store(&["a"], now), Arc::new(Pods { unlisted: AtomicBool::new(true) }));
    let prober = prober_with(&store, Arc::clone(&pods), Arc::new(StillClock(now)));
    let probe = probe_of("a", &[(RATIO, &[])]);
    let unlisted = "the pods that the series name may be unknown: Pods are not listed yet".to_owned();
    assert_eq!(prober.probe(&workload("a"), &probe).await, unavailable(unlisted));
    pods.unlisted.store(false, Ordering::Relaxed);
    let outcome = prober.probe(&workload("a"), &probe).await;
    assert!(matches!(&outcome, Outcome::Probed { problems, .. } if problems.is_empty()), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_unavailable_every_probe_fails_and_one_query_is_sent() {
    let now = FastClock::new(1).now();
    let store = store(&["web", "api"], now);
    store.outage(Some(MetricsError::Unavailable("connection refused".to_owned())));
    let probes = ["web", "api"].map(|name| (workload(name), probe_of(name, &[(RATIO, &[])])));
    let (outcomes, queries) = together(&store, now, &probes).await;
    for outcome in outcomes {
        assert_eq!(outcome, unavailable("connection refused".to_owned()));
    }
    assert_eq!(queries, 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_fails_while_one_of_its_queries_has_no_whole_answer() {
    let now = FastClock::new(1).now();
    let broken = "connection closed before message completed";
    for error in [MetricsError::Unavailable(broken.to_owned()), MetricsError::Partial(broken.to_owned())] {
        // The series, its targets, and the queries that explain why there is none.
        for (query, metric) in [("requests_total", RATIO), ("up{", RATIO), ("seconds", SECONDS), ("count by", GATEWAY)]
        {
            let store = store(&[], now);
            store.fail(query, error.clone());
            let (outcomes, _) = together(&store, now, &[(workload("web"), probe_of("web", &[(metric, &[])]))]).await;
            let Outcome::Failed(failure) = &outcomes[0] else { panic!("{query}: {outcomes:?}") };
            assert_eq!(failure.kind, FailureKind::Unavailable, "{query}");
            assert!(failure.message.contains(broken), "{query}: {}", failure.message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_search_of_all_names_is_no_problem_of_a_metric_without_series() {
    let now = FastClock::new(1).now();
    let store = store(&[], now);
    store.refuse("__name__");
    let (outcomes, _) =
        together(&store, now, &[(workload("web"), probe_of("web", &[(RATIO, &[]), (SECONDS, &[])]))]).await;
    assert!(matches!(&outcomes[0], Outcome::Probed { problems, .. } if problems.is_empty()), "{outcomes:?}");
}

#[test]
fn the_past_of_many_series_is_read_in_parts() {
    for (series, part) in
        [(vec![SERIES / 2, SERIES / 2, 1], 2), (vec![SERIES, 1], 1), (vec![SERIES + 1, 1], 1), (vec![1, 1], 2)]
    {
        assert_eq!(first_part(series.clone().into_iter()), part, "{series:?}");
    }
}
