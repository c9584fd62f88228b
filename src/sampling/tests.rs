//! The sampler over a store in memory: the totals after restarts, outages and unusual names. The rules for a single
//! counter are tested in `difference/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bellwether_core::ids::{Workload, WorkloadKind};
use bellwether_core::measure::block::{Block, Gap, Reading, Sample, SmallMap};
use bellwether_core::measure::metric::{Against, ArmSource, Distance, Hits, Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, TimeRange, Timestamp};
use proptest::prelude::*;

use self::store::Store;
use super::{Options, Sampler, grid, history};
use crate::ports::{BlockSource, Metrics, MetricsError, PodDirectory, PodFacts, SeriesPoint};

mod native;
pub(crate) mod store;

#[tokio::test]
async fn blocks_add_up_to_the_total() {
    let mut world = World::new();
    assert_eq!(world.tick(0).await, None, "the first reading starts the first block");
    world.count("web-1", 100, 3);
    world.count("web-canary-1", 10, 1);
    assert_eq!(world.tick(15).await, arms(0, 15, Some((1, 10)), Some((3, 100))));
    world.count("web-1", 50, 0);
    assert_eq!(world.tick(30).await, arms(15, 30, Some((0, 0)), Some((0, 50))));
}

/// The canary's pod is ready long before its first request. It is restarted later, and then it is cold again. The stable's old
/// pod never is; its new one is.
#[tokio::test]
async fn the_first_requests_of_a_process_are_counted_apart() {
    let mut world = World { warm_up: Span::from_secs(60), ..World::new() };
    let mut seen = Vec::new();
    for tick in 0..14 {
        let at = 15 * tick;
        world.count("web-1", 100, 0);
        match tick {
            1 => world.add("web-2", "stable", at),
            8 => world.restart_pod("web-canary-1"),
            _ => {}
        }
        if tick >= 3 {
            world.count("web-canary-1", 10, 1);
            world.count("web-2", 50, 0);
        }
        if let Some((_, _, counted)) = world.tick(at).await {
            seen.push((counted, world.cold.take()));
        }
    }
    let both = |canary, stable| Some(Sample::Arms { canary, stable });
    let ratio = |hits, total| Some(Reading::Ratio { hits, total });
    let warm = (both(ratio(1, 10), ratio(0, 150)), None);
    let cold = (both(None, ratio(0, 100)), both(ratio(1, 10), ratio(0, 50)));
    let cold_canary = (both(None, ratio(0, 150)), both(ratio(1, 10), None));
    let ends = |n: usize| (Some(seen[n].0.clone()), seen[n].1.clone());
    assert_eq!(seen.len(), 13);
    // The blocks from the third reading on: the first one with requests, and four that begin in the 60 s after it.
    for n in 2..=6 {
        assert_eq!(ends(n), cold, "block {n}");
    }
    for n in 7..=11 {
        assert_eq!(ends(n), cold_canary, "block {n}: the canary was restarted");
    }
    assert_eq!(ends(12), warm);
}

/// There is a second pod that starts late, a process that is restarted, and a pod that can't be scraped for a while.
#[tokio::test]
async fn the_past_gives_the_same_blocks_as_the_live_sampler() {
    let mut world = World::new();
    let mut live = Vec::new();
    for tick in 0..20 {
        let at = 15 * tick;
        world.count("web-1", 10, u64::from(tick % 3 == 0));
        match tick {
            4 => world.add("web-2", "stable", at),
            9 => world.restart_pod("web-1"),
            13 => world.down("web-1", true),
            15 => world.down("web-1", false),
            _ => {}
        }
        if tick > 5 {
            world.count("web-2", 7, 1);
        }
        live.extend(world.tick(at).await);
    }
    let watch = Watch { per_process: BTreeSet::from(["errors".to_owned()]), ..world.watch() };
    let range = TimeRange::before(t(285), Span::from_secs(285), Span::from_secs(15));
    let (store, pods) = (Arc::clone(&world.store), Arc::clone(&world.pods));
    let blocks = history::blocks(store, pods, watch, range, Options::default()).await;
    let second = |time: Timestamp| time.as_second() - 1_700_000_000;
    let seen: Vec<(i64, i64, Sample)> = blocks
        .iter()
        .map(|block| (second(block.from), second(block.to), block.metrics.get("errors").unwrap().clone()))
        .collect();
    assert_eq!(seen, live);
    assert_eq!(live.len(), 19);
    // Both pods have a reading of their own.
    assert!(blocks.iter().any(|block| block.processes.get("errors").unwrap().len() == 2), "{blocks:#?}");
    // There is one range query for each query of a tick, and not one for each tick.
    let ranges = world.store.take_range_queries();
    assert!(ranges.len() <= 4, "{ranges:#?}");
}

/// A store that accepts queries and never answers.
struct SilentStore;

#[async_trait::async_trait]
impl Metrics for SilentStore {
    async fn instant(&self, _: &str, _: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        std::future::pending().await
    }

