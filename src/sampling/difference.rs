//! What was counted between two instants, exactly, or the reason why that is not known.
//!
//! `rate()` and `increase()` extrapolate, lose the first sample of a new series and see a reset in every step back. So
//! the raw counters are read at both instants and subtracted here, process by process, and a number is only given
//! where nothing had to be guessed:
//!
//! - a counter that is new in a known process counts from zero, in both arms alike;
//! - a process that is first seen counts from zero if it started after the rollout; else this is where it begins;
//! - a process that was out of sight and comes back counts from where it was left: late, but once;
//! - a step back is a restart only if something else says so, and then the new value is what was counted since;
//! - all else is a gap, and the next block begins behind it.
//!
//! The sum over consecutive blocks telescopes, so an error here would not average out: it is why ambiguity is a gap.
#![expect(clippy::wildcard_enum_match_arm, reason = "asks about one kind, and leaves all others alone")]

use std::collections::BTreeMap;

use bellwether_core::measure::block::Gap;
use bellwether_core::time::{Span, Timestamp};

use super::count::count;
use super::snapshot::{Cell, Class, Process, Snapshot, Target, Targets};

/// Start times are computed from the boot time, which moves by a second when a clock is corrected.
const START_JITTER: f64 = 2.0;

/// What the API server knows of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessFacts {
    /// Namespace and name of its pod.
    pub pod: Option<(String, String)>,
    /// When its pod started.
    pub started: Option<Timestamp>,
    /// How often its container has been restarted, as of now: the counters were read a little earlier.
    pub restarts: Option<u32>,
}

/// Whether classes are the buckets of a histogram. One that is missing is not zero, but equal to the one below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buckets {
    /// They are none.
    None,
    /// Of a classic one, which has the same for as long as its process lives.
    Classic,
    /// Of a native one, which may have coarser ones at any time, and finer ones again. What was counted up to those that
    /// there are at both readings is as exact as ever.
    Native,
}

/// The circumstances of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The rollout began at this instant.
    pub since: Timestamp,
    /// The counters were read as of this instant.
    pub at: Timestamp,
    /// What the API server says now, it may have learnt so long after `at`.
    pub behind: Span,
    /// Whether the classes are the buckets of a histogram.
    pub buckets: Buckets,
}

/// A process as it was when it was last in sight.
#[derive(Debug, Clone, PartialEq, Default)]
struct Remembered {
    scraped: Option<f64>,
    started: Option<f64>,
    /// The restarts that are accounted for.
    restarts: Option<u32>,
    /// The restarts that the API server knew of, accounted for or not …
    told: Option<u32>,
    /// … and since when it has known of as many.
    noticed: Option<Timestamp>,
    /// It has been in sight, but what its series were then is not known.
    blank: bool,
    series: BTreeMap<Class, Past>,
}

/// A counter as it last was. `None`: it can't be counted from, because it was no count, or was lost while its process
/// went on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Past {
    count: Option<u64>,
    members: u64,
    /// It was no longer there, although its process was.
    lost: bool,
}

/// All processes of a family that have been in sight since the rollout's first reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory(BTreeMap<Process, Remembered>);

impl Memory {
    /// What is known from a reading at the beginning of a block alone, when all before it is forgotten: `seen` are the
    /// processes, and `names` the series, that there have been since the rollout began. What was counted of them is
    /// not known any more, so that they must not count from zero if they come back.
    pub fn restored(
        now: &Snapshot,
        targets: &Targets,
        seen: impl IntoIterator<Item = Process>,
        names: BTreeMap<Process, Vec<Class>>,
        facts: &dyn Fn(&Process) -> ProcessFacts,
        setting: Setting,
    ) -> Memory {
        let (mut memory, _) = Memory::default().advance(now, targets, facts, setting);
        for process in seen.into_iter().chain(names.keys().cloned()) {
            memory.0.entry(process).or_insert_with(|| Remembered { blank: true, ..Remembered::default() });
        }
        for (process, classes) in names {
            let Some(of) = memory.0.get_mut(&process) else { continue };
            for class in classes {
                of.series.entry(class).or_insert(Past { lost: true, ..Past::default() });
            }
        }
        memory
    }

