//! Native histograms through the whole sampler: the counts between two readings, and the gaps.

use bellwether_core::stats::histogram::native_edge;
use bellwether_core::time::{Span, TimeRange};
use proptest::prelude::*;

use super::super::native::edges;
use super::{Options, World, history, labels, t};
use crate::ports::{Bucket, Native};
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use std::sync::Arc;

const HISTOGRAM: &str = "kind = \"histogram\"\nseries = \"seconds\"\nnative = true";

#[tokio::test]
async fn observations_between_two_readings_are_counted_by_bucket() {
    let mut world = Latencies::new();
    world.put("web-1", 0, &exponential(3, &[(-7, 5), (0, 2)]));
    world.read(0).await;
    // A bucket that was empty, and a new canary.
    world.put("web-1", 15, &exponential(3, &[(-7, 6), (0, 2), (9, 4)]));
    world.put("web-canary-1", 15, &exponential(3, &[(0, 3)]));
    assert_eq!(world.read(15).await, "canary 1:3, stable 0.59:1 2.38:4 (121 edges)");
    // Two observations of NaN.
    let mut sample = exponential(3, &[(-7, 6), (0, 2), (9, 4)]);
    sample.count += 2.0;
    world.put("web-1", 30, &sample);
    world.put("web-canary-1", 30, &exponential(3, &[(0, 3)]));
    assert_eq!(world.read(30).await, "canary nothing, stable +Inf:2 (121 edges)");
}

#[tokio::test]
async fn a_restarted_process_counts_from_zero_and_a_fall_without_restart_is_one_gap() {
    let mut world = Latencies::new();
    world.put("web-1", 0, &exponential(3, &[(-7, 5), (0, 2)]));
    world.read(0).await;
    world.world.restart_pod("web-1");
    world.put("web-1", 15, &exponential(3, &[(0, 3)]));
    assert_eq!(world.read(15).await, "canary nothing, stable 1:3 (121 edges)");
    world.put("web-1", 30, &exponential(3, &[(0, 1)]));
    let fell = world.read(30).await;
    assert!(fell.contains("fell although its process had not restarted"), "{fell}");
    world.put("web-1", 45, &exponential(3, &[(0, 1), (1, 1)]));
    assert_eq!(world.read(45).await, "canary nothing, stable 1.19:1 (121 edges)");
}

#[tokio::test]
async fn an_emptied_histogram_is_a_gap_although_the_sum_has_grown() {
    let mut world = Latencies::new();
    for (at, a, b, wanted) in [
        (0, 5, 100, "no block"),
        (15, 6, 200, "canary nothing, stable 1:101 (121 edges)"),
        // `a` was emptied, but `b` grew by more than that.
        (30, 1, 300, "counter shop/web-1/app/10.0.0.1:80"),
        (45, 2, 400, "canary nothing, stable 1:101 (121 edges)"),
    ] {
        for (route, count) in [("a", a), ("b", b)] {
            let labels = [&labels("web-1")[..], &[("route", route)]].concat();
            world.world.store.put_native("seconds", &labels, t(at), exponential(3, &[(0, count)]));
        }
        let seen = world.read(at).await;
        assert!(seen.contains(wanted), "{at}: {seen}");
        assert_eq!(seen.contains("route=\"a\" fell although its process had not restarted"), at == 30, "{at}: {seen}");
    }
    // A third histogram is new and counts from zero; when it disappears there is a gap.
    let third = [&labels("web-1")[..], &[("route", "c")]].concat();
    for (at, routes, wanted) in
        [(60, &["a", "b", "c"][..], "canary nothing, stable 1:7 (121 edges)"), (75, &["a", "b"], "disappeared")]
    {
        for (route, count) in [("a", 2), ("b", 400)].into_iter().filter(|(route, _)| routes.contains(route)) {
            let labels = [&labels("web-1")[..], &[("route", route)]].concat();
            world.world.store.put_native("seconds", &labels, t(at), exponential(3, &[(0, count)]));
        }
        if routes.contains(&"c") {
            world.world.store.put_native("seconds", &third, t(at), exponential(3, &[(0, 7)]));
        } else {
            world.world.store.end("seconds", &third, t(at));
        }
        let seen = world.read(at).await;
        assert!(seen.contains(wanted), "{at}: {seen}");
    }
}

