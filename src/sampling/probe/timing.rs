//! Compares the times of the samples in the store with the settings, for each scrape job: the distance of two samples with
//! `scrape-interval`, and that distance and the age of the newest sample with `lag`.
//!
//! The distance is the median over the last minutes, so an outage of the store or of a target is no finding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::measure::watch::{ProbeTarget, Watch};
use bellwether_core::time::{Span, TimeRange, Timestamp};

use super::{ProbeFinding, ProbeRun};
use crate::ports::Labels;
use crate::sampling::options::{Options, STALE_INTERVALS};
use crate::sampling::plan::{JOB, SeriesRequest, families, queries};

/// The number of configured scrape intervals that are looked at.
const INTERVALS: u64 = 20;
/// The number of looks in one configured scrape interval. Shorter distances than that are not resolved.
const LOOKS: u64 = 4;
/// The factor from which a measured time differs from its setting. Scrapes and clocks are not even.
const TOLERANCE: f64 = 1.25;

/// The times of one job's samples.
#[derive(Debug, Default)]
struct JobTimes {
    /// The distances of neighbouring samples of one process, in milliseconds.
    distances: Vec<i64>,
    /// The time of the newest sample of all processes, in milliseconds since the Unix epoch.
    newest: i64,
}

impl JobTimes {
    /// Adds the times of one process's samples.
    fn add(&mut self, times: &BTreeSet<i64>) {
        self.distances.extend(times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one));
        self.newest = self.newest.max(times.last().copied().unwrap_or_default());
    }

    /// Returns the median distance in whole seconds; `None` if no process has two samples.
    fn interval(&self) -> Option<Span> {
        let mut distances = self.distances.clone();
        distances.sort_unstable();
        let median = distances.get(distances.len() / 2)?;
        Some(Span::from_secs(u64::try_from((median + 500) / 1000).unwrap_or_default()))
    }
}

impl ProbeRun<'_> {
    /// Returns the findings about the settings of times. A store that does not answer gives none; other findings tell of it.
    pub(super) async fn timing_findings(
        &self,
        metrics: &[ProbeTarget],
        now: Timestamp,
        options: &Options,
    ) -> Vec<ProbeFinding> {
        let jobs = self.job_times(metrics, now, options).await;
        let longest = jobs.values().filter_map(JobTimes::interval).max();
        jobs.iter()
            .flat_map(|(job, times)| {
                let age = Span::from_millis(u64::try_from(now.as_millisecond() - times.newest).unwrap_or_default());
                let interval = times.interval();
                let of_interval = interval.and_then(|interval| interval_finding(job, interval, longest, options));
                [of_interval, lag_finding(job, interval, age, options)]
            })
            .flatten()
            .collect()
    }

    /// Returns the longest distance of two samples, over all jobs; `None` without samples.
    pub(super) async fn longest_interval(
        &self,
        metrics: &[ProbeTarget],
        now: Timestamp,
        options: &Options,
    ) -> Option<Span> {
        self.job_times(metrics, now, options).await.values().filter_map(JobTimes::interval).max()
    }

    async fn job_times(
        &self,
        metrics: &[ProbeTarget],
        now: Timestamp,
        options: &Options,
    ) -> BTreeMap<String, JobTimes> {
        let looked_at = Span::from_millis(options.scrape_interval.as_millis().saturating_mul(INTERVALS));
        let step = Span::from_millis((options.scrape_interval.as_millis() / LOOKS).max(1000));
        let range = TimeRange::before(now, looked_at, step);
        let mut processes: BTreeMap<Labels, BTreeSet<i64>> = BTreeMap::new();
        for text in self.newest_texts(metrics) {
            let looks = self.metrics.range(&text, range).await.unwrap_or_default();
            for point in looks.into_values().flatten().filter(|point| point.value.is_finite()) {
                processes.entry(point.labels).or_default().insert((point.value * 1000.0).round() as i64);
            }
        }
        let mut jobs: BTreeMap<String, JobTimes> = BTreeMap::new();
        for (labels, times) in &processes {
            jobs.entry(labels.get(JOB).unwrap_or_default().to_owned()).or_default().add(times);
        }
        jobs
    }

    /// Returns the queries for the newest samples of the metrics' processes, each once.
    fn newest_texts(&self, metrics: &[ProbeTarget]) -> BTreeSet<String> {
        let watch =
            Watch::of_stable(self.workload.clone(), BTreeMap::new(), self.stable.clone(), Timestamp::UNIX_EPOCH);
        let first = metrics.iter().filter_map(|probed| families(&probed.metric).into_iter().next());
        first
            .map(|family| SeriesRequest::Newest(Arc::new(family)))
            .flat_map(|request| queries(&request, &[0], std::slice::from_ref(&watch), self.pods))
            .map(|query| query.text)
            .collect()
    }
}

/// Returns the name of a job as it is written in a finding.
fn job_text(job: &str) -> String {
    if job.is_empty() { "the series without a job".to_owned() } else { format!("job {job:?}") }
}

/// Returns the finding about a job's scrape interval. One that is shorter than the setting is no fault if another job's, the
/// `longest`, is not.
fn interval_finding(job: &str, interval: Span, longest: Option<Span>, options: &Options) -> Option<ProbeFinding> {
    let (name, set) = (job_text(job), options.scrape_interval);
    let factor = interval.as_secs_f64() / set.as_secs_f64();
    let remedy = format!("set prometheus.scrape-interval to {interval}");
    if factor > STALE_INTERVALS {
        let text = format!(
            "{name} has a sample every {interval}, and prometheus.scrape-interval is {set}, so most readings are stale; {remedy}"
        );
        return Some(ProbeFinding::Problem(text));
    }
    let text = if factor > TOLERANCE {
        format!(
            "{name} has a sample every {interval}, and prometheus.scrape-interval is {set}, so one late scrape is stale; {remedy}"
        )
    } else if factor < 1.0 / (TOLERANCE * TOLERANCE) && longest == Some(interval) {
        let seen = Span::from_millis((options.stale_seconds() * 1000.0) as u64);
        format!(
            "{name} has a sample every {interval}, and prometheus.scrape-interval is {set}, so an outage of its scrapes is seen after {seen}; {remedy}"
        )
    } else {
        return None;
    };
    Some(ProbeFinding::Warning(text))
}

/// Returns the finding about `lag`, which must be at least the scrape interval and the time until a sample can be queried. The age
/// of the newest sample is at most that sum.
fn lag_finding(job: &str, interval: Option<Span>, age: Span, options: &Options) -> Option<ProbeFinding> {
    let (name, lag) = (job_text(job), options.lag);
    let needed = interval.unwrap_or(Span::ZERO).max(age);
    if needed.as_secs_f64() <= TOLERANCE * lag.as_secs_f64() {
        return None;
    }
    let age = Span::from_secs(age.as_millis() / 1000);
    let every = interval.map(|interval| format!(" and it has one every {interval}")).unwrap_or_default();
    let needed = Span::from_secs(needed.as_millis().div_ceil(5000) * 5);
    Some(ProbeFinding::Warning(format!(
        "{name}: its newest sample is {age} old{every}, and prometheus.lag is {lag}, so requests are counted a block late; \
         set prometheus.lag to {needed} or more"
    )))
}
