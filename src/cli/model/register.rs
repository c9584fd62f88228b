//! `model register` and `model attach`: a new version, and a gate report for a version.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use bellwether_registry::manifest::Provenance;
use bellwether_registry::register::VersionDraft;
use bellwether_registry::risk::Risk;
use bellwether_registry::{Digest, ModelName, Registry, Version, VersionReference, source};
use clap::Args;
use serde_json::Value;

use super::display::{describe, show, size};
use crate::cli::Output;
use crate::clock::{Clock, SystemClock};
use crate::exit;

/// The arguments of `model register`.
#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// The new version, as in 1.4.0 or 2.0.0-rc.1.
    #[arg(id = "model-version", value_name = "VERSION")]
    version: Version,
    /// The model's files, or directories of them.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Name of the person or program that registers the version.
    #[arg(long, env = "BELLWETHER_BY", value_name = "WHO")]
    by: String,
    /// Description for readers.
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// Framework that runs the model, as in pytorch.
    #[arg(long, default_value = "", value_name = "NAME")]
    framework: String,
    /// Version of the framework.
    #[arg(long, default_value = "", value_name = "VERSION", requires = "framework")]
    framework_version: String,
    /// Measurement of the model's quality, as in rouge-l=0.41; may be repeated.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = metric)]
    metric: Vec<(String, f64)>,
    /// File with a JSON object: results of the developers' own validation.
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,
    /// Tag to find the version by; may be repeated.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Model that this version was made from, as in org/Base-7B@1.0.0 or a URL; may be repeated.
    #[arg(long, value_name = "MODEL")]
    base: Vec<String>,
    /// Licence as an SPDX expression, as in Apache-2.0.
    #[arg(long, default_value = "", value_name = "SPDX")]
    license: String,
    /// Data set that the version was trained or tuned with; may be repeated.
    #[arg(long, value_name = "NAME|URL")]
    dataset: Vec<String>,
    /// Commit of the code that made the version.
    #[arg(long, default_value = "", value_name = "COMMIT")]
    commit: String,
    /// Expected digest, as sha256:…: that of the file, or for several files that of the list that `sha256sum` prints of
    /// them.
    #[arg(long, value_name = "DIGEST")]
    checksum: Option<Digest>,
    /// Kind of risk that the files may have, as the refusal names it; the manifest records it. May be repeated.
    #[arg(long, value_name = "RISK", value_delimiter = ',')]
    accept: Vec<Risk>,
}

fn metric(text: &str) -> Result<(String, f64), String> {
    let invalid = || format!("{text:?} is not a metric; write NAME=NUMBER, as in rouge-l=0.41");
    let (name, number) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(invalid)?;
    Ok((name.to_owned(), number.parse().map_err(|_| invalid())?))
}

pub(super) async fn register(args: RegisterArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let files = source::files(&args.paths)?;
    let draft = VersionDraft {
        name: args.name,
        version: args.version,
        description: args.description,
        framework: args.framework,
        framework_version: args.framework_version,
        performance_metrics: unique(args.metric)?,
        validation_results: args.validation.map(validation).transpose()?.unwrap_or_default(),
        tags: args.tag,
        checksum: args.checksum,
        accept: args.accept,
        provenance: Provenance { base: args.base, license: args.license, datasets: args.dataset, commit: args.commit },
        by: args.by,
    };
    let manifest = Box::pin(registry.register(draft, files, SystemClock.now())).await?;
    show(output, &manifest, |manifest| {
        let count = manifest.files.len();
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        let (name, version) = (&manifest.name, &manifest.version);
        format!("registered, {files}, {}, in {}\n{}", size(manifest.size), registry.place(), describe(manifest))
            + &format!("Next: bellwether model promote {name} {version} --to ENVIRONMENT\n")
    })?;
    Ok(exit::OK)
}

fn unique(metrics: Vec<(String, f64)>) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut unique = BTreeMap::new();
    for (name, value) in metrics {
        if unique.insert(name.clone(), value).is_some() {
            bail!("--metric {name} is given twice; leave one out");
        }
    }
    Ok(unique)
}

fn validation(path: PathBuf) -> anyhow::Result<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a JSON object", path.display()))
}

/// The arguments of `model attach`.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// The version that the report is about: a number, `latest`, or @ and an alias.
    #[arg(id = "model-version", value_name = "VERSION")]
    version: VersionReference,
    /// File with the report, as `bellwether gate run` writes it.
    #[arg(value_name = "REPORT")]
    report: PathBuf,
}

pub(super) async fn attach(args: &AttachArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let version = registry.resolve(&args.name, &args.version).await?;
    let manifest = registry.manifest(&args.name, &version).await?;
    let report = std::fs::read(&args.report).with_context(|| format!("can't read {}", args.report.display()))?;
    let attached = registry.attach(&manifest, report).await?;
    show(output, &attached, |attached| {
        let (suite, verdict, digest) = (&attached.suite, attached.verdict, &attached.digest);
        format!("{} {version}: {suite} is {verdict}, {digest}\n", manifest.name)
    })?;
    Ok(exit::OK)
}
