//! `bellwether model`: the registry of models, for people and pipelines.
//!
//! Each command is one call of the crate `bellwether-registry`, which has all the rules; this module has only the arguments
//! and the output. The commands do not use the daemon: both use the same store.

use bellwether_registry::{Options, Registry};
use clap::{Args, Subcommand};

use super::Common;
use crate::config;

mod args;
mod display;
mod export;
mod fetch;
mod gc;
mod list;
mod point;
mod register;
mod withdraw;

/// The arguments of `model`.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
    /// Registry to use instead of registry.url: a directory, or a URL with s3://, gs:// or az://.
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Register a version with all of its files; it can't be changed later.
    Register(Box<register::RegisterArgs>),
    /// Download a version and verify it; an interrupted download is resumed.
    Get(fetch::GetArgs),
    /// List the models, or the versions of one model.
    List(list::ListArgs),
    /// Compare a version's files in the store with their registered digests.
    Verify(fetch::VerifyArgs),
    /// Attach a gate report to the version that it is about.
    Attach(register::AttachArgs),
    /// Make a version current in an environment if it passed its gates.
    Promote(point::PromoteArgs),
    /// Make an earlier version current again, without its gates.
    Rollback(point::RollbackArgs),
    /// Point an alias to a version, or print its present version.
    Alias(point::AliasArgs),
    /// List the moves of an environment's pointer or of an alias.
    History(point::HistoryArgs),
    /// Copy a version as plain files to a bucket.
    Export(export::ExportArgs),
    /// Print a version's bill of materials (CycloneDX 1.6).
    Bom(export::BomArgs),
    /// Withdraw a version: no pointer gives it out any more.
    Yank(withdraw::YankArgs),
    /// Delete the files of a yanked version that no pointer names.
    Delete(withdraw::DeleteArgs),
    /// Yank a model's old versions, and delete those yanked earlier.
    Prune(withdraw::PruneArgs),
    /// Find the remains of killed registrations, or delete them.
    Gc(gc::GcArgs),
}

/// Runs a command of `model`, and returns the exit code.
///
/// # Errors
/// The configuration can't be read, or the registry refuses or fails.
pub async fn run(args: ModelArgs, common: &Common) -> anyhow::Result<u8> {
    let options = options(&args, common)?;
    if let ModelCommand::Register(args) = args.command {
        // Registering creates a missing directory. For all other commands a missing directory is probably a mistake.
        return register::register(*args, &Registry::create(&options)?, common.output).await;
    }
    let registry = Registry::open(&options)?;
    registry.check_root().await?;
    match args.command {
        ModelCommand::Register(args) => register::register(*args, &registry, common.output).await,
        ModelCommand::Get(args) => Box::pin(fetch::get(&args, &registry, common.output)).await,
        ModelCommand::List(args) => list::list(&args, &registry, common.output).await,
        ModelCommand::Verify(args) => fetch::verify(&args, &registry, common.output).await,
        ModelCommand::Attach(args) => register::attach(&args, &registry, common.output).await,
        ModelCommand::Promote(args) => Box::pin(point::promote(args, &registry, common.output)).await,
        ModelCommand::Rollback(args) => Box::pin(point::rollback(args, &registry, common.output)).await,
        ModelCommand::Alias(args) => Box::pin(point::alias(args, &registry, common.output)).await,
        ModelCommand::History(args) => point::history(&args, &registry, common.output).await,
        ModelCommand::Export(args) => Box::pin(export::export(&args, &options, &registry, common.output)).await,
        ModelCommand::Bom(args) => export::bom(&args, &registry).await,
        ModelCommand::Yank(args) => Box::pin(withdraw::yank(args, &registry, common.output)).await,
        ModelCommand::Delete(args) => Box::pin(withdraw::delete(args, &registry, common.output)).await,
        ModelCommand::Prune(args) => Box::pin(withdraw::prune(args, options.keep, &registry, common.output)).await,
        ModelCommand::Gc(args) => gc::gc(&args, &registry, common.output).await,
    }
}

fn options(args: &ModelArgs, common: &Common) -> anyhow::Result<Options> {
    let config = config::load(&common.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    let mut options = config.registry;
    if let Some(url) = &args.registry {
        options.url.clone_from(url);
    }
    Ok(options)
}
