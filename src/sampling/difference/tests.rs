//! Every rule of the differences is a row: what was, what is, what is known of the process, and what follows.

use super::*;

/// One process at one reading: its counters by class, and what is known of it.
#[derive(Clone, Default)]
struct At {
    series: Vec<(&'static str, f64, u64)>,
    up: Option<bool>,
    start: Option<f64>,
    restarts: Option<u32>,
    pod_started: Option<i64>,
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

/// The last of the readings: what it counted, or its gap in words.
fn last(history: &[At]) -> String {
    let process: Process = vec!["web-1".to_owned()];
    let (mut memory, mut result) = (Memory::default(), None);
    for look in history {
        let cells = look.series.iter().map(|(class, value, members)| {
            let class = Class { values: vec![(*class).to_owned()], ..Class::default() };
            (class, Cell { value: *value, members: *members })
        });
        let cells: BTreeMap<Class, Cell> = cells.collect();
        let snapshot = if cells.is_empty() {
            Snapshot::default()
        } else {
            Snapshot(BTreeMap::from([(process.clone(), Ok(cells))]))
        };
        let target = look.up.map(|up| Target { up, scraped: look.second as f64, started: look.start });
        let targets: Targets = Some(target.into_iter().map(|target| (process.clone(), target)).collect());
        let second = |second| Timestamp::from_second(second).unwrap();
        let facts =
            |_: &Process| ProcessFacts { pod: None, started: look.pod_started.map(second), restarts: look.restarts };
        let setting = Setting {
            since: second(1000),
            at: second(look.second),
            behind: Span::from_secs(20),
            buckets: Buckets::None,
        };
        let counted;
        (memory, counted) = memory.advance(&snapshot, &targets, &facts, setting);
        result = counted.get(&process).cloned();
    }
    match result {
        None => "nothing".to_owned(),
        Some(Err(gap)) => gap.to_string(),
        Some(Ok(counts)) => {
            let counts = counts.iter().map(|(class, count)| match count {
                Some(count) => format!("{}:{count}", class.values[0]),
                None => format!("{}:begins", class.values[0]),
            });
            counts.collect::<Vec<_>>().join(" ")
        }
    }
}

fn check(rows: &[(&str, &[At], &str)]) {
    for (what, history, wanted) in rows {
        assert_eq!(last(history), *wanted, "{what}");
    }
}

#[test]
fn what_is_new_counts_from_zero_or_begins() {
    check(&[
        ("a series of a known process", &[at(1010, &[]), at(1025, &[("a", 7.0)])], "a:7"),
        (
            "a second series of a known process",
            &[at(1010, &[("a", 1.0)]), at(1025, &[("a", 2.0), ("b", 3.0)])],
            "a:1 b:3",
        ),
        ("a process that started after the rollout", &[at(1025, &[("a", 7.0)]).start(1001.0)], "a:7"),
        ("a process that started before it", &[at(1025, &[("a", 7.0)]).start(999.0)], "a:begins"),
        ("a pod that started after it", &[at(1025, &[("a", 7.0)]).pod(1001)], "a:7"),
        (
            "a new pod whose process is older than the rollout",
            &[at(1025, &[("a", 7.0)]).pod(1001).start(999.0)],
            "a:begins",
        ),
        ("nobody knows since when", &[at(1025, &[("a", 7.0)])], "a:begins"),
        ("one that began goes on", &[at(1010, &[("a", 7.0)]), at(1025, &[("a", 9.0)])], "a:2"),
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
        ("a start that wavers by a second", &[before().start(500.0), at(1025, &[("a", 10.0)]).start(501.0)], "a:1"),
        ("a clock that was set, and a fall", &[before().start(500.0), at(1025, &[("a", 5.0)]).start(600.0)], "a:5"),
        (
            "a clock that was set, and no fall",
            &[before().start(500.0), at(1025, &[("a", 10.0)]).start(600.0)],
            "web-1: it restarted, and nothing says whether before or after its counters were read",
        ),
        ("one more restart", &[before().restarts(0), at(1025, &[("a", 5.0)]).restarts(1)], "a:5"),
        (
            "one more restart, and no fall",
            &[before().restarts(0), at(1025, &[("a", 12.0)]).restarts(1)],
            "web-1: it restarted, and nothing says whether before or after its counters were read",
        ),
        (
            "from zero it is the same",
            &[at(1010, &[("a", 0.0)]).restarts(0), at(1025, &[("a", 12.0)]).restarts(1)],
            "a:12",
        ),
        (
            "the fall comes a reading after the news",
            &[before().restarts(0), at(1025, &[("a", 12.0)]).restarts(1), at(1040, &[("a", 3.0)]).restarts(1)],
            "a:3",
        ),
        (
            "the news are old: it is in the reading before",
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
            "a replica that is behind, and back again",
            &[before(), at(1025, &[("a", 8.0)]), at(1040, &[("a", 11.0)])],
            "a:3",
        ),
    ]);
}

#[test]
fn what_disappears_is_a_gap_while_its_process_goes_on() {
    let two = || at(1010, &[("a", 9.0), ("b", 1.0)]);
    check(&[
        ("a series", &[two(), at(1025, &[("a", 9.0)])], "series web-1 b disappeared although its process goes on"),
        ("and it is said once", &[two(), at(1025, &[("a", 9.0)]), at(1040, &[("a", 11.0)])], "a:2"),
        (
            "and when it is back it begins",
            &[two(), at(1025, &[("a", 9.0)]), at(1040, &[("a", 11.0), ("b", 5.0)])],
            "the counters' starting values are not known",
        ),
        (
            "one of several behind a sum",
            &[at(1010, &[("a", 9.0)]).members(3), at(1025, &[("a", 20.0)]).members(2)],
            "series web-1 a disappeared although its process goes on",
        ),
        ("one more behind a sum", &[at(1010, &[("a", 9.0)]).members(2), at(1025, &[("a", 20.0)]).members(3)], "a:11"),
        ("the process with it", &[two(), at(1025, &[]).gone()], "nothing"),
        ("the process, while its series linger", &[two(), at(1025, &[("a", 9.0), ("b", 1.0)]).gone()], "nothing"),
        ("a scrape that fails", &[two(), at(1025, &[]).down()], "nothing"),
        ("and it is made up for", &[two(), at(1025, &[]).down(), at(1040, &[("a", 19.0), ("b", 1.0)])], "a:10 b:0"),
        (
            "unless it was a restart",
            &[two().start(1.0), at(1025, &[]).down(), at(1040, &[("a", 19.0)]).start(1030.0)],
            "a:19",
        ),
    ]);
}

#[test]
fn what_is_no_count_is_a_gap() {
    let before = || at(1010, &[("a", 9.0)]);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 10.5, 2f64.powi(54)] {
        assert_eq!(
            last(&[before(), at(1025, &[("a", value)])]),
            "web-1 a is not a number that can be counted with",
            "{value}"
        );
    }
    check(&[
        ("a rounding error", &[before(), at(1025, &[("a", 10.000_000_1)])], "a:1"),
        (
            "the first after it",
            &[before(), at(1025, &[("a", f64::NAN)]), at(1040, &[("a", 11.0)])],
            "the counters' starting values are not known",
        ),
        (
            "and the second",
            &[before(), at(1025, &[("a", f64::NAN)]), at(1040, &[("a", 11.0)]), at(1055, &[("a", 12.0)])],
            "a:1",
        ),
        (
            "as many as a float can hold",
            &[at(1010, &[("a", 0.0)]), at(1025, &[("a", 9_007_199_254_740_992.0)])],
            "a:9007199254740992",
        ),
    ]);
}

#[test]
fn a_process_under_a_new_name_is_not_counted_twice() {
    let second = |second| Timestamp::from_second(second).unwrap();
    for (was, is, wanted) in [
        (None, None, Err(Gap::NoBaseline)),
        (Some(1001.0), Some(1001.0), Err(Gap::NoBaseline)),
        (Some(1001.0), Some(1015.0), Ok(12)),
    ] {
        let mut memory = Memory::default();
        let mut counted = BTreeMap::new();
        for (at, instance, value, started) in [(1010, "old:80", 9.0, was), (1025, "new:80", 12.0, is)] {
            let process: Process = ["shop", "web-1", instance].map(str::to_owned).to_vec();
            let cells = BTreeMap::from([(Class::default(), Cell { value, members: 1 })]);
            let snapshot = Snapshot(BTreeMap::from([(process.clone(), Ok(cells))]));
            let target = Target { up: true, scraped: at as f64, started };
            let pod = Some(("shop".to_owned(), "web-1".to_owned()));
            let facts = |_: &Process| ProcessFacts { pod: pod.clone(), started: Some(second(1001)), restarts: None };
            let setting = Setting { since: second(1000), at: second(at), behind: Span::ZERO, buckets: Buckets::None };
            (memory, counted) = memory.advance(&snapshot, &Some(BTreeMap::from([(process, target)])), &facts, setting);
        }
        let all: Result<u64, Gap> =
            counted.into_values().map(|one| one.map(|own| own.values().flatten().sum::<u64>())).sum();
        assert_eq!(all, wanted, "{was:?} {is:?}");
    }
}
