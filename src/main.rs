//! The program: parses the command line, runs the command and returns its exit code.

use std::process::ExitCode;

use bellwether::cli::{self, Cli};
use bellwether::{allocator, exit};
use clap::Parser;

fn main() -> ExitCode {
    allocator::return_large_buffers();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    match cli::dispatch(Cli::parse()).await {
        Ok(code) => ExitCode::from(cli::code_after_output(code)),
        Err(error) => {
            cli::complain(&error);
            ExitCode::from(exit::ERROR)
        }
    }
}
