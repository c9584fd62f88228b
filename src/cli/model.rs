//! `bellwether model`: the registry of models, by hand and from pipelines.
//!
//! Each command is one call of `bellwether-registry`, which has all the rules; here are only the words that people write
//! and read. Nothing here talks to the daemon: both look into the same store.

use anyhow::Context;
use bellwether_registry::{ModelName, Options, Reference, Registry};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Common, Output, print};
use crate::config;

mod fetch;
mod gc;
mod list;
mod point;
mod register;
mod words;

/// What `model` takes.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    what: What,
    /// Where the models are, instead of registry.url: a directory, s3://, gs:// or az://.
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Register a version, with all of its files; it never changes afterwards.
    Register(Box<register::RegisterArgs>),
    /// Download a version, verified; goes on where it was cut off.
    Get(fetch::GetArgs),
    /// List the models, or the versions of one.
    List(list::ListArgs),
    /// Read all of a version in the store, and say whether it is what was registered.
    Verify(fetch::VerifyArgs),
    /// Attach a gate report to the version that it is about.
    Attach(register::AttachArgs),
    /// Make a version current in an environment, if it has passed its gates.
    Promote(point::PromoteArgs),
    /// Go back to a version that was current in an environment.
    Rollback(point::RollbackArgs),
    /// Point an alias to a version, or say where it points.
    Alias(point::AliasArgs),
    /// Say what was current in an environment, or where an alias pointed, and why.
    History(point::HistoryArgs),
    /// Find what killed registrations have left.
    Gc(gc::GcArgs),
}

/// Does it.
///
/// # Errors
/// The configuration can't be read, or the registry says no.
pub async fn run(args: ModelArgs, common: &Common) -> anyhow::Result<u8> {
    let options = options(&args, common)?;
    if let What::Register(args) = args.what {
        // The first version makes the directory; to look into one that is not there is a mistake.
        return register::register(*args, &Registry::create(&options)?, common.output).await;
    }
    let registry = Registry::open(&options)?;
    match args.what {
        What::Register(args) => register::register(*args, &registry, common.output).await,
        What::Get(args) => Box::pin(fetch::get(&args, &registry, common.output)).await,
        What::List(args) => list::list(&args, &registry, common.output).await,
        What::Verify(args) => fetch::verify(&args, &registry, common.output).await,
        What::Attach(args) => register::attach(&args, &registry, common.output).await,
        What::Promote(args) => Box::pin(point::promote(args, &registry, common.output)).await,
        What::Rollback(args) => Box::pin(point::rollback(args, &registry, common.output)).await,
        What::Alias(args) => Box::pin(point::alias(args, &registry, common.output)).await,
        What::History(args) => point::history(&args, &registry, common.output).await,
        What::Gc(args) => gc::gc(&args, &registry, common.output).await,
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

/// Which version is meant.
#[derive(Debug, Args)]
struct Which {
    /// The model.
    #[arg(value_name = "NAME")]
    name: ModelName,
    /// A version, `latest`, or @ and an alias.
    #[arg(value_name = "VERSION", default_value = "latest")]
    version: Reference,
}

/// Prints for whoever asked.
fn show<T: Serialize>(output: Output, data: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&(serde_json::to_string_pretty(data).context("an answer as JSON")? + "\n")),
        Output::Table => print(&table(data)),
    }
    Ok(())
}
