//! What Prometheus answered, by process and class. Nothing is judged here but what can't be told apart later: two
//! spellings of one bucket's bound, and buckets that do not belong together. A native histogram is made a classic one.

use std::collections::BTreeMap;

use super::native::{cumulative, edges};
use super::plan::{BOUND, Family, MEMBERS, PART, SeriesSource};
use crate::ports::SeriesPoint;

/// An exporting process: the values of its source's process labels, in their order.
pub type Process = Vec<String>;

/// The part of a process's series that is counted as one: the Service it is for (at a gateway), and the values of the
/// family's class labels, in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Class {
    /// The value of the label that names the arm's Service.
    pub owner: Option<String>,
    /// The values of the class labels.
    pub values: Vec<String>,
    /// One of the series behind a sum of native histograms, by its labels. Nothing is counted of it: it is looked at because
    /// an exporter may empty a native histogram at any time, and the others in the sum would hide that.
    pub behind: Option<String>,
}

impl Class {
    /// Whether it is the bucket that all histograms have.
    pub fn is_above_all(&self) -> bool {
        self.values.iter().any(|value| value == INFINITE)
    }
}

/// A sum of counters, or of gauges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The sum.
    pub value: f64,
    /// Of how many series.
    pub members: u64,
}

/// A family at one instant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot(pub BTreeMap<Process, Result<BTreeMap<Class, Cell>, String>>);

/// How a process stands with those who scrape it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Target {
    /// Whether the newest scrape worked.
    pub up: bool,
    /// When that was, in Unix seconds.
    pub scraped: f64,
    /// When the process started, in Unix seconds, if it says so.
    pub started: Option<f64>,
}

/// All targets of a source at one instant; `None`: nobody can be asked.
pub type Targets = Option<BTreeMap<Process, Target>>;

/// The process that a point comes from.
pub fn process(source: &SeriesSource, point: &SeriesPoint) -> Process {
    source.process.iter().map(|label| point.labels.get(label).cloned().unwrap_or_default()).collect()
}

fn class(family: &Family, labels: &[String], point: &SeriesPoint) -> Class {
    let value = |label: &String| point.labels.get(label).cloned().unwrap_or_default();
    Class {
        owner: family.source.service.as_ref().map(|(label, _)| value(label)),
        values: labels.iter().map(value).collect(),
        behind: None,
    }
}

/// All labels of a series, for [`Class::behind`].
fn behind(point: &SeriesPoint) -> String {
    let labels = point.labels.iter().filter(|(name, _)| *name != PART);
    labels.map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>().join(",")
}

impl Snapshot {
    /// The answer to [`super::plan::Ask::Series`]; `labels` are the family's class labels.
    pub fn read(family: &Family, labels: &[String], points: &[&SeriesPoint]) -> Snapshot {
        if family.native {
            return natives(family, labels, points);
        }
        let mut cells: BTreeMap<Process, BTreeMap<Class, Cell>> = BTreeMap::new();
        for point in points {
            let of = cells.entry(process(&family.source, point)).or_default();
            let cell = of.entry(class(family, labels, point)).or_insert(Cell { value: f64::NAN, members: 0 });
            if point.labels.contains_key(PART) {
                // A number of series is small; what is no number reads as none, and is seen as a loss.
                cell.members = point.value as u64;
            } else {
                cell.value = point.value;
            }
        }
        let bound = labels.iter().position(|label| label == BOUND);
        Snapshot(
            cells
                .into_iter()
                .map(|(process, classes)| {
                    let classes = match bound {
                        Some(at) => merge_bounds(classes, at),
                        None => Ok(classes),
                    };
                    (process, classes)
                })
                .collect(),
        )
    }

    /// Which classes of which processes the answer to [`super::plan::Ask::PastSeries`] names.
    pub fn names(family: &Family, labels: &[String], points: &[&SeriesPoint]) -> BTreeMap<Process, Vec<Class>> {
        let mut names: BTreeMap<Process, Vec<Class>> = BTreeMap::new();
        let bound = labels.iter().position(|label| label == BOUND);
        for point in points {
            if let (Some(at), true) = (bound, family.native) {
                // Which of the edges there have been is not known, so that none of them may count from zero.
                let all = edges().into_iter().chain([f64::INFINITY]);
                let all = all.map(|edge| at_bound(class(family, labels, point), at, edge));
                names.entry(process(&family.source, point)).or_default().extend(all);
                continue;
            }
            let mut class = class(family, labels, point);
            if let Some(text) = bound.and_then(|at| class.values.get_mut(at)) {
                *text = spelled(edge(text).unwrap_or(f64::NAN));
            }
            names.entry(process(&family.source, point)).or_default().push(class);
        }
        names
    }
}

/// One owner's native histograms in a process: their sum, and of how many.
#[derive(Default)]
struct Summed<'a> {
    sum: Option<&'a SeriesPoint>,
    members: u64,
    behind: Vec<&'a SeriesPoint>,
}

