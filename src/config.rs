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
mod tree;
mod layers;
mod problems;
mod checks;
mod show;
pub mod documented;
mod schema;

use std::collections::BTreeMap;

use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::{Policy, RawPolicy};
use serde::Deserialize;

use self::layers::Layers;
use self::places::SourceFile;
use self::problems::ProblemCollector;
use crate::{access, adapters, events, http, journal, telemetry};

pub use self::embedded::{DEFAULT, PRESETS};
pub use self::layers::config_files;
pub use self::report::{ConfigProblem, ConfigReport, SourcePlace};
pub use self::schema::schema;
pub use self::show::{show, show_json};
pub use self::sources::Sources;

/// The configuration: every key of its files with its type.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The name of the cluster that this daemon acts in: the first part of a workload's key.
    pub cluster: String,
    /// The names of the presets, whose contents are already merged in.
    #[serde(default, rename = "presets")]
    _presets: Vec<String>,
    /// The section `[kafka]`: brokers and topics.
    #[serde(default)]
    pub kafka: adapters::kafka::Options,
    /// The section `[journal]`: the kind of the journal and its file.
    #[serde(default)]
    pub journal: journal::Options,
    /// The section `[prometheus]`: the metrics store.
    #[serde(default)]
    pub prometheus: adapters::prometheus::Options,
    /// The section `[kubernetes]`: the API server.
    #[serde(default)]
    pub kubernetes: adapters::kubernetes::Options,
    /// The section `[registry]`: the store of models.
    #[serde(default)]
    pub registry: bellwether_registry::Options,
    /// The section `[events]`: the mapping of other tools' events to workloads.
    #[serde(default)]
    pub events: events::Options,
    /// The section `[access]`: who may send events.
    #[serde(default)]
    pub access: access::Options,
    /// The section `[slack]`: the notification sink `slack`.
    #[serde(default)]
    pub slack: adapters::sinks::slack::Options,
    /// The section `[sink]`: further notification sinks.
    #[serde(default)]
    pub sink: adapters::sinks::Options,
    /// The section `[http]`: the HTTP server.
    #[serde(default)]
    pub http: http::Options,
    /// The section `[log]`.
    #[serde(default)]
    pub log: telemetry::Options,
    /// The metrics that a policy may name, by name, including those of the presets.
    #[serde(default, rename = "metric")]
    pub metrics: BTreeMap<String, Metric>,
    /// The policies as written, in their order.
    #[serde(default, rename = "policy")]
    raw_policies: Vec<RawPolicy>,
    /// The policies after their checks, in the order in which they were written.
    #[serde(skip)]
    pub policies: Vec<Policy>,
}

/// Reads and checks the configuration.
///
/// # Errors
/// All problems of the configuration, each with its place.
pub fn load(sources: &Sources) -> Result<Config, ConfigReport> {
    checked(&Layers::read(sources)?)
}

/// Reads and checks the configuration that one file with the content `text` gives, without the environment. `name` is the
/// file's name in messages.
///
/// # Errors
/// As for [`load`].
pub fn load_text(name: &str, text: &str) -> Result<Config, ConfigReport> {
    let file = SourceFile { path: name.into(), text: text.to_owned() };
    let problems = file.syntax_errors();
    if !problems.is_empty() {
        return Err(ConfigReport::new(problems));
    }
    checked(&Layers::of(vec![file], &Sources::default())?)
}

fn checked(layers: &Layers) -> Result<Config, ConfigReport> {
    let (config, mut problems) = ProblemCollector::read::<Config>(layers);
    problems.add_misplaced_secrets();
    let Some(mut config) = config else { return Err(problems.into_report()) };
    config.kafka.name_cluster(&config.cluster);
    config.policies = config.checked_policies(&mut problems);
    config.check_sections(&mut problems);
    if problems.is_empty() { Ok(config) } else { Err(problems.into_report()) }
}

/// Returns the configuration that a file with this content gives. For tests.
///
/// # Panics
/// If the configuration has a problem.
#[cfg(test)]
pub fn of_text(text: &str) -> Config {
    load_text("bellwether.toml", text).unwrap()
}

#[cfg(test)]
mod tests;
