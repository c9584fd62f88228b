//! Native histograms through the whole sampler: what is counted of them between two readings, and when there is a gap.

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
async fn what_came_between_two_readings_is_counted_by_bucket() {
    let mut world = Latencies::new();
    world.put("web-1", 0, &exponential(3, &[(-7, 5), (0, 2)]));
    world.read(0).await;
    // A bucket that was empty, and a canary that is new.
    world.put("web-1", 15, &exponential(3, &[(-7, 6), (0, 2), (9, 4)]));
    world.put("web-canary-1", 15, &exponential(3, &[(0, 3)]));
    assert_eq!(world.read(15).await, "canary 1:3, stable 0.59:1 2.38:4 (121 edges)");
    // Nothing new, and something that is no number.
    let mut sample = exponential(3, &[(-7, 6), (0, 2), (9, 4)]);
    sample.count += 2.0;
    world.put("web-1", 30, &sample);
    world.put("web-canary-1", 30, &exponential(3, &[(0, 3)]));
    assert_eq!(world.read(30).await, "canary nothing, stable +Inf:2 (121 edges)");
}

#[tokio::test]
async fn a_process_that_begins_anew_counts_from_zero_and_a_fall_without_that_is_a_gap_once() {
    let mut world = Latencies::new();
    world.put("web-1", 0, &exponential(3, &[(-7, 5), (0, 2)]));
    world.read(0).await;
    world.world.restart_pod("web-1");
    world.put("web-1", 15, &exponential(3, &[(0, 3)]));
    assert_eq!(world.read(15).await, "stable 1:3 (121 edges)");
    world.put("web-1", 30, &exponential(3, &[(0, 1)]));
    let fell = world.read(30).await;
    assert!(fell.contains("fell although its process had not restarted"), "{fell}");
    world.put("web-1", 45, &exponential(3, &[(0, 1), (1, 1)]));
    assert_eq!(world.read(45).await, "stable 1.19:1 (121 edges)");
}

