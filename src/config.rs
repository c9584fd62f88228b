//! The configuration: read in layers, checked whole, and never seen raw again.
//!
//! A daemon that changes production must not start on a misunderstanding, and a person who made three mistakes wants
//! to hear of three. So an unknown key is an error, every problem is reported at once, and each is shown where it was
//! written: [`load`] returns a [`Config`] in which every policy has been checked, or a [`ConfigReport`] of all that is wrong.
//!
//! Later layers win: the embedded `config/default.toml` (which *is* the reference), presets of metrics, files in the
//! order in which they are named, environment variables, flags. Tables merge key by key and lists replace each other;
//! only `[[policy]]` adds up over files, so that every team can have a file of its own.

mod layers;
mod places;
mod report;
pub mod sections;
mod show;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::{Policy, RawPolicy};
use serde::Deserialize;

use self::layers::Layers;
pub use self::report::{ConfigProblem, ConfigReport, SourcePlace};
pub use self::show::show;

/// `config/default.toml`, which is also what `bellwether config default` prints.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// The embedded presets of metrics, by the name that `presets` takes.
pub const PRESETS: &[(&str, &str)] = &[
    ("envoy-gateway", include_str!("../config/presets/envoy-gateway.toml")),
    ("istio", include_str!("../config/presets/istio.toml")),
    ("linkerd", include_str!("../config/presets/linkerd.toml")),
    ("nginx", include_str!("../config/presets/nginx.toml")),
    ("otel-genai", include_str!("../config/presets/otel-genai.toml")),
    ("otel-http", include_str!("../config/presets/otel-http.toml")),
    ("traefik", include_str!("../config/presets/traefik.toml")),
    ("vllm", include_str!("../config/presets/vllm.toml")),
];

/// Where the configuration comes from, below the defaults; later ones win.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files, or directories whose `*.toml` are read in the order of their names.
    pub files: Vec<PathBuf>,
    /// Environment variables; those that do not begin with `BELLWETHER_` are left alone.
    pub env: Vec<(String, String)>,
    /// `section.key=value`.
    pub flags: Vec<String>,
}

impl Sources {
    /// These files and flags, and the environment of this process.
    pub fn of_process(files: Vec<PathBuf>, flags: Vec<String>) -> Sources {
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Sources { files, env: env.collect(), flags }
    }
}

/// All of it, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the cluster that this daemon acts in.
    pub cluster: String,
    /// The brokers and topics.
    pub kafka: sections::kafka::Options,
    /// Where the daemon keeps its memory.
    pub journal: sections::journal::Options,
    /// The metrics store.
    pub prometheus: sections::prometheus::Options,
    /// The API server.
    pub kubernetes: sections::kubernetes::Options,
    /// Where the models are.
    pub registry: sections::registry::Options,
    /// How events of others are read.
    pub events: sections::events::DecodeOptions,
    /// Where people are told.
    pub slack: crate::adapters::slack::Options,
    /// The HTTP server.
    pub http: crate::http::Options,
    /// The log.
    pub log: crate::telemetry::Options,
    /// Every metric that a policy may name, the presets' included.
    pub metrics: BTreeMap<String, Metric>,
    /// The policies, in the order in which they were written.
    pub policies: Vec<Policy>,
}

/// The configuration as it is written. Only this module sees it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    cluster: String,
    #[serde(default)]
    #[expect(dead_code, reason = "read where the layers are put together; here only so that the key is known")]
    presets: Vec<String>,
    #[serde(default)]
    kafka: sections::kafka::Options,
    #[serde(default)]
    journal: sections::journal::Options,
    #[serde(default)]
    prometheus: sections::prometheus::Options,
    #[serde(default)]
    kubernetes: sections::kubernetes::Options,
    #[serde(default)]
    registry: sections::registry::Options,
    #[serde(default)]
    events: sections::events::DecodeOptions,
    #[serde(default)]
    slack: crate::adapters::slack::Options,
    #[serde(default)]
    http: crate::http::Options,
    #[serde(default)]
    log: crate::telemetry::Options,
    #[serde(default)]
    metric: BTreeMap<String, Metric>,
    #[serde(default)]
    policy: Vec<RawPolicy>,
}

