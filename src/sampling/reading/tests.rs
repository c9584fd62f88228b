//! What the arms are said to have counted, from buckets in every spelling and hits that are counted apart.

use expect_test::{Expect, expect};

use super::super::plan::{Family, PART, SeriesSource};
use super::*;
use crate::ports::SeriesPoint;

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
    // An upgrade of Prometheus: the old spelling lingers.
    check_buckets(&[("1", 3.0), ("1.0", 4.0), ("+Inf", 6.0)], expect!["[1.0] [4, 2]"]);
    // Two libraries in one process, of which each has one histogram.
    let two = |le, value| (le, value, 1);
    check_members(&[two("1", 3.0), two("1.0", 4.0), ("+Inf", 9.0, 2)], expect!["[1.0] [7, 2]"]);
    check_members(
        &[("0.5", 3.0, 1), ("1", 4.0, 2), ("+Inf", 9.0, 2)],
        expect!["web-1: the histograms of one process have different buckets, so that their sum is none"],
    );
}

#[test]
fn processes_with_different_buckets_have_no_sum() {
    let metric: Metric = toml::from_str(HISTOGRAM).unwrap();
    let bucket = |values: &[(&str, u64)]| -> Counted {
        let class = |le: &str| Class { values: vec![le.to_owned()], ..Class::default() };
        Ok(values.iter().map(|(le, count)| (class(le), Some(*count))).collect())
    };
    let counted_by = BTreeMap::from([
        (vec!["web-1".to_owned()], bucket(&[("1", 1), ("+Inf", 2)])),
        (vec!["web-2".to_owned()], bucket(&[("2", 1), ("+Inf", 2)])),
    ]);
    let counts =
        ArmCounts { labels: &["le".to_owned()], counted: &counted_by, whose: &|_, _| Some(ArmReading::Stable) };
    let what = "the arm's processes have different buckets".to_owned();
    assert_eq!(counted(&metric, &counts, None), Sample::Gap(Gap::Malformed { what }));
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
        let counted_by =
            by_code(&[("200", Some(10)), ("500", Some(3)), ("503", Some(1)), ("404", None), ("cancelled", Some(1))]);
        let counts =
            ArmCounts { labels: &["code".to_owned()], counted: &counted_by, whose: &|_, _| Some(ArmReading::Stable) };
        let stable = Some(Reading::Ratio { hits: wanted, total: 15 });
        assert_eq!(counted(&metric, &counts, None), Sample::Arms { canary: None, stable }, "{hits}");
    }
}

#[test]
fn hits_that_are_counted_apart_are_a_part_of_the_whole() {
    let metric: Metric = toml::from_str("kind = \"ratio\"\nseries = \"x\"\nhits = { series = \"y\" }").unwrap();
    let none = BTreeMap::new();
    let row = |all: &BTreeMap<Process, Counted>, hits: &BTreeMap<Process, Counted>| {
        let whose: Whose<'_> = &|_, _| Some(ArmReading::Canary);
        let all = ArmCounts { labels: &[], counted: all, whose };
        counted(&metric, &all, Some(&ArmCounts { labels: &[], counted: hits, whose }))
    };
    let ratio = |hits, total| Sample::Arms { canary: Some(Reading::Ratio { hits, total }), stable: None };
    let gap = |what: &str| Sample::Gap(Gap::Malformed { what: what.to_owned() });
    assert_eq!(row(&by_code(&[("", Some(9))]), &none), ratio(0, 9), "no series of hits yet");
    assert_eq!(row(&by_code(&[("", Some(9))]), &by_code(&[("", Some(2))])), ratio(2, 9));
    assert_eq!(
        row(&by_code(&[("", Some(1))]), &by_code(&[("", Some(2))])),
        gap("2 hits of 1: the one is not a part of the other")
    );
    assert_eq!(row(&none, &by_code(&[("", Some(2))])), gap("web-1 counts hits, but not what they are hits of"));
    assert_eq!(row(&none, &none), Sample::Arms { canary: None, stable: None }, "no series at all is not zero");
}

