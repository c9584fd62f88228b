//! The sampler over a store in memory: what restarts, outages and odd names do to the totals. The rules for a single
//! counter are rows in `difference/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bellwether_core::ids::{Workload, WorkloadKind};
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::metric::{Against, ArmSource, Distance, Hits, Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, TimeRange, Timestamp};
use proptest::prelude::*;

use super::store::Store;
use super::{Options, Sampler, grid, history, next_tick};
use crate::ports::{MetricsError, PodDirectory, PodFacts};

mod native;

#[tokio::test]
async fn blocks_telescope_to_what_was_counted() {
    let mut world = World::new();
    assert_eq!(world.tick(0).await, None, "the first reading begins the first block");
    world.count("web-1", 100, 3);
    world.count("web-canary-1", 10, 1);
    assert_eq!(world.tick(15).await, arms(0, 15, Some((1, 10)), Some((3, 100))));
    world.count("web-1", 50, 0);
    assert_eq!(world.tick(30).await, arms(15, 30, Some((0, 0)), Some((0, 50))));
}

/// With a second pod that begins late, a process that starts again, and one that can't be scraped for a while.
#[tokio::test]
async fn the_past_is_counted_as_the_present_was() {
    let mut world = World::new();
    let mut lived = Vec::new();
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
        lived.extend(world.tick(at).await);
    }
    world.store.asked();
    let watch = Watch { each: BTreeSet::from(["errors".to_owned()]), ..world.watch() };
    let stretch = TimeRange::before(t(285), Span::from_secs(285), Span::from_secs(15));
    let (store, pods) = (Arc::clone(&world.store), Arc::clone(&world.pods));
    let blocks = history::blocks(store, pods, watch, stretch, Options::default()).await;
    let second = |time: Timestamp| time.as_second() - 1_700_000_000;
    let seen: Vec<(i64, i64, Sample)> =
        blocks.iter().map(|block| (second(block.from), second(block.to), block.metrics["errors"].clone())).collect();
    assert_eq!(seen, lived);
    assert_eq!(lived.len(), 19);
    // One pod is no two: where both were counted, both are there.
    assert!(blocks.iter().any(|block| block.processes["errors"].len() == 2), "{blocks:#?}");
    // A range is asked for once; what comes from it, for each tick.
    let ranges = world.store.ranges();
    assert!(ranges.len() <= 4, "{ranges:#?}");
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
    assert_eq!(world.tick(60).await, arms(15, 60, None, Some((2, 21))));
}

#[tokio::test]
async fn scrapes_that_stop_are_stale_and_then_one_block() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    for at in [15, 30, 45, 60] {
        world.count("web-1", 3, 0);
        world.at = at;
        // Nobody scrapes, and nobody says so.
        let block = world.read(at).await;
        match at {
            15 | 30 => assert!(matches!(block, Some((_, _, Sample::Arms { .. }))), "{at}: {block:?}"),
            _ => {
                assert_eq!(block, Some((at - 15, at, Sample::Gap(Gap::Stale { seconds: u64::try_from(at).unwrap() }))))
            }
        }
    }
    assert_eq!(world.tick(75).await, arms(30, 75, None, Some((0, 12))));
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
    assert_eq!(world.tick(15).await, arms(0, 15, None, Some((0, 1))));
    world.down("web-1", true);
    world.count("web-1", 1, 0);
    assert_eq!(world.tick(30).await, Some((15, 30, Sample::Gap(Gap::Stale { seconds: 15 }))));
    world.down("web-1", false);
    world.down("web-2", false);
    assert_eq!(world.tick(45).await, arms(15, 45, None, Some((0, 6))));
}

#[tokio::test]
async fn a_restarted_daemon_asks_again_for_where_the_block_begins() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    world.count("web-1", 5, 1);
    world.count("web-canary-1", 2, 1);
    world.tick(15).await;
    world.restart();
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
    world.restart();
    world.down("web-canary-1", false);
    world.count("web-canary-1", 1, 0);
    assert_eq!(world.tick(45).await, Some((30, 45, Sample::Gap(Gap::NoBaseline))));
    world.count("web-canary-1", 4, 0);
    assert_eq!(world.tick(60).await, arms(45, 60, Some((0, 4)), Some((0, 0))));
}

