//! `bellwether import`: converts objects of Argo Rollouts, Flagger and Kayenta to a configuration, with a report of everything that
//! was converted, was not, or would be decided otherwise. The command only reads.
//!
//! The configuration goes to standard output or into a file, the report goes to standard error. With `--output json` both are one
//! document.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde::Serialize;

use self::convert::{Conversion, convert};
use self::draft::Draft;
use self::note::{FieldNote, FieldResult, ImportedObject};
use self::object::SourceObject;
use super::check::{self, CheckFinding, Level};
use super::{Common, Output, print, proposal, tell};
use crate::{config, exit};

mod analysis;
mod argo;
mod convert;
mod draft;
mod flagger;
mod kayenta;
mod metric;
mod note;
mod object;
mod placeholder;
mod promql;
mod shape;

/// The size in bytes above which a file is not read.
const MOST_BYTES: u64 = 4 << 20;
/// The maximum number of files of one run.
const MOST_FILES: usize = 1000;
/// The deepest nesting of folders.
const MAX_DEPTH: u32 = 8;

/// The arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// File of YAML or JSON with Rollouts, AnalysisTemplates, Canaries, MetricTemplates, Deployments, or a canary configuration of
    /// Kayenta; a folder means its files, and `-` means standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Name of the cluster in the configuration.
    #[arg(long, value_name = "NAME", default_value = "default")]
    cluster: String,
    /// Kafka brokers, as host:port, separated by commas; without them, one process with an embedded journal.
    #[arg(long, value_name = "BROKERS")]
    brokers: Option<String>,
    /// File to write instead of standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long, requires = "to")]
    force: bool,
}

/// The result as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ImportReport<'a> {
    /// The configuration as TOML.
    configuration: &'a str,
    /// The findings of `bellwether check` about it.
    findings: &'a [CheckFinding],
    /// The objects with their fields.
    objects: &'a [ImportedObject],
}

/// Converts the objects of the files.
///
/// # Errors
/// A file can't be read, none of the objects gives a policy, or the file to be written exists.
pub fn run(args: &ImportArgs, common: &Common) -> anyhow::Result<u8> {
    proposal::check_target(args.to.as_deref(), args.force)?;
    let (objects, unreadable) = read(&args.files)?;
    let mut conversion = convert(&objects);
    conversion.objects.extend(unreadable);
    if conversion.policies.is_empty() {
        tell(&render(&conversion.objects, &[]));
        bail!("none of the objects gives a policy; give a Rollout, a Canary, or a canary configuration of Kayenta");
    }
    let names: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    let (toml, findings) = configuration(&conversion, args, &names.join(" "))?;
    match common.output {
        Output::Json => {
            let report = ImportReport { configuration: &toml, findings: &findings, objects: &conversion.objects };
            if args.to.is_some() {
                proposal::put(&toml, args.to.as_deref(), args.force)?;
            }
            print(&(serde_json::to_string_pretty(&report).context("can't encode the report as JSON")? + "\n"));
        }
        Output::Table => {
            tell(&(render(&conversion.objects, &findings) + NEXT));
            proposal::put(&toml, args.to.as_deref(), args.force)?;
        }
    }
    Ok(exit::OK)
}

/// Writes the configuration, and checks it.
fn configuration(
    conversion: &Conversion,
    args: &ImportArgs,
    files: &str,
) -> anyhow::Result<(String, Vec<CheckFinding>)> {
    let mut draft = Draft {
        made_by: format!("bellwether import {files}"),
        cluster: args.cluster.clone(),
        brokers: args.brokers.clone(),
        prometheus: conversion.prometheus.first().cloned(),
        policies: conversion.policies.clone(),
    };
    draft.separate_metrics();
    let toml = draft.toml();
    let name = args.to.as_deref().unwrap_or(Path::new("import")).display().to_string();
    let checked = config::load_text(&name, &toml);
    let config = checked.map_err(|report| {
        anyhow!("the configuration has a mistake; please report it with this text:\n{report}\n{toml}")
    })?;
    let mut findings = check::of_config(&config);
    findings.retain(|finding| finding.level != Level::Fine);
    if conversion.prometheus.len() > 1 {
        let others: Vec<&str> = conversion.prometheus.iter().skip(1).map(String::as_str).collect();
        let text =
            format!("the objects name {} servers of Prometheus, and the first is taken", conversion.prometheus.len());
        let remedy = format!("set prometheus.url to one that has all series; the others are {}", others.join(", "));
        findings.push(CheckFinding::warning("prometheus", text, remedy));
    }
    Ok((toml, findings))
}

/// Reads the objects of the files, and reports the files that are neither YAML nor JSON.
fn read(paths: &[PathBuf]) -> anyhow::Result<(Vec<SourceObject>, Vec<ImportedObject>)> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" || !path.is_dir() {
            files.push(path.clone());
        } else {
            list(path, 0, &mut files).with_context(|| format!("{} can't be listed", path.display()))?;
        }
    }
    if files.len() > MOST_FILES {
        bail!("these are {} files, and at most {MOST_FILES} are read at once; name fewer", files.len());
    }
    let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
    for path in files {
        let name = path.display().to_string();
        let text = content(&path).with_context(|| format!("{name} can't be read"))?;
        match SourceObject::read(&name, &text) {
            Ok(found) => objects.extend(found),
            Err(error) => unreadable.push(ImportedObject {
                file: name,
                object: "file".to_owned(),
                fields: vec![FieldNote {
                    field: String::new(),
                    result: FieldResult::NotConverted,
                    text: format!("it is neither YAML nor JSON: {}", error.lines().next().unwrap_or_default()),
                    nearest: Some("render templates before, as by `helm template`".to_owned()),
                }],
                decided_otherwise: Vec::new(),
            }),
        }
    }
    Ok((objects, unreadable))
}

/// Adds the files of YAML and JSON below a folder, in the order of their names.
fn list(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() && depth < MAX_DEPTH && !path.is_symlink() {
            list(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known)) {
            files.push(path);
        }
    }
    Ok(())
}

/// Returns the text of a file, or of standard input.
fn content(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MOST_BYTES + 1).read_to_string(&mut text)?
    } else {
        std::fs::File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?
    };
    if read as u64 > MOST_BYTES {
        bail!("it is larger than {} MiB, which no such file is", MOST_BYTES >> 20);
    }
    Ok(text)
}

/// Returns the report as text: a paragraph for each object, and then the findings about the configuration.
fn render(objects: &[ImportedObject], findings: &[CheckFinding]) -> String {
    let mut text = String::new();
    for ImportedObject { file, object, fields, decided_otherwise } in objects {
        text += &format!("{object} ({file})\n");
        for FieldNote { field, result, text: said, nearest } in fields {
            let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
            text += &format!("  {:<13}  {field}{said}\n", result.to_string());
            text += &nearest.as_ref().map(|nearest| format!("  {:<13}  → {nearest}\n", "")).unwrap_or_default();
        }
        if !decided_otherwise.is_empty() {
            text += "  decided otherwise\n";
        }
        for sentence in decided_otherwise {
            text += &format!("    • {sentence}\n");
        }
        text.push('\n');
    }
    if !findings.is_empty() {
        text += &check::render(findings, false);
    }
    text
}

/// The last line of the report, if there is a configuration.
const NEXT: &str = "Next: read the comments of the configuration, then `bellwether check --online`. `bellwether backtest --import` \
                    compares the decisions on your own counts.\n";

#[cfg(test)]
mod tests;
