//! The program: parses the command line, runs the command and returns its exit code.

use std::process::ExitCode;

use bellwether::cli::{self, Cli};
use bellwether::exit;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::dispatch(Cli::parse()).await {
        Ok(code) => ExitCode::from(cli::code_after_output(code)),
        Err(error) => {
            cli::complain(&error);
            ExitCode::from(exit::ERROR)
        }
    }
}