#[tokio::test]
async fn one_of_several_that_is_emptied_is_a_gap_although_the_others_hide_it() {
    let mut world = Latencies::new();
    for (at, a, b, wanted) in [
        (0, 5, 100, "no block"),
        (15, 6, 200, "stable 1:101 (121 edges)"),
        // Emptied, and more came to the other than went: the sum has grown.
        (30, 1, 300, "counter shop/web-1/app/10.0.0.1:80"),
        (45, 2, 400, "stable 1:101 (121 edges)"),
    ] {
        for (route, count) in [("a", a), ("b", b)] {
            let labels = [&labels("web-1")[..], &[("route", route)]].concat();
            world.world.store.put_native("seconds", &labels, t(at), exponential(3, &[(0, count)]));
        }
        let seen = world.read(at).await;
        assert!(seen.contains(wanted), "{at}: {seen}");
        assert_eq!(seen.contains("route=\"a\" fell although its process had not restarted"), at == 30, "{at}: {seen}");
    }
    // A third one is new, and one that is gone is said to be.
    let third = [&labels("web-1")[..], &[("route", "c")]].concat();
    for (at, routes, wanted) in [(60, &["a", "b", "c"][..], "stable 1:7 (121 edges)"), (75, &["a", "b"], "disappeared")]
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
async fn a_schema_that_falls_or_rises_counts_on_at_the_edges_of_both() {
    let mut world = Latencies::new();
    for (at, schema, buckets, wanted) in [
        (0, 3, &[(-7, 5), (0, 2)][..], "no block"),
        (15, 2, &[(-3, 6), (0, 2)], "stable 0.59:1 (121 edges)"),
        (30, 1, &[(-1, 7), (0, 2)], "stable 0.71:1 (61 edges)"),
        (45, 1, &[(-1, 8), (0, 2)], "stable 0.71:1 (61 edges)"),
        (60, 0, &[(0, 11)], "stable 1:1 (31 edges)"),
        (75, 0, &[(0, 12)], "stable 1:1 (31 edges)"),
        (90, 3, &[(-7, 8), (0, 5)], "stable 1:1 (31 edges)"),
        (105, 3, &[(-7, 9), (0, 5)], "stable 0.59:1 (121 edges)"),
    ] {
        world.put("web-1", at, &exponential(schema, buckets));
        let seen = world.read(at).await;
        assert_eq!(seen, wanted, "{at}");
    }
}

#[tokio::test]
async fn processes_of_different_schemas_are_added_where_both_are_exact() {
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
async fn what_can_not_be_counted_is_a_gap_and_never_added_up() {
    let fine = || exponential(3, &[(0, 4)]);
    let mut fraction = fine();
    fraction.buckets[0].count = 3.5;
    let custom = Native { count: 1.0, buckets: vec![Bucket { rule: 0, lower: 0.1, upper: 0.25, count: 1.0 }] };
    for (sample, words) in
        [(fraction, "holds 3.5, which is no number of observations"), (custom, "is none of an exponential schema")]
    {
        let mut world = Latencies::new();
        world.put("web-1", 0, &fine());
        world.read(0).await;
        world.put("web-1", 15, &sample);
        let seen = world.read(15).await;
        assert!(seen.contains(words) && seen.contains("web-1"), "{seen}");
    }
    // A plain number under the same name, in the same process or in its place.
    for (route, words) in
        [("b", "some of seconds are native histograms and some are not"), ("a", "is no native histogram")]
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
    // Classic buckets are another family, which is not asked for.
    let mut world = Latencies::new();
    world.put("web-1", 0, &fine());
    world.read(0).await;
    world.put("web-1", 15, &exponential(3, &[(0, 5)]));
    let labels = [&labels("web-1")[..], &[("le", "+Inf")]].concat();
    world.world.store.put("seconds_bucket", &labels, t(15), 5.0);
    assert_eq!(world.read(15).await, "stable 1:1 (121 edges)");
}

#[tokio::test]
async fn one_query_asks_for_all_of_it_and_a_restarted_daemon_asks_again() {
    let mut world = Latencies::new();
    world.put("web-1", 0, &exponential(3, &[(0, 4)]));
    world.read(0).await;
    world.put("web-1", 15, &exponential(3, &[(0, 5)]));
    world.read(15).await;
    let asked = world.world.store.asked();
    assert_eq!(asked.len(), 4, "{asked:#?}");
    assert!(asked.iter().any(|query| query.starts_with("sum by (namespace, pod, container, instance) (seconds{")));
    world.world.restart();
    world.put("web-1", 30, &exponential(3, &[(0, 5), (1, 2)]));
    // Its canary comes back from where nobody has looked.
    assert_eq!(world.read(30).await, "stable 1.19:2 (121 edges)");
}

#[tokio::test]
async fn the_past_of_native_histograms_is_counted_as_the_present_was() {
    let mut world = Latencies::new();
    let mut lived = Vec::new();
    for tick in 0..12u64 {
        let at = 15 * i64::try_from(tick).unwrap();
        let schema = if tick < 6 { 3 } else { 1 };
        let low = if schema == 3 { -7 } else { -1 };
        world.put("web-1", at, &exponential(schema, &[(low, 1 + tick), (0, 1 + tick / 3)]));
        lived.extend(world.world.tick(at).await);
    }
    let watch = world.world.watch();
    let stretch = TimeRange::before(t(165), Span::from_secs(165), Span::from_secs(15));
    let (store, pods) = (Arc::clone(&world.world.store), Arc::clone(&world.world.pods));
    let blocks = history::blocks(store, pods, watch, stretch, Options::default()).await;
    let seen: Vec<Sample> = blocks.iter().map(|block: &Block| block.metrics["errors"].clone()).collect();
    assert_eq!(seen, lived.into_iter().map(|(_, _, sample)| sample).collect::<Vec<_>>());
    assert!(seen.iter().all(|sample| matches!(sample, Sample::Arms { .. })), "{seen:#?}");
    assert_eq!(seen.len(), 11);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a process observes, at whatever resolution: up to each edge it is counted exactly, or there is a gap.
    #[test]
    fn no_native_history_gives_a_wrong_total(story in proptest::collection::vec(happening(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tell(&story))?;
    }
}

#[derive(Debug, Clone)]
enum Happening {
    /// A value of `2^((eighth - 0.5) / 8)`, so many times.
    Observed {
        eighth: i32,
        times: u64,
    },
    /// So many values that are none.
    NotANumber(u64),
    /// From now on with this schema.
    Schema(i32),
    Restart,
    Down(bool),
    Tick,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (-90..180i32, 1..20u64).prop_map(|(eighth, times)| Happening::Observed { eighth, times }),
        1 => (1..3u64).prop_map(Happening::NotANumber),
        2 => (-2..=3i32).prop_map(Happening::Schema),
        1 => Just(Happening::Restart),
        1 => any::<bool>().prop_map(Happening::Down),
        6 => Just(Happening::Tick),
    ]
}

/// What a process has observed, by the eighth of an octave in which it was.
#[derive(Debug, Clone, Default, PartialEq)]
struct Observed {
    eighths: Vec<(i32, u64)>,
    not_a_number: u64,
}

impl Observed {
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

    fn all(&self) -> u64 {
        self.eighths.iter().map(|(_, times)| times).sum::<u64>() + self.not_a_number
    }
}

/// Lets the story happen beside a bookkeeper who knows every observation.
async fn tell(story: &[Happening]) -> Result<(), TestCaseError> {
    let mut world = Latencies::new();
    let (mut now, mut counted, mut schema, mut at) = (Observed::default(), Observed::default(), 3, 0);
    world.put("web-1", 0, &now.sample(schema));
    world.read(0).await;
    for happening in story.iter().cloned().chain([Happening::Down(false), Happening::Tick]) {
        match happening {
            Happening::Observed { eighth, times } => now.eighths.push((eighth, times)),
            Happening::NotANumber(times) => now.not_a_number += times,
            Happening::Schema(next) => schema = next,
            Happening::Restart => {
                world.world.restart_pod("web-1");
                (now, counted) = (Observed::default(), Observed::default());
            }
            Happening::Down(down) => world.world.down("web-1", down),
            Happening::Tick => {
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
                        prop_assert_eq!(all, now.all() - counted.all());
                        let mut upto = 0;
                        for (edge, count) in edges.iter().zip(&counts) {
                            upto += count;
                            prop_assert_eq!(upto, now.upto(*edge) - counted.upto(*edge), "up to {}", edge);
                        }
                    }
                    Sample::Arms { stable: None, .. } => continue,
                    Sample::Arms { .. } => panic!("no histogram"),
                    // Nobody looked; the next block makes up for it.
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

    /// What was counted: for each arm its buckets, by their upper edges, or the gap.
    async fn read(&mut self, at: i64) -> String {
        let Some((_, _, sample)) = self.world.tick(at).await else { return "no block".to_owned() };
        let (canary, stable) = match sample {
            Sample::Arms { canary, stable } => (canary, stable),
            Sample::Gap(gap) => return gap.to_string(),
        };
        let (mut said, mut sizes) = (Vec::new(), Vec::new());
        for (who, reading) in [("canary", canary), ("stable", stable)] {
            let Some(Reading::Histogram { edges, counts }) = reading else { continue };
            let ends =
                edges.iter().map(|edge| format!("{}", (edge * 100.0).round() / 100.0)).chain(["+Inf".to_owned()]);
            let seen = ends.zip(&counts).filter(|(_, count)| **count > 0).map(|(end, count)| format!("{end}:{count}"));
            let seen: Vec<String> = seen.collect();
            let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(" ") };
            said.push(format!("{who} {seen}"));
            sizes.push(format!("({} edges)", edges.len()));
        }
        if sizes.windows(2).all(|pair| pair[0] == pair[1]) {
            return format!("{} {}", said.join(", "), sizes[0]);
        }
        said.iter().zip(&sizes).map(|(said, size)| format!("{said} {size}")).collect::<Vec<_>>().join(", ")
    }
}

/// A sample with buckets of a schema, by index.
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
fn the_journal_writes_the_edges_in_short() {
    let reading = Reading::Histogram { edges: edges(), counts: vec![0; 122] };
    let text = serde_json::to_string(&reading).unwrap();
    assert!(text.starts_with(r#"{"histogram":{"edges":{"schema":2,"from":-40,"to":80},"counts":[0,"#), "{text}");
    assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), reading);
    // As it has always been for classic ones.
    let classic = Reading::Histogram { edges: vec![0.25, 0.5, 1.0], counts: vec![1, 2, 3, 4] };
    let text = serde_json::to_string(&classic).unwrap();
    assert_eq!(text, r#"{"histogram":{"edges":[0.25,0.5,1.0],"counts":[1,2,3,4]}}"#);
    assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), classic);
    let wrong = r#"{"histogram":{"edges":{"schema":2,"from":1,"to":0},"counts":[]}}"#;
    assert!(serde_json::from_str::<Reading>(wrong).unwrap_err().to_string().contains("are no edges of a histogram"));
}
