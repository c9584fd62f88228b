//! Every metric that the daemon shows of itself, once: name, unit, help and labels. Code elsewhere calls the typed
//! functions, so that dashboards and alerts can rely on what is listed here; a test compares them.
#![expect(clippy::disallowed_macros, reason = "this is where they belong")]

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Events read, by what became of them.
pub const EVENTS: &str = "bellwether_events_total";
/// Decisions, by kind.
pub const DECISIONS: &str = "bellwether_decisions_total";
/// Attempts at effects, by act and outcome.
pub const EFFECTS: &str = "bellwether_effects_total";
/// How long an attempt took.
pub const EFFECT_DURATION: &str = "bellwether_effect_duration_seconds";
/// Rollouts that are going on, by phase.
pub const ROLLOUTS: &str = "bellwether_rollouts";
/// How long a query took.
pub const PROMQL_DURATION: &str = "bellwether_promql_duration_seconds";
/// Queries without a usable answer, by kind.
pub const PROMQL_ERRORS: &str = "bellwether_promql_errors_total";
/// How long one tick of the sampler took, for all rollouts.
pub const SAMPLER_TICK_DURATION: &str = "bellwether_sampler_tick_duration_seconds";
/// How long a commit to the journal took.
pub const JOURNAL_COMMIT_DURATION: &str = "bellwether_journal_commit_duration_seconds";
/// Attempts at messages, by outcome.
pub const NOTIFICATIONS: &str = "bellwether_notifications_total";
/// Records of the events topic that are not read yet.
pub const KAFKA_LAG: &str = "bellwether_kafka_lag";
/// 1 if the last reload was taken.
pub const CONFIG_RELOAD: &str = "bellwether_config_last_reload_successful";
/// Always 1; the label has the version.
pub const BUILD_INFO: &str = "bellwether_build_info";

/// All of them, for the tests of dashboards and alerts.
pub const ALL: &[&str] = &[
    EVENTS,
    DECISIONS,
    EFFECTS,
    EFFECT_DURATION,
    ROLLOUTS,
    PROMQL_DURATION,
    PROMQL_ERRORS,
    SAMPLER_TICK_DURATION,
    JOURNAL_COMMIT_DURATION,
    NOTIFICATIONS,
    KAFKA_LAG,
    CONFIG_RELOAD,
    BUILD_INFO,
];

/// From a commit to a local file (a millisecond) to a request that times out (ten seconds).
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What became of an event: the label values of [`EVENTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventResult {
    /// The engine took it.
    Taken,
    /// Seen before.
    Duplicate,
    /// Not for us, expired, stale, or our own.
    Ignored,
    /// It went to the dead-letter topic.
    Dead,
    /// It was on the wrong partition.
    Rekeyed,
}

impl EventResult {
    fn label(self) -> &'static str {
        match self {
            EventResult::Taken => "taken",
            EventResult::Duplicate => "duplicate",
            EventResult::Ignored => "ignored",
            EventResult::Dead => "dead",
            EventResult::Rekeyed => "rekeyed",
        }
    }
}

/// How an attempt ended: the label values of [`EFFECTS`] and [`NOTIFICATIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Done.
    Done,
    /// To be tried again.
    Later,
    /// Not to be tried again.
    Failed,
}

impl Attempt {
    fn label(self) -> &'static str {
        match self {
            Attempt::Done => "done",
            Attempt::Later => "later",
            Attempt::Failed => "failed",
        }
    }
}

/// Installs the recorder for this process.
///
/// # Errors
/// If another one is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(BuildError::FailedToSetGlobalRecorder)?;
    describe();
    Ok(handle)
}

/// The recorder, with explicit buckets: without them a histogram would be a summary, which can't be added up.
fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?;
    Ok(builder.build_recorder())
}

