//! Sorts the points of an answer by process and class.
//!
//! The only checks made here are those that are impossible later: two spellings of one bucket's bound, and buckets that
//! do not belong to the same histograms. A native histogram is converted to cumulative buckets.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::label_keys::LabelKeys;
use super::native::{cumulative, edges};
use super::plan::{BOUND, Family, MEMBERS, PART, SeriesSource};
use crate::ports::SeriesPoint;

/// The identity of an exporting process: the values of its source's process labels, in the order of the labels.
pub type Process = Vec<String>;

/// The part of a process's series that is counted as one number. Clones share the labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Class(Arc<ClassLabels>);

impl Borrow<ClassLabels> for Class {
    fn borrow(&self) -> &ClassLabels {
        &self.0
    }
}

impl Deref for Class {
    type Target = ClassLabels;

    fn deref(&self) -> &ClassLabels {
        &self.0
    }
}

impl From<ClassLabels> for Class {
    fn from(labels: ClassLabels) -> Class {
        Class(Arc::new(labels))
    }
}

/// The labels by which a class is told from the others of its process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ClassLabels {
    /// The arm's Service, as its labels name it. `None`: the pod tells the arm.
    pub owner: Option<String>,
    /// The values of the family's class labels, in the order of the labels.
    pub values: Vec<String>,
    /// The labels of one native histogram, if the class is the count of that histogram alone. It is no part of the
    /// sample: it only shows whether an exporter emptied the histogram, which a sum of several could hide.
    pub member: Option<String>,
}

impl ClassLabels {
    /// Returns whether the class is the `+Inf` bucket, which every histogram has.
    pub fn is_infinite(&self) -> bool {
        self.values.iter().any(|value| value == INFINITE)
    }
}

/// The classes of an answer, each once: the processes of a workload have the same ones.
#[derive(Default)]
struct SharedClasses(HashSet<Class>);

impl SharedClasses {
    fn shared(&mut self, labels: ClassLabels) -> Class {
        if let Some(class) = self.0.get(&labels) {
            return class.clone();
        }
        let class = Class::from(labels);
        self.0.insert(class.clone());
        class
    }
}

/// The sum of the series of one class of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The sum of the values of the series.
    pub value: f64,
    /// The number of series in the sum.
    pub members: u64,
}

/// The cells of a family at one instant, by process and class. The error is a sentence about cells that can't be used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot(pub BTreeMap<Process, Result<BTreeMap<Class, Cell>, String>>);

/// The state of a target at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Target {
    /// Whether the last scrape succeeded.
    pub up: bool,
    /// Time of the last scrape, in Unix seconds.
    pub scraped: f64,
    /// Start of the process, in Unix seconds. `None`: it does not export it.
    pub started: Option<f64>,
    /// Whether the process has no `up` series, as with pushed metrics. Then its newest sample stands for the last scrape, which
    /// succeeded if the sample is not stale.
    pub pushed: bool,
}

/// All targets of a source at one instant. `None`: the source has no `up` series, so it is not known which processes
/// are scraped.
pub type Targets = Option<BTreeMap<Process, Target>>;

/// Returns the process that a point comes from.
pub fn process_of(source: &SeriesSource, point: &SeriesPoint) -> Process {
    source.process.iter().map(|label| point.labels.get(label).unwrap_or_default().to_owned()).collect()
}

fn class_of(family: &Family, labels: &[String], point: &SeriesPoint) -> ClassLabels {
    let value = |label: &String| point.labels.get(label).unwrap_or_default().to_owned();
    ClassLabels {
        owner: family.source.owner_of(|label| point.labels.get(label)),
        values: labels.iter().map(value).collect(),
        member: None,
    }
}

/// Returns all labels of a series as one text, for [`Class::member`].
fn member_text(point: &SeriesPoint) -> String {
    let labels = point.labels.iter().filter(|(name, _)| *name != PART);
    labels.map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>().join(",")
}

impl Snapshot {
    /// Reads the answer to [`super::plan::SeriesRequest::Series`]; `labels` are the family's class labels.
    pub fn read(family: &Family, labels: &[String], points: &[&SeriesPoint]) -> Snapshot {
        if family.native {
            return read_native(family, labels, points);
        }
        let mut processes = LabelKeys::new(family.source.process.iter().map(String::as_str));
        let mut keys = LabelKeys::new(labels.iter().map(String::as_str).chain(family.source.owner_labels()));
        let (mut rows, mut classes): (Vec<Row>, Vec<ClassLabels>) = (Vec::new(), Vec::new());
        for point in points {
            let (process, is_new) = processes.number(&point.labels);
            if is_new {
                rows.push(Row { process: process_of(&family.source, point), cells: Vec::new() });
            }
            let (class, is_new) = keys.number(&point.labels);
            if is_new {
                classes.push(class_of(family, labels, point));
            }
            let Some(row) = rows.get_mut(process) else { continue };
            if row.cells.len() <= class {
                row.cells.resize(classes.len(), None);
            }
            let Some(cell) = row.cells.get_mut(class) else { continue };
            let cell = cell.get_or_insert(Cell { value: f64::NAN, members: 0 });
            if point.labels.contains(PART) {
                // A value that is not a number becomes 0 members, which the difference reports as a vanished series.
                cell.members = point.value as u64;
            } else {
                cell.value = point.value;
            }
        }
        let columns = Columns::of(classes, labels.iter().position(|label| label == BOUND));
        Snapshot(rows.into_iter().map(|row| (row.process, columns.cells(&row.cells))).collect())
    }

