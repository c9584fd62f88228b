//! The daemon's own metrics, as served at `/metrics`: their names, units, help texts and labels.
//!
//! Other modules record them through the functions of this module, so that each metric is defined in one place. A test
//! checks that the list of names and the recorded metrics are the same.
#![expect(clippy::disallowed_macros, reason = "other modules call the functions of this module instead")]

use std::time::Duration;

use bellwether_core::rollout::decision::DecisionKind;
use bellwether_core::time::Timestamp;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Counter: records read from the events topic. Label `result`: [`EventResult`].
const EVENTS: &str = "bellwether_events_total";
/// Counter: HTTP requests that were refused before the daemon was told of them. Label `why`: the reason.
const HTTP_REFUSED: &str = "bellwether_http_refused_total";
/// Counter: decisions of the engine. Label `decision`: the kind.
const DECISIONS: &str = "bellwether_decisions_total";
/// Counter: attempts at effects. Labels `act`: the kind of the act; `outcome`: [`Attempt`].
const EFFECTS: &str = "bellwether_effects_total";
/// Histogram: duration of an attempt at an effect in seconds. Label `act`: the kind of the act.
const EFFECT_DURATION: &str = "bellwether_effect_duration_seconds";
/// Gauge: rollouts in progress. Label `phase`: the phase.
const ROLLOUTS: &str = "bellwether_rollouts";
/// Histogram: duration of a query to Prometheus in seconds.
const PROMQL_DURATION: &str = "bellwether_promql_duration_seconds";
/// Counter: queries to Prometheus without a usable answer. Label `kind`: the kind of the error.
const PROMQL_ERRORS: &str = "bellwether_promql_errors_total";
/// Histogram: duration of one tick of the sampler, for all rollouts together, in seconds.
const SAMPLER_TICK_DURATION: &str = "bellwether_sampler_tick_duration_seconds";
/// Histogram: duration of a commit to the journal in seconds.
const JOURNAL_COMMIT_DURATION: &str = "bellwether_journal_commit_duration_seconds";
/// Counter: commits to the journal. Label `outcome`: `done`, or `failed` if it is not known whether the batch was written, or
/// another process has taken over.
const JOURNAL_COMMITS: &str = "bellwether_journal_commits_total";
/// Gauge: partitions that are assigned to this process. Label `state`: `restoring`, `open` or `failed`.
const PARTITIONS: &str = "bellwether_partitions";
/// Gauge: rollouts that are held.
const HELD: &str = "bellwether_rollouts_held";
/// Gauge: checks of rollouts in progress. Label `verdict`: the last verdict.
const CHECKS: &str = "bellwether_checks";
/// Gauge: age of the oldest view of a partition of another process, in seconds; 0 if this process owns all.
const VIEW_AGE: &str = "bellwether_view_age_seconds";
/// Gauge: rollouts that counts were asked for at the last tick.
const WATCHES: &str = "bellwether_watches";
/// Gauge: Unix time of the last block with counts, in seconds.
const LAST_BLOCK: &str = "bellwether_last_block_timestamp_seconds";
/// Counter: jumps of the wall clock against the monotonic one. Label `direction`: `forward` or `back`.
const CLOCK_JUMPS: &str = "bellwether_clock_jumps_total";
/// Gauge: 1 if a condition of `/readyz` holds, 0 if not. Label `condition`: the condition's name.
const CONDITION: &str = "bellwether_ready_condition";
/// Counter: attempts at notifications. Labels `sink`: the sink's name; `outcome`: [`Attempt`].
const NOTIFICATIONS: &str = "bellwether_notifications_total";
/// Gauge: records of the events topic that are not read yet. Label `partition`: the number of the partition.
const KAFKA_LAG: &str = "bellwether_kafka_lag";
/// Gauge: workloads whose canary has traffic. Label `cluster`: the cluster's name.
const SPLIT: &str = "bellwether_split_workloads";
/// Gauge: those of the split workloads whose rollout runs in this process. Label `cluster`: the cluster's name.
const SPLIT_OWNED: &str = "bellwether_split_workloads_owned";
/// Counter: panics of tasks that were caught. Label `task`: the name of the task.
const TASK_PANICS: &str = "bellwether_task_panics_total";
/// Counter: lines of the log that were dropped, since the log was not read fast enough.
const LOG_LINES_DROPPED: &str = "bellwether_log_lines_dropped_total";
/// Gauge: 1 if the last reload of the configuration was accepted, 0 if it was refused.
const CONFIG_RELOAD: &str = "bellwether_config_last_reload_successful";
/// Gauge: always 1. Label `version`: the version of the program.
const BUILD_INFO: &str = "bellwether_build_info";

