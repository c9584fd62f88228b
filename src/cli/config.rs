//! `bellwether config`: the effective configuration, the reference of all keys, and its schema.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::{Common, Output, print};
use crate::{config, exit};

/// The arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective configuration without secrets.
    Show {
        /// Print the source of each value.
        #[arg(long)]
        origin: bool,
    },
    /// Print every key with its documentation and its default.
    Default,
    /// Print the JSON Schema of a configuration file, for editors.
    Schema,
}

/// Prints the effective configuration or the reference.
///
/// # Errors
/// A file can't be read.
pub fn run(args: &ConfigArgs, common: &Common) -> anyhow::Result<u8> {
    match args.command {
        ConfigCommand::Show { origin } => {
            let (sources, failed) = (common.sources(), "can't show the configuration");
            let text = match common.output {
                Output::Table => config::show(&sources, origin).context(failed)?,
                Output::Json => {
                    let shown = config::show_json(&sources, origin).context(failed)?;
                    serde_json::to_string_pretty(&shown).context("can't encode the configuration as JSON")? + "\n"
                }
            };
            print(&text);
        }
        ConfigCommand::Default if common.output == Output::Json => {
            bail!(
                "the reference is TOML with comments; `config show --output json` has the values, and `config schema` the texts"
            );
        }
        ConfigCommand::Default => print(config::DEFAULT),
        ConfigCommand::Schema => {
            print(
                &(serde_json::to_string_pretty(&config::schema()).context("can't encode the schema as JSON")? + "\n"),
            );
        }
    }
    Ok(exit::OK)
}
