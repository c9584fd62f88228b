//! The configuration: read in layers and checked as a whole.
//!
//! A daemon that changes production must not start with a misread configuration. So an unknown key is an error, all
//! problems are reported at once, and each problem is shown where its value was written. [`load`] returns a [`Config`]
//! in which every policy is checked, or a [`ConfigReport`] of all problems.
//!
//! A later layer overrides an earlier one: the embedded `config/default.toml` (which is also the reference of all keys),
//! presets of metrics, files in the order in which they are named, environment variables, flags. Tables merge key by key
//! and lists replace each other; only the `[[policy]]` lists of several files are joined, so that every team can have a
//! file of its own.

mod embedded;
mod sources;
mod secrets;
mod messages;
mod report;
mod places;
mod layers;
mod raw;
mod show;

use std::collections::BTreeMap;

use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::Policy;

use self::layers::Layers;
use self::raw::Raw;
use crate::{adapters, events, http, journal, telemetry};

pub use self::embedded::{DEFAULT, PRESETS};
pub use self::report::{ConfigProblem, ConfigReport, SourcePlace};
pub use self::show::show;
pub use self::sources::Sources;

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the cluster that this daemon acts in: the first part of a workload's key.
    pub cluster: String,
    /// The section `[kafka]`: brokers and topics.
    pub kafka: adapters::kafka::Options,
    /// The section `[journal]`: the kind of the journal and its file.
    pub journal: journal::Options,
    /// The section `[prometheus]`: the metrics store.
    pub prometheus: adapters::prometheus::Options,
    /// The section `[kubernetes]`: the API server.
    pub kubernetes: adapters::kubernetes::Options,
    /// The section `[registry]`: the store of models.
    pub registry: bellwether_registry::Options,
    /// The section `[events]`: the mapping of other tools' events to workloads.
    pub events: events::Options,
    /// The section `[slack]`: notifications.
    pub slack: adapters::slack::Options,
    /// The section `[http]`: the HTTP server.
    pub http: http::Options,
    /// The section `[log]`.
    pub log: telemetry::Options,
    /// The metrics that a policy may name, by name, including those of the presets.
    pub metrics: BTreeMap<String, Metric>,
    /// The policies, in the order in which they were written.
    pub policies: Vec<Policy>,
}

/// Reads and checks the configuration.
///
/// # Errors
/// All problems of the configuration, each with its place.
pub fn load(sources: &Sources) -> Result<Config, ConfigReport> {
    let layers = Layers::read(sources)?;
    let (raw, mut problems) = layers.deserialize::<Raw>();
    problems.add_misplaced_secrets();
    let Some(raw) = raw else { return Err(problems.into_report()) };
    let policies = raw.policies(&mut problems);
    raw.check_sections(&mut problems);
    if !problems.is_empty() {
        return Err(problems.into_report());
    }
    // Without `..`: a field that is added to `Raw` and not passed on here does not compile.
    let Raw {
        cluster,
        presets: _,
        kafka,
        journal,
        prometheus,
        kubernetes,
        registry,
        events,
        slack,
        http,
        log,
        metric,
        policy: _,
    } = raw;
    Ok(Config {
        cluster,
        kafka,
        journal,
        prometheus,
        kubernetes,
        registry,
        events,
        slack,
        http,
        log,
        metrics: metric,
        policies,
    })
}

/// Returns the configuration that a file with this content gives. For tests.
///
/// # Panics
/// If the configuration has a problem.
#[cfg(test)]
pub fn of_text(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bellwether.toml");
    std::fs::write(&file, text).unwrap();
    load(&Sources { files: vec![file], ..Sources::default() }).unwrap()
}

#[cfg(test)]
mod tests;
