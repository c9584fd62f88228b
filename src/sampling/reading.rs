//! Makes the samples of a metric: adds up the counts of each arm's processes, or reads their gauges.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches one kind and treats all others alike")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use bellwether_core::measure::block::{Gap, MAX_PARTS, Reading, Sample};
use bellwether_core::measure::metric::{ArmSource, Hits, Metric, MetricKind};
use regex::Regex;

use super::difference::ProcessCounts;
use super::plan::BOUND;
use super::snapshot::{Class, Process, Snapshot, parse_bound};

/// The arm that a reading belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArmReading {
    /// The canary, the candidate revision.
    Canary,
    /// The stable, the revision that serves today.
    Stable,
}

/// Returns the arm of a class of a process, or of the process as a whole if no class is given. `None`: neither arm.
pub type ArmOf<'a> = &'a dyn Fn(&Process, Option<&Class>) -> Option<ArmReading>;

/// The counts of one family in a block.
pub struct ArmCounts<'a> {
    /// The family's class labels.
    pub labels: &'a [String],
    /// The counts or the gap of each process that was in sight, of both arms and of neither.
    pub counts: &'a [(&'a Process, &'a ProcessCounts)],
    /// The processes that were scraped in the block and have no series of the family.
    pub idle: &'a BTreeSet<Process>,
    /// The assignment of processes and classes to arms.
    pub arm_of: ArmOf<'a>,
    /// Whether the classes of one process may belong to different arms, as those of a gateway do, or to none.
    pub arms_by_class: bool,
}

/// The counts of one process for one arm, by class. `None`: the counting of the class starts at this reading.
type Share<'a> = BTreeMap<&'a Class, Option<u64>>;

impl ArmCounts<'_> {
    /// Returns the share of each process in each arm.
    ///
    /// # Errors
    /// The first gap of a process of either arm.
    fn shares(&self) -> Result<Vec<(&Process, ArmReading, Share<'_>)>, Gap> {
        let mut shares = Vec::new();
        for (process, counts) in self.counts.iter().copied() {
            let classes = match counts {
                Ok(classes) => classes,
                Err(gap) if (self.arm_of)(process, None).is_some() => return Err(gap.clone()),
                Err(_) => continue,
            };
            if !self.arms_by_class {
                let share: Share<'_> = classes.iter().map(|(class, count)| (class, *count)).collect();
                let arm = (self.arm_of)(process, None).filter(|_| !share.is_empty());
                shares.extend(arm.map(|arm| (process, arm, share)));
                continue;
            }
            for arm in [ArmReading::Canary, ArmReading::Stable] {
                let is_own = |class| (self.arm_of)(process, Some(class)) == Some(arm);
                let share: Share<'_> =
                    classes.iter().filter(|(class, _)| is_own(class)).map(|(class, count)| (class, *count)).collect();
                if !share.is_empty() {
                    shares.push((process, arm, share));
                }
            }
        }
        Ok(shares)
    }

    /// Returns the sample with a reading of no requests for an arm whose processes are idle, beside the other arm's counts. A
    /// counter with labels is exported from its first event on, so a version that answers nothing has no series.
    fn with_idle_arm(&self, sample: Sample) -> Sample {
        let is_idle = |arm| self.idle.iter().any(|process| (self.arm_of)(process, None) == Some(arm));
        match sample {
            Sample::Arms { canary: None, stable: Some(stable) } if is_idle(ArmReading::Canary) => {
                Sample::Arms { canary: stable.without_requests(), stable: Some(stable) }
            }
            Sample::Arms { canary: Some(canary), stable: None } if is_idle(ArmReading::Stable) => {
                Sample::Arms { stable: canary.without_requests(), canary: Some(canary) }
            }
            other => other,
        }
    }

    /// Returns the counts of some processes; `own` is sorted.
    fn only(&self, own: &[&Process]) -> Vec<(&Process, &ProcessCounts)> {
        self.counts.iter().copied().filter(|(process, _)| own.binary_search(process).is_ok()).collect()
    }

    fn label_index(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|name| name == label)
    }

    /// Returns the value of a class label of the family; empty if the class has none.
    pub fn value<'a>(&self, class: &'a Class, label: &str) -> &'a str {
        self.label_index(label).and_then(|at| class.values.get(at)).map_or("", String::as_str)
    }
}

