//! The log, and what has to be installed once per process. The log goes to standard error, because standard output is
//! for data that somebody asked for.

use std::io::IsTerminal;
use std::sync::Once;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// How the log looks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// For people or for machines.
    pub format: Format,
    /// What is logged, in `tracing`'s words.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A line that is read.
    #[default]
    Human,
    /// A JSON object.
    Json,
}

impl Default for Options {
    fn default() -> Options {
        Options { format: Format::default(), filter: "info".to_owned() }
    }
}

impl Options {
    /// What is wrong with them: the key, and what to do.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        match EnvFilter::try_new(&self.filter) {
            Ok(_) => Vec::new(),
            Err(error) => {
                vec![("filter", format!("{error}; write a level, as in \"info\" or \"info,bellwether=debug\""))]
            }
        }
    }
}

/// Starts the log. A second call in the same process changes nothing.
pub fn install(options: &Options) {
    let filter = EnvFilter::try_new(&options.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let installed = match options.format {
        Format::Human => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
    // Somebody else's subscriber is there already, as in tests: theirs stays.
    drop(installed);
}

/// Makes ring the process's TLS provider. reqwest, kube and rustls then agree without naming it again.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that there is one already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}
