//! The log and the TLS provider, which are installed once per process. The log goes to standard error, because standard
//! output is for the data that a command returns.

use std::io::IsTerminal;
use std::sync::Once;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

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

/// Starts the log. A second call in the same process has no effect.
pub fn install(options: &Options) {
    let filter = EnvFilter::try_new(&options.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let installed = match options.format {
        Format::Human => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
    // The error means that a subscriber is installed already, as in tests; that one stays.
    drop(installed);
}

/// Installs ring as the TLS provider of this process, for reqwest, kube and rustls.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The error means that a provider is installed already; that one stays.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}