/// Returns the sample with the readings that `read` makes of each arm, or the first gap.
fn sample_of_arms(mut read: impl FnMut(ArmReading) -> Result<Option<Reading>, Gap>) -> Sample {
    match (read(ArmReading::Canary), read(ArmReading::Stable)) {
        (Ok(canary), Ok(stable)) => Sample::Arms { canary, stable },
        (Err(gap), _) | (_, Err(gap)) => Sample::Gap(gap),
    }
}

fn malformed(what: impl Into<String>) -> Gap {
    Gap::Malformed { problem: what.into() }
}

/// Returns the sample of a ratio, a histogram, a drift or a throughput. `all` are the counts of the metric's family,
/// and `hits` those of the family that counts its hits, if there is one.
pub fn counted_sample(metric: &Metric, all: &ArmCounts<'_>, hits: Option<&ArmCounts<'_>>) -> Sample {
    let sample = match metric.kind {
        MetricKind::Histogram | MetricKind::Drift => histogram_sample(all, metric.native),
        MetricKind::Ratio => match (hits, &metric.hits) {
            (Some(hits), _) => ratio_of_two_families(all, hits),
            (None, Some(hits)) => ratio_by_label(hits, all),
            (None, None) => Err(malformed("the ratio has no `hits`")),
        },
        _ => all.shares().map(|shares| {
            sample_of_arms(|arm| {
                let count = |own: Vec<&Share<'_>>| own.iter().map(|share| sum(share.values())).sum();
                Ok(shares_of(&shares, arm).map(|own| Reading::Count(count(own))))
            })
        }),
    };
    all.with_idle_arm(sample.unwrap_or_else(Sample::Gap))
}

/// Returns the reading of each part of an arm; `part` gives the part that a process belongs to, such as its pod. There
/// are parts only if processes are the arm's pods, as they are not at a gateway. Parts with a gap are left out.
pub fn part_readings<K: Ord>(
    metric: &Metric,
    all: &ArmCounts<'_>,
    hits: Option<&ArmCounts<'_>>,
    arm: ArmReading,
    part: impl Fn(&Process) -> Option<K>,
) -> BTreeMap<K, Reading> {
    if metric.arms != ArmSource::Pods {
        return BTreeMap::new();
    }
    let mut parts: BTreeMap<K, Vec<&Process>> = BTreeMap::new();
    for process in
        all.counts.iter().map(|(process, _)| *process).filter(|process| (all.arm_of)(process, None) == Some(arm))
    {
        if let Some(part) = part(process) {
            parts.entry(part).or_default().push(process);
        }
    }
    let read = |own: &[&Process]| {
        let (own_totals, own_hits) = (all.only(own), hits.map(|hits| hits.only(own)));
        let all = ArmCounts { counts: &own_totals, ..*all };
        let hits = hits.zip(own_hits.as_ref());
        let hits = hits.map(|(hits, counts)| ArmCounts { counts, ..*hits });
        match counted_sample(metric, &all, hits.as_ref()) {
            Sample::Arms { canary, .. } if arm == ArmReading::Canary => canary,
            Sample::Arms { stable, .. } => stable,
            Sample::Gap(_) => None,
        }
    };
    parts.into_iter().take(MAX_PARTS).filter_map(|(part, own)| Some((part, read(&own)?))).collect()
}

/// Returns the shares of `arm`. `None`: it has none.
fn shares_of<'a, 'b>(shares: &'b [(&Process, ArmReading, Share<'a>)], arm: ArmReading) -> Option<Vec<&'b Share<'a>>> {
    let own: Vec<_> = shares.iter().filter(|(_, of, _)| *of == arm).map(|(.., share)| share).collect();
    (!own.is_empty()).then_some(own)
}

fn sum<'a>(counts: impl Iterator<Item = &'a Option<u64>>) -> u64 {
    counts.flatten().sum()
}

/// Returns the regular expression for the label of a ratio's hits, and whether hits match it (`matches`) or don't
/// (`not`).
///
/// # Errors
/// A sentence: both or neither of the two keys are given, or the expression is not valid.
pub fn hit_pattern(hits: &Hits) -> Result<(Regex, bool), String> {
    let (text, is_match) = match (&hits.matches, &hits.not) {
        (Some(text), None) => (text, true),
        (None, Some(text)) => (text, false),
        _ => return Err("the hits need `matches` or `not`".to_owned()),
    };
    let regex = whole(text).map_err(|error| format!("{text:?} is not a regular expression: {error}"))?;
    Ok((regex, is_match))
}

