//! What is remembered of one watch between two ticks, and the block that it makes of the next one.
//!
//! The memory is that of the last instant that could be read. While Prometheus does not answer, or what it has is old,
//! each tick gives a block of gaps and the memory stays: the first good block then covers the whole time, with the
//! right totals. What is not remembered (the daemon has restarted, a metric is new, one query alone had failed) is
//! asked again as of the instant at which the block begins, because Prometheus still has it.
#![expect(clippy::wildcard_enum_match_arm, reason = "asks about one kind, and leaves all others alone")]

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::metric::{Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, Timestamp};

use super::Options;
use super::answers::Answers;
use super::difference::{Buckets, Counted, Memory, ProcessFacts, Setting};
use super::plan::{BOUND, Family, SeriesRequest, SeriesSource, families, service_values};
use super::reading::{ArmCounts, ArmReading, counted, gauge, parts};
use super::snapshot::{Class, Process, Snapshot, Targets, process, targets};
use crate::ports::{PodDirectory, PodFacts};

/// An instant query finds samples that are this old, unless the server is set otherwise.
const LOOKBACK: Span = Span::from_secs(300);

/// One watch's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerState {
    /// The rollout that it is of.
    since: Timestamp,
    /// The last instant that could be read: where the next block with counts begins.
    good: Timestamp,
    /// The end of the last block that was handed out.
    reported: Option<Timestamp>,
    families: BTreeMap<Family, Known>,
}

#[derive(Debug, Clone, PartialEq)]
struct Known {
    at: Timestamp,
    labels: BTreeSet<String>,
    memory: Memory,
}

/// Where a watch stands at the beginning of a tick.
pub struct Start {
    /// Where its block begins; `None`: this tick is its first reading, and there is no block.
    pub from: Option<Timestamp>,
    state: SamplerState,
}

/// What has to be asked again for a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// Its values at the beginning of the block.
    Values,
    /// These, and what there has been before.
    Everything,
}

impl Start {
    /// Where `watch` stands, given what is remembered of its workload. `None`: nothing new can be read yet.
    pub fn of(watch: &Watch, remembered: Option<&SamplerState>, at: Timestamp) -> Option<Start> {
        let fits = |state: &&SamplerState| {
            // Another process may have gone on with it meanwhile: its blocks must not be counted again.
            let agrees = watch.last.is_none_or(|last| Some(last) == state.reported || last == state.good);
            state.since == watch.since && agrees
        };
        let fresh = |good| SamplerState { since: watch.since, good, reported: watch.last, families: BTreeMap::new() };
        let start = match (remembered.filter(fits), watch.last) {
            (Some(state), _) => Start { from: Some(state.good), state: state.clone() },
            (None, Some(last)) => Start { from: Some(last), state: fresh(last) },
            (None, None) => Start { from: None, state: fresh(at) },
        };
        let reached = start.from.max(start.state.reported.filter(|_| start.from.is_some()));
        reached.is_none_or(|reached| reached < at).then_some(start)
    }

    fn missing(&self, family: &Family, labels: &BTreeSet<String>) -> Missing {
        match self.state.families.get(family) {
            _ if self.from.is_none() => Missing::Nothing,
            Some(known) if known.labels != *labels => Missing::Everything,
            Some(known) if known.at == self.state.good => Missing::Nothing,
            Some(_) => Missing::Values,
            None => Missing::Everything,
        }
    }

