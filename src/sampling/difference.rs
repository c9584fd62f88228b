//! Counts the events between two readings of the counters exactly, or gives the reason why the count is not known.
//!
//! `rate()` and `increase()` of PromQL extrapolate, lose the first sample of a new series and take every decrease for a
//! reset. So raw counters are read at both instants and subtracted here, process by process. A count is given only
//! where nothing is guessed:
//!
//! - A new counter of a known process counts from zero, in both arms alike.
//! - A process that is seen for the first time counts from zero if it started after the rollout began. Otherwise its
//!   counting starts at this reading.
//! - A process that could not be scraped for a while counts from its last values: late, but once.
//! - A reading with counters a little below the last ones is an older one, as from another replica of Prometheus. The
//!   process counts on from the last ones at the first reading above them: late, but once. From the second older reading
//!   in a row on, that is a gap until then.
//! - A counter that fell is a restart only with further evidence (start time, or the restarts that the API server
//!   reports). Then its new value is the count. Without it the fall is a gap, and so is the next reading if it is above
//!   the value before the fall: then either an older reading or a restart lies between.
//! - Everything else is a gap, and the next block starts behind it.
//!
//! The counts of consecutive blocks add up to the difference of the outermost readings. An error here would stay in the
//! sum for good instead of averaging out, which is why every ambiguity is a gap.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches one kind and treats all others alike")]

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::measure::block::Gap;
use bellwether_core::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::count::count;
use super::snapshot::{Cell, Class, Process, Snapshot, Target, Targets};

/// The part of the last value above which a lower one is an older reading and not a restart.
const LEAST_OF_OLDER: f64 = 0.75;

/// Tolerance for start times, in seconds. They are computed from the boot time, which moves when a clock is corrected.
const START_JITTER: f64 = 2.0;

/// The facts that the API server has about a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessFacts {
    /// Namespace and name of its pod.
    pub pod: Option<(String, String)>,
    /// Start of its pod.
    pub started: Option<Timestamp>,
    /// Restarts of its container up to now, which is later than the instant at which the counters were read.
    pub restarts: Option<u32>,
}

/// The kind of buckets that the classes of a family are. A missing bucket is not zero: it has the count of the one
/// below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKind {
    /// The classes are not buckets.
    None,
    /// Buckets of a classic histogram, which stay the same while its process lives.
    Classic,
    /// Buckets of a native histogram, which may become coarser and finer at any time. The counts up to the edges that
    /// are in both readings are exact all the same.
    Native,
}

/// The circumstances of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadingContext {
    /// Start of the rollout.
    pub since: Timestamp,
    /// The instant as of which the counters were read.
    pub at: Timestamp,
    /// The longest time by which the facts of the API server may be newer than `at`.
    pub facts_lead: Span,
    /// The time from a process's first request in which it is cold.
    pub warm_up: Span,
    /// The kind of buckets that the classes are.
    pub buckets: BucketKind,
}

/// A process as of its last reading.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct KnownProcess {
    /// Time of its last scrape, in Unix seconds.
    scraped: Option<f64>,
    /// Its start, in Unix seconds.
    started: Option<f64>,
    /// The restarts that its remembered values include for certain.
    included_restarts: Option<u32>,
    /// The restarts that the API server reported at the last reading.
    reported_restarts: Option<u32>,
    /// The first reading at which the API server reported that number. `None`: the values include all of them.
    reported_since: Option<Timestamp>,
    /// Whether the readings after that one were passed over as older ones.
    passed_over: bool,
    /// Whether it was in sight while its series could not be read.
    series_unknown: bool,
    /// The reading with its first request, or [`Timestamp::MIN`] if it was not new then. `None`: it had no request yet.
    serves_since: Option<Timestamp>,
    series: KnownCells,
}

/// The cells of a process, in the order of their classes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct KnownCells(Box<[(Class, KnownCell)]>);