#[tokio::test]
async fn after_a_change_of_schema_the_common_edges_are_counted() {
    let mut world = Latencies::new();
    for (at, schema, buckets, wanted) in [
        (0, 3, &[(-7, 5), (0, 2)][..], "no block"),
        (15, 2, &[(-3, 6), (0, 2)], "canary nothing, stable 0.59:1 (121 edges)"),
        (30, 1, &[(-1, 7), (0, 2)], "canary nothing, stable 0.71:1 (61 edges)"),
        (45, 1, &[(-1, 8), (0, 2)], "canary nothing, stable 0.71:1 (61 edges)"),
        (60, 0, &[(0, 11)], "canary nothing, stable 1:1 (31 edges)"),
        (75, 0, &[(0, 12)], "canary nothing, stable 1:1 (31 edges)"),
        (90, 3, &[(-7, 8), (0, 5)], "canary nothing, stable 1:1 (31 edges)"),
        (105, 3, &[(-7, 9), (0, 5)], "canary nothing, stable 0.59:1 (121 edges)"),
    ] {
        world.put("web-1", at, &exponential(schema, buckets));
        let seen = world.read(at).await;
        assert_eq!(seen, wanted, "{at}");
    }
}

#[tokio::test]
async fn processes_of_different_schemas_are_added_up_at_common_edges() {
    let mut world = Latencies::new();
    world.world.add("web-2", "stable", -1000);
    for at in [0, 15] {
        let n = 1 + u64::from(at > 0);
        world.put("web-1", at, &exponential(3, &[(-7, n), (0, n)]));
        world.put("web-2", at, &exponential(1, &[(-1, n), (3, n)]));
        world.put("web-canary-1", at, &exponential(3, &[(-7, n)]));
        let seen = world.read(at).await;
        assert_eq!(
            seen,
            if at == 0 { "no block" } else { "canary 0.59:1 (121 edges), stable 0.71:2 1:1 2.83:1 (61 edges)" }
        );
    }
}

#[tokio::test]
async fn a_sample_that_can_not_be_counted_is_a_gap() {
    let fine = || exponential(3, &[(0, 4)]);
    let mut fraction = fine();
    fraction.buckets[0].count = 3.5;
    let custom = Native { count: 1.0, buckets: vec![Bucket { rule: 0, lower: 0.1, upper: 0.25, count: 1.0 }] };
    for (sample, words) in
        [(fraction, "holds 3.5, which is not a number of observations"), (custom, "is not of an exponential schema")]
    {
        let mut world = Latencies::new();
        world.put("web-1", 0, &fine());
        world.read(0).await;
        world.put("web-1", 15, &sample);
        let seen = world.read(15).await;
        assert!(seen.contains(words) && seen.contains("web-1"), "{seen}");
    }
    // A plain number of the same name, beside the histogram or instead of it.
    for (route, words) in
        [("b", "some of seconds are native histograms and some are not"), ("a", "is not a native histogram")]
    {
        let mut world = Latencies::new();
        world.put("web-1", 0, &fine());
        world.read(0).await;
        world.put("web-1", 15, &fine());
        let labels = [&labels("web-1")[..], &[("route", route)]].concat();
        world.world.store.put("seconds", &labels, t(15), 9.0);
        let seen = world.read(15).await;
        assert!(seen.contains(words) && seen.contains("web-1"), "{seen}");
    }
    // Classic buckets are another family, which is not queried.
    let mut world = Latencies::new();
    world.put("web-1", 0, &fine());
    world.read(0).await;
    world.put("web-1", 15, &exponential(3, &[(0, 5)]));
    let labels = [&labels("web-1")[..], &[("le", "+Inf")]].concat();
    world.world.store.put("seconds_bucket", &labels, t(15), 5.0);
    assert_eq!(world.read(15).await, "canary nothing, stable 1:1 (121 edges)");
}

#[tokio::test]
async fn one_query_reads_a_native_histogram_and_a_restarted_daemon_queries_the_start_again() {
    let mut world = Latencies::new();
    world.put("web-1", 0, &exponential(3, &[(0, 4)]));
    world.read(0).await;
    world.put("web-1", 15, &exponential(3, &[(0, 5)]));
    world.read(15).await;
    let queries = world.world.store.take_instant_queries();
    assert_eq!(queries.len(), 4, "{queries:#?}");
    assert!(queries.iter().any(|query| query.starts_with("sum by (namespace, pod, container, instance) (seconds{")));
    world.world.restart_daemon();
    world.put("web-1", 30, &exponential(3, &[(0, 5), (1, 2)]));
    // The canary has no series and gives no reading.
    assert_eq!(world.read(30).await, "canary nothing, stable 1.19:2 (121 edges)");
}