/// Reads and checks the configuration.
///
/// # Errors
/// Everything that is wrong with it, each at its place.
pub fn load(sources: &Sources) -> Result<Config, ConfigReport> {
    let layers = Layers::read(sources)?;
    let (raw, mut found) = layers.deserialize::<Raw>();
    found.extend_misplaced_secrets();
    let Some(raw) = raw else { return Err(found.into_report()) };
    let policies = policies(&raw, &mut found);
    sections(&raw, &mut found);
    if !found.is_empty() {
        return Err(found.into_report());
    }
    // Whatever is added to `Raw` must be passed on here or refused to compile.
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

/// The checked policies; those that are wrong are left out, and said.
fn policies(raw: &Raw, found: &mut layers::Found<'_>) -> Vec<Policy> {
    for (name, metric) in &raw.metric {
        for (key, message) in metric.problems() {
            found.add(&["metric", name, key], message);
        }
    }
    let mut names = BTreeSet::new();
    let mut policies = Vec::new();
    for (index, raw_policy) in raw.policy.iter().enumerate() {
        let at = index.to_string();
        if !names.insert(&raw_policy.name) {
            found.add(
                &["policy", &at, "name"],
                format!("there are two policies {:?}; give this one another name", raw_policy.name),
            );
        }
        match raw_policy.check(&raw.metric) {
            Ok(policy) => policies.push(policy),
            Err(problems) => {
                for problem in problems {
                    let path: Vec<&str> =
                        ["policy", &at].into_iter().chain(problem.path.iter().map(String::as_str)).collect();
                    found.add(&path, problem.message);
                }
            }
        }
    }
    policies
}

/// What can be wrong with a section although every key has the right type.
fn sections(raw: &Raw, found: &mut layers::Found<'_>) {
    if raw.cluster.is_empty() || raw.cluster.contains('/') {
        found.add(&["cluster"], "a cluster needs a name without a slash; it is the first part of every workload's key");
    }
    if raw.journal.kind == sections::journal::JournalKind::Kafka && raw.kafka.brokers.trim().is_empty() {
        found.add(
            &["kafka", "brokers"],
            "name at least one broker, as in \"kafka:9092\", or set journal.kind = \"embedded\"",
        );
    }
    for (key, number) in [("partitions", raw.kafka.partitions), ("replication", raw.kafka.replication)] {
        if number < 1 {
            found.add(&["kafka", key], "at least 1 is needed");
        }
    }
    if !["http://", "https://"].iter().any(|scheme| raw.prometheus.url.starts_with(scheme)) {
        found.add(&["prometheus", "url"], "a URL begins with http:// or https://, as in \"http://prometheus:9090\"");
    }
    for (key, number) in [
        ("concurrency", raw.prometheus.concurrency as u64),
        ("queries-per-second", u64::from(raw.prometheus.queries_per_second)),
    ] {
        if number == 0 {
            found.add(&["prometheus", key], "with 0 nothing would ever be asked; write at least 1");
        }
    }
    if raw.prometheus.username.is_some() && raw.prometheus.bearer_token_file.is_some() {
        found.add(&["prometheus", "username"], "there is a bearer token too; leave one of the two out");
    }
    for (key, message) in raw.http.problems().into_iter() {
        found.add(&["http", key], message);
    }
    for (key, message) in raw.registry.problems() {
        found.add(&["registry", key], message);
    }
    for (key, message) in raw.log.problems() {
        found.add(&["log", key], message);
    }
}

/// The configuration that `text` alone gives, for tests.
#[cfg(test)]
pub fn of_text(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bellwether.toml");
    std::fs::write(&file, text).unwrap();
    load(&Sources { files: vec![file], ..Sources::default() }).unwrap()
}

#[cfg(test)]
mod tests;