impl KnownCells {
    fn get(&self, class: &Class) -> Option<&KnownCell> {
        let at = self.0.binary_search_by(|(known, _)| known.cmp(class)).ok()?;
        self.0.get(at).map(|(_, cell)| cell)
    }

    fn iter(&self) -> impl Iterator<Item = (&Class, &KnownCell)> {
        self.0.iter().map(|(class, cell)| (class, cell))
    }

    fn classes(&self) -> impl Iterator<Item = &Class> {
        self.0.iter().map(|(class, _)| class)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<Class, KnownCell>> for KnownCells {
    fn from(cells: BTreeMap<Class, KnownCell>) -> KnownCells {
        KnownCells(cells.into_iter().collect())
    }
}

/// A cell as of its last reading.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct KnownCell {
    /// Its count. `None`: its value was not a count, or it is lost.
    count: Option<u64>,
    /// The number of series in the sum.
    members: u64,
    /// Whether it was missing at the last reading although its process was in sight.
    lost: bool,
    /// The count before the last reading if it fell there without a restart. `None`: it did not fall.
    fell_from: Option<u64>,
}

/// The last reading of each process of a family that was in sight since the rollout's first reading.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory(BTreeMap<Process, KnownProcess>);

impl Memory {
    /// Returns the memory after a reading at the start of a block, when no earlier reading is remembered. `seen` are
    /// the processes and `past` the classes that existed since the rollout began. Those that are not in the reading are
    /// remembered without values, because they must not count from zero if they come back.
    pub fn restored(
        now: &Snapshot,
        targets: &Targets,
        seen: impl IntoIterator<Item = Process>,
        past: BTreeMap<Process, Vec<Class>>,
        facts: &dyn Fn(&Process) -> ProcessFacts,
        context: ReadingContext,
    ) -> Memory {
        let (mut memory, _) = Memory::default().advance(now, targets, facts, context);
        for process in seen.into_iter().chain(past.keys().cloned()) {
            memory.0.entry(process).or_insert_with(|| KnownProcess { series_unknown: true, ..KnownProcess::default() });
        }
        for (process, classes) in past {
            let Some(known) = memory.0.get_mut(&process) else { continue };
            let lost = KnownCell { lost: true, ..KnownCell::default() };
            let mut cells: BTreeMap<Class, KnownCell> = classes.into_iter().map(|class| (class, lost)).collect();
            cells.extend(known.series.iter().map(|(class, cell)| (class.clone(), *cell)));
            known.series = cells.into();
        }
        memory
    }

    /// Returns the memory after a reading, and the counts since the previous reading of each process that is in sight.
    pub fn advance(
        &self,
        now: &Snapshot,
        targets: &Targets,
        facts: &dyn Fn(&Process) -> ProcessFacts,
        context: ReadingContext,
    ) -> (Memory, BTreeMap<Process, ProcessCounts>) {
        let (mut memory, mut counts) = (Memory::default(), BTreeMap::new());
        let scraped = targets.iter().flat_map(BTreeMap::keys);
        let processes: BTreeSet<&Process> = self.0.keys().chain(now.0.keys()).chain(scraped).collect();
        for process in processes {
            let current = CurrentProcess {
                series: now.0.get(process),
                target: targets.as_ref().and_then(|targets| targets.get(process)),
                facts: facts(process),
                context,
            };
            let known = self.0.get(process);
            if !current.in_sight(known) {
                memory.0.extend(known.map(|known| (process.clone(), known.clone())));
                continue;
            }
            if let Some((known, fallen)) = known.and_then(|known| Some((known, current.older_than(known)?))) {
                if known.passed_over {
                    let gap = Gap::Fell { series: class_text(fallen) };
                    counts.insert(process.clone(), Err(with_process(gap, process)));
                }
                memory.0.insert(process.clone(), KnownProcess { passed_over: true, ..known.clone() });
                continue;
            }
            let result = match known {
                Some(known) => current.counts_since(known),
                None if self.may_be_relabelled(&current, targets, now) => Err(Gap::NoBaseline),
                None => current.first_counts(),
            };
            counts.insert(process.clone(), result.map_err(|gap| with_process(gap, process)));
            memory.0.insert(process.clone(), current.remember(known));
        }
        (memory, counts)
    }

