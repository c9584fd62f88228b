//! `bellwether completion SHELL`: prints the script by which a shell completes the commands and their arguments.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, print};
use crate::exit;

/// The arguments of `completion`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  source <(bellwether completion bash)\n  bellwether completion zsh > \"${fpath[1]}/_bellwether\"\n  \
                        bellwether completion fish > ~/.config/fish/completions/bellwether.fish"
)]
pub struct CompletionArgs {
    /// The shell that reads the script.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script for the shell.
pub fn run(args: &CompletionArgs) -> u8 {
    print(&String::from_utf8_lossy(&script(args.shell)));
    exit::OK
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bellwether", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    /// A script that lacks a command is of an older program.
    #[test]
    fn the_script_of_each_shell_knows_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} lacks {}", command.get_name());
            }
        }
    }
}
