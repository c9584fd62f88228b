//! `bellwether man FOLDER`: writes a manual page of the program and of each command.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory};

use super::Cli;
use crate::exit;

/// The arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bellwether man /usr/local/share/man/man1 && man bellwether-emit")]
pub struct ManArgs {
    /// The folder of the pages, which is created if it is missing.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// A page can't be written; the error names the folder.
pub fn run(args: &ManArgs) -> anyhow::Result<u8> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("{} can't be created", folder.display()))?;
    let pages = clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder);
    pages.with_context(|| format!("a manual page can't be written to {}", folder.display()))?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManArgs { folder: folder.path().join("man1") };
        assert_eq!(run(&args).unwrap(), exit::OK);
        for command in Cli::command().get_subcommands() {
            let page = args.folder.join(format!("bellwether-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{}", page.display());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = run(&ManArgs { folder: file.path().join("man1") }).unwrap_err();
        assert!(format!("{error:#}").contains("man1 can't be created"), "{error:#}");
    }
}
