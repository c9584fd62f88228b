//! From what the processes have counted to what a metric says of the two arms.
#![expect(clippy::wildcard_enum_match_arm, reason = "asks about one kind, and leaves all others alone")]

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::measure::block::{Gap, Reading, Sample};
use bellwether_core::measure::metric::{ArmSource, Hits, Metric, MetricKind};
use regex::Regex;

use super::difference::Counted;
use super::plan::BOUND;
use super::snapshot::{Class, Process, Snapshot, edge};

/// One of the two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArmReading {
    /// The candidate.
    Canary,
    /// What serves.
    Stable,
}

/// Says whose a process's class is; `None`: neither arm's.
pub type Whose<'a> = &'a dyn Fn(&Process, Option<&Class>) -> Option<ArmReading>;

/// What one family has counted in a block.
pub struct ArmCounts<'a> {
    /// The family's class labels.
    pub labels: &'a [String],
    /// By process.
    pub counted: &'a BTreeMap<Process, Counted>,
    /// Whose.
    pub whose: Whose<'a>,
}

/// What one process has counted for one arm, by class; `None`: it begins here.
type Share<'a> = BTreeMap<&'a Class, Option<u64>>;

impl ArmCounts<'_> {
    /// The arms' processes with what they have counted, or the first gap among them.
    fn shares(&self) -> Result<Vec<(&Process, ArmReading, Share<'_>)>, Gap> {
        let mut shares = Vec::new();
        for (process, counted) in self.counted {
            let classes = match counted {
                Ok(classes) => classes,
                Err(gap) if (self.whose)(process, None).is_some() => return Err(gap.clone()),
                Err(_) => continue,
            };
            for arm in [ArmReading::Canary, ArmReading::Stable] {
                let share: Share<'_> = classes
                    .iter()
                    .filter(|(class, _)| (self.whose)(process, Some(class)) == Some(arm))
                    .map(|(class, count)| (class, *count))
                    .collect();
                if !share.is_empty() {
                    shares.push((process, arm, share));
                }
            }
        }
        Ok(shares)
    }

    fn position(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|name| name == label)
    }
}

/// A sample with what `read` makes of each arm.
fn arms(mut read: impl FnMut(ArmReading) -> Result<Option<Reading>, Gap>) -> Sample {
    match (read(ArmReading::Canary), read(ArmReading::Stable)) {
        (Ok(canary), Ok(stable)) => Sample::Arms { canary, stable },
        (Err(gap), _) | (_, Err(gap)) => Sample::Gap(gap),
    }
}

fn malformed(what: impl Into<String>) -> Gap {
    Gap::Malformed { what: what.into() }
}

/// The sample of a ratio, a histogram or a throughput, from its family and that of its hits.
pub fn counted(metric: &Metric, all: &ArmCounts<'_>, hits: Option<&ArmCounts<'_>>) -> Sample {
    let sample = match metric.kind {
        MetricKind::Histogram | MetricKind::Drift => histogram(all, metric.native),
        MetricKind::Ratio => match (hits, &metric.hits) {
            (Some(hits), _) => ratio_of_two(all, hits),
            (None, Some(hits)) => ratio_by_label(hits, all),
            (None, None) => Err(malformed("the ratio does not say what it looks for")),
        },
        _ => all.shares().map(|shares| {
            arms(
                |arm| Ok(of(&shares, arm).map(|own| Reading::Count(own.iter().map(|share| sum(share.values())).sum()))),
            )
        }),
    };
    sample.unwrap_or_else(Sample::Gap)
}

/// Of so many processes or pods an arm's counts are told one by one; what there are more is only in the sum.
const MOST: usize = 32;