    /// What must be asked as of [`Start::from`], of all that is asked of this tick.
    pub fn again<'a>(&self, asks: impl Iterator<Item = &'a SeriesRequest>, lag: Span) -> BTreeSet<SeriesRequest> {
        let mut again = BTreeSet::new();
        for ask in asks {
            let SeriesRequest::Series(family, labels) = ask else { continue };
            let missing = self.missing(family, labels);
            let targets = SeriesRequest::Targets(family.source.clone());
            let own = [ask].into_iter().chain(family.source.has_targets().then_some(&targets));
            if !family.counter || missing == Missing::Nothing {
                continue;
            }
            let past = (missing == Missing::Everything).then(|| self.past(lag));
            again.extend(own.flat_map(|ask| ask.again(past)));
        }
        again
    }

    /// How far back it must be known what there has been: the rollout's time so far and what its first reading may have
    /// seen of the time before, rounded up to a power of two minutes, so that after a restart a few queries serve all
    /// rollouts. Too far is harmless: at worst a gap more when an old process comes back.
    fn past(&self, lag: Span) -> Span {
        let time = Span::between(self.state.since, self.state.good).as_millis();
        let time = time + lag.as_millis() + LOOKBACK.as_millis();
        Span::from_secs(time.div_ceil(60_000).next_power_of_two().saturating_mul(60))
    }
}

/// One watch at one tick: all that is needed to make its block.
pub struct Turn<'a> {
    /// Its index in the tick's list.
    pub index: usize,
    /// Itself.
    pub watch: &'a Watch,
    /// The instant that was read.
    pub at: Timestamp,
    /// What was asked of this instant.
    pub asks: &'a BTreeMap<SeriesRequest, Vec<usize>>,
    /// The answers.
    pub now: &'a Answers,
    /// The answers as of the block's beginning, for what was not remembered.
    pub then: &'a Answers,
    /// The samples of its raw queries.
    pub queries: BTreeMap<String, Sample>,
    /// Whose pod it is.
    pub pods: &'a dyn PodDirectory,
    /// How to read.
    pub options: &'a Options,
}

/// What became of a family.
enum Read {
    /// Counted up to this tick.
    Counted { labels: Vec<String>, counted: BTreeMap<Process, Counted>, memory: Memory },
    /// It can be read now, but from where it is to be counted is not known. With the memory that begins here, unless
    /// the beginning has to be asked again.
    Begun { gap: Gap, labels: Vec<String>, memory: Option<Memory> },
    /// It can't be read.
    Unread(Gap),
}