    /// The memory after a reading, and what each process has counted up to it.
    pub fn advance(
        &self,
        now: &Snapshot,
        targets: &Targets,
        facts: &dyn Fn(&Process) -> ProcessFacts,
        setting: Setting,
    ) -> (Memory, BTreeMap<Process, Counted>) {
        let (mut memory, mut counted) = (Memory::default(), BTreeMap::new());
        let known = targets.iter().flat_map(BTreeMap::keys);
        let processes: std::collections::BTreeSet<&Process> = self.0.keys().chain(now.0.keys()).chain(known).collect();
        for process in processes {
            let look = Look {
                series: now.0.get(process),
                target: targets.as_ref().and_then(|targets| targets.get(process)),
                facts: facts(process),
                setting,
            };
            let past = self.0.get(process);
            if !look.in_sight(past) {
                memory.0.extend(past.map(|past| (process.clone(), past.clone())));
                continue;
            }
            let result = match past {
                Some(past) => look.again(past),
                None if self.has_left(&look, targets, now) => Err(Gap::NoBaseline),
                None => look.first(),
            };
            counted.insert(process.clone(), result.map_err(|gap| named(gap, process)));
            memory.0.insert(process.clone(), look.remembered(past));
        }
        (memory, counted)
    }

    /// Whether a process that is seen for the first time may be an old one under a new name, because another one of
    /// its pod has just left: somebody has changed how targets are labelled.
    fn has_left(&self, look: &Look<'_>, targets: &Targets, now: &Snapshot) -> bool {
        let Some(pod) = &look.facts.pod else { return false };
        let belongs = |process: &Process| process.contains(&pod.0) && process.contains(&pod.1);
        self.0.iter().any(|(process, past)| {
            let gone = match targets {
                Some(targets) => !targets.contains_key(process),
                None => !now.0.contains_key(process),
            };
            let another = match (past.started, look.target.and_then(|target| target.started)) {
                (Some(was), Some(is)) => (is - was).abs() > START_JITTER,
                _ => false,
            };
            gone && !past.series.is_empty() && !another && belongs(process)
        })
    }

    /// When each process was last scraped, in Unix seconds, where that is known.
    pub fn scraped(&self) -> impl Iterator<Item = (&Process, f64)> {
        self.0.iter().filter_map(|(process, past)| Some((process, past.scraped?)))
    }

    /// The processes that have had series.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.iter().filter(|(_, past)| !past.series.is_empty()).map(|(process, _)| process)
    }
}

/// What one process has counted, by class; `None`: it begins here.
pub type Counted = Result<BTreeMap<Class, Option<u64>>, Gap>;

