//! Makes the block of one watch at one tick, and the state for the next tick.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches one kind and treats all others alike")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::measure::block::{Block, Gap, Reading, Sample, SmallMap};
use bellwether_core::measure::metric::{Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, Timestamp};

use super::answers::Answers;
use super::difference::{BucketKind, Memory, ProcessCounts, ProcessFacts, ReadingContext};
use super::options::Options;
use super::packed::PackedMemory;
use super::plan::{BOUND, Family, SeriesRequest, SeriesSource, families, service_owners};
use super::reading::{ArmCounts, ArmReading, counted_sample, gauge_sample, part_readings};
use super::snapshot::{Class, Process, Snapshot, Targets, process_of, read_newest, read_targets};
use super::state::{BlockStart, FamilyState, MissingStart, SamplerState};
use super::strata::strata_samples;
use crate::ports::{PodDirectory, PodFacts};

/// One watch at one tick, with everything that its block is made of.
pub struct WatchTick<'a> {
    /// Index of the watch in the tick's list.
    pub index: usize,
    /// The watch that the block belongs to.
    pub watch: &'a Watch,
    /// The instant that was read, which is the end of the block.
    pub at: Timestamp,
    /// All requests of the tick, with the indices of the watches that need them.
    pub requests: &'a BTreeMap<SeriesRequest, Vec<usize>>,
    /// The answers as of the end of the block.
    pub at_end: &'a Answers,
    /// The answers as of the start of the block, for data that the state lacks.
    pub at_start: &'a Answers,
    /// The samples of the raw queries, by metric.
    pub query_samples: SmallMap<Sample>,
    /// The directory that assigns pods to Deployments.
    pub pods: &'a dyn PodDirectory,
    /// The sampler's settings.
    pub options: &'a Options,
}

/// A part of the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Those that are compared: all but the cold ones.
    Compared,
    /// Those that had their first request a short time ago.
    Cold,
}

/// The assignment of the processes of one source to arms.
struct SourceArms<'a> {
    tick: &'a WatchTick<'a>,
    source: &'a SeriesSource,
    /// The Services of both arms, the stable's first. `None`: the pods tell the arm, or the Service is unknown.
    owners: Option<[String; 2]>,
}

impl SourceArms<'_> {
    /// Returns the arm of a class of a process, or of the process as a whole. A gateway's process serves both arms and
    /// counts as the stable's.
    fn of(&self, process: &Process, class: Option<&Class>) -> Option<ArmReading> {
        let watch = self.tick.watch;
        if self.source.service.is_some() {
            let Some(class) = class else { return Some(ArmReading::Stable) };
            let [stable, canary] = self.owners.as_ref()?;
            return match class.owner.as_ref()? {
                owner if owner == canary => watch.canary.as_ref().map(|_| ArmReading::Canary),
                owner => (owner == stable).then_some(ArmReading::Stable),
            };
        }
        let pod = self.tick.pod(self.source, process)?;
        let is_of = |arm: &ArmKey| {
            arm.deployment_uid == pod.deployment_uid && arm.pod_hash.as_ref().is_none_or(|hash| *hash == pod.pod_hash)
        };
        match &watch.canary {
            Some(canary) if is_of(canary) => Some(ArmReading::Canary),
            _ => is_of(&watch.stable).then_some(ArmReading::Stable),
        }
    }
}

/// Returns whether the counts of cold processes are told apart: those of good and bad requests are, those of the traffic and of
/// a distribution of values are not.
fn is_split(metric: &Metric) -> bool {
    matches!(metric.kind, MetricKind::Ratio | MetricKind::Histogram)
}

/// The result of reading one family.
enum FamilyReading {
    /// The family was counted up to this tick.
    Counted {
        labels: Arc<[String]>,
        counts: BTreeMap<Process, ProcessCounts>,
        cold: BTreeSet<Process>,
        idle: BTreeSet<Process>,
        memory: Memory,
    },
    /// The family could be read, but its values at the start of the block are not known. `memory` are the values that
    /// the next block is counted from. `None`: they are queried again at the next tick.
    NoStart { gap: Gap, labels: Arc<[String]>, memory: Option<Memory> },
    /// The family could not be read.
    Unread(Gap),
}