fn describe() {
    describe_counter!(EVENTS, Unit::Count, "Events read, by what became of them");
    describe_counter!(DECISIONS, Unit::Count, "Decisions, by kind");
    describe_counter!(EFFECTS, Unit::Count, "Attempts at effects, by act and outcome");
    describe_histogram!(EFFECT_DURATION, Unit::Seconds, "How long an attempt at an effect took");
    describe_gauge!(ROLLOUTS, Unit::Count, "Rollouts that are going on, by phase");
    describe_histogram!(PROMQL_DURATION, Unit::Seconds, "How long a query took");
    describe_counter!(PROMQL_ERRORS, Unit::Count, "Queries without a usable answer, by kind");
    describe_histogram!(SAMPLER_TICK_DURATION, Unit::Seconds, "How long one tick of the sampler took");
    describe_histogram!(JOURNAL_COMMIT_DURATION, Unit::Seconds, "How long a commit to the journal took");
    describe_counter!(NOTIFICATIONS, Unit::Count, "Attempts at messages, by outcome");
    describe_gauge!(KAFKA_LAG, Unit::Count, "Records of the events topic that are not read yet, by partition");
    describe_gauge!(CONFIG_RELOAD, "1 if the last reload of the configuration was taken, 0 if it was refused");
    describe_gauge!(BUILD_INFO, "Always 1; the label has the version");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(CONFIG_RELOAD).set(1.0);
}

/// An event was read.
pub fn event(result: EventResult) {
    counter!(EVENTS, "result" => result.label()).increment(1);
}

/// A decision was taken; `decision` is its name in the core.
pub fn decision(decision: &'static str) {
    counter!(DECISIONS, "decision" => decision).increment(1);
}

/// An attempt at an effect has ended; `act` is `Act::name`.
pub fn effect(act: &'static str, attempt: Attempt, took: Duration) {
    counter!(EFFECTS, "act" => act, "outcome" => attempt.label()).increment(1);
    histogram!(EFFECT_DURATION, "act" => act).record(took.as_secs_f64());
}

/// So many rollouts are in this phase, by the name that it is shown with.
pub fn rollouts(phase: &str, count: usize) {
    gauge!(ROLLOUTS, "phase" => phase.to_owned()).set(count as f64);
}

/// A query was answered, or was not; `error` is the kind of the failure.
pub fn promql(took: Duration, error: Option<&'static str>) {
    histogram!(PROMQL_DURATION).record(took.as_secs_f64());
    if let Some(kind) = error {
        counter!(PROMQL_ERRORS, "kind" => kind).increment(1);
    }
}

/// A tick of the sampler has ended.
pub fn sampler_tick(took: Duration) {
    histogram!(SAMPLER_TICK_DURATION).record(took.as_secs_f64());
}

/// A commit has ended.
pub fn journal_commit(took: Duration) {
    histogram!(JOURNAL_COMMIT_DURATION).record(took.as_secs_f64());
}

/// An attempt at a message has ended.
pub fn notification(attempt: Attempt) {
    counter!(NOTIFICATIONS, "outcome" => attempt.label()).increment(1);
}

/// So many records of a partition are not read yet.
pub fn kafka_lag(partition: i32, records: i64) {
    gauge!(KAFKA_LAG, "partition" => partition.to_string()).set(records as f64);
}

/// A reload was taken or refused.
pub fn config_reload(taken: bool) {
    gauge!(CONFIG_RELOAD).set(if taken { 1.0 } else { 0.0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_records_a_metric_of_the_list_and_every_metric_is_recorded() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            event(EventResult::Taken);
            decision("advance");
            effect("promote", Attempt::Done, Duration::from_millis(20));
            rollouts("stepping", 3);
            promql(Duration::from_millis(5), Some("timeout"));
            sampler_tick(Duration::from_millis(5));
            journal_commit(Duration::from_millis(5));
            notification(Attempt::Later);
            kafka_lag(0, 7);
            config_reload(true);
        });
        let page = handle.render();
        let shown: std::collections::BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let listed: std::collections::BTreeSet<&str> = ALL.iter().copied().collect();
        assert_eq!(shown, listed, "{page}");
        assert!(page.contains("bellwether_effect_duration_seconds_bucket{act=\"promote\",le=\"0.025\"} 1"), "{page}");
    }
}