    /// Returns whether a process that is seen for the first time may be a known one with other labels. That is assumed
    /// if another process of its pod has just left, unless their start times differ.
    fn may_be_relabelled(&self, current: &CurrentProcess<'_>, targets: &Targets, now: &Snapshot) -> bool {
        let Some(pod) = &current.facts.pod else { return false };
        let is_of_pod = |process: &Process| process.contains(&pod.0) && process.contains(&pod.1);
        self.0.iter().any(|(process, known)| {
            let has_left = match targets {
                Some(targets) => !targets.contains_key(process),
                None => !now.0.contains_key(process),
            };
            let started_apart = match (known.started, current.target.and_then(|target| target.started)) {
                (Some(known), Some(current)) => (current - known).abs() > START_JITTER,
                _ => false,
            };
            has_left && !known.series.is_empty() && !started_apart && is_of_pod(process)
        })
    }

    /// Returns the time of the last scrape of each process for which it is known, in Unix seconds.
    pub fn scraped(&self) -> impl Iterator<Item = (&Process, f64)> {
        self.0.iter().filter_map(|(process, known)| Some((process, known.scraped?)))
    }

    /// Returns the processes that had their first request less than `warm_up` before `from`.
    pub fn cold(&self, warm_up: Span, from: Timestamp) -> BTreeSet<Process> {
        let is_cold = |since: Timestamp| since > Timestamp::MIN && warm_up > Span::ZERO && warm_up.after(since) > from;
        let cold = self.0.iter().filter(|(_, known)| known.serves_since.is_some_and(is_cold));
        cold.map(|(process, _)| process.clone()).collect()
    }

    /// Returns the processes that were scraped after `from` and have no series: they had no request yet.
    pub fn idle(&self, from: Timestamp) -> BTreeSet<Process> {
        let from = from.as_millisecond() as f64 / 1000.0;
        let is_idle = |known: &KnownProcess| {
            known.series.is_empty() && !known.series_unknown && known.scraped.is_some_and(|scraped| scraped > from)
        };
        self.0.iter().filter(|(_, known)| is_idle(known)).map(|(process, _)| process.clone()).collect()
    }

    /// Returns the processes that had series.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.iter().filter(|(_, known)| !known.series.is_empty()).map(|(process, _)| process)
    }
}

/// The counts of one process by class, or a gap. `None`: the counting of the class starts at this reading.
pub type ProcessCounts = Result<BTreeMap<Class, Option<u64>>, Gap>;

