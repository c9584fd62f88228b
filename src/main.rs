//! The program: parses the command line, runs the command and returns its exit code.

use std::process::ExitCode;
use std::time::Duration;

use bellwether::cli::{self, Cli};
use bellwether::{allocator, exit};
use clap::Parser;

/// The time for blocking calls under way, as of a client that reaches no broker, before the process ends without them.
const BLOCKING_CALLS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    allocator::return_large_buffers();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("the threads can't be started")),
    };
    let code = runtime.block_on(cli::dispatch(Cli::parse()));
    runtime.shutdown_timeout(BLOCKING_CALLS);
    match code {
        Ok(code) => ExitCode::from(cli::code_after_output(code)),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    cli::complain(error);
    ExitCode::from(exit::ERROR)
}