/// What an arm has counted, by the `part` of it that a process belongs to, where processes are its pods: through a gateway
/// they are not. A part that can't be read is left out.
pub fn parts<K: Ord>(
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
    for process in all.counted.keys().filter(|process| (all.whose)(process, None) == Some(arm)) {
        if let Some(part) = part(process) {
            parts.entry(part).or_default().push(process);
        }
    }
    let only = |counts: &ArmCounts<'_>, own: &[&Process]| -> BTreeMap<Process, Counted> {
        let counted = own.iter().filter_map(|process| counts.counted.get_key_value(*process));
        counted.map(|(process, counted)| (process.clone(), counted.clone())).collect()
    };
    let read = |own: &[&Process]| {
        let (totals, own_hits) = (only(all, own), hits.map(|hits| only(hits, own)));
        let hits = hits.zip(own_hits.as_ref());
        let hits = hits.map(|(hits, counted)| ArmCounts { labels: hits.labels, counted, whose: hits.whose });
        match counted(metric, &ArmCounts { labels: all.labels, counted: &totals, whose: all.whose }, hits.as_ref()) {
            Sample::Arms { canary, .. } if arm == ArmReading::Canary => canary,
            Sample::Arms { stable, .. } => stable,
            Sample::Gap(_) => None,
        }
    };
    parts.into_iter().take(MOST).filter_map(|(part, own)| Some((part, read(&own)?))).collect()
}

/// The shares of `arm`, if it has any.
fn of<'a, 'b>(shares: &'b [(&Process, ArmReading, Share<'a>)], arm: ArmReading) -> Option<Vec<&'b Share<'a>>> {
    let own: Vec<_> = shares.iter().filter(|(_, whose, _)| *whose == arm).map(|(.., share)| share).collect();
    (!own.is_empty()).then_some(own)
}

fn sum<'a>(counts: impl Iterator<Item = &'a Option<u64>>) -> u64 {
    counts.flatten().sum()
}

/// What a label's value must look like to be a hit.
///
/// # Errors
/// In the words of whoever can't read the expression.
pub fn pattern(hits: &Hits) -> Result<(Regex, bool), String> {
    let (text, wanted) = match (&hits.matches, &hits.not) {
        (Some(text), None) => (text, true),
        (None, Some(text)) => (text, false),
        _ => return Err("the hits need `matches` or `not`".to_owned()),
    };
    // Anchored, and with a dot that matches a newline too, as in Prometheus 3.
    let regex =
        Regex::new(&format!("^(?s:{text})$")).map_err(|error| format!("{text:?} is no regular expression: {error}"))?;
    Ok((regex, wanted))
}

fn ratio_by_label(hits: &Hits, all: &ArmCounts<'_>) -> Result<Sample, Gap> {
    let (regex, wanted) = pattern(hits).map_err(malformed)?;
    let at = hits
        .label
        .as_deref()
        .and_then(|label| all.position(label))
        .ok_or_else(|| malformed("the hits have no label"))?;
    let is_hit = |class: &Class| class.values.get(at).is_some_and(|value| regex.is_match(value) == wanted);
    let shares = all.shares()?;
    Ok(arms(|arm| {
        let Some(own) = of(&shares, arm) else { return Ok(None) };
        let all = own.iter().flat_map(|share| share.iter());
        Ok(Some(Reading::Ratio {
            hits: sum(all.clone().filter(|(class, _)| is_hit(class)).map(|(_, count)| count)),
            total: sum(all.map(|(_, count)| count)),
        }))
    }))
}

fn ratio_of_two(all: &ArmCounts<'_>, hits: &ArmCounts<'_>) -> Result<Sample, Gap> {
    let (totals, hits) = (all.shares()?, hits.shares()?);
    let known: BTreeSet<(&Process, ArmReading)> = totals.iter().map(|(process, arm, _)| (*process, *arm)).collect();
    if let Some((process, ..)) = hits.iter().find(|(process, arm, _)| !known.contains(&(*process, *arm))) {
        return Err(malformed(format!("{} counts hits, but not what they are hits of", process.join("/"))));
    }
    Ok(arms(|arm| {
        let Some(own) = of(&totals, arm) else { return Ok(None) };
        let total = own.iter().map(|share| sum(share.values())).sum();
        // No series of hits yet: the processes are there, and have seen none.
        let hits = of(&hits, arm).iter().flatten().map(|share| sum(share.values())).sum();
        if hits > total {
            return Err(malformed(format!("{hits} hits of {total}: the one is not a part of the other")));
        }
        Ok(Some(Reading::Ratio { hits, total }))
    }))
}