/// Returns the gap with the name of the process in its text.
fn with_process(gap: Gap, process: &Process) -> Gap {
    let name = process.iter().filter(|value| !value.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/");
    let full = |series: String| if series.is_empty() { name.clone() } else { format!("{name} {series}") };
    match gap {
        Gap::Fell { series } => Gap::Fell { series: full(series) },
        Gap::Vanished { series } => Gap::Vanished { series: full(series) },
        Gap::NotANumber { series } => Gap::NotANumber { series: full(series) },
        Gap::Malformed { problem } => Gap::Malformed { problem: format!("{name}: {problem}") },
        other => other,
    }
}

/// Returns the name of a class in the text of a gap.
fn class_text(class: &Class) -> String {
    let parts = class.owner.iter().chain(&class.values).chain(&class.member).map(String::as_str);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// One process at the current reading.
struct CurrentProcess<'a> {
    /// Its cells. `None`: it has no series.
    series: Option<&'a Result<BTreeMap<Class, Cell>, String>>,
    target: Option<&'a Target>,
    facts: ProcessFacts,
    context: ReadingContext,
}

/// Whether a process was restarted between two readings.
enum Restart {
    No,
    Yes,
    /// It was restarted, but the restart may be before or after the second reading.
    Unclear,
}

impl CurrentProcess<'_> {
    /// Returns whether the process can be counted now. Series that remain after their target has left can't.
    fn in_sight(&self, known: Option<&KnownProcess>) -> bool {
        match (self.target, known) {
            (Some(target), _) => target.up,
            // A process that was a target and is none any more has left.
            (None, Some(known)) if known.scraped.is_some() => false,
            // It never was a target, so having series is the only sign of it.
            (None, _) => self.series.is_some(),
        }
    }

    fn cells(&self) -> Result<&BTreeMap<Class, Cell>, Gap> {
        const NONE: &BTreeMap<Class, Cell> = &BTreeMap::new();
        match self.series {
            None => Ok(NONE),
            Some(Ok(cells)) => Ok(cells),
            Some(Err(problem)) => Err(Gap::Malformed { problem: problem.clone() }),
        }
    }

    /// Returns the counts of a process that is seen for the first time.
    fn first_counts(&self) -> ProcessCounts {
        let is_new = self.started_after(self.context.since);
        self.all_values(|value| is_new.then_some(value))
    }

    /// Returns whether the process started after a time. One whose start is not known did not.
    fn started_after(&self, since: Timestamp) -> bool {
        match (self.target.and_then(|target| target.started), self.facts.started) {
            (Some(started), _) => started > since.as_millisecond() as f64 / 1000.0,
            (None, Some(started)) => started > since,
            (None, None) => false,
        }
    }

    /// Returns the reading with the first request of a process; see [`KnownProcess::serves_since`]. `known` is its state since
    /// its last start.
    fn serves_since(&self, known: Option<&KnownProcess>, was_known: bool) -> Option<Timestamp> {
        if let Some(since) = known.and_then(|known| known.serves_since) {
            return Some(since);
        }
        let has_requests = self.cells().is_ok_and(|cells| cells.values().any(|cell| cell.value > 0.0));
        let is_new =
            was_known || self.started_after(self.context.since.min(self.context.warm_up.before(self.context.at)));
        has_requests.then_some(if is_new { self.context.at } else { Timestamp::MIN })
    }

    /// Returns the first series that is lower if this reading is older than the remembered one: all of its series are there, some
    /// are lower, none by a quarter or more, and nothing else tells of a restart. `None`: it is not older.
    fn older_than<'k>(&self, known: &'k KnownProcess) -> Option<&'k Class> {
        let (Ok(cells), Ok(Restart::No)) = (self.cells(), self.restart_since(known)) else { return None };
        let pairs = || {
            let both =
                |(class, before): (&'k Class, &KnownCell)| Some((class, before.count? as f64, cells.get(class)?.value));
            known.series.iter().filter_map(both)
        };
        let is_there = |(class, before): (&Class, &KnownCell)| {
            before.lost || cells.get(class).is_some_and(|cell| cell.members >= before.members)
        };
        let is_close = pairs().all(|(_, before, now)| now > LEAST_OF_OLDER * before || now >= before);
        let fallen = pairs().find(|(_, before, now)| now < before).map(|(class, ..)| class);
        fallen.filter(|_| is_close && known.series.iter().all(is_there))
    }

    fn counts_since(&self, known: &KnownProcess) -> ProcessCounts {
        match self.restart_since(known)? {
            Restart::Yes => self.all_values(Some),
            Restart::Unclear => Err(Gap::Malformed {
                problem: "it restarted, and it is not known whether before or after its counters were read".to_owned(),
            }),
            Restart::No => self.increases_since(known),
        }
    }

    /// Returns the count that `count_of` makes of the value of each cell.
    fn all_values(&self, count_of: impl Fn(u64) -> Option<u64>) -> ProcessCounts {
        let cells = self.cells()?.iter();
        cells
            .map(|(class, cell)| {
                let value = count(cell.value).ok_or_else(|| Gap::NotANumber { series: class_text(class) })?;
                Ok((class.clone(), count_of(value)))
            })
            .collect()
    }

    /// Returns the increase of each cell of a process that was not restarted.
    fn increases_since(&self, known: &KnownProcess) -> ProcessCounts {
        let cells = self.cells()?;
        if known.series_unknown && !cells.is_empty() {
            return Err(Gap::NoBaseline);
        }
        let is_gone = |class: &Class| !cells.contains_key(class) && !self.is_optional_bucket(class, cells.keys());
        let gone = known.series.iter().find(|(class, before)| !before.lost && is_gone(class));
        if let Some((class, _)) = gone {
            let series = class_text(class);
            return Err(if self.is_bucket_of_other(class, cells.keys()) {
                Gap::Malformed { problem: format!("bucket {series} disappeared") }
            } else {
                Gap::Vanished { series }
            });
        }
        let mut counts = BTreeMap::new();
        for (class, cell) in cells {
            let series = || class_text(class);
            let value = count(cell.value).ok_or_else(|| Gap::NotANumber { series: series() })?;
            let increase = match known.series.get(class) {
                // An edge without a value in the previous reading; it is counted again from the next reading on.
                None | Some(KnownCell { count: None, .. } | KnownCell { lost: true, .. })
                    if self.is_optional_bucket(class, known.series.classes()) =>
                {
                    continue;
                }
                None if self.is_bucket_of_other(class, known.series.classes()) => {
                    return Err(Gap::Malformed { problem: format!("bucket {} appeared", series()) });
                }
                None => value,
                Some(KnownCell { count: None, .. } | KnownCell { lost: true, .. }) => return Err(Gap::NoBaseline),
                Some(KnownCell { members, .. }) if cell.members < *members => {
                    return Err(Gap::Vanished { series: series() });
                }
                Some(KnownCell { fell_from: Some(above), .. }) if value >= *above => return Err(Gap::NoBaseline),
                Some(KnownCell { count: Some(before), .. }) => {
                    value.checked_sub(*before).ok_or_else(|| Gap::Fell { series: series() })?
                }
            };
            counts.insert(class.clone(), Some(increase));
        }
        Ok(counts)
    }

    /// Returns whether `class` is a bucket of a histogram of which `present` has other buckets. Then its absence says
    /// nothing about the process.
    fn is_bucket_of_other<'c>(&self, class: &Class, mut present: impl Iterator<Item = &'c Class>) -> bool {
        let is_bucket = self.context.buckets != BucketKind::None && class.member.is_none();
        is_bucket && present.any(|other| other.owner == class.owner && other.member.is_none())
    }

    /// Returns whether `class` may be absent without being lost: it is a finite bucket of a native histogram of which
    /// `present` has other buckets.
    fn is_optional_bucket<'c>(&self, class: &Class, present: impl Iterator<Item = &'c Class>) -> bool {
        self.context.buckets == BucketKind::Native && !class.is_infinite() && self.is_bucket_of_other(class, present)
    }

    /// Returns whether the process was restarted since its last reading.
    fn restart_since(&self, known: &KnownProcess) -> Result<Restart, Gap> {
        if let (Some(before), Some(now)) = (known.started, self.target.and_then(|target| target.started)) {
            let scraped = known.scraped.unwrap_or(f64::INFINITY);
            return Ok(match now - before {
                moved if moved.abs() <= START_JITTER => Restart::No,
                moved if moved > 0.0 && now + START_JITTER > scraped => Restart::Yes,
                // A clock was set on one of the machines. Only a counter that fell shows a restart as well.
                _ => self.restart_if_fallen(known)?,
            });
        }
        match (self.settled_restarts(known), self.facts.restarts) {
            (Some(before), Some(now)) if now > before => self.restart_if_fallen(known),
            _ => Ok(Restart::No),
        }
    }

    /// Returns the number of restarts that the last reading includes for certain. The API server is ahead of the
    /// counters: a restart is included if the API server reported it well before the last reading's scrape.
    fn settled_restarts(&self, known: &KnownProcess) -> Option<u32> {
        match (known.reported_since, known.scraped) {
            (Some(since), Some(scraped))
                if scraped > self.context.facts_lead.after(since).as_millisecond() as f64 / 1000.0 =>
            {
                known.reported_restarts
            }
            _ => known.included_restarts,
        }
    }

    /// Returns whether a process of which a restart is reported was restarted before this reading: yes if a counter
    /// fell.
    fn restart_if_fallen(&self, known: &KnownProcess) -> Result<Restart, Gap> {
        let cells = self.cells()?;
        let fell =
            known.series.iter().filter(|(_, before)| !before.lost).any(|(class, before)| match cells.get(class) {
                None => !self.is_bucket_of_other(class, cells.keys()),
                Some(cell) => {
                    cell.members < before.members || before.count.is_some_and(|before| cell.value < before as f64)
                }
            });
        // From zero, the increase and the new value are the same number.
        let was_zero =
            !known.series_unknown && known.series.iter().all(|(_, before)| !before.lost && before.count == Some(0));
        Ok(if fell || was_zero { Restart::Yes } else { Restart::Unclear })
    }

    /// Returns the number of restarts that this reading includes for certain. The API server is ahead of the counters,
    /// so a restart that it has just reported may be after this reading.
    fn included_restarts(&self, known: Option<&KnownProcess>, restart: &Option<Result<Restart, Gap>>) -> Option<u32> {
        let now = self.facts.restarts?;
        let Some(before) = known.and_then(|known| self.settled_restarts(known)) else { return Some(0) };
        match restart {
            Some(Ok(Restart::Yes)) if now > before => Some(before + 1),
            _ => Some(before.min(now)),
        }
    }

    /// Returns the process as it is remembered after this reading.
    fn remember(&self, known: Option<&KnownProcess>) -> KnownProcess {
        let restart = known.map(|known| self.restart_since(known));
        let is_new = matches!(restart, None | Some(Ok(Restart::Yes)));
        let started = self.target.and_then(|target| target.started);
        let included_restarts = self.included_restarts(known, &restart);
        let is_pending = self.facts.restarts > included_restarts;
        let mut series: BTreeMap<Class, KnownCell> = BTreeMap::new();
        if let (false, Some(known)) = (is_new, known) {
            let lost = KnownCell { lost: true, ..KnownCell::default() };
            series.extend(known.series.classes().map(|class| (class.clone(), lost)));
        }
        let cells = self.cells();
        let series_unknown = cells.is_err();
        let unexplained = known.filter(|_| matches!(restart, Some(Ok(Restart::No))));
        let before = |class: &Class| unexplained.and_then(|known| known.series.get(class)?.count);
        for (class, cell) in cells.into_iter().flatten() {
            let fell_from = before(class).filter(|before| cell.value < *before as f64);
            let known = KnownCell { count: count(cell.value), members: cell.members, lost: false, fell_from };
            series.insert(class.clone(), known);
        }
        KnownProcess {
            scraped: self.target.map(|target| target.scraped),
            started: started.or(known.and_then(|known| known.started).filter(|_| !is_new)),
            included_restarts,
            reported_restarts: self.facts.restarts,
            reported_since: is_pending.then(|| {
                let same = known.filter(|known| known.reported_restarts == self.facts.restarts);
                same.and_then(|known| known.reported_since).unwrap_or(self.context.at)
            }),
            passed_over: false,
            series_unknown,
            serves_since: self.serves_since(known.filter(|_| !is_new), known.is_some()),
            series: series.into(),
        }
    }
}

#[cfg(test)]
mod tests;