#[tokio::test]
async fn a_prometheus_that_forgot_everything_is_no_baseline() {
    let mut world = World::new();
    world.count("web-1", 10, 0);
    world.tick(0).await;
    world.count("web-canary-1", 20, 2);
    world.tick(15).await;
    world.restart();
    world.store = Arc::new(Store::default());
    world.restart();
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
    world.store.refuse(Some("other4-"));
    let mut sampler = world.sampler();
    sampler.tick(&watches, t(0)).await;
    world.scrape(0);
    world.count("web-1", 1, 0);
    world.scrape(15);
    let blocks = sampler.tick(&watches, t(15)).await;
    assert_eq!(blocks.len(), 10);
    for (workload, block) in blocks {
        let is_blind = matches!(block.metrics["errors"], Sample::Gap(Gap::Unanswered { .. }));
        assert_eq!(is_blind, workload.name == "other4", "{workload}: {block:?}");
    }
    assert!(world.store.asked().len() < 60);
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
    for (n, queries) in [(1, 2), (10, 2), (100, 2), (1000, 7)] {
        world.sampler().tick(&many(n), t(0)).await;
        assert_eq!(world.store.asked().len(), queries, "for {n} workloads");
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
    // Somebody else took over, counted up to 30, and handed the workload back.
    world.last = Some(t(30));
    world.count("web-1", 7, 0);
    assert_eq!(world.tick(45).await, arms(30, 45, None, Some((0, 7))));
}

#[tokio::test]
async fn the_same_instant_twice_gives_no_second_block() {
    let mut world = World::new();
    world.tick(0).await;
    assert!(world.tick(15).await.is_some());
    assert_eq!(world.tick(15).await, None);
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
    // What an earlier canary left in the gateway's counters is not this one's.
    count(&world, "shop-web-canary-80", "500", 0, 40.0);
    count(&world, "shop-web-80", "200", 0, 1000.0);
    world.read(0).await;
    count(&world, "shop-web-canary-80", "500", 15, 42.0);
    count(&world, "shop-web-canary-80", "200", 15, 8.0);
    count(&world, "shop-web-80", "200", 15, 1100.0);
    count(&world, "shop-web-81", "200", 15, 5.0);
    assert_eq!(world.read(15).await, arms(0, 15, Some((2, 10)), Some((0, 100))));
}

#[tokio::test]
async fn a_raw_query_is_asked_for_each_arm() {
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
        (60, &[1.0, 2.0], Sample::Gap(Gap::Malformed { what: "the query gave 2 values instead of one".to_owned() })),
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
    watch.metrics.insert("rate".to_owned(), throughput);
    let mut sampler = world.sampler();
    world.scrape(0);
    sampler.tick(&[watch.clone()], t(0)).await;
    assert_eq!(world.store.asked().len(), 2);
    world.count("web-1", 4, 1);
    world.scrape(15);
    let blocks = sampler.tick(&[watch], t(15)).await;
    let rate = Sample::Arms { canary: None, stable: Some(Reading::Count(4)) };
    assert_eq!(blocks[0].1.metrics["rate"], rate);
}

#[test]
fn ticks_lie_on_one_grid() {
    let (interval, lag) = (Span::from_secs(15), Span::from_secs(5));
    for (now, tick, at, next) in [(0, 0, -5, 15), (14_999, 0, -5, 15), (15_000, 15, 10, 30), (-1, -15, -20, 0)] {
        let now = Timestamp::from_millisecond(now).unwrap();
        let second = |s| Timestamp::from_second(s).unwrap();
        assert_eq!((grid(now, interval, lag), next_tick(now, interval)), ((second(tick), second(at)), second(next)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to processes and scrapes: the sum of the blocks is what the processes had counted, as far as
    /// it was ever scraped, or there was a gap. Never a wrong total.
    #[test]
    fn no_history_gives_a_wrong_total(story in proptest::collection::vec(happening(), 1..60), says_start: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tell(&story, says_start))?;
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Traffic { pod: usize, total: u32, errors: u32 },
    Restart { pod: usize },
    NewPod { canary: bool },
    Down { pod: usize, down: bool },
    Remove { pod: usize },
    Outage,
    DaemonRestarts,
    Tick,
}

fn happening() -> impl Strategy<Value = Happening> {
    let pod = 0..6usize;
    prop_oneof![
        6 => (pod.clone(), 0..50u32, 0..5u32).prop_map(|(pod, total, errors)| Happening::Traffic { pod, total: total + errors, errors }),
        1 => pod.clone().prop_map(|pod| Happening::Restart { pod }),
        1 => any::<bool>().prop_map(|canary| Happening::NewPod { canary }),
        2 => (pod.clone(), any::<bool>()).prop_map(|(pod, down)| Happening::Down { pod, down }),
        1 => pod.prop_map(|pod| Happening::Remove { pod }),
        1 => Just(Happening::Outage),
        1 => Just(Happening::DaemonRestarts),
        8 => Just(Happening::Tick),
    ]
}

/// Lets the story happen beside a bookkeeper who sees every process at every scrape, and compares.
async fn tell(story: &[Happening], says_start: bool) -> Result<(), TestCaseError> {
    let mut world = World::new();
    world.says_start = says_start;
    world.count("web-1", 17, 2);
    world.tick(0).await;
    let mut books = Books::begun(&world);
    let (mut counted, mut gap, mut outage, mut waiting) = ((0, 0), false, false, false);
    let ticks = story.iter().cloned().chain([Happening::Tick, Happening::Tick]);
    for happening in ticks {
        let pods: Vec<String> = world.exporters.keys().cloned().collect();
        let name = |index: usize| pods[index % pods.len()].clone();
        match happening {
            Happening::Traffic { pod, total, errors } => world.count(&name(pod), total.into(), errors.into()),
            Happening::Restart { pod } => world.restart_pod(&name(pod)),
            Happening::NewPod { canary } => {
                let arm = if canary { "canary" } else { "stable" };
                let (prefix, n) = (if canary { "web-canary" } else { "web" }, world.next);
                world.add(&format!("{prefix}-n{n}"), arm, world.at + 1);
            }
            Happening::Down { pod, down } => world.down(&name(pod), down),
            Happening::Remove { pod } if pods.len() > 1 => world.remove(&name(pod)),
            Happening::Remove { .. } => {}
            Happening::Outage => outage = true,
            Happening::DaemonRestarts => {
                world.restart();
                if waiting {
                    // What an outage would have merged into the next block, a restart cuts off: the gap said so.
                    (counted, books) = ((0, 0), Books::begun(&world));
                }
            }
            Happening::Tick => {
                world.store.outage(outage.then(|| MetricsError::Unavailable("out".to_owned())));
                outage = false;
                let at = world.at + 15;
                world.scrape(at);
                let seen = world.read_as_is(at).await;
                waiting = matches!(seen, Some((_, _, Sample::Gap(Gap::Unanswered { .. } | Gap::Stale { .. }))));
                if !waiting {
                    // What a process counts and takes with it before the next reading is nobody's.
                    books.scrape(&world);
                }
                match seen {
                    Some((_, _, Sample::Arms { canary, stable })) => {
                        for reading in [canary, stable].into_iter().flatten() {
                            let Reading::Ratio { hits, total } = reading else { panic!("{reading:?}") };
                            counted = (counted.0 + hits, counted.1 + total);
                        }
                        prop_assert!(gap || counted == books.total, "counted {counted:?}, was {:?}", books.total);
                    }
                    _ if waiting => {}
                    Some((_, _, Sample::Gap(_))) => gap = true,
                    // A daemon that restarts before the first block begins again, with what it can see now.
                    None => (counted, books) = ((0, 0), Books::seeing(&world)),
                }
                if gap {
                    // What a gap swallows is lost, but nothing more: the accounts begin anew.
                    (counted, gap, books.total) = ((0, 0), false, (0, 0));
                }
            }
        }
    }
    Ok(())
}

/// What each process was last seen to have counted, and the sum of all differences.
struct Books {
    last: BTreeMap<(String, u32), (u64, u64)>,
    total: (u64, u64),
}

impl Books {
    /// From what was last scraped of each process, dead or alive.
    fn begun(world: &World) -> Books {
        Books { last: world.last_scraped.clone(), total: (0, 0) }
    }

    /// From what can be scraped now.
    fn seeing(world: &World) -> Books {
        let mut books = Books { last: BTreeMap::new(), total: (0, 0) };
        books.scrape(world);
        books.total = (0, 0);
        books
    }

    fn scrape(&mut self, world: &World) {
        for (name, exporter) in &world.exporters {
            if exporter.down {
                continue;
            }
            let now = (exporter.errors, exporter.total);
            let is_known = self.last.keys().any(|(known, _)| known == name);
            // A process that was there before the rollout begins where it is first seen.
            let is_old = if world.says_start { exporter.started <= 0 } else { world.pod_started(name) <= t(0) };
            let first = if !is_known && is_old { now } else { (0, 0) };
            let before = self.last.insert((name.clone(), exporter.life), now).unwrap_or(first);
            self.total.0 += exporter.errors - before.0;
            self.total.1 += exporter.total - before.1;
        }
    }
}

/// A namespace with a stable and a canary, and somebody who scrapes their pods.
struct World {
    store: Arc<Store>,
    pods: Arc<Roster>,
    sampler: Option<Sampler>,
    metric: Metric,
    exporters: BTreeMap<String, Exporter>,
    last_scraped: BTreeMap<(String, u32), (u64, u64)>,
    /// The block's end that the engine knows of.
    last: Option<Timestamp>,
    at: i64,
    next: usize,
    says_start: bool,
}

#[derive(Debug, Clone, Default)]
struct Exporter {
    total: u64,
    errors: u64,
    down: bool,
    life: u32,
    started: i64,
}

#[derive(Default)]
struct Roster(Mutex<BTreeMap<String, PodFacts>>);

impl PodDirectory for Roster {
    fn locate(&self, namespace: &str, pod: &str) -> Option<PodFacts> {
        (namespace == "shop").then(|| self.0.lock().unwrap().get(pod).cloned()).flatten()
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        Some((workload.name.clone(), 80))
    }
}

type Seen = Option<(i64, i64, Sample)>;

fn t(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn arms(from: i64, to: i64, canary: Option<(u64, u64)>, stable: Option<(u64, u64)>) -> Seen {
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
            says_start: true,
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
            each: BTreeSet::new(),
            named: BTreeSet::from(["errors".to_owned()]),
            workload: Workload {
                cluster: "c".to_owned(),
                namespace: "shop".to_owned(),
                kind: WorkloadKind::Deployment,
                name: "web".to_owned(),
            },
            metrics: BTreeMap::from([("errors".to_owned(), self.metric.clone())]),
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

    /// A new process of the daemon: it remembers nothing.
    fn restart(&mut self) {
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
            if self.says_start {
                let started = t(exporter.started).as_second() as f64;
                self.store.put("process_start_time_seconds", &labels, t(at), started);
            }
            self.last_scraped.insert((name.clone(), exporter.life), (exporter.errors, exporter.total));
        }
    }

    async fn tick(&mut self, at: i64) -> Seen {
        self.scrape(at);
        self.read_as_is(at).await
    }

    async fn read(&mut self, at: i64) -> Seen {
        self.read_as_is(at).await
    }

    async fn read_as_is(&mut self, at: i64) -> Seen {
        self.at = at;
        let watch = self.watch();
        let mut sampler = self.sampler.take().unwrap_or_else(|| self.sampler());
        let blocks = sampler.tick(&[watch], t(at)).await;
        self.sampler = Some(sampler);
        let (_, Block { from, to, metrics, pods, .. }) = blocks.into_iter().next()?;
        if let Sample::Arms { canary: Some(Reading::Ratio { hits, total }), .. } = &metrics["errors"]
            && self.metric.arms == ArmSource::Pods
        {
            let counts = pods["errors"].values().map(|pod| match pod {
                Reading::Ratio { hits, total } => (*hits, *total),
                Reading::Histogram { .. } | Reading::Count(_) | Reading::Value(_) => panic!("{pod:?}"),
            });
            let sum = counts.fold((0, 0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
            assert_eq!(sum, (*hits, *total), "what the canary's pods have counted is what the canary has");
        }
        self.last = Some(to);
        let second = |time: Timestamp| time.as_second() - 1_700_000_000;
        Some((second(from), second(to), metrics["errors"].clone()))
    }
}

fn labels(name: &str) -> [(&'static str, &str); 4] {
    [("namespace", "shop"), ("pod", name), ("container", "app"), ("instance", "10.0.0.1:80")]
}