/// The most expressions that are kept compiled. Policies have a handful of different ones.
const KEPT_EXPRESSIONS: usize = 64;

/// Returns the expression that matches a text as a whole, with a dot that matches a newline too, as in Prometheus 3. Compiling
/// one takes longer than reading a workload's counts, so the newest ones are kept.
fn whole(text: &str) -> Result<Regex, regex::Error> {
    static KEPT: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    // Poisoning is harmless: an entry is whole once it is in the map.
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = kept.get(text) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(&format!("^(?s:{text})$"))?;
    if kept.len() >= KEPT_EXPRESSIONS {
        kept.clear();
    }
    kept.insert(text.to_owned(), regex.clone());
    Ok(regex)
}

fn ratio_by_label(hits: &Hits, all: &ArmCounts<'_>) -> Result<Sample, Gap> {
    let (regex, is_match) = hit_pattern(hits).map_err(malformed)?;
    let at = hits
        .label
        .as_deref()
        .and_then(|label| all.label_index(label))
        .ok_or_else(|| malformed("the hits have no label"))?;
    let is_hit = |class: &Class| class.values.get(at).is_some_and(|value| regex.is_match(value) == is_match);
    let shares = all.shares()?;
    if let Some(arm) = arm_without_label(&shares, at, &regex) {
        let label = hits.label.as_deref().unwrap_or_default();
        return Err(malformed(format!("the {arm}'s series have no label {label}, and the other arm's have it")));
    }
    Ok(sample_of_arms(|arm| {
        let Some(own) = shares_of(&shares, arm) else { return Ok(None) };
        let all = own.iter().flat_map(|share| share.iter());
        Ok(Some(Reading::Ratio {
            hits: sum(all.clone().filter(|(class, _)| is_hit(class)).map(|(_, count)| count)),
            total: sum(all.map(|(_, count)| count)),
        }))
    }))
}

/// Returns the arm of which no series has the label at `at`, if the other arm's have it whether or not they are hits. Its
/// version has dropped or renamed the label, and its hits are not known. A label that only hits have (`matches = ".+"`),
/// and an expression that names its absence (`5..|`), give no such arm.
fn arm_without_label(shares: &[(&Process, ArmReading, Share<'_>)], at: usize, regex: &Regex) -> Option<&'static str> {
    if regex.is_match("") {
        return None;
    }
    let values = |arm| -> Vec<&str> {
        let classes = shares_of(shares, arm).into_iter().flatten().flat_map(|share| share.keys());
        classes.filter_map(|class| class.values.get(at)).map(String::as_str).collect()
    };
    let (canary, stable) = (values(ArmReading::Canary), values(ArmReading::Stable));
    let lacks = |values: &[&str]| !values.is_empty() && values.iter().all(|value| value.is_empty());
    let has = |values: &[&str]| values.iter().any(|value| !value.is_empty() && !regex.is_match(value));
    if lacks(&canary) && has(&stable) {
        Some("canary")
    } else if lacks(&stable) && has(&canary) {
        Some("stable")
    } else {
        None
    }
}

fn ratio_of_two_families(all: &ArmCounts<'_>, hits: &ArmCounts<'_>) -> Result<Sample, Gap> {
    let (totals, hits) = (all.shares()?, hits.shares()?);
    let with_total: BTreeSet<(&Process, ArmReading)> =
        totals.iter().map(|(process, arm, _)| (*process, *arm)).collect();
    if let Some((process, ..)) = hits.iter().find(|(process, arm, _)| !with_total.contains(&(*process, *arm))) {
        return Err(malformed(format!("{} counts hits, but no total", process.join("/"))));
    }
    Ok(sample_of_arms(|arm| {
        let Some(own) = shares_of(&totals, arm) else { return Ok(None) };
        let total = own.iter().map(|share| sum(share.values())).sum();
        // A process without a series of hits has had no hit yet.
        let hits = shares_of(&hits, arm).iter().flatten().map(|share| sum(share.values())).sum();
        if hits > total {
            return Err(malformed(format!("{hits} hits of a total of {total}: the hits are not a part of the total")));
        }
        Ok(Some(Reading::Ratio { hits, total }))
    }))
}

/// Cumulative counts by upper bound, ascending. The last bound is `+Inf`.
type CumulativeCounts = Vec<(f64, u64)>;

fn histogram_sample(all: &ArmCounts<'_>, native: bool) -> Result<Sample, Gap> {
    let at = all.label_index(BOUND).ok_or_else(|| malformed("the histogram has no label `le`"))?;
    let shares = all.shares()?;
    Ok(sample_of_arms(|arm| {
        let Some(own) = shares_of(&shares, arm) else { return Ok(None) };
        let mut merged: Option<CumulativeCounts> = None;
        for share in own {
            let counts = cumulative_counts(share, at)?;
            merged = Some(match merged {
                None => counts,
                Some(sum) if native || have_same_edges(&sum, &counts) => sum_at_common_edges(&sum, &counts),
                Some(_) => return Err(malformed("the arm's processes have different buckets")),
            });
        }
        Ok(merged.map(counts_by_bucket))
    }))
}

fn have_same_edges(a: &CumulativeCounts, b: &CumulativeCounts) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a, _), (b, _))| a == b)
}