impl WatchTick<'_> {
    /// Returns the block and the state for the next tick. There is no block at the first reading.
    pub fn finish(self, start: BlockStart) -> (Option<Block>, SamplerState) {
        let counters: BTreeSet<Family> =
            self.watch.metrics.values().flat_map(families).filter(|family| family.counter).collect();
        let readings: BTreeMap<Arc<Family>, FamilyReading> = self
            .requests
            .keys()
            .filter_map(|request| match request {
                SeriesRequest::Series(family, labels) if counters.contains(&**family) => {
                    Some((family.clone(), self.read_family(family, labels, request, &start)))
                }
                _ => None,
            })
            .collect();
        let unread =
            !readings.is_empty() && readings.values().all(|reading| matches!(reading, FamilyReading::Unread(_)));
        let block = start.from.map(|from| Block {
            from: if unread { start.state.reported.unwrap_or(from) } else { from },
            to: self.at,
            metrics: self.samples(&readings),
            cold: self.cold_samples(&readings),
            strata: self.strata(&readings),
            processes: self.stable_processes(&readings),
            pods: self.judged_pods(&readings),
        });
        let state = self.next_state(start, readings, unread);
        (block, state)
    }

    fn next_state(
        &self,
        start: BlockStart,
        readings: BTreeMap<Arc<Family>, FamilyReading>,
        unread: bool,
    ) -> SamplerState {
        let mut state = start.state;
        state.families.retain(|family, _| readings.contains_key(family));
        for (family, reading) in readings {
            if let FamilyReading::Counted { labels, memory, .. }
            | FamilyReading::NoStart { labels, memory: Some(memory), .. } = reading
            {
                // Without its state, the values of a family are queried again at the next tick.
                let memory = PackedMemory::of(&memory);
                let known = memory.map(|memory| FamilyState { at: self.at, labels, memory });
                state.families.extend(known.map(|known| (family, known)));
            }
        }
        if !unread {
            state.last_read = self.at;
        }
        state.reported = start.from.map(|_| self.at);
        state
    }

    fn read_family(
        &self,
        family: &Arc<Family>,
        labels: &Arc<[String]>,
        request: &SeriesRequest,
        start: &BlockStart,
    ) -> FamilyReading {
        let read = self
            .snapshot(self.at_end, family, labels, request)
            .and_then(|now| Ok((now, self.targets(self.at_end, family)?)));
        let (now, targets) = match read {
            Ok(read) => read,
            Err(gap) => return FamilyReading::Unread(gap),
        };
        let context = self.context(self.at, family, labels);
        let facts = |process: &Process| self.facts(&family.source, process);
        let memory = match self.memory_at_start(family, labels, request, start) {
            Ok(memory) => memory,
            Err(gap) => {
                // If Prometheus has no data of the start, the counting starts at this reading.
                let started_here = || Memory::default().advance(&now, &targets, &facts, context).0;
                let memory = (gap == Gap::NoBaseline).then(started_here);
                return FamilyReading::NoStart { gap, labels: Arc::clone(labels), memory };
            }
        };
        let stale = start.from.and_then(|from| self.stale_seconds(&family.source, &memory, &now, &targets, from));
        if let Some(seconds) = stale {
            return FamilyReading::Unread(Gap::Stale { seconds });
        }
        let (memory, counts) = memory.advance(&now, &targets, &facts, context);
        let from = start.from.unwrap_or(self.at);
        let (cold, idle) = (memory.cold(self.watch.warm_up, from), memory.idle(from));
        FamilyReading::Counted { labels: Arc::clone(labels), counts, cold, idle, memory }
    }

    fn context(&self, at: Timestamp, family: &Family, labels: &[String]) -> ReadingContext {
        let buckets = match (labels.iter().any(|label| label == BOUND), family.native) {
            (false, _) => BucketKind::None,
            (true, false) => BucketKind::Classic,
            (true, true) => BucketKind::Native,
        };
        // The facts are of now, which is at most one interval after the tick.
        let facts_lead = Span::from_millis(self.options.lag.as_millis() + self.options.interval.as_millis());
        ReadingContext { since: self.watch.since, at, facts_lead, warm_up: self.watch.warm_up, buckets }
    }

    /// Returns the family's memory as of the start of the block.
    fn memory_at_start(
        &self,
        family: &Arc<Family>,
        labels: &Arc<[String]>,
        request: &SeriesRequest,
        start: &BlockStart,
    ) -> Result<Memory, Gap> {
        let known = match start.state.families.get(family) {
            Some(known) => known.memory.memory().ok_or(Gap::NoBaseline)?,
            None => Memory::default(),
        };
        let missing = start.missing(family, labels);
        if missing == MissingStart::Nothing {
            return Ok(known);
        }
        let snapshot = self.snapshot(self.at_start, family, labels, request)?;
        let targets = self.targets(self.at_start, family)?;
        let context = self.context(start.state.last_read, family, labels);
        let facts = |process: &Process| self.facts(&family.source, process);
        if missing == MissingStart::Values {
            return Ok(known.advance(&snapshot, &targets, &facts, context).0);
        }
        let past = start.past(self.options.lag);
        let request = SeriesRequest::PastSeries(Arc::clone(family), Arc::clone(labels), past);
        let points = self.at_start.points(&request, self.index)?;
        let classes = Snapshot::past_classes(family, labels, &points);
        let mut seen: Vec<Process> = Vec::new();
        if family.source.has_targets() {
            let points = self.at_start.points(&SeriesRequest::PastTargets(family.source.clone(), past), self.index)?;
            seen.extend(
                points.iter().filter(|point| point.value == 1.0).map(|point| process_of(&family.source, point)),
            );
        }
        if classes.is_empty() && seen.is_empty() {
            // Prometheus has no data of that time. Processes that exist now may have been counted before.
            return Err(Gap::NoBaseline);
        }
        Ok(Memory::restored(&snapshot, &targets, seen, classes, &facts, context))
    }

    fn snapshot(
        &self,
        answers: &Answers,
        family: &Family,
        labels: &[String],
        request: &SeriesRequest,
    ) -> Result<Snapshot, Gap> {
        Ok(Snapshot::read(family, labels, &answers.points(request, self.index)?))
    }

    fn targets(&self, answers: &Answers, family: &Arc<Family>) -> Result<Targets, Gap> {
        let source = &family.source;
        let mut targets = BTreeMap::new();
        if source.has_targets() {
            targets = read_targets(source, &answers.points(&SeriesRequest::Targets(source.clone()), self.index)?);
        }
        if let Some(points) = answers.points_if_asked(&SeriesRequest::Newest(family.clone()), self.index) {
            for (process, target) in read_newest(source, &points?, self.at, self.options.stale_seconds()) {
                targets.entry(process).or_insert(target);
            }
        }
        // No target at all means that the targets are unknown, and not that all of them have left.
        Ok(Some(targets).filter(|targets| !targets.is_empty()))
    }

    fn pod(&self, source: &SeriesSource, process: &Process) -> Option<Arc<PodFacts>> {
        let (namespace, pod) = source.pod_of(|label| source.value(process, label))?;
        self.pods.locate(namespace, pod)
    }

    fn facts(&self, source: &SeriesSource, process: &Process) -> ProcessFacts {
        if source.service.is_some() {
            return ProcessFacts::default();
        }
        let Some(pod) = self.pod(source, process) else { return ProcessFacts::default() };
        let container = source.value(process, "container").and_then(|name| pod.restarts.get(name)).copied();
        let pod_name = source.pod_of(|label| source.value(process, label));
        ProcessFacts {
            pod: pod_name.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
            started: Some(pod.started),
            restarts: Some(container.unwrap_or_else(|| pod.restarts.values().sum())),
        }
    }

    /// Returns the assignment of the source's processes to arms.
    fn arms<'s>(&'s self, source: &'s SeriesSource) -> SourceArms<'s> {
        SourceArms { tick: self, source, owners: service_owners(source, self.watch, self.pods) }
    }

    /// Returns the age of the newest sample in seconds if it is stale: the last scrape of a target that is up is too
    /// old, or no process of an arm that had some can be scraped any more. `None`: the samples can be used.
    fn stale_seconds(
        &self,
        source: &SeriesSource,
        memory: &Memory,
        now: &Snapshot,
        targets: &Targets,
        from: Timestamp,
    ) -> Option<u64> {
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
        let age = |scraped: f64| (seconds(self.at) - scraped).max(0.0) as u64;
        let arms = self.arms(source);
        let arm_of = |process: &Process| arms.of(process, None);
        let Some(targets) = targets else {
            let had_series = memory.processes().any(|process| arm_of(process).is_some());
            let has_series = now.0.keys().any(|process| arm_of(process).is_some());
            let had_targets = memory.scraped().any(|(process, _)| arm_of(process).is_some());
            return (had_targets || had_series && !has_series).then(|| age(seconds(from)));
        };
        let limit = self.options.stale_seconds();
        let own: Vec<_> = targets.iter().filter_map(|(process, target)| Some((arm_of(process)?, target))).collect();
        let old = own.iter().filter(|(_, target)| target.up && seconds(self.at) - target.scraped > limit);
        if let Some(oldest) = old.map(|(_, target)| age(target.scraped)).max() {
            return Some(oldest);
        }
        [ArmReading::Canary, ArmReading::Stable].into_iter().find_map(|arm| {
            let scrapes = memory.scraped().filter(|(process, _)| arm_of(process) == Some(arm));
            let last = scrapes.map(|(_, scraped)| scraped).max_by(f64::total_cmp)?;
            let is_down =
                own.iter().any(|(of, _)| *of == arm) && !own.iter().any(|(of, target)| *of == arm && target.up);
            // Scraped targets that are gone have left. Pushed series just end.
            let is_gone = !own.iter().any(|(of, target)| *of == arm || !target.pushed);
            (is_down || is_gone).then(|| age(last))
        })
    }

    fn samples(&self, readings: &BTreeMap<Arc<Family>, FamilyReading>) -> SmallMap<Sample> {
        let metrics = self.watch.metrics.iter().filter(|(_, metric)| metric.kind != MetricKind::Availability);
        metrics
            .map(|(name, metric)| {
                let sample = match metric.kind {
                    MetricKind::Query => self.query_samples.get(name).cloned().unwrap_or(Sample::Gap(Gap::NoBaseline)),
                    MetricKind::Gauge => self.gauge(metric).unwrap_or_else(Sample::Gap),
                    _ => self.with_counts(metric, readings, Part::Compared, counted_sample).unwrap_or_else(Sample::Gap),
                };
                (name.clone(), sample)
            })
            .collect()
    }

    /// Returns the samples of the cold processes, for the metrics of which a process is cold.
    fn cold_samples(&self, readings: &BTreeMap<Arc<Family>, FamilyReading>) -> SmallMap<Sample> {
        let cold = |metric: &Metric| {
            let family = families(metric).into_iter().next()?;
            let is_cold =
                matches!(readings.get(&family), Some(FamilyReading::Counted { cold, .. }) if !cold.is_empty());
            let sample = (is_cold && is_split(metric))
                .then(|| self.with_counts(metric, readings, Part::Cold, counted_sample).unwrap_or_else(Sample::Gap))?;
            (sample != Sample::Arms { canary: None, stable: None }).then_some(sample)
        };
        self.watch.metrics.iter().filter_map(|(name, metric)| Some((name.clone(), cold(metric)?))).collect()
    }

    /// Returns the samples of the strata, for the metrics that have some and no gap.
    fn strata(&self, readings: &BTreeMap<Arc<Family>, FamilyReading>) -> SmallMap<SmallMap<Sample>> {
        let divided = self.watch.metrics.iter().filter(|(_, metric)| metric.strata_label.is_some());
        let strata = |metric| self.with_counts(metric, readings, Part::Compared, strata_samples).ok()?.ok();
        divided.filter_map(|(name, metric)| Some((name.clone(), strata(metric)?))).collect()
    }

    fn gauge(&self, metric: &Metric) -> Result<Sample, Gap> {
        let source = SeriesSource::of(metric);
        let own = families(metric);
        let request = self
            .requests
            .keys()
            .find(|request| matches!(request, SeriesRequest::Series(family, _) if own.contains(&**family)));
        let Some(request @ SeriesRequest::Series(family, labels)) = request else { return Err(Gap::NoBaseline) };
        let mut now = self.snapshot(self.at_end, family, labels, request)?;
        let targets = self.targets(self.at_end, family)?;
        let stale = self.stale_seconds(&source, &Memory::default(), &now, &targets, self.at);
        match stale.or_else(|| self.drop_stale_gauges(&source, &mut now, &targets)) {
            Some(seconds) => Err(Gap::Stale { seconds }),
            None => {
                let arms = self.arms(&source);
                Ok(gauge_sample(&now, &|process, class| arms.of(process, class)))
            }
        }
    }

    /// Removes the stale values of pushed gauges. Returns the age of the newest one of an arm in seconds if the arm has no other.
    fn drop_stale_gauges(&self, source: &SeriesSource, now: &mut Snapshot, targets: &Targets) -> Option<u64> {
        let is_old = |process: &Process| {
            let target = targets.as_ref()?.get(process).filter(|target| target.pushed && !target.up)?;
            Some((self.at.as_millisecond() as f64 / 1000.0 - target.scraped) as u64)
        };
        let arms = self.arms(source);
        let arm_of = |process: &Process| arms.of(process, None);
        let old: Vec<_> = now.0.keys().filter_map(|process| Some((arm_of(process)?, is_old(process)?))).collect();
        now.0.retain(|process, _| is_old(process).is_none());
        let has_other = |arm| now.0.keys().any(|process| arm_of(process) == Some(arm));
        old.into_iter().filter(|(arm, _)| !has_other(*arm)).map(|(_, age)| age).min()
    }

    /// Returns the readings of the stable's single processes, for the metrics in `Watch::per_process`.
    fn stable_processes(&self, readings: &BTreeMap<Arc<Family>, FamilyReading>) -> SmallMap<Vec<Reading>> {
        let processes =
            self.parts(&self.watch.per_process, readings, ArmReading::Stable, |_, process| Some(process.clone()));
        processes.map(|(name, parts)| (name, parts.into_values().collect())).collect()
    }

    /// Returns the readings of the single pods of the version that is judged, for the metrics in `Watch::per_pod`.
    fn judged_pods(&self, readings: &BTreeMap<Arc<Family>, FamilyReading>) -> SmallMap<SmallMap<Reading>> {
        let judged = if self.watch.canary.is_some() { ArmReading::Canary } else { ArmReading::Stable };
        let pod = |source: &SeriesSource, process: &Process| source.value(process, &source.pod).map(str::to_owned);
        let parts = self.parts(&self.watch.per_pod, readings, judged, pod).filter(|(_, pods)| !pods.is_empty());
        parts.map(|(metric, pods)| (metric, pods.into_iter().collect())).collect()
    }

    /// Returns the readings of the parts of `arm`, for the metrics with the names `wanted`. Metrics with a gap are left
    /// out.
    fn parts<'s, K: Ord>(
        &'s self,
        wanted: &'s BTreeSet<String>,
        readings: &'s BTreeMap<Arc<Family>, FamilyReading>,
        arm: ArmReading,
        part: impl Fn(&SeriesSource, &Process) -> Option<K> + Copy + 's,
    ) -> impl Iterator<Item = (String, BTreeMap<K, Reading>)> + 's {
        self.watch.metrics.iter().filter(|(name, _)| wanted.contains(*name)).filter_map(move |(name, metric)| {
            let source = SeriesSource::of(metric);
            let read = |metric: &Metric, all: &ArmCounts<'_>, hits: Option<&ArmCounts<'_>>| {
                part_readings(metric, all, hits, arm, |process| part(&source, process))
            };
            Some((name.clone(), self.with_counts(metric, readings, Part::Compared, read).ok()?))
        })
    }

    /// Returns the result of `read` for the counts of a part of the processes in the metric's family, and in the family of its
    /// hits if there is one.
    ///
    /// # Errors
    /// The first gap of the families.
    fn with_counts<T>(
        &self,
        metric: &Metric,
        readings: &BTreeMap<Arc<Family>, FamilyReading>,
        part: Part,
        read: impl FnOnce(&Metric, &ArmCounts<'_>, Option<&ArmCounts<'_>>) -> T,
    ) -> Result<T, Gap> {
        let source = SeriesSource::of(metric);
        let families = families(metric);
        // The requests tell the age of a process; its first hit may come much later.
        let cold = match families.first().and_then(|family| readings.get(family)) {
            Some(FamilyReading::Counted { cold, .. }) if is_split(metric) => Some(cold),
            _ => None,
        };
        let arms = self.arms(&source);
        let arm_of = |process: &Process, class: Option<&Class>| {
            let is_cold = cold.is_some_and(|cold| cold.contains(process));
            if is_cold == (part == Part::Cold) { arms.of(process, class) } else { None }
        };
        let counted = families
            .iter()
            .map(|family| match readings.get(family) {
                Some(FamilyReading::Counted { labels, counts, idle, .. }) => {
                    Ok((labels, counts.iter().collect::<Vec<_>>(), idle))
                }
                Some(FamilyReading::NoStart { gap, .. } | FamilyReading::Unread(gap)) => Err(gap.clone()),
                None => Err(Gap::NoBaseline),
            })
            .collect::<Result<Vec<_>, Gap>>()?;
        let arms_by_class = source.service.is_some();
        let counts: Vec<ArmCounts<'_>> = counted
            .iter()
            .map(|(labels, counts, idle)| ArmCounts { labels, counts, idle, arm_of: &arm_of, arms_by_class })
            .collect();
        let all = counts.first().ok_or(Gap::NoBaseline)?;
        Ok(read(metric, all, counts.get(1)))
    }
}