/// The buckets of all durations in seconds: from a commit to a local file (1 ms) to a request that times out (10 s).
const DURATION_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The result of reading a record: the label `result` of `bellwether_events_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventResult {
    /// The event changed the engine's state.
    Taken,
    /// The event was read before.
    Duplicate,
    /// The event was ignored, as it is expired, stale, for another daemon or from this daemon itself.
    Ignored,
    /// The record was written to the dead-letter topic.
    Dead,
    /// The record was written again to the partition of its workload.
    Rekeyed,
    /// The sender may not send the event; the record was written to the dead-letter topic.
    Refused,
}

impl EventResult {
    fn label(self) -> &'static str {
        match self {
            EventResult::Taken => "taken",
            EventResult::Duplicate => "duplicate",
            EventResult::Ignored => "ignored",
            EventResult::Dead => "dead",
            EventResult::Rekeyed => "rekeyed",
            EventResult::Refused => "refused",
        }
    }
}

/// The outcome of an attempt: the label `outcome` of `bellwether_effects_total` and `bellwether_notifications_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The attempt succeeded.
    Done,
    /// The attempt failed and will be retried.
    Later,
    /// The attempt failed and will not be retried.
    Failed,
    /// The notification was given up after as many attempts as it may have, or because too many newer ones wait.
    Dropped,
}

impl Attempt {
    fn label(self) -> &'static str {
        match self {
            Attempt::Done => "done",
            Attempt::Later => "later",
            Attempt::Failed => "failed",
            Attempt::Dropped => "dropped",
        }
    }
}

/// Installs the recorder of this process. Returns the handle that renders the page `/metrics`.
///
/// # Errors
/// If a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(BuildError::FailedToSetGlobalRecorder)?;
    describe();
    Ok(handle)
}

/// Returns the recorder. It has explicit buckets, because the exporter would otherwise write summaries, which can't be
/// aggregated over processes.
fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), DURATION_BUCKETS)?;
    Ok(builder.build_recorder())
}

/// Registers the units and help texts, and sets the gauges that have a value from the start.
fn describe() {
    describe_counter!(EVENTS, Unit::Count, "Records read from the events topic, by result");
    describe_counter!(HTTP_REFUSED, Unit::Count, "HTTP requests that were refused, by reason");
    describe_counter!(DECISIONS, Unit::Count, "Decisions of the engine, by kind");
    describe_counter!(EFFECTS, Unit::Count, "Attempts at effects, by act and outcome");
    describe_histogram!(EFFECT_DURATION, Unit::Seconds, "Duration of an attempt at an effect");
    describe_gauge!(ROLLOUTS, Unit::Count, "Rollouts in progress, by phase");
    describe_histogram!(PROMQL_DURATION, Unit::Seconds, "Duration of a query to Prometheus");
    describe_counter!(PROMQL_ERRORS, Unit::Count, "Queries to Prometheus without a usable answer, by kind of error");
    describe_histogram!(SAMPLER_TICK_DURATION, Unit::Seconds, "Duration of one tick of the sampler, for all rollouts");
    describe_histogram!(JOURNAL_COMMIT_DURATION, Unit::Seconds, "Duration of a commit to the journal");
    describe_counter!(JOURNAL_COMMITS, Unit::Count, "Commits to the journal, by outcome");
    describe_gauge!(PARTITIONS, Unit::Count, "Partitions that are assigned to this process, by state");
    describe_gauge!(HELD, Unit::Count, "Rollouts that are held");
    describe_gauge!(CHECKS, Unit::Count, "Checks of rollouts in progress, by their last verdict");
    describe_gauge!(VIEW_AGE, Unit::Seconds, "Age of the oldest view of a partition of another process");
    describe_gauge!(WATCHES, Unit::Count, "Rollouts that counts were asked for at the last tick");
    describe_gauge!(LAST_BLOCK, Unit::Seconds, "Unix time of the last block with counts");
    describe_counter!(CLOCK_JUMPS, Unit::Count, "Jumps of the wall clock against the monotonic one, by direction");
    describe_gauge!(CONDITION, "1 if a condition of /readyz holds, 0 if not");
    describe_counter!(NOTIFICATIONS, Unit::Count, "Attempts at notifications, by sink and outcome");
    describe_gauge!(KAFKA_LAG, Unit::Count, "Records of the events topic that are not read yet, by partition");
    describe_gauge!(SPLIT, Unit::Count, "Workloads of the cluster whose canary has traffic");
    describe_gauge!(SPLIT_OWNED, Unit::Count, "Split workloads whose rollout runs in this process");
    describe_counter!(TASK_PANICS, Unit::Count, "Panics of tasks that were caught, by task; each is a defect");
    describe_counter!(LOG_LINES_DROPPED, Unit::Count, "Lines of the log that were dropped");
    describe_gauge!(CONFIG_RELOAD, "1 if the last reload of the configuration was accepted, 0 if it was refused");
    describe_gauge!(BUILD_INFO, "Always 1; the label version has the version of the program");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(CONFIG_RELOAD).set(1.0);
    log_lines_dropped(0);
    // A counter that begins with its first event has no increase for an alert or a dashboard to find.
    for kind in [DecisionKind::Promote, DecisionKind::RollBack] {
        counter!(DECISIONS, "decision" => kind.name()).increment(0);
    }
    for outcome in ["done", "failed"] {
        counter!(JOURNAL_COMMITS, "outcome" => outcome).increment(0);
    }
    for direction in ["forward", "back"] {
        counter!(CLOCK_JUMPS, "direction" => direction).increment(0);
    }
}