    async fn type_of(&self, _: &str) -> Result<Option<String>, MetricsError> {
        std::future::pending().await
    }

    async fn range(&self, _: &str, _: TimeRange) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_a_gap_after_two_intervals() {
    let world = World::new();
    let mut sampler = Sampler::new(Arc::new(SilentStore), world.pods.clone(), Options::default());
    let started = tokio::time::Instant::now();
    let source: &mut dyn BlockSource = &mut sampler;
    let mut blocks = Vec::new();
    for at in [0, 15] {
        source.tick(&[world.watch()], t(at), &mut |more| blocks.extend(more)).await;
    }
    assert_eq!(started.elapsed(), std::time::Duration::from_secs(60));
    let Some((_, block)) = blocks.pop() else { panic!("no block") };
    let Sample::Gap(gap) = block.metrics.get("errors").unwrap() else { panic!("{block:#?}") };
    assert_eq!(gap.to_string(), "Prometheus did not answer: no answer within the 30s that a tick may take");
}

#[tokio::test]
async fn an_outage_is_gaps_and_then_one_block_with_the_right_totals() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    world.count("web-1", 5, 1);
    world.tick(15).await;
    world.store.outage(Some(MetricsError::Unavailable("connection refused".to_owned())));
    for (at, from) in [(30, 15), (45, 30)] {
        world.count("web-1", 7, 1);
        let gap = Gap::Unanswered { error: "connection refused".to_owned() };
        assert_eq!(world.tick(at).await, Some((from, at, Sample::Gap(gap))));
    }
    world.store.outage(None);
    world.count("web-1", 7, 0);
    assert_eq!(world.tick(60).await, arms(15, 60, Some((0, 0)), Some((2, 21))));
}

#[tokio::test]
async fn scrapes_that_stop_are_stale_and_then_one_block() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    for at in [15, 30, 45, 60] {
        world.count("web-1", 3, 0);
        world.at = at;
        // No scrape happens, and `up` keeps its last value.
        let block = world.read(at).await;
        match at {
            15 | 30 => assert!(matches!(block, Some((_, _, Sample::Arms { .. }))), "{at}: {block:?}"),
            _ => {
                assert_eq!(block, Some((at - 15, at, Sample::Gap(Gap::Stale { seconds: u64::try_from(at).unwrap() }))))
            }
        }
    }
    assert_eq!(world.tick(75).await, arms(30, 75, Some((0, 0)), Some((0, 12))));
}

#[tokio::test]
async fn a_failing_scrape_of_all_of_an_arm_is_stale_and_of_one_pod_is_late() {
    let mut world = World::new();
    world.add("web-2", "stable", -1000);
    world.count("web-1", 10, 0);
    world.count("web-2", 10, 0);
    world.tick(0).await;
    world.down("web-2", true);
    world.count("web-1", 1, 0);
    world.count("web-2", 5, 0);
    assert_eq!(world.tick(15).await, arms(0, 15, Some((0, 0)), Some((0, 1))));
    world.down("web-1", true);
    world.count("web-1", 1, 0);
    assert_eq!(world.tick(30).await, Some((15, 30, Sample::Gap(Gap::Stale { seconds: 15 }))));
    world.down("web-1", false);
    world.down("web-2", false);
    assert_eq!(world.tick(45).await, arms(15, 45, Some((0, 0)), Some((0, 6))));
}

#[tokio::test]
async fn a_restarted_daemon_queries_the_start_of_the_block_again() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    world.count("web-1", 5, 1);
    world.count("web-canary-1", 2, 1);
    world.tick(15).await;
    world.restart_daemon();
    world.count("web-1", 7, 0);
    world.count("web-canary-1", 3, 1);
    assert_eq!(world.tick(30).await, arms(15, 30, Some((1, 3)), Some((0, 7))));
    world.count("web-1", 1, 1);
    assert_eq!(world.tick(45).await, arms(30, 45, Some((0, 0)), Some((1, 1))));
}

#[tokio::test]
async fn a_restarted_daemon_does_not_count_a_returning_canary_twice() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    world.count("web-canary-1", 20, 2);
    world.count("web-1", 1, 0);
    assert_eq!(world.tick(15).await, arms(0, 15, Some((2, 20)), Some((0, 1))));
    world.down("web-canary-1", true);
    world.count("web-1", 1, 0);
    world.tick(30).await;
    world.restart_daemon();
    world.down("web-canary-1", false);
    world.count("web-canary-1", 1, 0);
    assert_eq!(world.tick(45).await, Some((30, 45, Sample::Gap(Gap::NoBaseline))));
    world.count("web-canary-1", 4, 0);
    assert_eq!(world.tick(60).await, arms(45, 60, Some((0, 4)), Some((0, 0))));
}

#[tokio::test]
async fn a_prometheus_that_lost_its_data_gives_no_baseline() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    world.count("web-canary-1", 20, 2);
    world.tick(15).await;
    world.restart_daemon();
    world.store = Arc::new(Store::default());
    world.restart_daemon();
    assert_eq!(world.tick(30).await, Some((15, 30, Sample::Gap(Gap::NoBaseline))));
    world.count("web-canary-1", 4, 1);
    assert_eq!(world.tick(45).await, arms(30, 45, Some((1, 4)), Some((0, 0))));
}