    /// Reads the answer to [`super::plan::SeriesRequest::PastSeries`]: the classes that each process had.
    pub fn past_classes(family: &Family, labels: &[String], points: &[&SeriesPoint]) -> BTreeMap<Process, Vec<Class>> {
        let mut past: BTreeMap<Process, Vec<Class>> = BTreeMap::new();
        let bound = labels.iter().position(|label| label == BOUND);
        for point in points {
            if let (Some(at), true) = (bound, family.native) {
                // The edges that the histogram had are not known, so none of them may count from zero.
                let all = edges().into_iter().chain([f64::INFINITY]);
                let all = all.map(|edge| bucket_class(class_of(family, labels, point), at, edge).into());
                past.entry(process_of(&family.source, point)).or_default().extend(all);
                continue;
            }
            let mut class = class_of(family, labels, point);
            if let Some(text) = bound.and_then(|at| class.values.get_mut(at)) {
                *text = bound_text(parse_bound(text).unwrap_or(f64::NAN));
            }
            past.entry(process_of(&family.source, point)).or_default().push(class.into());
        }
        past
    }
}

/// The native histograms of one process and one owner.
#[derive(Default)]
struct NativeParts<'a> {
    sum: Option<&'a SeriesPoint>,
    members: u64,
    /// The count of each single histogram.
    counts: Vec<&'a SeriesPoint>,
}

/// Reads the answer of a family of native histograms as cumulative counts by bound.
fn read_native(family: &Family, labels: &[String], points: &[&SeriesPoint]) -> Snapshot {
    let mut parts: BTreeMap<Process, BTreeMap<ClassLabels, NativeParts<'_>>> = BTreeMap::new();
    for point in points {
        let classes = parts.entry(process_of(&family.source, point)).or_default();
        let own = classes.entry(class_of(family, labels, point)).or_default();
        match point.labels.get(PART) {
            None => own.sum = Some(point),
            Some(MEMBERS) => own.members = point.value as u64,
            Some(_) => own.counts.push(point),
        }
    }
    let at = labels.iter().position(|label| label == BOUND).unwrap_or_default();
    let mut shared = SharedClasses::default();
    let mut cells = |classes: BTreeMap<ClassLabels, NativeParts<'_>>| -> Result<BTreeMap<Class, Cell>, String> {
        let mut cells = BTreeMap::new();
        for (class, NativeParts { sum, members, counts }) in classes {
            // Prometheus has no sum of native histograms and plain numbers, and leaves it out.
            let sum = sum.ok_or_else(|| format!("some of {} are native histograms and some are not", family.series))?;
            let native = sum.native.as_ref().ok_or_else(|| format!("{} is not a native histogram", family.series))?;
            let buckets = cumulative(native)?.into_iter();
            let cell = |(edge, value)| (bucket_class(class.clone(), at, edge), Cell { value, members });
            cells.extend(buckets.map(cell).map(|(class, cell)| (shared.shared(class), cell)));
            cells.extend(counts.into_iter().map(|point| {
                let class = ClassLabels { member: Some(member_text(point)), ..class.clone() };
                (class.into(), Cell { value: point.value, members: 1 })
            }));
        }
        Ok(cells)
    };
    Snapshot(parts.into_iter().map(|(process, classes)| (process, cells(classes))).collect())
}

/// Returns `class` with the upper bound `edge`; `at` is the index of the bound among the class labels.
fn bucket_class(mut class: ClassLabels, at: usize, edge: f64) -> ClassLabels {
    if let Some(text) = class.values.get_mut(at) {
        *text = bound_text(edge);
    }
    class
}

/// Reads the answer to [`super::plan::SeriesRequest::Targets`].
pub fn read_targets(source: &SeriesSource, points: &[&SeriesPoint]) -> BTreeMap<Process, Target> {
    let mut targets: BTreeMap<Process, Target> = BTreeMap::new();
    for point in points {
        let target = targets.entry(process_of(source, point)).or_default();
        match point.labels.get(PART) {
            None => target.up = point.value == 1.0,
            Some("scraped") => target.scraped = point.value,
            Some(_) => target.started = Some(point.value).filter(|start| start.is_finite()),
        }
    }
    // A start time without an `up` series comes from a scrape job that labels its targets otherwise.
    targets.retain(|_, target| target.scraped > 0.0);
    targets
}