/// The answer of a family of native histograms, as cumulative counts by bound.
fn natives(family: &Family, labels: &[String], points: &[&SeriesPoint]) -> Snapshot {
    let mut summed: BTreeMap<Process, BTreeMap<Class, Summed<'_>>> = BTreeMap::new();
    for point in points {
        let of = summed.entry(process(&family.source, point)).or_default();
        let own = of.entry(class(family, labels, point)).or_default();
        match point.labels.get(PART).map(String::as_str) {
            None => own.sum = Some(point),
            Some(MEMBERS) => own.members = point.value as u64,
            Some(_) => own.behind.push(point),
        }
    }
    let at = labels.iter().position(|label| label == BOUND).unwrap_or_default();
    let cells = |classes: BTreeMap<Class, Summed<'_>>| -> Result<BTreeMap<Class, Cell>, String> {
        let mut cells = BTreeMap::new();
        for (class, Summed { sum, members, behind: series }) in classes {
            // Prometheus leaves out a sum that there is not.
            let sum = sum.ok_or_else(|| format!("some of {} are native histograms and some are not", family.series))?;
            let native = sum.native.as_ref().ok_or_else(|| format!("{} is no native histogram", family.series))?;
            let counts = cumulative(native)?;
            let bucket = |(edge, value)| (at_bound(class.clone(), at, edge), Cell { value, members });
            cells.extend(counts.into_iter().map(bucket));
            cells.extend(series.into_iter().map(|point| {
                let class = Class { behind: Some(behind(point)), ..class.clone() };
                (class, Cell { value: point.value, members: 1 })
            }));
        }
        Ok(cells)
    };
    Snapshot(summed.into_iter().map(|(process, classes)| (process, cells(classes))).collect())
}

/// The class that a bucket of `class` up to `edge` is.
fn at_bound(mut class: Class, at: usize, edge: f64) -> Class {
    if let Some(text) = class.values.get_mut(at) {
        *text = spelled(edge);
    }
    class
}

/// The answer to [`super::plan::Ask::Targets`].
pub fn targets(source: &SeriesSource, points: &[&SeriesPoint]) -> BTreeMap<Process, Target> {
    let mut targets: BTreeMap<Process, Target> = BTreeMap::new();
    for point in points {
        let target = targets.entry(process(source, point)).or_default();
        match point.labels.get(PART).map(String::as_str) {
            None => target.up = point.value == 1.0,
            Some("scraped") => target.scraped = point.value,
            Some(_) => target.started = Some(point.value).filter(|start| start.is_finite()),
        }
    }
    // A process may say when it started to somebody who scrapes it under another name; that is no target of ours.
    targets.retain(|_, target| target.scraped > 0.0);
    targets
}

/// A bucket's bound as a number. Prometheus 3 writes `1.0` where 2 wrote `1`.
pub fn edge(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|edge| !edge.is_nan())
}

/// How the last bound is spelled.
const INFINITE: &str = "+Inf";

/// The one spelling of a bound.
fn spelled(edge: f64) -> String {
    if edge == f64::INFINITY { INFINITE.to_owned() } else { edge.to_string() }
}

/// Buckets with equal bounds, in whatever spelling, made one.
///
/// During an upgrade of Prometheus the old spelling lingers beside the new one for five minutes: the same counter
/// twice, so the larger is the newer. Two libraries in one process may also spell differently: two counters, to be
/// added. How many series there are of each tells which it is, because every histogram has one `+Inf`, spelled so.
fn merge_bounds(classes: BTreeMap<Class, Cell>, at: usize) -> Result<BTreeMap<Class, Cell>, String> {
    let mut merged: BTreeMap<Class, Vec<Cell>> = BTreeMap::new();
    for (mut class, cell) in classes {
        let Some(text) = class.values.get_mut(at) else { continue };
        let Some(bound) = edge(text) else { return Err(format!("{text:?} is not a bucket's bound")) };
        *text = spelled(bound);
        merged.entry(class).or_default().push(cell);
    }
    let complete: BTreeMap<Class, u64> = merged
        .iter()
        .filter(|(class, _)| class.values.get(at).is_some_and(|text| text == INFINITE))
        .map(|(class, cells)| (class.clone(), cells.iter().map(|cell| cell.members).sum()))
        .collect();
    merged
        .into_iter()
        .map(|(class, cells)| {
            let infinite = at_bound(class.clone(), at, f64::INFINITY);
            let Some(&all) = complete.get(&infinite) else { return Err("a histogram has no +Inf bucket".to_owned()) };
            one_bucket(&cells, all).map(|cell| (class, cell)).ok_or_else(|| {
                "the histograms of one process have different buckets, so that their sum is none".to_owned()
            })
        })
        .collect()
}

/// One bucket, of which there must be `all` series.
fn one_bucket(cells: &[Cell], all: u64) -> Option<Cell> {
    if cells.iter().all(|cell| cell.members == all) {
        return cells.iter().copied().max_by(|a, b| a.value.total_cmp(&b.value));
    }
    let members: u64 = cells.iter().map(|cell| cell.members).sum();
    (members == all).then(|| Cell { value: cells.iter().map(|cell| cell.value).sum(), members })
}
