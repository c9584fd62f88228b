//! The section `[journal]` of the configuration.

use std::path::PathBuf;

use serde::Deserialize;

/// The choice of the journal.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The kind of the journal.
    pub kind: JournalKind,
    /// The file of the embedded journal; the journal in Kafka has none.
    pub path: PathBuf,
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
        Options { kind: JournalKind::default(), path: PathBuf::from("bellwether.redb") }
    }
}
