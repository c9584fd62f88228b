//! `model yank`, `model delete` and `model prune`: versions that are not given out any more, and the retention of old ones.

use anyhow::Context;
use bellwether_core::time::Span;
use bellwether_registry::delete::{Pruned, Pruning};
use bellwether_registry::{ModelName, Registry, Version};
use clap::Args;
use serde_json::json;

use super::args::MoveArgs;
use super::display::{show, size};
use crate::cli::table::table;
use crate::cli::{Output, tell};
use crate::exit;

/// The arguments of `model yank`.
#[derive(Debug, Args)]
pub(super) struct YankArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// The version, by its number.
    #[arg(id = "model-version", value_name = "VERSION")]
    version: Version,
    /// Take the yank back.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    author: MoveArgs,
}

pub(super) async fn yank(args: YankArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let YankArgs { name, version, undo, author } = args;
    let context = author.context()?;
    let outcome = match undo {
        true => registry.unyank(&name, &version, &context).await?,
        false => registry.yank(&name, &version, &context).await?,
    };
    let state = if undo { "not yanked" } else { "yanked" };
    show(output, &json!({ "moved": outcome.created, "move": outcome.entry }), |_| match outcome.created {
        true => format!("{name} {version} is {state} now\n"),
        false => format!("{name} {version} is {state} already\n"),
    })?;
    let current = registry.environments(&name).await?.into_iter().filter(|(_, current)| *current == version && !undo);
    for (environment, _) in current {
        tell(&format!("it is still current in {environment}, where `model get` refuses it now; promote another one\n"));
    }
    Ok(exit::OK)
}

/// The arguments of `model delete`.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// The version, by its number. It was yanked an hour ago or earlier, and no pointer names it.
    #[arg(id = "model-version", value_name = "VERSION")]
    version: Version,
    #[command(flatten)]
    author: MoveArgs,
}

pub(super) async fn delete(args: DeleteArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let DeleteArgs { name, version, author } = args;
    let removed = registry.delete(&name, &version, &author.context()?).await?;
    show(output, &json!({ "name": name, "version": version, "removed-bytes": removed }), |_| {
        format!("the files of {name} {version} are deleted: {}; its manifest and reports stay\n", size(removed))
    })?;
    Ok(exit::OK)
}

/// The arguments of `model prune`.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// The model's name.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// Number of the newest versions to keep, instead of registry.keep.
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Time between a version's yank and its deletion; at least 1h.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    older_than: Span,
    /// Yank and delete the versions; without it they are only listed.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    author: MoveArgs,
}

pub(super) async fn prune(
    args: PruneArgs,
    keep: Option<usize>,
    registry: &Registry,
    output: Output,
) -> anyhow::Result<u8> {
    let PruneArgs { name, keep: asked, older_than, apply, author } = args;
    let keep = asked.or(keep).context("registry.keep is not set; set it, or give the number of versions by --keep")?;
    let pruned = registry.prune(&name, keep, older_than.to_std(), apply, &author.context()?).await?;
    if pruned.is_empty() && output == Output::Table {
        tell(&format!("nothing of {name} is to be yanked or deleted\n"));
        return Ok(exit::OK);
    }
    show(output, &pruned, |pruned| {
        let row = |pruned: &Pruned| {
            let act = match (pruned.act, apply) {
                (Pruning::Yank, true) => "yanked",
                (Pruning::Yank, false) => "to be yanked",
                (Pruning::Delete, true) => "deleted",
                (Pruning::Delete, false) => "to be deleted",
            };
            vec![pruned.version.to_string(), act.to_owned(), size(pruned.size)]
        };
        let end = if apply { "" } else { "nothing was changed; do it with --apply\n" };
        table(&["VERSION", "STATE", "SIZE"], &pruned.iter().map(row).collect::<Vec<_>>()) + end
    })?;
    Ok(exit::OK)
}
