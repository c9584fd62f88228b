//! `model list`: the models, or the versions of one model.

use bellwether_registry::list::{Filter, ModelSummary, Page, VersionReq};
use bellwether_registry::withdraw::Withdrawal;
use bellwether_registry::{Manifest, ModelName, Registry, Version};
use clap::Args;
use serde::Serialize;

use super::display::{or_dash, short, show, size};
use crate::cli::table::table;
use crate::cli::{Output, tell};
use crate::exit;

/// The arguments of `model list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// List this model's versions; without a name, list the models.
    #[arg(value_name = "NAME")]
    name: Option<ModelName>,
    /// Only versions with this tag; may be repeated.
    #[arg(long, value_name = "TAG", value_delimiter = ',', requires = "name")]
    tag: Vec<String>,
    /// Only versions of this framework.
    #[arg(long, value_name = "NAME", requires = "name")]
    framework: Option<String>,
    /// Only versions in this range, as in ">=1.2, <2".
    #[arg(long, value_name = "RANGE", requires = "name")]
    range: Option<VersionReq>,
    /// Maximum number of items on a page.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Token of the page, as the previous page prints it.
    #[arg(long, value_name = "TOKEN")]
    page: Option<String>,
}

pub(super) async fn list(args: &ListArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    match &args.name {
        None => models(args, registry, output).await,
        Some(name) => versions(name, args, registry, output).await,
    }
}

async fn models(args: &ListArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let page = registry.models(usize::from(args.limit), args.page.as_deref()).await?;
    show(output, &page, |page: &Page<ModelSummary>| {
        let row = |model: &ModelSummary| {
            let latest = model.latest.as_ref().map_or_else(|| "–".to_owned(), ToString::to_string);
            vec![model.name.to_string(), latest, model.versions.to_string()]
        };
        table(&["MODEL", "LATEST", "VERSIONS"], &page.items.iter().map(row).collect::<Vec<_>>())
    })?;
    if page.items.is_empty() && args.page.is_none() && output == Output::Table {
        tell(&format!("nothing is registered in {} yet\n", registry.place()));
    }
    print_next(page.next.as_deref(), output);
    Ok(exit::OK)
}

/// A version with the environments in which it is current, the aliases that point to it, and its withdrawal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ListedVersion {
    #[serde(flatten)]
    manifest: Manifest,
    current_in: Vec<String>,
    aliases: Vec<String>,
    /// `None`: it is given out.
    withdrawal: Option<Withdrawal>,
}

async fn versions(name: &ModelName, args: &ListArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let filter = Filter { tags: args.tag.clone(), framework: args.framework.clone(), range: args.range.clone() };
    let found = registry.list(name, &filter, usize::from(args.limit), args.page.as_deref()).await?;
    let (environments, aliases) = (registry.environments(name).await?, registry.aliases(name).await?);
    let mut withdrawals = registry.withdrawals(name).await?;
    let items = found.items.into_iter().map(|manifest| {
        let is_this = |version: &Version| *version == manifest.version;
        let current_in = environments.iter().filter(|(_, version)| is_this(version)).map(|(name, _)| name.to_string());
        let aliases = aliases.iter().filter(|(_, version)| is_this(version)).map(|(name, _)| name.to_string());
        let (current_in, aliases) = (current_in.collect(), aliases.collect());
        let withdrawal = withdrawals.remove(&manifest.version);
        ListedVersion { manifest, current_in, aliases, withdrawal }
    });
    let page = Page { items: items.collect(), next: found.next };
    show(output, &page, |page| table(&HEADINGS, &page.items.iter().map(row).collect::<Vec<_>>()))?;
    print_next(page.next.as_deref(), output);
    Ok(exit::OK)
}

const HEADINGS: [&str; 9] =
    ["VERSION", "CURRENT IN", "ALIASES", "STATE", "FRAMEWORK", "SIZE", "CHECKSUM", "REGISTERED", "TAGS"];

fn row(ListedVersion { manifest, current_in, aliases, withdrawal }: &ListedVersion) -> Vec<String> {
    let state = match withdrawal {
        None => "",
        Some(Withdrawal::Yanked(_)) => "yanked",
        Some(Withdrawal::Deleted(_)) => "deleted",
    };
    vec![
        manifest.version.to_string(),
        or_dash(&current_in.join(", ")),
        or_dash(&aliases.join(", ")),
        or_dash(state),
        or_dash(&manifest.framework),
        size(manifest.size),
        short(&manifest.checksum),
        format!("{:.10} by {}", manifest.created_at.to_string(), manifest.created_by),
        or_dash(&manifest.tags.join(", ")),
    ]
}

/// Prints the token of the next page on standard error. JSON output has it as a field.
fn print_next(next: Option<&str>, output: Output) {
    if let (Some(next), Output::Table) = (next, output) {
        tell(&format!("there are more; list the next page with --page {next}\n"));
    }
}
