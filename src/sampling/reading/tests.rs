//! The samples of both arms, from buckets in every spelling and from hits of a family of their own.

use expect_test::{Expect, expect};

use super::super::plan::{Family, PART, SeriesSource};
use super::*;
use crate::ports::SeriesPoint;
use crate::sampling::snapshot::ClassLabels;

const NO_IDLE: BTreeSet<Process> = BTreeSet::new();
const HISTOGRAM: &str = "kind = \"histogram\"\nseries = \"seconds\"";

#[test]
fn buckets_become_counts() {
    check_buckets(&[("0.1", 3.0), ("0.5", 5.0), ("+Inf", 6.0)], expect!["[0.1, 0.5] [3, 2, 1]"]);
    check_buckets(&[("1", 3.0), ("10", 5.0), ("2.0", 4.0), ("+Inf", 5.0)], expect!["[1.0, 2.0, 10.0] [3, 1, 1, 0]"]);
    check_buckets(&[("+Inf", 5.0)], expect!["[] [5]"]);
    check_buckets(&[("0.1", 3.0), ("0.5", 5.0)], expect!["web-1: a histogram has no +Inf bucket"]);
    check_buckets(
        &[("0.1", 7.0), ("0.5", 5.0), ("+Inf", 8.0)],
        expect!["bucket 0.5 has counted less than the one below"],
    );
    check_buckets(&[("high", 7.0), ("+Inf", 8.0)], expect![[r#"web-1: "high" is not a bucket's bound"#]]);
    check_buckets(&[("0.1", f64::NAN), ("+Inf", 8.0)], expect!["web-1 0.1 is not a number that can be counted with"]);
}

#[test]
fn a_bound_spelled_twice_is_one_bucket() {
    // An upgrade of Prometheus: the series of the old spelling remains for a while.
    check_buckets(&[("1", 3.0), ("1.0", 4.0), ("+Inf", 6.0)], expect!["[1.0] [4, 2]"]);
    // Two libraries in one process, each with one histogram.
    let one = |le, value| (le, value, 1);
    check_members(&[one("1", 3.0), one("1.0", 4.0), ("+Inf", 9.0, 2)], expect!["[1.0] [7, 2]"]);
    check_members(
        &[("0.5", 3.0, 1), ("1", 4.0, 2), ("+Inf", 9.0, 2)],
        expect!["web-1: the histograms of one process have different buckets, so they can't be added up"],
    );
}

#[test]
fn processes_with_different_buckets_have_no_sum() {
    let metric: Metric = toml::from_str(HISTOGRAM).unwrap();
    let buckets = |values: &[(&str, u64)]| -> ProcessCounts {
        let class = |le: &str| Class::from(ClassLabels { values: vec![le.to_owned()], ..ClassLabels::default() });
        Ok(values.iter().map(|(le, count)| (class(le), Some(*count))).collect())
    };
    let process_counts = BTreeMap::from([
        (vec!["web-1".to_owned()], buckets(&[("1", 1), ("+Inf", 2)])),
        (vec!["web-2".to_owned()], buckets(&[("2", 1), ("+Inf", 2)])),
    ]);
    let counts = ArmCounts {
        labels: &["le".to_owned()],
        counts: &all_of(&process_counts),
        idle: &NO_IDLE,
        arm_of: &|_, _| Some(ArmReading::Stable),
        arms_by_class: false,
    };
    let problem = "the arm's processes have different buckets".to_owned();
    assert_eq!(counted_sample(&metric, &counts, None), Sample::Gap(Gap::Malformed { problem }));
}

#[test]
fn hits_are_found_by_their_label() {
    for (hits, wanted) in [
        (r#"{ label = "code", matches = "5.." }"#, 4),
        (r#"{ label = "code", matches = "5" }"#, 0),
        (r#"{ label = "code", not = "2..|4.." }"#, 5),
        (r#"{ label = "code", matches = "(?i)CANCELLED" }"#, 1),
    ] {
        let metric: Metric = toml::from_str(&format!("kind = \"ratio\"\nseries = \"x\"\nhits = {hits}")).unwrap();
        let process_counts =
            by_code(&[("200", Some(10)), ("500", Some(3)), ("503", Some(1)), ("404", None), ("cancelled", Some(1))]);
        let counts = ArmCounts {
            idle: &NO_IDLE,
            labels: &["code".to_owned()],
            counts: &all_of(&process_counts),
            arm_of: &|_, _| Some(ArmReading::Stable),
            arms_by_class: false,
        };
        let stable = Some(Reading::Ratio { hits: wanted, total: 15 });
        assert_eq!(counted_sample(&metric, &counts, None), Sample::Arms { canary: None, stable }, "{hits}");
    }
}

/// A version that drops or renames the label would be shown free of errors.
#[test]
fn an_arm_without_the_label_that_the_other_has_is_a_gap_and_not_free_of_errors() {
    let arm_of: ArmOf<'_> =
        &|process, _| Some(if process[0] == "web-1" { ArmReading::Stable } else { ArmReading::Canary });
    let ratio = |hits, total| Some(Reading::Ratio { hits, total });
    let gap = |arm: &str| {
        let problem = format!("the {arm}'s series have no label code, and the other arm's have it");
        Sample::Gap(Gap::Malformed { problem })
    };
    let codes: &[(&'static str, Option<u64>)] = &[("200", Some(10)), ("500", Some(1))];
    let none: &[(&'static str, Option<u64>)] = &[("", Some(7))];
    let timeout: &[(&'static str, Option<u64>)] = &[("", Some(7)), ("timeout", Some(2))];
    for (hits, stable, canary, wanted) in [
        (r#"matches = "5..""#, codes, none, gap("canary")),
        (r#"matches = "5..""#, none, codes, gap("stable")),
        (r#"not = "5..""#, codes, none, gap("canary")),
        (r#"matches = "5..|""#, codes, none, Sample::Arms { canary: ratio(7, 7), stable: ratio(1, 11) }),
        (r#"matches = ".+""#, none, timeout, Sample::Arms { canary: ratio(2, 9), stable: ratio(0, 7) }),
        (r#"matches = "5..""#, none, none, Sample::Arms { canary: ratio(0, 7), stable: ratio(0, 7) }),
        (r#"matches = "5..""#, codes, &[], Sample::Arms { canary: None, stable: ratio(1, 11) }),
    ] {
        let hits = format!("kind = \"ratio\"\nseries = \"x\"\nhits = {{ label = \"code\", {hits} }}");
        let metric: Metric = toml::from_str(&hits).unwrap();
        let mut process_counts = by_code(stable);
        let canary = by_code(canary).into_values().map(|counts| (vec!["web-canary-1".to_owned()], counts));
        process_counts.extend(canary);
        let counts = ArmCounts {
            labels: &["code".to_owned()],
            counts: &all_of(&process_counts),
            idle: &NO_IDLE,
            arm_of,
            arms_by_class: false,
        };
        assert_eq!(counted_sample(&metric, &counts, None), wanted, "{hits}");
    }
}

#[test]
fn a_scraped_arm_without_series_beside_one_with_requests_had_none() {
    let histogram = Reading::Histogram { edges: vec![1.0], counts: vec![3, 2] };
    let no_requests = Reading::Histogram { edges: vec![1.0], counts: vec![0, 0] };
    let buckets = by_bucket(&[("1", 3), ("+Inf", 5)]);
    let codes = by_code(&[("200", Some(10)), ("500", Some(3))]);
    let hits = r#"{ label = "code", matches = "5.." }"#;
    let ratio = format!("kind = \"ratio\"\nseries = \"x\"\nhits = {hits}");
    let arm_of: ArmOf<'_> =
        &|process, _| Some(if process[0].contains("canary") { ArmReading::Canary } else { ArmReading::Stable });
    let canary = BTreeSet::from([vec!["web-canary-1".to_owned()]]);
    for (metric, label, process_counts, stable, zero) in [
        (HISTOGRAM, "le", &buckets, histogram, no_requests),
        (&ratio, "code", &codes, Reading::Ratio { hits: 3, total: 13 }, Reading::Ratio { hits: 0, total: 0 }),
    ] {
        let metric: Metric = toml::from_str(metric).unwrap();
        for (idle, seen) in [(&canary, Some(zero)), (&NO_IDLE, None)] {
            let counts = ArmCounts {
                labels: &[label.to_owned()],
                counts: &all_of(process_counts),
                idle,
                arm_of,
                arms_by_class: false,
            };
            let wanted = Sample::Arms { canary: seen, stable: Some(stable.clone()) };
            assert_eq!(counted_sample(&metric, &counts, None), wanted, "{label}");
        }
        let counts =
            ArmCounts { labels: &[label.to_owned()], counts: &[], idle: &canary, arm_of, arms_by_class: false };
        let unknown = Sample::Arms { canary: None, stable: None };
        assert_eq!(counted_sample(&metric, &counts, None), unknown, "no series at all may be another name: {label}");
    }
}

fn all_of(counts: &BTreeMap<Process, ProcessCounts>) -> Vec<(&Process, &ProcessCounts)> {
    counts.iter().collect()
}

fn by_bucket(buckets: &[(&str, u64)]) -> BTreeMap<Process, ProcessCounts> {
    by_code(&buckets.iter().map(|(le, count)| (*le, Some(*count))).collect::<Vec<_>>())
}

#[test]
fn hits_that_are_counted_apart_are_a_part_of_the_whole() {
    let metric: Metric = toml::from_str("kind = \"ratio\"\nseries = \"x\"\nhits = { series = \"y\" }").unwrap();
    let none = BTreeMap::new();
    let sample = |all: &BTreeMap<Process, ProcessCounts>, hits: &BTreeMap<Process, ProcessCounts>| {
        let arm_of: ArmOf<'_> = &|_, _| Some(ArmReading::Canary);
        let all = ArmCounts { labels: &[], counts: &all_of(all), idle: &NO_IDLE, arm_of, arms_by_class: false };
        counted_sample(
            &metric,
            &all,
            Some(&ArmCounts { labels: &[], counts: &all_of(hits), idle: &NO_IDLE, arm_of, arms_by_class: false }),
        )
    };
    let ratio = |hits, total| Sample::Arms { canary: Some(Reading::Ratio { hits, total }), stable: None };
    let gap = |what: &str| Sample::Gap(Gap::Malformed { problem: what.to_owned() });
    assert_eq!(sample(&by_code(&[("", Some(9))]), &none), ratio(0, 9), "no series of hits yet");
    assert_eq!(sample(&by_code(&[("", Some(9))]), &by_code(&[("", Some(2))])), ratio(2, 9));
    assert_eq!(
        sample(&by_code(&[("", Some(1))]), &by_code(&[("", Some(2))])),
        gap("2 hits of a total of 1: the hits are not a part of the total")
    );
    assert_eq!(sample(&none, &by_code(&[("", Some(2))])), gap("web-1 counts hits, but no total"));
    assert_eq!(sample(&none, &none), Sample::Arms { canary: None, stable: None }, "no series at all is not zero");
}

#[test]
fn each_pod_of_an_arm_has_a_reading_and_a_gateways_processes_have_none() {
    let hits = r#"{ label = "code", matches = "5.." }"#;
    let metric: Metric = toml::from_str(&format!("kind = \"ratio\"\nseries = \"x\"\nhits = {hits}")).unwrap();
    let mut process_counts = by_code(&[("200", Some(10)), ("500", Some(3))]);
    for (name, ok, bad) in [("web-2", 7, 0), ("web-canary-1", 1, 1)] {
        let own = by_code(&[("200", Some(ok)), ("500", Some(bad))]).into_values().next().unwrap();
        process_counts.insert(vec![name.to_owned()], own);
    }
    process_counts.insert(vec!["web-3".to_owned()], Err(Gap::NoBaseline));
    let arm_of: ArmOf<'_> =
        &|process, _| Some(if process[0].contains("canary") { ArmReading::Canary } else { ArmReading::Stable });
    let counts = ArmCounts {
        labels: &["code".to_owned()],
        counts: &all_of(&process_counts),
        idle: &NO_IDLE,
        arm_of,
        arms_by_class: false,
    };
    let ratio = |hits, total| Reading::Ratio { hits, total };
    let pod_readings = |metric: &Metric, arm| -> Vec<(String, Reading)> {
        part_readings(metric, &counts, None, arm, |process| process.first().cloned()).into_iter().collect()
    };
    let pods = [("web-1", ratio(3, 13)), ("web-2", ratio(0, 7))].map(|(name, reading)| (name.to_owned(), reading));
    assert_eq!(pod_readings(&metric, ArmReading::Stable), pods);
    assert_eq!(pod_readings(&metric, ArmReading::Canary), [("web-canary-1".to_owned(), ratio(1, 2))]);
    let both =
        part_readings(&metric, &counts, None, ArmReading::Stable, |process| (process[0] != "web-3").then_some(()));
    assert_eq!(both, BTreeMap::from([((), ratio(3, 20))]), "two processes of one pod are one");
    let arms = ArmSource::Service { label: "service".to_owned(), value: "{{service}}".to_owned() };
    assert_eq!(pod_readings(&Metric { arms, ..metric.clone() }, ArmReading::Stable), []);
}

#[test]
fn a_gap_of_one_arm_is_a_gap_of_both_and_other_processes_do_not_count() {
    let metric: Metric = toml::from_str("kind = \"throughput\"\nseries = \"x\"").unwrap();
    let mut process_counts = by_code(&[("", Some(3))]);
    process_counts.insert(vec!["web-2".to_owned()], Err(Gap::NoBaseline));
    for (other, wanted) in [
        (Some(ArmReading::Canary), Sample::Gap(Gap::NoBaseline)),
        (None, Sample::Arms { canary: None, stable: Some(Reading::Count(3)) }),
    ] {
        let arm_of =
            |process: &Process, _: Option<&Class>| if process[0] == "web-1" { Some(ArmReading::Stable) } else { other };
        assert_eq!(
            counted_sample(
                &metric,
                &ArmCounts {
                    labels: &[],
                    counts: &all_of(&process_counts),
                    idle: &NO_IDLE,
                    arm_of: &arm_of,
                    arms_by_class: false
                },
                None
            ),
            wanted
        );
    }
}

fn by_code(counts: &[(&str, Option<u64>)]) -> BTreeMap<Process, ProcessCounts> {
    let class = |code: &str| Class::from(ClassLabels { values: vec![code.to_owned()], ..ClassLabels::default() });
    BTreeMap::from([(vec!["web-1".to_owned()], Ok(counts.iter().map(|(code, count)| (class(code), *count)).collect()))])
}

fn check_buckets(buckets: &[(&str, f64)], expected: Expect) {
    let members: Vec<(&str, f64, u64)> = buckets.iter().map(|(le, value)| (*le, *value, 1)).collect();
    check_members(&members, expected);
}

/// Checks the sample of a process that had no series and then has these buckets, as (bound, value, number of series).
fn check_members(buckets: &[(&str, f64, u64)], expected: Expect) {
    use super::super::difference::{BucketKind, Memory, ProcessFacts, ReadingContext};
    use super::super::snapshot::{Target, Targets};
    use bellwether_core::time::{Span, Timestamp};

    let metric: Metric = toml::from_str(HISTOGRAM).unwrap();
    let (process, pod, namespace) = (vec!["pod".to_owned()], "pod".to_owned(), Some("namespace".to_owned()));
    let source = SeriesSource { process, targets: None, pod, namespace, service: None };
    let family = Family { series: "seconds_bucket".to_owned(), matching: None, source, counter: true, native: false };
    let labels = ["le".to_owned()];
    let points: Vec<SeriesPoint> = buckets
        .iter()
        .flat_map(|(le, value, members)| {
            let own = BTreeMap::from([("pod".to_owned(), "web-1".to_owned()), ("le".to_owned(), (*le).to_owned())]);
            let mut marked = own.clone();
            marked.insert(PART.to_owned(), "members".to_owned());
            [SeriesPoint::number(own, *value), SeriesPoint::number(marked, *members as f64)]
        })
        .collect();
    let target = Target { up: true, scraped: 1.0, started: None, pushed: false };
    let targets: Targets = Some(BTreeMap::from([(vec!["web-1".to_owned()], target)]));
    let epoch = Timestamp::UNIX_EPOCH;
    let context = ReadingContext {
        since: epoch,
        at: epoch,
        facts_lead: Span::ZERO,
        warm_up: Span::ZERO,
        buckets: BucketKind::Classic,
    };
    let facts = |_: &Process| ProcessFacts::default();
    let (memory, _) = Memory::default().advance(&Snapshot::default(), &targets, &facts, context);
    let snapshot = Snapshot::read(&family, &labels, &points.iter().collect::<Vec<_>>());
    let (_, process_counts) = memory.advance(&snapshot, &targets, &facts, context);
    let counts = ArmCounts {
        labels: &labels,
        counts: &all_of(&process_counts),
        idle: &NO_IDLE,
        arm_of: &|_, _| Some(ArmReading::Stable),
        arms_by_class: false,
    };
    let text = match counted_sample(&metric, &counts, None) {
        Sample::Arms { stable: Some(Reading::Histogram { edges, counts }), .. } => format!("{edges:?} {counts:?}"),
        Sample::Gap(gap) => gap.to_string(),
        other => format!("{other:?}"),
    };
    expected.assert_eq(&text);
}