/// Cumulative counts by bound, ascending; the last is `+Inf`.
type Cumulative = Vec<(f64, u64)>;

fn histogram(all: &ArmCounts<'_>, native: bool) -> Result<Sample, Gap> {
    let at = all.position(BOUND).ok_or_else(|| malformed("the histogram has no label `le`"))?;
    let shares = all.shares()?;
    Ok(arms(|arm| {
        let Some(own) = of(&shares, arm) else { return Ok(None) };
        let mut merged: Option<Cumulative> = None;
        for share in own {
            let counts = cumulative(share, at)?;
            merged = Some(match merged {
                None => counts,
                Some(sum) if native || have_same_edges(&sum, &counts) => at_common_edges(&sum, &counts),
                Some(_) => return Err(malformed("the arm's processes have different buckets")),
            });
        }
        Ok(merged.map(by_bucket))
    }))
}

fn have_same_edges(a: &Cumulative, b: &Cumulative) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a, _), (b, _))| a == b)
}

/// The sum at the edges that both have. Of native histograms one may have coarser buckets than another; at an edge of both
/// the counts are as exact as ever.
fn at_common_edges(a: &Cumulative, b: &Cumulative) -> Cumulative {
    let find = |edge: f64| b.binary_search_by(|(other, _)| other.total_cmp(&edge)).ok().and_then(|at| b.get(at));
    a.iter().filter_map(|(edge, upto)| Some((*edge, upto + find(*edge)?.1))).collect()
}

/// One process's cumulative counts.
fn cumulative(share: &Share<'_>, at: usize) -> Result<Cumulative, Gap> {
    let mut counts: Cumulative = Vec::new();
    for (class, count) in share.iter().filter(|(class, _)| class.behind.is_none()) {
        let bound =
            class.values.get(at).and_then(|text| edge(text)).ok_or_else(|| malformed("a bucket without a bound"))?;
        match counts.iter_mut().find(|(edge, _)| *edge == bound) {
            Some((_, sum)) => *sum += count.unwrap_or(0),
            None => counts.push((bound, count.unwrap_or(0))),
        }
    }
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((_, (bound, _))) = counts.iter().zip(counts.iter().skip(1)).find(|((_, below), (_, upto))| upto < below)
    {
        return Err(malformed(format!("bucket {bound} has counted less than the one below")));
    }
    match counts.last() {
        Some((bound, _)) if *bound == f64::INFINITY => Ok(counts),
        _ => Err(malformed("a histogram has no +Inf bucket")),
    }
}

/// What is in each bucket alone.
fn by_bucket(counts: Cumulative) -> Reading {
    let (mut edges, upto): (Vec<f64>, Vec<u64>) = counts.into_iter().unzip();
    edges.pop();
    let below = [0].into_iter().chain(upto.iter().copied());
    // Nothing is below the one below it, which has been looked at, so nothing is cut off here.
    let counts = upto.iter().zip(below).map(|(upto, below)| upto.saturating_sub(below)).collect();
    Reading::Histogram { edges, counts }
}

/// The sample of a gauge: the mean over each arm's processes.
pub fn gauge(now: &Snapshot, whose: Whose<'_>) -> Sample {
    arms(|arm| {
        let (mut sum, mut n) = (0.0, 0.0);
        for (process, cells) in &now.0 {
            let Ok(cells) = cells else { continue };
            let own = cells.iter().filter(|(class, _)| whose(process, Some(class)) == Some(arm));
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

/// The reading of a raw query's answer for one arm.
///
/// # Errors
/// More than one element, or one that is no number.
pub fn value(values: &[f64]) -> Result<Option<Reading>, Gap> {
    match values {
        [] => Ok(None),
        [value] if value.is_finite() => Ok(Some(Reading::Value(*value))),
        [_] => Err(Gap::NotANumber { series: "the query".to_owned() }),
        more => Err(malformed(format!("the query gave {} values instead of one", more.len()))),
    }
}

#[cfg(test)]
mod tests;