/// Counts a record that was read.
pub fn event(result: EventResult) {
    counter!(EVENTS, "result" => result.label()).increment(1);
}

/// Counts an HTTP request that was refused.
pub fn http_refused(why: &'static str) {
    counter!(HTTP_REFUSED, "why" => why).increment(1);
}

/// Counts a decision; `decision` is the name of its kind in the core.
pub fn decision(decision: &'static str) {
    counter!(DECISIONS, "decision" => decision).increment(1);
}

/// Counts an attempt at an effect and records its duration; `act` is `Act::name`.
pub fn effect(act: &'static str, attempt: Attempt, took: Duration) {
    counter!(EFFECTS, "act" => act, "outcome" => attempt.label()).increment(1);
    histogram!(EFFECT_DURATION, "act" => act).record(took.as_secs_f64());
}

/// Sets the number of rollouts in a phase; `phase` is the name that the API shows.
pub fn rollouts(phase: &str, count: usize) {
    gauge!(ROLLOUTS, "phase" => phase.to_owned()).set(count as f64);
}

/// Records the duration of a query, and counts its error; `error` is the kind of the error, `None` after a usable answer.
pub fn promql(took: Duration, error: Option<&'static str>) {
    histogram!(PROMQL_DURATION).record(took.as_secs_f64());
    if let Some(kind) = error {
        counter!(PROMQL_ERRORS, "kind" => kind).increment(1);
    }
}

/// Records the duration of a tick of the sampler.
pub fn sampler_tick(took: Duration) {
    histogram!(SAMPLER_TICK_DURATION).record(took.as_secs_f64());
}

/// Records the duration of a commit to the journal and counts its outcome.
pub fn journal_commit(took: Duration, is_done: bool) {
    histogram!(JOURNAL_COMMIT_DURATION).record(took.as_secs_f64());
    counter!(JOURNAL_COMMITS, "outcome" => if is_done { "done" } else { "failed" }).increment(1);
}

/// Sets the number of partitions of this process in a state.
pub fn partitions(state: &'static str, count: usize) {
    gauge!(PARTITIONS, "state" => state).set(count as f64);
}

/// Sets the number of rollouts that are held.
pub fn held(count: usize) {
    gauge!(HELD).set(count as f64);
}

/// Sets the number of checks of rollouts in progress with a verdict; `verdict` is the name that the API shows.
pub fn checks(verdict: &str, count: usize) {
    gauge!(CHECKS, "verdict" => verdict.to_owned()).set(count as f64);
}

/// Sets the age of the oldest view of a partition of another process.
pub fn view_age(age: Duration) {
    gauge!(VIEW_AGE).set(age.as_secs_f64());
}

/// Sets the number of rollouts that counts are asked for at a tick.
pub fn watches(count: usize) {
    gauge!(WATCHES).set(count as f64);
}

/// Sets the time of the last block with counts.
pub fn block(at: Timestamp) {
    gauge!(LAST_BLOCK).set(at.as_millisecond() as f64 / 1000.0);
}

/// Counts a jump of the wall clock.
pub fn clock_jump(direction: &'static str) {
    counter!(CLOCK_JUMPS, "direction" => direction).increment(1);
}

/// Sets whether a condition of `/readyz` holds.
pub fn condition(name: &str, holds: bool) {
    gauge!(CONDITION, "condition" => name.to_owned()).set(if holds { 1.0 } else { 0.0 });
}

