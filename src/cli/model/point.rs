//! `model promote`, `model rollback`, `model alias` and `model history`: the pointers of environments, and aliases.

use anyhow::{Context, bail};
use bellwether_registry::line::{Action, PointerMove};
use bellwether_registry::point::{MoveOutcome, Promotion, Restoration};
use bellwether_registry::report::{AttachedReport, Brought};
use bellwether_registry::{
    Alias, Digest, Environment, Manifest, ModelName, Registry, SuiteName, Version, VersionReference,
};
use clap::Args;
use serde_json::json;

use super::args::{MoveArgs, VersionArgs};
use super::display::{or_dash, show};
use crate::cli::Output;
use crate::cli::digests::of_file;
use crate::cli::table::table;
use crate::exit;

/// The arguments of `model promote`.
#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    model: VersionArgs,
    /// Environment in which the version becomes current.
    #[arg(long, value_name = "ENVIRONMENT")]
    to: Environment,
    /// Suite that the version must have passed, in addition to those of registry.require; may be repeated.
    #[arg(long, value_name = "SUITE", value_delimiter = ',')]
    require: Vec<SuiteName>,
    /// Report whose suite the version must have passed: a file, which is attached first, or the digest of an attached
    /// report; may be repeated.
    #[arg(long, value_name = "FILE|DIGEST")]
    report: Vec<String>,
    /// Image that is deployed with the version: its reports must have tested it, too; may be repeated.
    #[arg(long = "image", value_name = "REF")]
    images: Vec<String>,
    /// Prompt that is deployed with the version: its digest, or its file.
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE", requires = "images")]
    prompt: Option<String>,
    /// Definitions of the tools that are deployed with the version: their digest, or their file.
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE", requires = "images")]
    tools: Option<String>,
    #[command(flatten)]
    author: MoveArgs,
}

pub(super) async fn promote(args: PromoteArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let version = registry.resolve(&args.model.name, &args.model.version).await?;
    let manifest = registry.manifest(&args.model.name, &version).await?;
    let mut require = args.require;
    for report in &args.report {
        require.push(attached(registry, &manifest, report).await?.suite);
    }
    let (environment, name) = (args.to, args.model.name);
    let (prompt, tools) = (args.prompt.unwrap_or_default(), args.tools.unwrap_or_default());
    let with = (!args.images.is_empty()).then_some(Brought { images: args.images, prompt, tools });
    let promotion = Promotion { environment, name, version, require, with, context: args.author.context()? };
    let outcome = registry.promote(&promotion).await?;
    show_outcome(output, &outcome, &format!("{} in {}", promotion.name, promotion.environment))
}

/// Attaches the report in a file, or finds the attached report with a digest.
async fn attached(registry: &Registry, manifest: &Manifest, report: &str) -> anyhow::Result<AttachedReport> {
    if !report.starts_with("sha256:") {
        let bytes = std::fs::read(report).with_context(|| format!("can't read {report}"))?;
        return Ok(registry.attach(manifest, bytes).await?);
    }
    let digest: Digest = report.parse()?;
    // Its error for a missing report names the remedy.
    registry.report(manifest, &digest).await?;
    let found = registry.reports(manifest).await?.into_iter().find(|report| report.digest == digest);
    found.with_context(|| format!("the report {digest} is no longer in the list of reports"))
}

/// The arguments of `model rollback`.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// Environment in which the earlier version becomes current.
    #[arg(long = "in", value_name = "ENVIRONMENT")]
    environment: Environment,
    /// Earlier version to make current; without it, the one before the present one.
    #[arg(long, value_name = "VERSION")]
    to: Option<Version>,
    #[command(flatten)]
    author: MoveArgs,
}

pub(super) async fn rollback(args: RollbackArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let RollbackArgs { name, environment, to, author } = args;
    let restoration = Restoration { environment, name, to, context: author.context()? };
    let outcome = registry.restore(&restoration).await?;
    show_outcome(output, &outcome, &format!("{} in {}", restoration.name, restoration.environment))
}