#[tokio::test]
async fn the_past_of_native_histograms_gives_the_same_blocks_as_the_live_sampler() {
    let mut world = Latencies::new();
    let mut live = Vec::new();
    for tick in 0..12u64 {
        let at = 15 * i64::try_from(tick).unwrap();
        let schema = if tick < 6 { 3 } else { 1 };
        let low = if schema == 3 { -7 } else { -1 };
        world.put("web-1", at, &exponential(schema, &[(low, 1 + tick), (0, 1 + tick / 3)]));
        live.extend(world.world.tick(at).await);
    }
    let watch = world.world.watch();
    let range = TimeRange::before(t(165), Span::from_secs(165), Span::from_secs(15));
    let (store, pods) = (Arc::clone(&world.world.store), Arc::clone(&world.world.pods));
    let blocks = history::blocks(store, pods, watch, range, Options::default()).await;
    let seen: Vec<Sample> = blocks.iter().map(|block: &Block| block.metrics.get("errors").unwrap().clone()).collect();
    assert_eq!(seen, live.into_iter().map(|(_, _, sample)| sample).collect::<Vec<_>>());
    assert!(seen.iter().all(|sample| matches!(sample, Sample::Arms { .. })), "{seen:#?}");
    assert_eq!(seen.len(), 11);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any observations and any changes of schema, the count up to each edge is exact, or there is a gap.
    #[test]
    fn no_native_history_gives_a_wrong_total(events in proptest::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_counts(&events))?;
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// `times` observations of `2^((eighth - 0.5) / 8)`.
    Observed {
        eighth: i32,
        times: u64,
    },
    /// Observations of NaN.
    NotANumber(u64),
    /// The schema of the next samples.
    Schema(i32),
    /// A restart of the process.
    Restart,
    /// Whether scrapes fail from now on.
    Down(bool),
    Tick,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (-90..180i32, 1..20u64).prop_map(|(eighth, times)| Event::Observed { eighth, times }),
        1 => (1..3u64).prop_map(Event::NotANumber),
        2 => (-2..=3i32).prop_map(Event::Schema),
        1 => Just(Event::Restart),
        1 => any::<bool>().prop_map(Event::Down),
        6 => Just(Event::Tick),
    ]
}

/// The observations of a process, by their eighth of an octave.
#[derive(Debug, Clone, Default, PartialEq)]
struct Observed {
    eighths: Vec<(i32, u64)>,
    not_a_number: u64,
}

impl Observed {
    /// Returns the native histogram of the observations.
    fn sample(&self, schema: i32) -> Native {
        let place = |eighth: i32| (eighth - 1).div_euclid(1 << (3 - schema)) + 1;
        let mut buckets = std::collections::BTreeMap::new();
        for (eighth, times) in &self.eighths {
            *buckets.entry(place(*eighth)).or_insert(0) += times;
        }
        let mut sample = exponential(schema, &buckets.into_iter().collect::<Vec<_>>());
        sample.count += self.not_a_number as f64;
        sample
    }

    fn upto(&self, edge: f64) -> u64 {
        let below = |eighth: i32| ((f64::from(eighth) - 0.5) / 8.0).exp2() <= edge;
        self.eighths.iter().filter(|(eighth, _)| below(*eighth)).map(|(_, times)| times).sum()
    }

    fn total(&self) -> u64 {
        self.eighths.iter().map(|(_, times)| times).sum::<u64>() + self.not_a_number
    }
}

/// Applies the events to a world and compares the blocks with its observations.
async fn check_counts(events: &[Event]) -> Result<(), TestCaseError> {
    let mut world = Latencies::new();
    let (mut now, mut counted, mut schema, mut at) = (Observed::default(), Observed::default(), 3, 0);
    world.put("web-1", 0, &now.sample(schema));
    world.read(0).await;
    for event in events.iter().cloned().chain([Event::Down(false), Event::Tick]) {
        match event {
            Event::Observed { eighth, times } => now.eighths.push((eighth, times)),
            Event::NotANumber(times) => now.not_a_number += times,
            Event::Schema(next) => schema = next,
            Event::Restart => {
                world.world.restart_pod("web-1");
                (now, counted) = (Observed::default(), Observed::default());
            }
            Event::Down(down) => world.world.down("web-1", down),
            Event::Tick => {
                at += 15;
                if world.world.exporters["web-1"].down {
                    world.end("web-1", at);
                } else {
                    world.put("web-1", at, &now.sample(schema));
                }
                let Some((_, _, sample)) = world.world.tick(at).await else { continue };
                match sample {
                    Sample::Arms { stable: Some(Reading::Histogram { edges, counts }), .. } => {
                        let all: u64 = counts.iter().sum();
                        prop_assert_eq!(all, now.total() - counted.total());
                        let mut upto = 0;
                        for (edge, count) in edges.iter().zip(&counts) {
                            upto += count;
                            prop_assert_eq!(upto, now.upto(*edge) - counted.upto(*edge), "up to {}", edge);
                        }
                    }
                    Sample::Arms { stable: None, .. } => continue,
                    Sample::Arms { .. } => panic!("no histogram"),
                    // No scrape succeeded; the next block covers this time as well.
                    Sample::Gap(Gap::Stale { .. }) => continue,
                    Sample::Gap(_) => {}
                }
                counted = now.clone();
            }
        }
    }
    Ok(())
}