/// Counts an attempt at a notification.
pub fn notification(sink: &str, attempt: Attempt) {
    counter!(NOTIFICATIONS, "sink" => sink.to_owned(), "outcome" => attempt.label()).increment(1);
}

/// Sets the number of records of a partition that are not read yet.
pub fn kafka_lag(partition: i32, records: i64) {
    gauge!(KAFKA_LAG, "partition" => partition.to_string()).set(records as f64);
}

/// Sets the number of workloads of the cluster whose canary has traffic, and of those whose rollout runs in this process.
pub fn split_workloads(cluster: &str, split: usize, owned: usize) {
    gauge!(SPLIT, "cluster" => cluster.to_owned()).set(split as f64);
    gauge!(SPLIT_OWNED, "cluster" => cluster.to_owned()).set(owned as f64);
}

/// Counts a panic of a task that was caught.
pub fn task_panic(task: &'static str) {
    counter!(TASK_PANICS, "task" => task).increment(1);
}

/// Sets the number of dropped lines of the log.
pub fn log_lines_dropped(lines: u64) {
    counter!(LOG_LINES_DROPPED).absolute(lines);
}

/// Sets whether the last reload of the configuration was accepted.
pub fn config_reload(accepted: bool) {
    gauge!(CONFIG_RELOAD).set(if accepted { 1.0 } else { 0.0 });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of all metrics.
    const ALL: &[&str] = &[
        EVENTS,
        HTTP_REFUSED,
        DECISIONS,
        EFFECTS,
        EFFECT_DURATION,
        ROLLOUTS,
        PROMQL_DURATION,
        PROMQL_ERRORS,
        SAMPLER_TICK_DURATION,
        JOURNAL_COMMIT_DURATION,
        JOURNAL_COMMITS,
        PARTITIONS,
        HELD,
        CHECKS,
        VIEW_AGE,
        WATCHES,
        LAST_BLOCK,
        CLOCK_JUMPS,
        CONDITION,
        NOTIFICATIONS,
        KAFKA_LAG,
        SPLIT,
        SPLIT_OWNED,
        TASK_PANICS,
        LOG_LINES_DROPPED,
        CONFIG_RELOAD,
        BUILD_INFO,
    ];

    /// Returns the names of metrics in a shipped file, without the suffixes that the exporter gives the series of a histogram.
    fn named_in(file: &str) -> BTreeSet<String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let metrics = words.filter(|word| word.starts_with("bellwether_"));
        metrics
            .map(|name| {
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
            })
            .collect()
    }

    #[test]
    fn the_shipped_alerts_and_dashboard_name_metrics_of_the_list() {
        let all: BTreeSet<String> = ALL.iter().map(|&name| name.to_owned()).collect();
        for file in ["deploy/prometheus/rules.yml", "deploy/grafana/bellwether.json"] {
            let named = named_in(file);
            let unknown: Vec<_> = named.difference(&all).collect();
            assert!(named.len() >= 5 && unknown.is_empty(), "{file} names {named:?}, of which are unknown {unknown:?}");
        }
    }

    #[test]
    fn the_dashboard_shows_and_the_runbook_lists_every_metric() {
        let all: BTreeSet<String> = ALL.iter().map(|&name| name.to_owned()).collect();
        for file in ["deploy/grafana/bellwether.json", "docs/operations.md"] {
            let named = named_in(file);
            let missing: Vec<_> = all.difference(&named).collect();
            assert!(missing.is_empty(), "{file} lacks {missing:?}");
        }
    }

    #[test]
    fn the_recorded_metrics_are_those_of_the_list() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            event(EventResult::Taken);
            http_refused("token");
            decision("advance");
            effect("promote", Attempt::Done, Duration::from_millis(20));
            rollouts("stepping", 3);
            promql(Duration::from_millis(5), Some("timeout"));
            sampler_tick(Duration::from_millis(5));
            journal_commit(Duration::from_millis(5), true);
            partitions("open", 1);
            held(1);
            checks("pass", 2);
            view_age(Duration::ZERO);
            watches(2);
            block(Timestamp::UNIX_EPOCH);
            clock_jump("back");
            condition("kafka", true);
            notification("slack", Attempt::Later);
            kafka_lag(0, 7);
            split_workloads("prod", 2, 1);
            task_panic("sampler");
            config_reload(true);
        });
        let page = handle.render();
        let shown: BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let listed: BTreeSet<&str> = ALL.iter().copied().collect();
        assert_eq!(shown, listed, "{page}");
        assert!(page.contains("bellwether_effect_duration_seconds_bucket{act=\"promote\",le=\"0.025\"} 1"), "{page}");
    }
}