/// Reads the answer to [`super::plan::SeriesRequest::Newest`]: a target for each process, which is up if its newest sample is at
/// most `most` seconds older than `at`.
pub fn read_newest(
    source: &SeriesSource,
    points: &[&SeriesPoint],
    at: Timestamp,
    most: f64,
) -> BTreeMap<Process, Target> {
    let mut targets: BTreeMap<Process, Target> = BTreeMap::new();
    for point in points {
        let target = targets.entry(process_of(source, point)).or_default();
        let scraped = target.scraped.max(point.value);
        let up = at.as_millisecond() as f64 / 1000.0 - scraped <= most;
        *target = Target { up, scraped, started: None, pushed: true };
    }
    targets
}

/// Returns a bucket's bound as a number. `None`: the text is not a number. Prometheus 3 writes `1.0` where Prometheus 2
/// wrote `1`.
pub fn parse_bound(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|edge| !edge.is_nan())
}

/// The text of the bound of the last bucket.
const INFINITE: &str = "+Inf";

/// Returns the one text of a bound that is used here.
fn bound_text(edge: f64) -> String {
    if edge == f64::INFINITY { INFINITE.to_owned() } else { edge.to_string() }
}

/// The cells of one process in an answer, by the numbers of the answer's classes.
struct Row {
    process: Process,
    cells: Vec<Option<Cell>>,
}

/// A class of an answer, as its series spell it.
struct Column {
    /// The number of the class in the answer.
    number: usize,
    /// The class, with its bound in the one spelling that is used here. The error is a sentence.
    class: Result<Class, String>,
    /// The class of the `+Inf` bucket of its histogram; `None` if the family has no buckets.
    infinite: Option<Class>,
}

/// The classes of an answer in the order of [`Column::class`]. They are the same for most processes, so all that their texts decide is
/// found once.
struct Columns(Vec<Column>);

impl Columns {
    /// Returns the columns of the classes of an answer; `bound` is the index of the bound among the class labels.
    fn of(classes: Vec<ClassLabels>, bound: Option<usize>) -> Columns {
        let mut shared = SharedClasses::default();
        let mut columns: Vec<Column> = classes
            .into_iter()
            .enumerate()
            .map(|(number, labels)| {
                let Some(at) = bound else {
                    return Column { number, class: Ok(shared.shared(labels)), infinite: None };
                };
                let text = labels.values.get(at).map_or("", String::as_str);
                let class = match parse_bound(text) {
                    Some(edge) => Ok(shared.shared(bucket_class(labels.clone(), at, edge))),
                    None => Err(format!("{text:?} is not a bucket's bound")),
                };
                Column { number, class, infinite: Some(shared.shared(bucket_class(labels, at, f64::INFINITY))) }
            })
            .collect();
        columns.sort_by(|a, b| a.class.cmp(&b.class));
        Columns(columns)
    }

    /// Returns the cells of a process by class. Buckets with equal bounds that are spelled differently are merged.
    ///
    /// There are two causes. During an upgrade of Prometheus the series of the old spelling remains for five minutes beside
    /// the new one: that is one counter twice, and the larger value is the newer one. Two libraries in one process may also
    /// spell bounds differently: these are two counters, whose values are added. The numbers of series distinguish them,
    /// because every histogram has one `+Inf` bucket, which has only this spelling.
    ///
    /// # Errors
    /// A bound that is not a number, a histogram without a `+Inf` bucket, or histograms with different buckets.
    fn cells(&self, row: &[Option<Cell>]) -> Result<BTreeMap<Class, Cell>, String> {
        let mut own: Vec<(&Class, Option<&Class>, Vec<Cell>)> = Vec::with_capacity(self.0.len());
        for column in &self.0 {
            let Some(cell) = row.get(column.number).copied().flatten() else { continue };
            let class = column.class.as_ref().map_err(Clone::clone)?;
            match own.last_mut() {
                Some((last, _, cells)) if *last == class => cells.push(cell),
                _ => own.push((class, column.infinite.as_ref(), vec![cell])),
            }
        }
        let members = |infinite: &Class| -> Option<u64> {
            let cells = own.iter().find(|(class, ..)| *class == infinite).map(|(.., cells)| cells)?;
            Some(cells.iter().map(|cell| cell.members).sum())
        };
        let merged = own.iter().map(|(class, infinite, cells)| {
            let expected = match infinite {
                Some(infinite) => members(infinite).ok_or("a histogram has no +Inf bucket")?,
                None => cells.iter().map(|cell| cell.members).sum(),
            };
            let cell = merge_cells(cells, expected);
            let cell = cell.ok_or("the histograms of one process have different buckets, so they can't be added up")?;
            Ok((Class::clone(class), cell))
        });
        merged.collect()
    }
}

/// Merges the spellings of one bucket into a cell with `expected` series. `None`: no merging gives that number.
fn merge_cells(cells: &[Cell], expected: u64) -> Option<Cell> {
    if cells.iter().all(|cell| cell.members == expected) {
        return cells.iter().copied().max_by(|a, b| a.value.total_cmp(&b.value));
    }
    let members: u64 = cells.iter().map(|cell| cell.members).sum();
    (members == expected).then(|| Cell { value: cells.iter().map(|cell| cell.value).sum(), members })
}