/// A gap with the process in it, for people.
fn named(gap: Gap, process: &Process) -> Gap {
    let who = process.iter().filter(|value| !value.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/");
    let name = |series: String| if series.is_empty() { who.clone() } else { format!("{who} {series}") };
    match gap {
        Gap::Fell { series } => Gap::Fell { series: name(series) },
        Gap::Vanished { series } => Gap::Vanished { series: name(series) },
        Gap::NotANumber { series } => Gap::NotANumber { series: name(series) },
        Gap::Malformed { what } => Gap::Malformed { what: format!("{who}: {what}") },
        other => other,
    }
}

fn label(class: &Class) -> String {
    let parts = class.owner.iter().chain(&class.values).chain(&class.behind).map(String::as_str);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// One process at one reading.
struct Look<'a> {
    series: Option<&'a Result<BTreeMap<Class, Cell>, String>>,
    target: Option<&'a Target>,
    facts: ProcessFacts,
    setting: Setting,
}

/// Whether a process has been restarted between two readings.
enum Restart {
    No,
    Yes,
    /// It may have been, before the second reading or after it.
    Unclear,
}

impl Look<'_> {
    /// Whether the process is there to be counted. Series that linger after their target is gone are not.
    fn in_sight(&self, past: Option<&Remembered>) -> bool {
        match (self.target, past) {
            (Some(target), _) => target.up,
            // A process that was a target and is none any more has left.
            (None, Some(past)) if past.scraped.is_some() => false,
            // Nobody can say whether it is scraped, so its series speak for it.
            (None, _) => self.series.is_some(),
        }
    }

    fn cells(&self) -> Result<&BTreeMap<Class, Cell>, Gap> {
        const NONE: &BTreeMap<Class, Cell> = &BTreeMap::new();
        match self.series {
            None => Ok(NONE),
            Some(Ok(cells)) => Ok(cells),
            Some(Err(what)) => Err(Gap::Malformed { what: what.clone() }),
        }
    }

    fn first(&self) -> Counted {
        let since = self.setting.since;
        let fresh = match (self.target.and_then(|target| target.started), self.facts.started) {
            (Some(started), _) => started > since.as_millisecond() as f64 / 1000.0,
            (None, Some(started)) => started > since,
            (None, None) => false,
        };
        self.all(|_, value| fresh.then_some(value))
    }

    fn again(&self, past: &Remembered) -> Counted {
        match self.restarted(past)? {
            Restart::Yes => self.all(|_, value| Some(value)),
            Restart::Unclear => Err(Gap::Malformed {
                what: "it restarted, and nothing says whether before or after its counters were read".to_owned(),
            }),
            Restart::No => self.onwards(past),
        }
    }

    /// Every count by itself.
    fn all(&self, counted: impl Fn(&Class, u64) -> Option<u64>) -> Counted {
        let cells = self.cells()?.iter();
        cells
            .map(|(class, cell)| {
                let value = count(cell.value).ok_or_else(|| Gap::NotANumber { series: label(class) })?;
                Ok((class.clone(), counted(class, value)))
            })
            .collect()
    }

    /// What has been added since.
    fn onwards(&self, past: &Remembered) -> Counted {
        let cells = self.cells()?;
        if past.blank && !cells.is_empty() {
            return Err(Gap::NoBaseline);
        }
        let is_gone = |class: &Class| !cells.contains_key(class) && !self.may_come_and_go(class, cells);
        let gone = past.series.iter().find(|(class, before)| !before.lost && is_gone(class));
        if let Some((class, _)) = gone {
            let series = label(class);
            return Err(if self.is_but_a_bucket(class, cells) {
                Gap::Malformed { what: format!("bucket {series} has gone") }
            } else {
                Gap::Vanished { series }
            });
        }
        let mut counted = BTreeMap::new();
        for (class, cell) in cells {
            let series = || label(class);
            let value = count(cell.value).ok_or_else(|| Gap::NotANumber { series: series() })?;
            let added = match past.series.get(class) {
                // From now on, it is counted up to here again.
                None | Some(Past { count: None, .. } | Past { lost: true, .. })
                    if self.may_come_and_go(class, &past.series) =>
                {
                    continue;
                }
                None if self.is_but_a_bucket(class, &past.series) => {
                    return Err(Gap::Malformed { what: format!("bucket {} has appeared", series()) });
                }
                None => value,
                Some(Past { count: None, .. } | Past { lost: true, .. }) => return Err(Gap::NoBaseline),
                Some(Past { members, .. }) if cell.members < *members => {
                    return Err(Gap::Vanished { series: series() });
                }
                Some(Past { count: Some(before), .. }) => {
                    value.checked_sub(*before).ok_or_else(|| Gap::Fell { series: series() })?
                }
            };
            counted.insert(class.clone(), Some(added));
        }
        Ok(counted)
    }

    /// Whether a class that is missing is a bucket of a histogram that is there: that says nothing of its process.
    fn is_but_a_bucket<T>(&self, class: &Class, there: &BTreeMap<Class, T>) -> bool {
        let is_bucket = self.setting.buckets != Buckets::None && class.behind.is_none();
        is_bucket && there.keys().any(|other| other.owner == class.owner && other.behind.is_none())
    }

    /// Whether nothing is wrong when it is: it lies between two edges of a native histogram, and not above all of them.
    fn may_come_and_go<T>(&self, class: &Class, there: &BTreeMap<Class, T>) -> bool {
        self.setting.buckets == Buckets::Native && !class.is_above_all() && self.is_but_a_bucket(class, there)
    }

    fn restarted(&self, past: &Remembered) -> Result<Restart, Gap> {
        if let (Some(was), Some(is)) = (past.started, self.target.and_then(|target| target.started)) {
            let scraped = past.scraped.unwrap_or(f64::INFINITY);
            return Ok(match is - was {
                moved if moved.abs() <= START_JITTER => Restart::No,
                moved if moved > 0.0 && is + START_JITTER > scraped => Restart::Yes,
                // A clock was set, here or there; only a step back can tell whether that was all.
                _ => self.unless_it_fell(past)?,
            });
        }
        match (self.settled(past), self.facts.restarts) {
            (Some(was), Some(is)) if is > was => self.unless_it_fell(past),
            _ => Ok(Restart::No),
        }
    }

    /// How many restarts the last reading had in it for sure. The API server is ahead of the counters; a restart that
    /// it knew of well before the last reading's scrape is in that reading, and one that it has heard of since is not.
    fn settled(&self, past: &Remembered) -> Option<u32> {
        match (past.noticed, past.scraped) {
            (Some(noticed), Some(scraped))
                if scraped > self.setting.behind.after(noticed).as_millisecond() as f64 / 1000.0 =>
            {
                past.told
            }
            _ => past.restarts,
        }
    }

    fn unless_it_fell(&self, past: &Remembered) -> Result<Restart, Gap> {
        let cells = self.cells()?;
        let fell =
            past.series.iter().filter(|(_, before)| !before.lost).any(|(class, before)| match cells.get(class) {
                None => !self.is_but_a_bucket(class, cells),
                Some(cell) => cell.members < before.members || before.count.is_some_and(|was| cell.value < was as f64),
            });
        // From zero to anything is the same number, restarted or not.
        let was_zero = !past.blank && past.series.values().all(|before| !before.lost && before.count == Some(0));
        Ok(if fell || was_zero { Restart::Yes } else { Restart::Unclear })
    }

    /// How many of the restarts that the API server knows of are in this reading for sure. It is ahead of the counters,
    /// so one that happened just now is still to come.
    fn accounted_for(&self, past: Option<&Remembered>, restart: &Option<Result<Restart, Gap>>) -> Option<u32> {
        let now = self.facts.restarts?;
        let Some(before) = past.and_then(|past| self.settled(past)) else { return Some(0) };
        match restart {
            Some(Ok(Restart::Yes)) if now > before => Some(before + 1),
            _ => Some(before.min(now)),
        }
    }

    /// How the process is remembered after this reading.
    fn remembered(&self, past: Option<&Remembered>) -> Remembered {
        let restart = past.map(|past| self.restarted(past));
        let began_anew = matches!(restart, None | Some(Ok(Restart::Yes)));
        let started = self.target.and_then(|target| target.started);
        let restarts = self.accounted_for(past, &restart);
        let pending = self.facts.restarts > restarts;
        let mut series: BTreeMap<Class, Past> = BTreeMap::new();
        if let (false, Some(past)) = (began_anew, past) {
            series.extend(past.series.keys().map(|class| (class.clone(), Past { lost: true, ..Past::default() })));
        }
        let cells = self.cells();
        let blank = cells.is_err();
        for (class, cell) in cells.into_iter().flatten() {
            series.insert(class.clone(), Past { count: count(cell.value), members: cell.members, lost: false });
        }
        Remembered {
            scraped: self.target.map(|target| target.scraped),
            started: started.or(past.and_then(|past| past.started).filter(|_| !began_anew)),
            restarts,
            told: self.facts.restarts,
            noticed: pending.then(|| {
                let same = past.filter(|past| past.told == self.facts.restarts);
                same.and_then(|past| past.noticed).unwrap_or(self.setting.at)
            }),
            blank,
            series,
        }
    }
}

#[cfg(test)]
mod tests;