/// The arguments of `model alias`.
#[derive(Debug, Args)]
pub(super) struct AliasArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// The alias, without its @.
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    /// New target of the alias: a version, `latest`, or @ and another alias. Without it the present target is printed.
    #[arg(id = "model-version", value_name = "VERSION", requires = "by")]
    version: Option<VersionReference>,
    /// Point the alias to nothing.
    #[arg(long, conflicts_with = "model-version", requires = "by")]
    remove: bool,
    /// Name of the person or program that makes the move.
    #[arg(long, env = "BELLWETHER_BY", value_name = "WHO")]
    by: Option<String>,
    /// Reason for the move.
    #[arg(long, default_value = "", value_name = "TEXT")]
    why: String,
    /// Refuse if the number of the alias's last move is not this one (see `model history`; 0: never set).
    #[arg(long, value_name = "MOVE")]
    expect: Option<u64>,
}

pub(super) async fn alias(args: AliasArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let AliasArgs { name, alias, version, remove, by, why, expect } = args;
    let title = format!("@{alias} of {name}");
    if version.is_none() && !remove {
        let version = registry.resolve(&name, &VersionReference::Alias(alias)).await?;
        show(output, &json!({ "version": version }), |_| format!("{title} is {version}\n"))?;
        return Ok(exit::OK);
    }
    let version = match version {
        Some(version) => Some(registry.resolve(&name, &version).await?),
        None => None,
    };
    let context = MoveArgs { by: by.unwrap_or_default(), why, expect }.context()?;
    let outcome = registry.set_alias(&name, &alias, version.as_ref(), &context).await?;
    show_outcome(output, &outcome, &title)
}

/// Prints the outcome of a request to move the pointer that `title` describes.
fn show_outcome(output: Output, outcome: &MoveOutcome, title: &str) -> anyhow::Result<u8> {
    let MoveOutcome { created, entry } = outcome;
    show(output, &json!({ "moved": created, "move": entry }), |_| {
        let version = version(entry);
        match (created, &entry.before) {
            (false, _) => format!("{title} is {version} already, since {:.0} (move {})\n", entry.at, entry.number),
            (true, Some(before)) => format!("{title} is {version} now (move {}); before: {before}\n", entry.number),
            (true, None) => format!("{title} is {version} now (move {}), the first\n", entry.number),
        }
    })?;
    Ok(exit::OK)
}

fn version(entry: &PointerMove) -> String {
    entry.version.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

/// The arguments of `model history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// Environment whose pointer's moves are listed.
    #[arg(value_name = "ENVIRONMENT", required_unless_present = "alias", conflicts_with = "alias")]
    environment: Option<Environment>,
    /// Alias whose moves are listed, without its @.
    #[arg(long, value_name = "ALIAS")]
    alias: Option<Alias>,
}

pub(super) async fn history(args: &HistoryArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let moves = match (&args.environment, &args.alias) {
        (Some(environment), _) => registry.history(environment, &args.name).await?,
        (None, Some(alias)) => registry.alias_history(&args.name, alias).await?,
        (None, None) => Vec::new(),
    };
    if moves.is_empty() {
        bail!("{} has no recorded move there; see `bellwether model list {}`", args.name, args.name);
    }
    show(output, &moves, |moves| {
        let rows: Vec<Vec<String>> = moves.iter().map(row).collect();
        table(&["MOVE", "TIME", "ACTION", "VERSION", "BY", "REASON", "REPORTS"], &rows)
    })?;
    Ok(exit::OK)
}

fn row(entry: &PointerMove) -> Vec<String> {
    let action = match entry.action {
        Action::Promote => "promoted",
        Action::Restore => "rolled back",
        Action::Set => "set",
        Action::Remove => "removed",
        Action::Yank => "yanked",
    };
    let reports: Vec<String> = entry.reports.iter().map(|evidence| evidence.suite.to_string()).collect();
    vec![
        entry.number.to_string(),
        format!("{:.0}", entry.at),
        action.to_owned(),
        version(entry),
        entry.by.clone(),
        or_dash(&entry.why),
        or_dash(&reports.join(", ")),
    ]
}
