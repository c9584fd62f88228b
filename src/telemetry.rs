//! The log and the TLS provider, which are installed once per process. The log goes to standard error, because standard
//! output is for the data that a command returns.
//!
//! Panics are lines of the log as well ([`panics`]).
//!
//! A thread of its own writes the log, so that a pipe or a terminal that takes no more delays nothing else. Lines that find
//! the queue of that thread full are dropped and counted.

use std::io::IsTerminal;
use std::sync::Once;

use serde::Deserialize;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::panics;

/// The lines that wait at most to be written: some megabytes.
const WAITING_LINES: usize = 10_000;

/// The section `[log]` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The format of a line.
    pub format: Format,
    /// The levels that are logged, in the syntax of `tracing_subscriber::EnvFilter`, as in `info,bellwether=debug`.
    pub filter: String,
}

/// The format of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Text for people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl Default for Options {
    fn default() -> Options {
        Options { format: Format::default(), filter: "info".to_owned() }
    }
}

impl Options {
    /// Returns the problems of the settings, each as the key and a message with the remedy.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        match EnvFilter::try_new(&self.filter) {
            Ok(_) => Vec::new(),
            Err(error) => {
                vec![("filter", format!("{error}; write a level, as in \"info\" or \"info,bellwether=debug\""))]
            }
        }
    }
}

/// The log of this process. Dropping it writes the lines that still wait, for a second at most.
pub struct Log {
    _writer: WorkerGuard,
    errors: ErrorCounter,
}

impl Log {
    /// Starts the log. A second one in the same process gets no lines.
    pub fn install(options: &Options) -> Log {
        let filter = EnvFilter::try_new(&options.filter).unwrap_or_else(|_| EnvFilter::new("info"));
        let stderr = std::io::stderr();
        let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).thread_name("log");
        let (lines, writer) = queue.finish(stderr);
        let errors = lines.error_counter();
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(colours);
        let installed = match options.format {
            Format::Human => builder.try_init(),
            Format::Json => builder.json().try_init(),
        };
        // The error means that a subscriber is installed already, as in tests; that one stays.
        if installed.is_ok() {
            panics::install();
        }
        Log { _writer: writer, errors }
    }

    /// Returns a counter of the lines that were dropped.
    pub fn dropped_lines(&self) -> ErrorCounter {
        self.errors.clone()
    }
}

/// Installs ring as the TLS provider of this process, for reqwest, kube and rustls.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The error means that a provider is installed already; that one stays.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}
