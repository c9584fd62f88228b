//! The rules of the differences as tables. A row has a name, the readings of one process, and the counts of the last
//! one.

use super::*;
use crate::sampling::packed::PackedMemory;
use crate::sampling::snapshot::ClassLabels;

/// One process at one reading.
#[derive(Clone, Default)]
struct At {
    /// Its cells: class, value and number of series.
    series: Vec<(&'static str, f64, u64)>,
    /// Whether its target is up. `None`: it has no target.
    up: Option<bool>,
    /// Its start, in Unix seconds.
    start: Option<f64>,
    restarts: Option<u32>,
    /// Start of its pod, in Unix seconds.
    pod_started: Option<i64>,
    /// The instant of the reading, in Unix seconds. The rollout begins at 1000.
    second: i64,
}

fn at(second: i64, series: &[(&'static str, f64)]) -> At {
    let series = series.iter().map(|(class, value)| (*class, *value, 1)).collect();
    At { series, up: Some(true), second, ..At::default() }
}

impl At {
    fn down(self) -> At {
        At { up: Some(false), ..self }
    }

    fn gone(self) -> At {
        At { up: None, ..self }
    }

    fn start(self, start: f64) -> At {
        At { start: Some(start), ..self }
    }

    fn restarts(self, restarts: u32) -> At {
        At { restarts: Some(restarts), ..self }
    }

    fn pod(self, started: i64) -> At {
        At { pod_started: Some(started), ..self }
    }

    fn members(mut self, members: u64) -> At {
        self.series.iter_mut().for_each(|(_, _, count)| *count = members);
        self
    }
}

/// Returns the counts of the last reading, or its gap, as text.
fn counts_of_last(history: &[At]) -> String {
    let process: Process = vec!["web-1".to_owned()];
    let (mut memory, mut result) = (Memory::default(), None);
    for reading in history {
        let cells = reading.series.iter().map(|(class, value, members)| {
            let class = Class::from(ClassLabels { values: vec![(*class).to_owned()], ..ClassLabels::default() });
            (class, Cell { value: *value, members: *members })
        });
        let cells: BTreeMap<Class, Cell> = cells.collect();
        let snapshot = if cells.is_empty() {
            Snapshot::default()
        } else {
            Snapshot(BTreeMap::from([(process.clone(), Ok(cells))]))
        };
        let target = reading.up.map(|up| {
            let (scraped, started) = (reading.second as f64, reading.start);
            Target { up, scraped, started, pushed: false }
        });
        let targets: Targets = Some(target.into_iter().map(|target| (process.clone(), target)).collect());
        let second = |second| Timestamp::from_second(second).unwrap();
        let facts = |_: &Process| ProcessFacts {
            pod: None,
            started: reading.pod_started.map(second),
            restarts: reading.restarts,
        };
        let context = ReadingContext {
            since: second(1000),
            at: second(reading.second),
            facts_lead: Span::from_secs(20),
            warm_up: Span::ZERO,
            buckets: BucketKind::None,
        };
        let counts;
        (memory, counts) = memory.advance(&snapshot, &targets, &facts, context);
        // It waits for the next reading as bytes.
        let unpacked = PackedMemory::of(&memory).and_then(|packed| packed.memory());
        assert_eq!(unpacked.as_ref(), Some(&memory));
        result = counts.get(&process).cloned();
    }
    match result {
        None => "nothing".to_owned(),
        Some(Err(gap)) => gap.to_string(),
        Some(Ok(counts)) => {
            let counts = counts.iter().map(|(class, count)| match count {
                Some(count) => format!("{}:{count}", class.values[0]),
                None => format!("{}:starts", class.values[0]),
            });
            counts.collect::<Vec<_>>().join(" ")
        }
    }
}

fn check(rows: &[(&str, &[At], &str)]) {
    for (name, history, wanted) in rows {
        assert_eq!(counts_of_last(history), *wanted, "{name}");
    }
}

#[test]
fn new_counters_and_processes_count_from_zero_or_start_here() {
    check(&[
        ("a series of a known process", &[at(1010, &[]), at(1025, &[("a", 7.0)])], "a:7"),
        (
            "a second series of a known process",
            &[at(1010, &[("a", 1.0)]), at(1025, &[("a", 2.0), ("b", 3.0)])],
            "a:1 b:3",
        ),
        ("a process that started after the rollout", &[at(1025, &[("a", 7.0)]).start(1001.0)], "a:7"),
        ("a process that started before it", &[at(1025, &[("a", 7.0)]).start(999.0)], "a:starts"),
        ("a pod that started after it", &[at(1025, &[("a", 7.0)]).pod(1001)], "a:7"),
        (
            "a new pod whose process is older than the rollout",
            &[at(1025, &[("a", 7.0)]).pod(1001).start(999.0)],
            "a:starts",
        ),
        ("a process whose start is not known", &[at(1025, &[("a", 7.0)])], "a:starts"),
        ("the reading after the first one", &[at(1010, &[("a", 7.0)]), at(1025, &[("a", 9.0)])], "a:2"),
    ]);
}

#[test]
fn a_fall_is_a_restart_only_with_evidence() {
    let before = || at(1010, &[("a", 9.0)]);
    check(&[
        (
            "no evidence",
            &[before(), at(1025, &[("a", 5.0)])],
            "counter web-1 a fell although its process had not restarted",
        ),
        ("a later start", &[before().start(500.0), at(1025, &[("a", 5.0)]).start(1015.0)], "a:5"),
        (
            "a later start, and more than before",
            &[before().start(500.0), at(1025, &[("a", 50.0)]).start(1015.0)],
            "a:50",
        ),
        (
            "the same start",
            &[before().start(500.0), at(1025, &[("a", 5.0)]).start(500.0)],
            "counter web-1 a fell although its process had not restarted",
        ),
        ("a start that differs by a second", &[before().start(500.0), at(1025, &[("a", 10.0)]).start(501.0)], "a:1"),
        ("a clock that was set, and a fall", &[before().start(500.0), at(1025, &[("a", 5.0)]).start(600.0)], "a:5"),
        (
            "a clock that was set, and no fall",
            &[before().start(500.0), at(1025, &[("a", 10.0)]).start(600.0)],
            "web-1: it restarted, and it is not known whether before or after its counters were read",
        ),
        ("one more restart", &[before().restarts(0), at(1025, &[("a", 5.0)]).restarts(1)], "a:5"),
        (
            "one more restart, and no fall",
            &[before().restarts(0), at(1025, &[("a", 12.0)]).restarts(1)],
            "web-1: it restarted, and it is not known whether before or after its counters were read",
        ),
        (
            "one more restart, and the counter was zero",
            &[at(1010, &[("a", 0.0)]).restarts(0), at(1025, &[("a", 12.0)]).restarts(1)],
            "a:12",
        ),
        (
            "the fall comes one reading after the restart is reported",
            &[before().restarts(0), at(1025, &[("a", 12.0)]).restarts(1), at(1040, &[("a", 3.0)]).restarts(1)],
            "a:3",
        ),
        (
            "a restart that an earlier reading includes",
            &[
                before().restarts(0),
                at(1025, &[("a", 12.0)]).restarts(1),
                at(1060, &[("a", 13.0)]).restarts(1),
                at(1075, &[("a", 15.0)]).restarts(1),
            ],
            "a:2",
        ),
        (
            "a series that the new process lacks",
            &[at(1010, &[("a", 9.0), ("b", 1.0)]).start(500.0), at(1025, &[("a", 5.0)]).start(1015.0)],
            "a:5",
        ),
        (
            "a Prometheus replica that is behind, and back again",
            &[before(), at(1025, &[("a", 8.0)]), at(1040, &[("a", 11.0)])],
            "a:2",
        ),
        ("a Prometheus replica that is behind", &[before(), at(1025, &[("a", 8.0)])], "nothing"),
        (
            "a replica that is behind twice in a row",
            &[before(), at(1025, &[("a", 8.0)]), at(1040, &[("a", 8.0)])],
            "counter web-1 a fell although its process had not restarted",
        ),
    ]);
}

/// Two replicas of which one is behind, and another reading of the replica that is behind before the one that is ahead: from 100 the
/// count is the 10 that are new, and not the 12 or 11 since a value that was seen late.
#[test]
fn after_a_flip_back_no_request_counts_twice() {
    let counter = |values: &[f64]| {
        let history: Vec<At> = (0..).zip(values).map(|(n, value)| at(1010 + 15 * n, &[("a", *value)])).collect();
        counts_of_last(&history)
    };
    assert_eq!(counter(&[100.0, 98.0, 110.0]), "a:10");
    assert_eq!(counter(&[100.0, 98.0, 99.0]), "counter web-1 a fell although its process had not restarted");
    assert_eq!(counter(&[100.0, 98.0, 99.0, 110.0]), "a:10");
    // A young counter falls by more: from 20 the new requests are 10, and not the 18 since the value that was seen late.
    assert_eq!(counter(&[20.0, 12.0]), "counter web-1 a fell although its process had not restarted");
    assert_eq!(counter(&[20.0, 12.0, 30.0]), "the counters' starting values are not known");
    assert_eq!(counter(&[20.0, 12.0, 30.0, 34.0]), "a:4");
    assert_eq!(counter(&[20.0, 3.0, 7.0]), "a:4", "it has stayed below, so it was restarted");
}

/// A store of two Prometheus replicas, of which one is a little behind: no reading of it may void the block or count twice.
#[test]
fn replicas_that_alternate_add_up_to_the_true_total() {
    let values = [78988.0, 78989.0, 78988.0, 78995.0, 79001.0, 79000.0, 79007.0];
    let history: Vec<At> = (0..).zip(values).map(|(n, value)| at(1010 + 15 * n, &[("a", value)])).collect();
    let counts: Vec<String> = (2..=history.len()).map(|n| counts_of_last(&history[..n])).collect();
    assert_eq!(counts, ["a:1", "nothing", "a:6", "a:6", "nothing", "a:6"]);
}

#[test]
fn a_series_that_disappears_is_a_gap_while_its_process_goes_on() {
    let two = || at(1010, &[("a", 9.0), ("b", 1.0)]);
    check(&[
        ("a series", &[two(), at(1025, &[("a", 9.0)])], "series web-1 b disappeared although its process goes on"),
        ("the reading after that", &[two(), at(1025, &[("a", 9.0)]), at(1040, &[("a", 11.0)])], "a:2"),
        (
            "a series that is back",
            &[two(), at(1025, &[("a", 9.0)]), at(1040, &[("a", 11.0), ("b", 5.0)])],
            "the counters' starting values are not known",
        ),
        (
            "one of several series of a sum",
            &[at(1010, &[("a", 9.0)]).members(3), at(1025, &[("a", 20.0)]).members(2)],
            "series web-1 a disappeared although its process goes on",
        ),
        (
            "one more series of a sum",
            &[at(1010, &[("a", 9.0)]).members(2), at(1025, &[("a", 20.0)]).members(3)],
            "a:11",
        ),
        ("its process as well", &[two(), at(1025, &[]).gone()], "nothing"),
        ("its process, while its series remain", &[two(), at(1025, &[("a", 9.0), ("b", 1.0)]).gone()], "nothing"),
        ("a scrape that fails", &[two(), at(1025, &[]).down()], "nothing"),
        (
            "the first scrape after one that failed",
            &[two(), at(1025, &[]).down(), at(1040, &[("a", 19.0), ("b", 1.0)])],
            "a:10 b:0",
        ),
        (
            "a restart during a scrape that failed",
            &[two().start(1.0), at(1025, &[]).down(), at(1040, &[("a", 19.0)]).start(1030.0)],
            "a:19",
        ),
    ]);
}

#[test]
fn a_value_that_is_not_a_count_is_a_gap() {
    let before = || at(1010, &[("a", 9.0)]);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 10.5, 2f64.powi(54)] {
        assert_eq!(
            counts_of_last(&[before(), at(1025, &[("a", value)])]),
            "web-1 a is not a number that can be counted with",
            "{value}"
        );
    }
    check(&[
        ("a rounding error", &[before(), at(1025, &[("a", 10.000_000_1)])], "a:1"),
        (
            "the first reading after NaN",
            &[before(), at(1025, &[("a", f64::NAN)]), at(1040, &[("a", 11.0)])],
            "the counters' starting values are not known",
        ),
        (
            "the second reading after NaN",
            &[before(), at(1025, &[("a", f64::NAN)]), at(1040, &[("a", 11.0)]), at(1055, &[("a", 12.0)])],
            "a:1",
        ),
        (
            "the largest count of a float",
            &[at(1010, &[("a", 0.0)]), at(1025, &[("a", 9_007_199_254_740_992.0)])],
            "a:9007199254740992",
        ),
    ]);
}

#[test]
fn a_process_with_new_labels_is_not_counted_twice() {
    let second = |second| Timestamp::from_second(second).unwrap();
    for (started_before, started_now, wanted) in [
        (None, None, Err(Gap::NoBaseline)),
        (Some(1001.0), Some(1001.0), Err(Gap::NoBaseline)),
        (Some(1001.0), Some(1015.0), Ok(12)),
    ] {
        let mut memory = Memory::default();
        let mut counts = BTreeMap::new();
        for (at, instance, value, started) in
            [(1010, "old:80", 9.0, started_before), (1025, "new:80", 12.0, started_now)]
        {
            let process: Process = ["shop", "web-1", instance].map(str::to_owned).to_vec();
            let cells = BTreeMap::from([(Class::from(ClassLabels::default()), Cell { value, members: 1 })]);
            let snapshot = Snapshot(BTreeMap::from([(process.clone(), Ok(cells))]));
            let target = Target { up: true, scraped: at as f64, started, pushed: false };
            let pod = Some(("shop".to_owned(), "web-1".to_owned()));
            let facts = |_: &Process| ProcessFacts { pod: pod.clone(), started: Some(second(1001)), restarts: None };
            let context = ReadingContext {
                since: second(1000),
                at: second(at),
                facts_lead: Span::ZERO,
                warm_up: Span::ZERO,
                buckets: BucketKind::None,
            };
            (memory, counts) = memory.advance(&snapshot, &Some(BTreeMap::from([(process, target)])), &facts, context);
        }
        let total: Result<u64, Gap> =
            counts.into_values().map(|one| one.map(|own| own.values().flatten().sum::<u64>())).sum();
        assert_eq!(total, wanted, "{started_before:?} {started_now:?}");
    }
}