#[test]
fn each_pod_of_an_arm_is_told_by_itself_and_a_gateways_processes_are_not() {
    let hits = r#"{ label = "code", matches = "5.." }"#;
    let metric: Metric = toml::from_str(&format!("kind = \"ratio\"\nseries = \"x\"\nhits = {hits}")).unwrap();
    let mut counted_by = by_code(&[("200", Some(10)), ("500", Some(3))]);
    for (name, ok, bad) in [("web-2", 7, 0), ("web-canary-1", 1, 1)] {
        let own = by_code(&[("200", Some(ok)), ("500", Some(bad))]).into_values().next().unwrap();
        counted_by.insert(vec![name.to_owned()], own);
    }
    counted_by.insert(vec!["web-3".to_owned()], Err(Gap::NoBaseline));
    let whose: Whose<'_> =
        &|process, _| Some(if process[0].contains("canary") { ArmReading::Canary } else { ArmReading::Stable });
    let counts = ArmCounts { labels: &["code".to_owned()], counted: &counted_by, whose };
    let ratio = |hits, total| Reading::Ratio { hits, total };
    let named = |metric: &Metric, arm| -> Vec<(String, Reading)> {
        parts(metric, &counts, None, arm, |process| process.first().cloned()).into_iter().collect()
    };
    let pods = [("web-1", ratio(3, 13)), ("web-2", ratio(0, 7))].map(|(name, counted)| (name.to_owned(), counted));
    assert_eq!(named(&metric, ArmReading::Stable), pods);
    assert_eq!(named(&metric, ArmReading::Canary), [("web-canary-1".to_owned(), ratio(1, 2))]);
    let both = parts(&metric, &counts, None, ArmReading::Stable, |process| (process[0] != "web-3").then_some(()));
    assert_eq!(both, BTreeMap::from([((), ratio(3, 20))]), "two processes of one pod are one");
    let arms = ArmSource::Service { label: "service".to_owned(), value: "{{service}}".to_owned() };
    assert_eq!(named(&Metric { arms, ..metric.clone() }, ArmReading::Stable), []);
}

#[test]
fn the_other_arms_gap_is_both_arms_gap_and_a_strangers_is_nobodys() {
    let metric: Metric = toml::from_str("kind = \"throughput\"\nseries = \"x\"").unwrap();
    let mut counted_by = by_code(&[("", Some(3))]);
    counted_by.insert(vec!["web-2".to_owned()], Err(Gap::NoBaseline));
    for (other, wanted) in [
        (Some(ArmReading::Canary), Sample::Gap(Gap::NoBaseline)),
        (None, Sample::Arms { canary: None, stable: Some(Reading::Count(3)) }),
    ] {
        let whose =
            |process: &Process, _: Option<&Class>| if process[0] == "web-1" { Some(ArmReading::Stable) } else { other };
        assert_eq!(counted(&metric, &ArmCounts { labels: &[], counted: &counted_by, whose: &whose }, None), wanted);
    }
}

fn by_code(counts: &[(&str, Option<u64>)]) -> BTreeMap<Process, Counted> {
    let class = |code: &str| Class { values: vec![code.to_owned()], ..Class::default() };
    BTreeMap::from([(vec!["web-1".to_owned()], Ok(counts.iter().map(|(code, count)| (class(code), *count)).collect()))])
}

fn check_buckets(buckets: &[(&str, f64)], expected: Expect) {
    let members: Vec<(&str, f64, u64)> = buckets.iter().map(|(le, value)| (*le, *value, 1)).collect();
    check_members(&members, expected);
}

/// A process that starts from nothing and then has these buckets, each a sum of so many series.
fn check_members(buckets: &[(&str, f64, u64)], expected: Expect) {
    use super::super::difference::{Buckets, Memory, ProcessFacts, Setting};
    use super::super::snapshot::{Target, Targets};
    use bellwether_core::time::{Span, Timestamp};

    let metric: Metric = toml::from_str(HISTOGRAM).unwrap();
    let source = SeriesSource { process: vec!["pod".to_owned()], targets: None, service: None };
    let family = Family { series: "seconds_bucket".to_owned(), matching: None, source, counter: true, native: false };
    let labels = ["le".to_owned()];
    let points: Vec<SeriesPoint> = buckets
        .iter()
        .flat_map(|(le, value, members)| {
            let own = BTreeMap::from([("pod".to_owned(), "web-1".to_owned()), ("le".to_owned(), (*le).to_owned())]);
            let mut counted = own.clone();
            counted.insert(PART.to_owned(), "members".to_owned());
            [SeriesPoint::number(own, *value), SeriesPoint::number(counted, *members as f64)]
        })
        .collect();
    let target = Target { up: true, scraped: 1.0, started: None };
    let targets: Targets = Some(BTreeMap::from([(vec!["web-1".to_owned()], target)]));
    let epoch = Timestamp::UNIX_EPOCH;
    let setting = Setting { since: epoch, at: epoch, behind: Span::ZERO, buckets: Buckets::Classic };
    let facts = |_: &Process| ProcessFacts::default();
    let (memory, _) = Memory::default().advance(&Snapshot::default(), &targets, &facts, setting);
    let snapshot = Snapshot::read(&family, &labels, &points.iter().collect::<Vec<_>>());
    let (_, counted_by) = memory.advance(&snapshot, &targets, &facts, setting);
    let counts = ArmCounts { labels: &labels, counted: &counted_by, whose: &|_, _| Some(ArmReading::Stable) };
    let text = match counted(&metric, &counts, None) {
        Sample::Arms { stable: Some(Reading::Histogram { edges, counts }), .. } => format!("{edges:?} {counts:?}"),
        Sample::Gap(gap) => gap.to_string(),
        other => format!("{other:?}"),
    };
    expected.assert_eq(&text);
}
