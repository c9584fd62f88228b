//! Divides the counts of a metric into strata, by the values of a label such as the route.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::measure::block::{Gap, Sample, SmallMap};
use bellwether_core::measure::metric::{Metric, MetricKind};

use super::reading::{ArmCounts, ArmReading, counted_sample};
use super::snapshot::{Class, Process};

/// The largest number of strata in a block: those with most requests, and the others as one.
const MOST: usize = 16;

/// The name of the stratum of all others.
const OTHERS: &str = "others";

/// Returns the samples of the strata of a metric, by the value of its `strata-label`. `all` are the counts of the metric's family,
/// and `hits` those of the family that counts its hits, if there is one.
///
/// # Errors
/// The first gap of a stratum, or a gap if one arm lacks the label, whose requests then can't be divided.
pub fn strata_samples(
    metric: &Metric,
    all: &ArmCounts<'_>,
    hits: Option<&ArmCounts<'_>>,
) -> Result<SmallMap<Sample>, Gap> {
    let Some(label) = &metric.strata_label else { return Ok(SmallMap::new()) };
    let named = largest(metric, all, label);
    let group = |value: &str| named.get(value).map_or(OTHERS, String::as_str).to_owned();
    if let Some(arm) = arm_without(all, label) {
        let problem = format!("the {arm}'s series have no label {label}, and the other arm's have it");
        return Err(Gap::Malformed { problem });
    }
    let groups: BTreeSet<String> = classes(all).map(|(_, class, _)| group(all.value(class, label))).collect();
    let sample_of = |wanted: &String| {
        let within = |counts: &ArmCounts<'_>, process: &Process, class: Option<&Class>| {
            let is_within = class.is_none_or(|class| group(counts.value(class, label)) == *wanted);
            if is_within { (counts.arm_of)(process, class) } else { None }
        };
        let of_all = |process: &Process, class: Option<&Class>| within(all, process, class);
        let of_hits = |process: &Process, class: Option<&Class>| within(hits?, process, class);
        let part = ArmCounts { arm_of: &of_all, arms_by_class: true, ..*all };
        let hits = hits.map(|hits| ArmCounts { arm_of: &of_hits, arms_by_class: true, ..*hits });
        counted_sample(metric, &part, hits.as_ref())
    };
    let samples = groups.iter().map(|name| match sample_of(name) {
        Sample::Gap(gap) => Err(gap),
        sample => Ok((name.clone(), sample)),
    });
    samples.collect()
}

/// Returns the arm of which no series has the label, if the other arm's have it.
fn arm_without(all: &ArmCounts<'_>, label: &str) -> Option<&'static str> {
    let of_arm = |arm| -> Vec<bool> {
        let own = classes(all).filter(|(of, ..)| *of == arm);
        own.map(|(_, class, _)| !all.value(class, label).is_empty()).collect()
    };
    let (canary, stable) = (of_arm(ArmReading::Canary), of_arm(ArmReading::Stable));
    let lacks = |has: &[bool]| !has.is_empty() && !has.contains(&true);
    match (lacks(&canary), lacks(&stable)) {
        (true, false) if !stable.is_empty() => Some("canary"),
        (false, true) if !canary.is_empty() => Some("stable"),
        _ => None,
    }
}

/// Returns the values of `label` that have a stratum of their own: those with most requests in both arms.
fn largest(metric: &Metric, all: &ArmCounts<'_>, label: &str) -> BTreeSet<String> {
    let mut requests: BTreeMap<&str, u64> = BTreeMap::new();
    // A histogram counts each request in several buckets.
    let is_counted = |class: &Class| metric.kind != MetricKind::Histogram || class.is_infinite();
    for (_, class, count) in classes(all).filter(|(_, class, _)| is_counted(class)) {
        *requests.entry(all.value(class, label)).or_default() += count;
    }
    let mut by_size: Vec<(&str, u64)> = requests.into_iter().collect();
    by_size.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let own = if by_size.len() > MOST { MOST - 1 } else { MOST };
    by_size.into_iter().take(own).map(|(value, _)| value.to_owned()).collect()
}

/// Returns the classes of both arms with their arm and count.
fn classes<'a>(all: &'a ArmCounts<'_>) -> impl Iterator<Item = (ArmReading, &'a Class, u64)> {
    all.counts.iter().copied().flat_map(move |(process, counts)| {
        let counts = counts.iter().flatten();
        counts.filter_map(move |(class, count)| Some(((all.arm_of)(process, Some(class))?, class, count.unwrap_or(0))))
    })
}