#[tokio::test]
async fn a_refused_selector_blinds_only_its_own_workload() {
    let mut world = World::new();
    let mut watches = vec![world.watch()];
    for index in 0..9 {
        let mut watch = world.watch();
        watch.workload.name = format!("other{index}");
        watch.stable.name.clone_from(&watch.workload.name);
        watch.canary = None;
        watches.push(watch);
    }
    world.store.refuse("other4-");
    let mut sampler = world.sampler();
    sampler.tick(&watches, t(0)).await;
    world.scrape(0);
    world.count("web-1", 1, 0);
    world.scrape(15);
    let blocks = sampler.tick(&watches, t(15)).await;
    assert_eq!(blocks.len(), 10);
    for (workload, block) in blocks {
        let is_blind = matches!(block.metrics.get("errors"), Some(Sample::Gap(Gap::Unanswered { .. })));
        assert_eq!(is_blind, workload.name == "other4", "{workload}: {block:?}");
    }
    assert!(world.store.take_instant_queries().len() < 60);
}

#[tokio::test]
async fn the_number_of_queries_does_not_grow_with_the_workloads() {
    let world = World::new();
    let many = |n: usize| -> Vec<Watch> {
        (0..n)
            .map(|index| {
                let mut watch = world.watch();
                watch.workload.name = format!("web{index}");
                watch.stable.name.clone_from(&watch.workload.name);
                watch
            })
            .collect()
    };
    for (n, queries) in [(1, 2), (10, 2), (100, 2), (1000, 6)] {
        world.sampler().tick(&many(n), t(0)).await;
        assert_eq!(world.store.take_instant_queries().len(), queries, "for {n} workloads");
    }
}

#[tokio::test]
async fn another_daemons_blocks_are_not_counted_again() {
    let mut world = World::new();
    world.tick(0).await;
    world.count("web-1", 5, 0);
    world.tick(15).await;
    world.count("web-1", 6, 0);
    world.at = 30;
    world.scrape(30);
    // Another daemon owned the workload meanwhile and counted up to 30.
    world.last = Some(t(30));
    world.count("web-1", 7, 0);
    assert_eq!(world.tick(45).await, arms(30, 45, Some((0, 0)), Some((0, 7))));
}

#[tokio::test]
async fn the_same_instant_twice_gives_no_second_block() {
    let mut world = World::new();
    world.tick(0).await;
    assert!(world.tick(15).await.is_some());
    assert_eq!(world.tick(15).await, None);
}

#[tokio::test]
async fn a_clock_that_jumps_forward_and_back_delays_no_block() {
    let mut world = World::new();
    world.scrape(0);
    assert_eq!(world.read(3600).await, None, "the first reading falls into the jump");
    world.count("web-1", 5, 0);
    assert_eq!(world.tick(15).await, None, "the first reading by the right clock");
    world.count("web-1", 6, 0);
    assert_eq!(world.tick(30).await, arms(15, 30, Some((0, 0)), Some((0, 6))));

    let gap = world.read(7200).await;
    assert!(matches!(gap, Some((30, 7200, Sample::Gap(_)))), "nothing was scraped then: {gap:?}");
    // The engine turns back with its clock.
    world.last = Some(t(30));
    world.count("web-1", 7, 1);
    assert_eq!(world.tick(45).await, arms(30, 45, Some((0, 0)), Some((1, 7))));
}

#[tokio::test]
async fn a_gateway_tells_the_arms_apart_by_their_services() {
    let mut world = World::new();
    world.metric = Metric {
        series: Some("gateway_requests_total".to_owned()),
        arms: ArmSource::Service {
            label: "service".to_owned(),
            value: "{{namespace}}-{{service}}-{{port}}".to_owned(),
        },
        targets: Some("job=\"gateway\"".to_owned()),
        ..world.metric.clone()
    };
    let count = |world: &World, service: &str, code: &str, at: i64, value: f64| {
        world.store.put(
            "gateway_requests_total",
            &[("instance", "g:1"), ("job", "gateway"), ("service", service), ("code", code)],
            t(at),
            value,
        );
        world.store.put("up", &[("instance", "g:1"), ("job", "gateway")], t(at), 1.0);
    };
    // The gateway's counters still hold the errors of an earlier canary.
    count(&world, "shop-web-canary-80", "500", 0, 40.0);
    count(&world, "shop-web-80", "200", 0, 1000.0);
    world.read(0).await;
    count(&world, "shop-web-canary-80", "500", 15, 42.0);
    count(&world, "shop-web-canary-80", "200", 15, 8.0);
    count(&world, "shop-web-80", "200", 15, 1100.0);
    count(&world, "shop-web-81", "200", 15, 5.0);
    assert_eq!(world.read(15).await, arms(0, 15, Some((2, 10)), Some((0, 100))));
}

