//! `model promote`, `model rollback`, `model alias` and `model history`.

use anyhow::{Context, bail};
use bellwether_registry::line::{Action, Move, Moved};
use bellwether_registry::point::{Mark, Promotion, Restoration};
use bellwether_registry::report::Attached;
use bellwether_registry::{Alias, Digest, Environment, Manifest, ModelName, Reference, Registry, Suite, Version};
use clap::Args;
use serde_json::json;

use super::words::or_dash;
use super::{Which, show};
use crate::cli::Output;
use crate::cli::table::table;
use crate::clock::{Clock, SystemClock};
use crate::exit;

/// Who and why.
#[derive(Debug, Args)]
struct Whose {
    /// Who does it.
    #[arg(long, env = "BELLWETHER_BY", value_name = "WHO")]
    by: String,
    /// Why.
    #[arg(long, default_value = "", value_name = "TEXT")]
    why: String,
    /// Refuse, if the pointer has made more moves than this (see `model history`).
    #[arg(long, value_name = "MOVE")]
    expect: Option<u64>,
}

impl Whose {
    fn mark(self) -> anyhow::Result<Mark> {
        if self.by.trim().is_empty() {
            bail!("--by is empty; say who does it");
        }
        Ok(Mark { by: self.by, why: self.why, at: SystemClock.now(), effect: None, expected: self.expect })
    }
}

/// What `model promote` takes.
#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    which: Which,
    /// Where it becomes current.
    #[arg(long, value_name = "ENVIRONMENT")]
    to: Environment,
    /// The suites that it must have passed, besides those that registry.require names.
    #[arg(long, value_name = "SUITE", value_delimiter = ',')]
    require: Vec<Suite>,
    /// A report whose suite it must have passed: a file, which is attached first, or the digest of one that is attached;
    /// may be repeated.
    #[arg(long, value_name = "FILE|DIGEST")]
    report: Vec<String>,
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn promote(args: PromoteArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let version = registry.resolve(&args.which.name, &args.which.version).await?;
    let manifest = registry.manifest(&args.which.name, &version).await?;
    let mut require = args.require;
    for report in &args.report {
        require.push(attached(registry, &manifest, report).await?.suite);
    }
    let (environment, name) = (args.to, args.which.name);
    let promotion = Promotion { environment, name, version, require, mark: args.whose.mark()? };
    let moved = registry.promote(&promotion).await?;
    said(output, &moved, &format!("{} in {}", promotion.name, promotion.environment))
}

async fn attached(registry: &Registry, manifest: &Manifest, report: &str) -> anyhow::Result<Attached> {
    if !report.starts_with("sha256:") {
        let bytes = std::fs::read(report).with_context(|| format!("can't read {report}"))?;
        return Ok(registry.attach(manifest, bytes).await?);
    }
    let digest: Digest = report.parse()?;
    // Says what to do if it is not there.
    registry.report(manifest, &digest).await?;
    let found = registry.reports(manifest).await?.into_iter().find(|report| report.digest == digest);
    found.with_context(|| format!("{digest} was there a moment ago"))
}

/// What `model rollback` takes.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The model.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// Where.
    #[arg(long = "in", value_name = "ENVIRONMENT")]
    environment: Environment,
    /// To which version; without it to the one that was current before.
    #[arg(long, value_name = "VERSION")]
    to: Option<Version>,
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn rollback(args: RollbackArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let RollbackArgs { name, environment, to, whose } = args;
    let restoration = Restoration { environment, name, to, mark: whose.mark()? };
    let moved = registry.restore(&restoration).await?;
    said(output, &moved, &format!("{} in {}", restoration.name, restoration.environment))
}

/// What `model alias` takes.
#[derive(Debug, Args)]
pub(super) struct AliasArgs {
    /// The model.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// The alias, without its @.
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    /// Where it is to point: a version, `latest`, or @ and another alias. Without it nothing is changed.
    #[arg(value_name = "VERSION", requires = "by")]
    version: Option<Reference>,
    /// Point it to nothing.
    #[arg(long, conflicts_with = "version", requires = "by")]
    remove: bool,
    /// Who does it.
    #[arg(long, env = "BELLWETHER_BY", value_name = "WHO")]
    by: Option<String>,
    /// Why.
    #[arg(long, default_value = "", value_name = "TEXT")]
    why: String,
    /// Refuse, if the alias has made more moves than this.
    #[arg(long, value_name = "MOVE")]
    expect: Option<u64>,
}

pub(super) async fn alias(args: AliasArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let AliasArgs { name, alias, version, remove, by, why, expect } = args;
    let title = format!("@{alias} of {name}");
    if version.is_none() && !remove {
        let version = registry.resolve(&name, &Reference::Alias(alias)).await?;
        show(output, &json!({ "version": version }), |_| format!("{title} is {version}\n"))?;
        return Ok(exit::OK);
    }
    let version = match version {
        Some(version) => Some(registry.resolve(&name, &version).await?),
        None => None,
    };
    let mark = Whose { by: by.unwrap_or_default(), why, expect }.mark()?;
    let moved = registry.set_alias(&name, &alias, version.as_ref(), &mark).await?;
    said(output, &moved, &title)
}

fn said(output: Output, moved: &Moved, title: &str) -> anyhow::Result<u8> {
    let Moved { now, to } = moved;
    show(output, &json!({ "moved": now, "move": to }), |_| {
        let version = version(to);
        match (now, &to.before) {
            (false, _) => format!("{title} is {version} already, since {:.0} (move {})\n", to.at, to.number),
            (true, Some(before)) => format!("{title} is {version} now (move {}); before: {before}\n", to.number),
            (true, None) => format!("{title} is {version} now (move {}), the first\n", to.number),
        }
    })?;
    Ok(exit::OK)
}

fn version(to: &Move) -> String {
    to.version.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

/// What `model history` takes.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The model.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// An environment …
    #[arg(value_name = "ENVIRONMENT", required_unless_present = "alias", conflicts_with = "alias")]
    environment: Option<Environment>,
    /// … or an alias, without its @.
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
        bail!("{} has no history there; see `bellwether model list {}`", args.name, args.name);
    }
    show(output, &moves, |moves| {
        let rows: Vec<Vec<String>> = moves.iter().map(row).collect();
        table(&["MOVE", "AT", "WHAT", "VERSION", "BY", "WHY", "REPORTS"], &rows)
    })?;
    Ok(exit::OK)
}

fn row(moved: &Move) -> Vec<String> {
    let what = match moved.action {
        Action::Promote => "promoted",
        Action::Restore => "rolled back",
        Action::Set => "set",
        Action::Remove => "removed",
    };
    let reports: Vec<String> = moved.reports.iter().map(|evidence| evidence.suite.to_string()).collect();
    vec![
        moved.number.to_string(),
        format!("{:.0}", moved.at),
        what.to_owned(),
        version(moved),
        moved.by.clone(),
        or_dash(&moved.why),
        or_dash(&reports.join(", ")),
    ]
}