impl Turn<'_> {
    /// The block, if there is one, and what to remember.
    pub fn finish(self, start: Start) -> (Option<Block>, SamplerState) {
        let wanted: BTreeSet<Family> =
            self.watch.metrics.values().flat_map(families).filter(|family| family.counter).collect();
        let reads: BTreeMap<Family, Read> = self
            .asks
            .keys()
            .filter_map(|ask| match ask {
                SeriesRequest::Series(family, labels) if wanted.contains(family) => {
                    Some((family.clone(), self.read(family, labels, ask, &start)))
                }
                _ => None,
            })
            .collect();
        let unread = !reads.is_empty() && reads.values().all(|read| matches!(read, Read::Unread(_)));
        let block = start.from.map(|from| Block {
            from: if unread { start.state.reported.unwrap_or(from) } else { from },
            to: self.at,
            metrics: self.samples(&reads),
            processes: self.each(&reads),
            pods: self.named(&reads),
        });
        let state = self.remember(start, reads, unread);
        (block, state)
    }

    fn remember(&self, start: Start, reads: BTreeMap<Family, Read>, unread: bool) -> SamplerState {
        let mut state = start.state;
        state.families.retain(|family, _| reads.contains_key(family));
        for (family, read) in reads {
            if let Read::Counted { labels, memory, .. } | Read::Begun { labels, memory: Some(memory), .. } = read {
                let known = Known { at: self.at, labels: labels.into_iter().collect(), memory };
                state.families.insert(family, known);
            }
        }
        if !unread {
            state.good = self.at;
        }
        state.reported = start.from.map(|_| self.at);
        state
    }

    fn read(&self, family: &Family, labels: &BTreeSet<String>, ask: &SeriesRequest, start: &Start) -> Read {
        let list: Vec<String> = labels.iter().cloned().collect();
        let now = self
            .snapshot(self.now, family, &list, ask)
            .and_then(|now| Ok((now, self.targets(self.now, &family.source)?)));
        let (now, targets) = match now {
            Ok(now) => now,
            Err(gap) => return Read::Unread(gap),
        };
        let setting = self.setting(self.at, family, labels);
        let facts = |process: &Process| self.facts(&family.source, process);
        let memory = match self.memory(family, &list, ask, start) {
            Ok(memory) => memory,
            Err(gap) => {
                // Where Prometheus knew nothing of the beginning, whoever is there now begins now.
                let anew = || Memory::default().advance(&now, &targets, &facts, setting).0;
                let memory = (gap == Gap::NoBaseline).then(anew);
                return Read::Begun { gap, labels: list, memory };
            }
        };
        if let Some(seconds) = start.from.and_then(|from| self.stale(&family.source, &memory, &now, &targets, from)) {
            return Read::Unread(Gap::Stale { seconds });
        }
        let (memory, counted) = memory.advance(&now, &targets, &facts, setting);
        Read::Counted { labels: list, counted, memory }
    }

    fn setting(&self, at: Timestamp, family: &Family, labels: &BTreeSet<String>) -> Setting {
        let buckets = match (labels.contains(BOUND), family.native) {
            (false, _) => Buckets::None,
            (true, false) => Buckets::Classic,
            (true, true) => Buckets::Native,
        };
        // What is asked after the tick is at most a tick old.
        let behind = Span::from_millis(self.options.lag.as_millis() + self.options.interval.as_millis());
        Setting { since: self.watch.since, at, behind, buckets }
    }

    /// The family's memory as of the block's beginning.
    fn memory(&self, family: &Family, labels: &[String], ask: &SeriesRequest, start: &Start) -> Result<Memory, Gap> {
        let set: BTreeSet<String> = labels.iter().cloned().collect();
        let known = start.state.families.get(family).map(|known| known.memory.clone()).unwrap_or_default();
        let missing = start.missing(family, &set);
        if missing == Missing::Nothing {
            return Ok(known);
        }
        let then = self.snapshot(self.then, family, labels, ask)?;
        let targets = self.targets(self.then, &family.source)?;
        let setting = self.setting(start.state.good, family, &set);
        let facts = |process: &Process| self.facts(&family.source, process);
        if missing == Missing::Values {
            return Ok(known.advance(&then, &targets, &facts, setting).0);
        }
        let past = start.past(self.options.lag);
        let points = self.then.points(&SeriesRequest::PastSeries(family.clone(), set, past), self.index)?;
        let names = Snapshot::names(family, labels, &points);
        let mut seen: Vec<Process> = Vec::new();
        if family.source.has_targets() {
            let points = self.then.points(&SeriesRequest::PastTargets(family.source.clone(), past), self.index)?;
            seen.extend(points.iter().filter(|point| point.value == 1.0).map(|point| process(&family.source, point)));
        }
        if names.is_empty() && seen.is_empty() {
            // Prometheus knows nothing of that time. Whoever is there now may have been counted already.
            return Err(Gap::NoBaseline);
        }
        Ok(Memory::restored(&then, &targets, seen, names, &facts, setting))
    }

    fn snapshot(
        &self,
        answers: &Answers,
        family: &Family,
        labels: &[String],
        ask: &SeriesRequest,
    ) -> Result<Snapshot, Gap> {
        Ok(Snapshot::read(family, labels, &answers.points(ask, self.index)?))
    }

    fn targets(&self, answers: &Answers, source: &SeriesSource) -> Result<Targets, Gap> {
        if !source.has_targets() {
            return Ok(None);
        }
        let points = answers.points(&SeriesRequest::Targets(source.clone()), self.index)?;
        // Without a single `up` series (a pushed metric, other labels) nobody can be asked, which is not the same as
        // all being gone.
        Ok(Some(targets(source, &points)).filter(|targets| !targets.is_empty()))
    }

    fn pod(&self, source: &SeriesSource, process: &Process) -> Option<PodFacts> {
        self.pods.locate(source.value(process, "namespace")?, source.value(process, "pod")?)
    }

    fn facts(&self, source: &SeriesSource, process: &Process) -> ProcessFacts {
        if source.service.is_some() {
            return ProcessFacts::default();
        }
        let Some(pod) = self.pod(source, process) else { return ProcessFacts::default() };
        let container = source.value(process, "container").and_then(|name| pod.restarts.get(name)).copied();
        let name = |label| source.value(process, label).unwrap_or_default().to_owned();
        ProcessFacts {
            pod: Some((name("namespace"), name("pod"))),
            started: Some(pod.started),
            restarts: Some(container.unwrap_or_else(|| pod.restarts.values().sum())),
        }
    }

    /// The arm of a process, or of a class of it; at a gateway every process is both arms'.
    fn whose(&self, source: &SeriesSource, process: &Process, class: Option<&Class>) -> Option<ArmReading> {
        if source.service.is_some() {
            let Some(class) = class else { return Some(ArmReading::Stable) };
            let [stable, canary] = service_values(source, self.watch, self.pods)?;
            return match class.owner.as_ref()? {
                owner if *owner == canary => self.watch.canary.as_ref().map(|_| ArmReading::Canary),
                owner => (*owner == stable).then_some(ArmReading::Stable),
            };
        }
        let pod = self.pod(source, process)?;
        let is = |arm: &ArmKey| {
            arm.deployment_uid == pod.deployment_uid && arm.pod_hash.as_ref().is_none_or(|hash| *hash == pod.pod_hash)
        };
        match &self.watch.canary {
            Some(canary) if is(canary) => Some(ArmReading::Canary),
            _ => is(&self.watch.stable).then_some(ArmReading::Stable),
        }
    }

    /// How old the newest sample is, in seconds, if that is too old to go by: of a process that is said to be up, or of
    /// an arm of which nothing can be scraped any more although it is there.
    fn stale(
        &self,
        source: &SeriesSource,
        memory: &Memory,
        now: &Snapshot,
        targets: &Targets,
        from: Timestamp,
    ) -> Option<u64> {
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
        let age = |scraped: f64| (seconds(self.at) - scraped).max(0.0) as u64;
        let ours = |process: &Process| self.whose(source, process, None);
        let Some(targets) = targets else {
            let was = memory.processes().any(|process| ours(process).is_some());
            let is = now.0.keys().any(|process| ours(process).is_some());
            let had_targets = memory.scraped().any(|(process, _)| ours(process).is_some());
            return (had_targets || was && !is).then(|| age(seconds(from)));
        };
        let limit = 2.5 * self.options.scrape_interval.as_secs_f64();
        let own: Vec<_> = targets.iter().filter_map(|(process, target)| Some((ours(process)?, target))).collect();
        let old = own.iter().filter(|(_, target)| target.up && seconds(self.at) - target.scraped > limit);
        if let Some(oldest) = old.map(|(_, target)| age(target.scraped)).max() {
            return Some(oldest);
        }
        [ArmReading::Canary, ArmReading::Stable].into_iter().find_map(|arm| {
            let before = memory.scraped().filter(|(process, _)| ours(process) == Some(arm)).map(|(_, scraped)| scraped);
            let last = before.max_by(f64::total_cmp)?;
            let is_down = own.iter().any(|(whose, _)| *whose == arm)
                && !own.iter().any(|(whose, target)| *whose == arm && target.up);
            (is_down || own.is_empty()).then(|| age(last))
        })
    }

    fn samples(&self, reads: &BTreeMap<Family, Read>) -> BTreeMap<String, Sample> {
        let metrics = self.watch.metrics.iter().filter(|(_, metric)| metric.kind != MetricKind::Availability);
        metrics
            .map(|(name, metric)| {
                let sample = match metric.kind {
                    MetricKind::Query => self.queries.get(name).cloned().unwrap_or(Sample::Gap(Gap::NoBaseline)),
                    MetricKind::Gauge => self.gauge(metric).unwrap_or_else(Sample::Gap),
                    _ => self.count(metric, reads).unwrap_or_else(Sample::Gap),
                };
                (name.clone(), sample)
            })
            .collect()
    }

    fn gauge(&self, metric: &Metric) -> Result<Sample, Gap> {
        let source = SeriesSource::of(metric);
        let wanted = families(metric);
        let ask =
            self.asks.keys().find(|ask| matches!(ask, SeriesRequest::Series(family, _) if wanted.contains(family)));
        let (Some(ask @ SeriesRequest::Series(family, labels)), whose) =
            (ask, |process: &Process, class: Option<&Class>| self.whose(&source, process, class))
        else {
            return Err(Gap::NoBaseline);
        };
        let labels: Vec<String> = labels.iter().cloned().collect();
        let now = self.snapshot(self.now, family, &labels, ask)?;
        let targets = self.targets(self.now, &source)?;
        match self.stale(&source, &Memory::default(), &now, &targets, self.at) {
            Some(seconds) => Err(Gap::Stale { seconds }),
            None => Ok(gauge(&now, &whose)),
        }
    }

    /// What each of the stable's processes has counted, of the metrics of which that is wanted.
    fn each(&self, reads: &BTreeMap<Family, Read>) -> BTreeMap<String, Vec<Reading>> {
        let processes = self.parts(&self.watch.each, reads, ArmReading::Stable, |_, process| Some(process.clone()));
        processes.map(|(name, parts)| (name, parts.into_values().collect())).collect()
    }

    /// What each pod of the version that is judged has counted, likewise.
    fn named(&self, reads: &BTreeMap<Family, Read>) -> BTreeMap<String, BTreeMap<String, Reading>> {
        let judged = if self.watch.canary.is_some() { ArmReading::Canary } else { ArmReading::Stable };
        let pod = |source: &SeriesSource, process: &Process| source.value(process, "pod").map(str::to_owned);
        self.parts(&self.watch.named, reads, judged, pod).filter(|(_, pods)| !pods.is_empty()).collect()
    }

    fn parts<'s, K: Ord>(
        &'s self,
        wanted: &'s BTreeSet<String>,
        reads: &'s BTreeMap<Family, Read>,
        arm: ArmReading,
        part: impl Fn(&SeriesSource, &Process) -> Option<K> + Copy + 's,
    ) -> impl Iterator<Item = (String, BTreeMap<K, Reading>)> + 's {
        self.watch.metrics.iter().filter(|(name, _)| wanted.contains(*name)).filter_map(move |(name, metric)| {
            let source = SeriesSource::of(metric);
            let read = |metric: &Metric, all: &ArmCounts<'_>, hits: Option<&ArmCounts<'_>>| {
                parts(metric, all, hits, arm, |process| part(&source, process))
            };
            Some((name.clone(), self.counts(metric, reads, read).ok()?))
        })
    }

    fn count(&self, metric: &Metric, reads: &BTreeMap<Family, Read>) -> Result<Sample, Gap> {
        self.counts(metric, reads, counted)
    }

    fn counts<T>(
        &self,
        metric: &Metric,
        reads: &BTreeMap<Family, Read>,
        read: impl FnOnce(&Metric, &ArmCounts<'_>, Option<&ArmCounts<'_>>) -> T,
    ) -> Result<T, Gap> {
        let source = SeriesSource::of(metric);
        let whose = |process: &Process, class: Option<&Class>| self.whose(&source, process, class);
        let counts: Vec<ArmCounts<'_>> = families(metric)
            .iter()
            .map(|family| match reads.get(family) {
                Some(Read::Counted { labels, counted, .. }) => Ok(ArmCounts { labels, counted, whose: &whose }),
                Some(Read::Begun { gap, .. } | Read::Unread(gap)) => Err(gap.clone()),
                None => Err(Gap::NoBaseline),
            })
            .collect::<Result<_, Gap>>()?;
        let all = counts.first().ok_or(Gap::NoBaseline)?;
        Ok(read(metric, all, counts.get(1)))
    }
}