/// A ratio of counters that are pushed with OpenTelemetry's labels, and therefore have no `up` series.
fn pushed(metric: &Metric) -> Metric {
    let (pod_label, namespace_label) = (Some("k8s_pod_name".to_owned()), Some("k8s_namespace_name".to_owned()));
    Metric { pod_label, namespace_label, ..metric.clone() }
}

fn push(world: &World, pod: &str, at: i64, value: f64) {
    let labels = [("job", "shop/web"), ("instance", pod), ("k8s_namespace_name", "shop"), ("k8s_pod_name", pod)];
    world.store.put(world.metric.series.as_deref().unwrap(), &[&labels[..], &[("code", "200")]].concat(), t(at), value);
}

/// The canary pushes nothing between 30 and 120, and its counters stand still in the store.
#[tokio::test]
async fn pushed_metrics_that_freeze_are_stale_and_then_one_block() {
    let mut world = World::new();
    world.metric = pushed(&world.metric);
    for at in (0..=120).step_by(15) {
        push(&world, "web-1", at, 100.0 + at as f64);
        if at <= 30 || at == 120 {
            push(&world, "web-canary-1", at, 10.0 + at as f64);
        }
        let block = world.read(at).await;
        let stale = |seconds| Some((at - 15, at, Sample::Gap(Gap::Stale { seconds })));
        match at {
            0 => assert_eq!(block, None),
            15 | 30 => assert_eq!(block, arms(at - 15, at, Some((0, 15)), Some((0, 15)))),
            // One push may be late.
            45 | 60 => assert_eq!(block, arms(at - 15, at, Some((0, 0)), Some((0, 15)))),
            75 | 90 | 105 => assert_eq!(block, stale(u64::try_from(at).unwrap() - 30)),
            _ => assert_eq!(block, arms(60, 120, Some((0, 90)), Some((0, 60)))),
        }
    }
}

#[tokio::test]
async fn of_two_pods_that_push_one_may_freeze_and_is_late() {
    let mut world = World::new();
    world.add("web-2", "stable", -1000);
    world.metric = pushed(&world.metric);
    let mut blocks = Vec::new();
    for at in (0..=120).step_by(15) {
        push(&world, "web-1", at, 100.0 + at as f64);
        if at == 0 || at == 120 {
            push(&world, "web-2", at, 200.0 + at as f64);
        }
        blocks.extend(world.read(at).await);
    }
    let stable = |total| Sample::Arms { canary: None, stable: Some(Reading::Ratio { hits: 0, total }) };
    let counts: Vec<Sample> = blocks.into_iter().map(|(.., sample)| sample).collect();
    assert_eq!(counts[..7], vec![stable(15); 7]);
    assert_eq!(counts[7], stable(15 + 120));
}

#[tokio::test]
async fn a_pushed_gauge_that_freezes_is_left_out_and_then_stale() {
    let mut world = World::new();
    world.add("web-2", "stable", -1000);
    world.metric =
        Metric { kind: MetricKind::Gauge, hits: None, series: Some("depth".to_owned()), ..pushed(&world.metric) };
    push(&world, "web-2", 0, 9.0);
    for at in [0, 15, 30, 45] {
        push(&world, "web-1", at, 1.0);
    }
    world.read(0).await;
    let value = |value| Sample::Arms { canary: None, stable: Some(Reading::Value(value)) };
    for (at, wanted) in [(30, value(5.0)), (45, value(1.0)), (105, Sample::Gap(Gap::Stale { seconds: 60 }))] {
        assert_eq!(world.read(at).await.unwrap().2, wanted, "{at}");
    }
}

/// Two teams have a Service of the name `web` each.
#[tokio::test]
async fn equal_services_of_two_namespaces_are_told_apart_by_a_second_label() {
    let counted = |shop, pay| [("pay".to_owned(), pay), ("shop".to_owned(), shop)];
    assert_eq!(counts_of_two_namespaces(None).await, counted(80, 80), "the name alone merges them");
    assert_eq!(counts_of_two_namespaces(Some("namespace")).await, counted(10, 70));
}