/// A world whose pods have native histograms.
struct Latencies {
    world: World,
}

impl Latencies {
    fn new() -> Latencies {
        let mut world = World::new();
        world.metric = toml::from_str(HISTOGRAM).unwrap();
        Latencies { world }
    }

    fn put(&self, pod: &str, at: i64, sample: &Native) {
        let labels = [&labels(pod)[..], &[("route", "a")]].concat();
        self.world.store.put_native("seconds", &labels, t(at), sample.clone());
    }

    fn end(&self, pod: &str, at: i64) {
        self.world.store.end("seconds", &[&labels(pod)[..], &[("route", "a")]].concat(), t(at));
    }

    /// Returns the non-empty buckets of each arm by their upper edges, or the gap, as text.
    async fn read(&mut self, at: i64) -> String {
        let Some((_, _, sample)) = self.world.tick(at).await else { return "no block".to_owned() };
        let (canary, stable) = match sample {
            Sample::Arms { canary, stable } => (canary, stable),
            Sample::Gap(gap) => return gap.to_string(),
        };
        let (mut arms, mut sizes) = (Vec::new(), Vec::new());
        for (arm, reading) in [("canary", canary), ("stable", stable)] {
            let Some(Reading::Histogram { edges, counts }) = reading else { continue };
            let ends =
                edges.iter().map(|edge| format!("{}", (edge * 100.0).round() / 100.0)).chain(["+Inf".to_owned()]);
            let seen = ends.zip(&counts).filter(|(_, count)| **count > 0).map(|(end, count)| format!("{end}:{count}"));
            let seen: Vec<String> = seen.collect();
            let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(" ") };
            arms.push(format!("{arm} {seen}"));
            sizes.push(format!("({} edges)", edges.len()));
        }
        if sizes.windows(2).all(|pair| pair[0] == pair[1]) {
            return format!("{} {}", arms.join(", "), sizes[0]);
        }
        arms.iter().zip(&sizes).map(|(arm, size)| format!("{arm} {size}")).collect::<Vec<_>>().join(", ")
    }
}

/// Returns a sample with buckets of a schema, as (index, count).
fn exponential(schema: i32, buckets: &[(i32, u64)]) -> Native {
    let bucket = |(index, count): &(i32, u64)| Bucket {
        rule: 0,
        lower: native_edge(schema, index - 1),
        upper: native_edge(schema, *index),
        count: *count as f64,
    };
    let count = buckets.iter().map(|(_, count)| *count as f64).sum();
    Native { count, buckets: buckets.iter().map(bucket).collect() }
}

#[test]
fn the_journal_writes_the_edges_of_native_histograms_as_a_range() {
    let reading = Reading::Histogram { edges: edges(), counts: vec![0; 122] };
    let text = serde_json::to_string(&reading).unwrap();
    assert!(text.starts_with(r#"{"histogram":{"edges":{"schema":2,"from":-40,"to":80},"counts":[0,"#), "{text}");
    assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), reading);
    // Classic edges are written one by one.
    let classic = Reading::Histogram { edges: vec![0.25, 0.5, 1.0], counts: vec![1, 2, 3, 4] };
    let text = serde_json::to_string(&classic).unwrap();
    assert_eq!(text, r#"{"histogram":{"edges":[0.25,0.5,1.0],"counts":[1,2,3,4]}}"#);
    assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), classic);
    let wrong = r#"{"histogram":{"edges":{"schema":2,"from":1,"to":0},"counts":[]}}"#;
    assert!(serde_json::from_str::<Reading>(wrong).unwrap_err().to_string().contains("are no edges of a histogram"));
}
