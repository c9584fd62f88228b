//! The section `[journal]` of the configuration.

use std::path::PathBuf;

use bellwether_core::time::Span;
use serde::Deserialize;

/// The default age at which the embedded journal removes decisions and dead letters: 90 days, as in Kafka.
const RETENTION: Span = Span::from_secs(90 * 24 * 3600);

/// The choice of the journal.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The kind of the journal.
    pub kind: JournalKind,
    /// The file of the embedded journal; the journal in Kafka has none.
    pub path: PathBuf,
    /// The age at which the embedded journal removes decisions and dead letters.
    pub retention: Span,
}

/// The kind of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalKind {
    /// A topic in Kafka, in the same cluster as the events.
    #[default]
    Kafka,
    /// A file on this machine: for one process, without Kafka.
    Embedded,
}

impl Default for Options {
    fn default() -> Options {
        Options { kind: JournalKind::default(), path: PathBuf::from("bellwether.redb"), retention: RETENTION }
    }
}