/// Returns the requests of both teams in a block, of which 10 are of `shop` and 70 of `pay`.
async fn counts_of_two_namespaces(namespace_label: Option<&str>) -> Vec<(String, u64)> {
    let world = World::new();
    let metric = Metric {
        arms: ArmSource::Service { label: "service".to_owned(), value: "{{service}}".to_owned() },
        namespace_label: namespace_label.map(str::to_owned),
        targets: Some("job=\"gateway\"".to_owned()),
        ..world.metric.clone()
    };
    let watches = ["shop", "pay"].map(|namespace| {
        let mut watch = world.watch();
        watch.workload.namespace = namespace.to_owned();
        Arc::make_mut(&mut watch.metrics).insert("errors".to_owned(), metric.clone());
        watch
    });
    let mut sampler = world.sampler();
    let mut blocks = Vec::new();
    for (at, shop, pay) in [(0, 100.0, 500.0), (15, 110.0, 570.0)] {
        world.store.put("up", &[("instance", "g:1"), ("job", "gateway")], t(at), 1.0);
        for (namespace, value) in [("shop", shop), ("pay", pay)] {
            let labels = [("instance", "g:1"), ("namespace", namespace), ("service", "web"), ("code", "200")];
            world.store.put("requests_total", &labels, t(at), value);
        }
        blocks = sampler.tick(&watches, t(at)).await;
    }
    let total = |(workload, block): &(Workload, Block)| match block.metrics.get("errors").unwrap() {
        Sample::Arms { stable: Some(Reading::Ratio { total, .. }), .. } => (workload.namespace.clone(), *total),
        other @ (Sample::Arms { .. } | Sample::Gap(_)) => panic!("{other:?}"),
    };
    blocks.iter().map(total).collect()
}

#[tokio::test]
async fn requests_are_counted_by_route_too() {
    let world = World::new();
    let mut watch = world.watch();
    Arc::make_mut(&mut watch.metrics)
        .insert("errors".to_owned(), Metric { strata_label: Some("route".to_owned()), ..world.metric.clone() });
    let mut sampler = world.sampler();
    let mut blocks = Vec::new();
    for (at, times) in [(0, 1.0), (15, 2.0)] {
        for pod in ["web-1", "web-canary-1"] {
            world.store.put("up", &labels(pod), t(at), 1.0);
            let rare = (0..20).map(|n| (format!("/rare/{n}"), 1.0, 0.0));
            for (route, good, bad) in
                [("/page".to_owned(), 100.0, 1.0), ("/pay".to_owned(), 50.0, 5.0)].into_iter().chain(rare)
            {
                for (code, count) in [("200", good), ("500", bad)] {
                    let own = [("code", code), ("route", route.as_str())];
                    world.store.put("requests_total", &[&labels(pod)[..], &own].concat(), t(at), times * count);
                }
            }
        }
        blocks = sampler.tick(&[watch.clone()], t(at)).await;
    }
    let block = &blocks[0].1;
    let both = |hits, total| Sample::Arms {
        canary: Some(Reading::Ratio { hits, total }),
        stable: Some(Reading::Ratio { hits, total }),
    };
    let strata = block.strata.get("errors").unwrap();
    assert_eq!(block.metrics.get("errors"), Some(&both(6, 176)));
    assert_eq!(
        (strata.get("/page").unwrap().clone(), strata.get("/pay").unwrap().clone()),
        (both(1, 101), both(5, 55))
    );
    assert_eq!(
        (strata.len(), strata.get("others").unwrap().clone()),
        (16, both(0, 7)),
        "the largest fifteen, and the others"
    );
}

#[tokio::test]
async fn a_raw_query_is_sent_for_each_arm() {
    let mut world = World::new();
    let query = r#"sum(depth{pod=~"{{workload}}-{{pod-hash}}-.*"})"#;
    world.metric = Metric {
        kind: MetricKind::Query,
        series: None,
        hits: None,
        query: Some(query.to_owned()),
        ..world.metric.clone()
    };
    let (canary, stable) = (r#"sum(depth{pod=~"web-canary-h2-.*"})"#, r#"sum(depth{pod=~"web-h1-.*"})"#);
    world.store.answer(stable, &[0.0]);
    world.store.answer(canary, &[0.0]);
    world.read(0).await;
    for (at, answer, wanted) in [
        (15, &[4.5][..], Sample::Arms { canary: Some(Reading::Value(4.5)), stable: Some(Reading::Value(0.0)) }),
        (30, &[], Sample::Arms { canary: None, stable: Some(Reading::Value(0.0)) }),
        (45, &[f64::NAN], Sample::Gap(Gap::NotANumber { series: "the query".to_owned() })),
        (60, &[1.0, 2.0], Sample::Gap(Gap::Malformed { problem: "the query gave 2 values instead of one".to_owned() })),
    ] {
        world.store.answer(canary, answer);
        assert_eq!(world.read(at).await, Some((at - 15, at, wanted)));
    }
}

#[tokio::test]
async fn a_throughput_and_a_ratio_over_one_counter_are_one_query() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    let mut watch = world.watch();
    let throughput = Metric { kind: MetricKind::Throughput, hits: None, ..world.metric.clone() };
    Arc::make_mut(&mut watch.metrics).insert("rate".to_owned(), throughput);
    let mut sampler = world.sampler();
    world.scrape(0);
    sampler.tick(&[watch.clone()], t(0)).await;
    assert_eq!(world.store.take_instant_queries().len(), 2);
    world.count("web-1", 4, 1);
    world.scrape(15);
    let blocks = sampler.tick(&[watch], t(15)).await;
    let rate = Sample::Arms { canary: Some(Reading::Count(0)), stable: Some(Reading::Count(4)) };
    assert_eq!(blocks[0].1.metrics.get("rate"), Some(&rate));
}