/// Returns the sum at the edges that both have. One of two native histograms may have coarser buckets; at their common
/// edges the sum is exact.
fn sum_at_common_edges(a: &CumulativeCounts, b: &CumulativeCounts) -> CumulativeCounts {
    let find = |edge: f64| b.binary_search_by(|(other, _)| other.total_cmp(&edge)).ok().and_then(|at| b.get(at));
    a.iter().filter_map(|(edge, count)| Some((*edge, count + find(*edge)?.1))).collect()
}

/// Returns the cumulative counts of one process; `at` is the index of the bound among the class labels.
fn cumulative_counts(share: &Share<'_>, at: usize) -> Result<CumulativeCounts, Gap> {
    let mut counts: CumulativeCounts = Vec::new();
    for (class, count) in share.iter().filter(|(class, _)| class.member.is_none()) {
        let bound = class
            .values
            .get(at)
            .and_then(|text| parse_bound(text))
            .ok_or_else(|| malformed("a bucket has no bound"))?;
        match counts.iter_mut().find(|(edge, _)| *edge == bound) {
            Some((_, sum)) => *sum += count.unwrap_or(0),
            None => counts.push((bound, count.unwrap_or(0))),
        }
    }
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let fallen = counts.iter().zip(counts.iter().skip(1)).find(|((_, below), (_, count))| count < below);
    if let Some((_, (bound, _))) = fallen {
        return Err(malformed(format!("bucket {bound} has counted less than the one below")));
    }
    match counts.last() {
        Some((bound, _)) if *bound == f64::INFINITY => Ok(counts),
        _ => Err(malformed("a histogram has no +Inf bucket")),
    }
}

/// Returns the counts of each bucket alone.
fn counts_by_bucket(cumulative: CumulativeCounts) -> Reading {
    let (mut edges, upper): (Vec<f64>, Vec<u64>) = cumulative.into_iter().unzip();
    edges.pop();
    let lower = [0].into_iter().chain(upper.iter().copied());
    // `cumulative_counts` made sure that no count is less than the one below, so this never saturates.
    let counts = upper.iter().zip(lower).map(|(upper, lower)| upper.saturating_sub(lower)).collect();
    Reading::Histogram { edges, counts }
}

/// Returns the sample of a gauge: the mean over each arm's processes.
pub fn gauge_sample(now: &Snapshot, arm_of: ArmOf<'_>) -> Sample {
    sample_of_arms(|arm| {
        let (mut sum, mut n) = (0.0, 0.0);
        for (process, cells) in &now.0 {
            let Ok(cells) = cells else { continue };
            let own = cells.iter().filter(|(class, _)| arm_of(process, Some(class)) == Some(arm));
            let values: Vec<f64> = own.map(|(_, cell)| cell.value).collect();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(Gap::NotANumber { series: process.join("/") });
            }
            if !values.is_empty() {
                (sum, n) = (sum + values.iter().sum::<f64>(), n + 1.0);
            }
        }
        Ok((n > 0.0).then(|| Reading::Value(sum / n)))
    })
}

/// Returns the reading of a raw query's answer for one arm. `None`: the answer is empty.
///
/// # Errors
/// A gap if the answer has more than one value, or one that is not finite.
pub fn query_reading(values: &[f64]) -> Result<Option<Reading>, Gap> {
    match values {
        [] => Ok(None),
        [value] if value.is_finite() => Ok(Some(Reading::Value(*value))),
        [_] => Err(Gap::NotANumber { series: "the query".to_owned() }),
        more => Err(malformed(format!("the query gave {} values instead of one", more.len()))),
    }
}

#[cfg(test)]
mod tests;
