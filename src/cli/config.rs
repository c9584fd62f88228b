//! `bellwether config`: what is in force, and what could be set.

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{Common, print};
use crate::{config, exit};

/// What `config` takes.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the configuration that is in force, secrets left out.
    Show {
        /// Say where each value comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Print every key with its default: the reference.
    Default,
}

/// Prints it.
///
/// # Errors
/// If a file can't be read.
pub fn run(args: &ConfigArgs, common: &Common) -> anyhow::Result<u8> {
    match args.what {
        What::Show { origin } => print(&config::show(&common.sources(), origin).context("nothing can be shown")?),
        What::Default => print(config::DEFAULT),
    }
    Ok(exit::OK)
}