#[test]
fn ticks_are_multiples_of_the_interval() {
    let (interval, lag) = (Span::from_secs(15), Span::from_secs(5));
    for (now, tick, at) in [(0, 0, -5), (14_999, 0, -5), (15_000, 15, 10), (-1, -15, -20)] {
        let now = Timestamp::from_millisecond(now).unwrap();
        let second = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(grid(now, interval, lag), (second(tick), second(at)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any history of processes and scrapes, the sum of the blocks is the number of events that the processes had
    /// counted up to their last scrape, or there was a gap.
    #[test]
    fn no_history_gives_a_wrong_total(events in proptest::collection::vec(event(), 1..60), exports_start: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_totals(&events, exports_start))?;
    }
}

#[derive(Debug, Clone)]
enum Event {
    Traffic { pod: usize, total: u32, errors: u32 },
    Restart { pod: usize },
    NewPod { canary: bool },
    Down { pod: usize, down: bool },
    Remove { pod: usize },
    Outage,
    DaemonRestarts,
    Tick,
}

fn event() -> impl Strategy<Value = Event> {
    let pod = 0..6usize;
    prop_oneof![
        6 => (pod.clone(), 0..50u32, 0..5u32).prop_map(|(pod, total, errors)| Event::Traffic { pod, total: total + errors, errors }),
        1 => pod.clone().prop_map(|pod| Event::Restart { pod }),
        1 => any::<bool>().prop_map(|canary| Event::NewPod { canary }),
        2 => (pod.clone(), any::<bool>()).prop_map(|(pod, down)| Event::Down { pod, down }),
        1 => pod.prop_map(|pod| Event::Remove { pod }),
        1 => Just(Event::Outage),
        1 => Just(Event::DaemonRestarts),
        8 => Just(Event::Tick),
    ]
}

/// Applies the events to a world and compares the blocks with the totals of its exporters.
async fn check_totals(events: &[Event], exports_start: bool) -> Result<(), TestCaseError> {
    let mut world = World::new();
    world.exports_start = exports_start;
    world.count("web-1", 17, 2);
    world.tick(0).await;
    let mut expected = ExpectedTotal::from_last_scrapes(&world);
    let (mut counted, mut gap, mut outage, mut waiting) = ((0, 0), false, false, false);
    for event in events.iter().cloned().chain([Event::Tick, Event::Tick]) {
        let pods: Vec<String> = world.exporters.keys().cloned().collect();
        let name = |index: usize| pods[index % pods.len()].clone();
        match event {
            Event::Traffic { pod, total, errors } => world.count(&name(pod), total.into(), errors.into()),
            Event::Restart { pod } => world.restart_pod(&name(pod)),
            Event::NewPod { canary } => {
                let arm = if canary { "canary" } else { "stable" };
                let (prefix, n) = (if canary { "web-canary" } else { "web" }, world.next);
                world.add(&format!("{prefix}-n{n}"), arm, world.at + 1);
            }
            Event::Down { pod, down } => world.down(&name(pod), down),
            Event::Remove { pod } if pods.len() > 1 => world.remove(&name(pod)),
            Event::Remove { .. } => {}
            Event::Outage => outage = true,
            Event::DaemonRestarts => {
                world.restart_daemon();
                if waiting {
                    // The time without data is not in the next block: the new daemon starts at the end of the gap.
                    (counted, expected) = ((0, 0), ExpectedTotal::from_last_scrapes(&world));
                }
            }
            Event::Tick => {
                world.store.outage(outage.then(|| MetricsError::Unavailable("out".to_owned())));
                outage = false;
                let at = world.at + 15;
                world.scrape(at);
                let seen = world.read(at).await;
                waiting = matches!(seen, Some((_, _, Sample::Gap(Gap::Unanswered { .. } | Gap::Stale { .. }))));
                if !waiting {
                    // Events of a process that ends before the next reading are never scraped and never expected.
                    expected.scrape(&world);
                }
                match seen {
                    Some((_, _, Sample::Arms { canary, stable })) => {
                        for reading in [canary, stable].into_iter().flatten() {
                            let Reading::Ratio { hits, total } = reading else { panic!("{reading:?}") };
                            counted = (counted.0 + hits, counted.1 + total);
                        }
                        prop_assert!(
                            gap || counted == expected.total,
                            "counted {counted:?}, expected {:?}",
                            expected.total
                        );
                    }
                    _ if waiting => {}
                    Some((_, _, Sample::Gap(_))) => gap = true,
                    // A daemon that restarts before the first block starts again with the processes in sight.
                    None => (counted, expected) = ((0, 0), ExpectedTotal::from_current(&world)),
                }
                if gap {
                    // The counts of the gap are lost, and only these: the totals start again.
                    (counted, gap, expected.total) = ((0, 0), false, (0, 0));
                }
            }
        }
    }
    Ok(())
}

/// The last values of each process and the sum of their increases, as (errors, total).
struct ExpectedTotal {
    /// Last values by name and life of the process.
    last: BTreeMap<(String, u32), (u64, u64)>,
    total: (u64, u64),
}

impl ExpectedTotal {
    /// Starts from the last scraped values of each process, running or not.
    fn from_last_scrapes(world: &World) -> ExpectedTotal {
        ExpectedTotal { last: world.last_scraped.clone(), total: (0, 0) }
    }

    /// Starts from the processes that can be scraped now.
    fn from_current(world: &World) -> ExpectedTotal {
        let mut expected = ExpectedTotal { last: BTreeMap::new(), total: (0, 0) };
        expected.scrape(world);
        expected.total = (0, 0);
        expected
    }

    fn scrape(&mut self, world: &World) {
        for (name, exporter) in &world.exporters {
            if exporter.down {
                continue;
            }
            let now = (exporter.errors, exporter.total);
            let is_known = self.last.keys().any(|(known, _)| known == name);
            // A process that is older than the rollout counts from the values at its first reading.
            let is_old = if world.exports_start { exporter.started <= 0 } else { world.pod_started(name) <= t(0) };
            let first = if !is_known && is_old { now } else { (0, 0) };
            let before = self.last.insert((name.clone(), exporter.life), now).unwrap_or(first);
            self.total.0 += exporter.errors - before.0;
            self.total.1 += exporter.total - before.1;
        }
    }
}

/// A namespace with a stable and a canary, whose pods are scraped into a store.
struct World {
    store: Arc<Store>,
    pods: Arc<PodList>,
    sampler: Option<Sampler>,
    metric: Metric,
    exporters: BTreeMap<String, Exporter>,
    /// The last scraped (errors, total), by name and life of the process.
    last_scraped: BTreeMap<(String, u32), (u64, u64)>,
    /// End of the last block that the engine received.
    last: Option<Timestamp>,
    /// The current second.
    at: i64,
    /// Number of the next pod.
    next: usize,
    /// Whether the pods export `process_start_time_seconds`.
    exports_start: bool,
    /// The time from a process's first request in which it is cold.
    warm_up: Span,
    /// The requests of cold processes in the last block.
    cold: Option<Sample>,
}

#[derive(Debug, Clone, Default)]
struct Exporter {
    total: u64,
    errors: u64,
    /// Whether its scrapes fail.
    down: bool,
    /// Number of its restarts.
    life: u32,
    /// Second of its start.
    started: i64,
}

#[derive(Default)]
struct PodList(Mutex<BTreeMap<String, PodFacts>>);

impl PodDirectory for PodList {
    fn locate(&self, namespace: &str, pod: &str) -> Option<Arc<PodFacts>> {
        (namespace == "shop").then(|| self.0.lock().unwrap().get(pod).cloned()).flatten().map(Arc::new)
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        Some((workload.name.clone(), 80))
    }
}

/// The sample of the error rate in a block, with the block's start and end in seconds.
type ErrorBlock = Option<(i64, i64, Sample)>;

fn t(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn arms(from: i64, to: i64, canary: Option<(u64, u64)>, stable: Option<(u64, u64)>) -> ErrorBlock {
    let ratio = |arm: Option<(u64, u64)>| arm.map(|(hits, total)| Reading::Ratio { hits, total });
    Some((from, to, Sample::Arms { canary: ratio(canary), stable: ratio(stable) }))
}

impl World {
    fn new() -> World {
        let hits = Hits { label: Some("code".to_owned()), matches: Some("5..".to_owned()), not: None, series: None };
        let metric = Metric {
            kind: MetricKind::Ratio,
            series: Some("requests_total".to_owned()),
            matching: None,
            hits: Some(hits),
            unit: bellwether_core::measure::metric::HistogramUnit::Seconds,
            query: None,
            distance: Distance::Psi,
            against: Against::Stable,
            arms: ArmSource::Pods,
            pod_label: None,
            namespace_label: None,
            strata_label: None,
            process: Vec::new(),
            targets: None,
            native: false,
        };
        let mut world = World {
            store: Arc::default(),
            pods: Arc::default(),
            sampler: None,
            metric,
            exporters: BTreeMap::new(),
            last_scraped: BTreeMap::new(),
            last: None,
            at: 0,
            next: 0,
            exports_start: true,
            warm_up: Span::ZERO,
            cold: None,
        };
        world.add("web-1", "stable", -1000);
        world.add("web-canary-1", "canary", 1);
        world
    }

    fn watch(&self) -> Watch {
        let arm = |uid: &str, hash: &str, name: &str| ArmKey {
            deployment_uid: uid.to_owned(),
            pod_hash: Some(hash.to_owned()),
            name: name.to_owned(),
        };
        Watch {
            per_process: BTreeSet::new(),
            per_pod: BTreeSet::from(["errors".to_owned()]),
            warm_up: self.warm_up,
            workload: Workload {
                cluster: "c".to_owned(),
                namespace: "shop".to_owned(),
                kind: WorkloadKind::Deployment,
                name: "web".to_owned(),
            },
            metrics: Arc::new(BTreeMap::from([("errors".to_owned(), self.metric.clone())])),
            canary: Some(arm("canary", "h2", "web-canary")),
            stable: arm("stable", "h1", "web"),
            since: t(0),
            last: self.last,
        }
    }

    fn sampler(&self) -> Sampler {
        Sampler::new(Arc::clone(&self.store) as _, Arc::clone(&self.pods) as _, Options::default())
    }

    fn add(&mut self, name: &str, arm: &str, started: i64) {
        let hash = if arm == "canary" { "h2" } else { "h1" };
        let facts = PodFacts {
            deployment_uid: arm.to_owned(),
            pod_hash: hash.to_owned(),
            started: t(started),
            restarts: BTreeMap::from([("app".to_owned(), 0)]),
        };
        self.next += 1;
        self.pods.0.lock().unwrap().insert(name.to_owned(), facts);
        self.exporters.insert(name.to_owned(), Exporter { started, ..Exporter::default() });
    }

    fn remove(&mut self, name: &str) {
        self.exporters.remove(name);
        let at = t(self.at + 1);
        self.end(name, at);
        self.store.end("up", &labels(name), at);
    }

    fn end(&self, name: &str, at: Timestamp) {
        for code in ["200", "500"] {
            self.store.end("requests_total", &[&labels(name)[..], &[("code", code)]].concat(), at);
        }
        self.store.end("process_start_time_seconds", &labels(name), at);
    }

    fn count(&mut self, name: &str, total: u64, errors: u64) {
        let exporter = self.exporters.get_mut(name).unwrap();
        exporter.total += total;
        exporter.errors += errors;
    }

    fn pod_started(&self, name: &str) -> Timestamp {
        self.pods.0.lock().unwrap()[name].started
    }

    fn down(&mut self, name: &str, down: bool) {
        self.exporters.get_mut(name).unwrap().down = down;
    }

    fn restart_pod(&mut self, name: &str) {
        let exporter = self.exporters.get_mut(name).unwrap();
        *exporter =
            Exporter { life: exporter.life + 1, started: self.at + 5, down: exporter.down, ..Exporter::default() };
        let mut pods = self.pods.0.lock().unwrap();
        *pods.get_mut(name).unwrap().restarts.get_mut("app").unwrap() += 1;
    }

    /// Restarts the daemon, which loses the sampler's state.
    fn restart_daemon(&mut self) {
        self.sampler = None;
    }

    /// Scrapes every exporter.
    fn scrape(&mut self, at: i64) {
        for (name, exporter) in &self.exporters {
            let labels = labels(name);
            self.store.put("up", &labels, t(at), f64::from(u8::from(!exporter.down)));
            if exporter.down {
                self.end(name, t(at));
                continue;
            }
            let put = |code: &str, value: u64| {
                let labels = [&labels[..], &[("code", code)]].concat();
                if value > 0 {
                    self.store.put("requests_total", &labels, t(at), value as f64);
                } else {
                    self.store.end("requests_total", &labels, t(at));
                }
            };
            put("500", exporter.errors);
            put("200", exporter.total - exporter.errors);
            if self.exports_start {
                let started = t(exporter.started).as_second() as f64;
                self.store.put("process_start_time_seconds", &labels, t(at), started);
            }
            self.last_scraped.insert((name.clone(), exporter.life), (exporter.errors, exporter.total));
        }
    }

    /// Scrapes and reads.
    async fn tick(&mut self, at: i64) -> ErrorBlock {
        self.scrape(at);
        self.read(at).await
    }

    /// Reads without a scrape.
    async fn read(&mut self, at: i64) -> ErrorBlock {
        self.at = at;
        let watch = self.watch();
        let mut sampler = self.sampler.take().unwrap_or_else(|| self.sampler());
        let blocks = sampler.tick(&[watch], t(at)).await;
        self.sampler = Some(sampler);
        let (_, Block { from, to, metrics, mut cold, pods, .. }) = blocks.into_iter().next()?;
        self.cold = cold.remove("errors");
        if let Sample::Arms { canary: Some(Reading::Ratio { hits, total }), .. } = metrics.get("errors").unwrap()
            && self.metric.arms == ArmSource::Pods
        {
            let counts = pods.get("errors").into_iter().flat_map(SmallMap::values).map(|pod| match pod {
                Reading::Ratio { hits, total } => (*hits, *total),
                Reading::Histogram { .. } | Reading::Count(_) | Reading::Value(_) => panic!("{pod:?}"),
            });
            let sum = counts.fold((0, 0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
            assert_eq!(sum, (*hits, *total), "the counts of the canary's pods add up to the canary's");
        }
        self.last = Some(to);
        let second = |time: Timestamp| time.as_second() - 1_700_000_000;
        Some((second(from), second(to), metrics.get("errors").unwrap().clone()))
    }
}

fn labels(name: &str) -> [(&'static str, &str); 4] {
    [("namespace", "shop"), ("pod", name), ("container", "app"), ("instance", "10.0.0.1:80")]
}
