//! The sections that belong to adapters. Each is to be replaced by a `pub use` of the adapter's own `Options` of the
//! same fields as soon as that adapter is there: the fields are what `config/default.toml` documents.

/// `[kafka]`.
pub mod kafka {
    pub use crate::adapters::kafka::Options;
}

/// `[kubernetes]`.
pub mod kubernetes {
    pub use crate::adapters::kubernetes::Options;
}

/// `[prometheus]`.
pub mod prometheus {
    pub use crate::adapters::prometheus::Options;
}

/// `[registry]`.
pub mod registry {
    pub use bellwether_registry::Options;
}

/// `[events]`.
pub mod events {
    use serde::Deserialize;

    use crate::events::mapping::Mapping;

    /// How events of others are read.
    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct DecodeOptions {
        /// From CDEvents to workloads.
        pub mapping: Mapping,
    }
}

/// `[journal]`.
pub mod journal {
    use std::path::PathBuf;

    use serde::Deserialize;

    /// Where the daemon keeps its memory.
    #[derive(Debug, Clone, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct Options {
        /// In Kafka, or in a file.
        pub kind: JournalKind,
        /// The file.
        pub path: PathBuf,
    }

    /// Which journal.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum JournalKind {
        /// In Kafka, beside the events.
        #[default]
        Kafka,
        /// In one file: one process, no Kafka.
        Embedded,
    }

    impl Default for Options {
        fn default() -> Options {
            Options { kind: JournalKind::default(), path: PathBuf::from("bellwether.redb") }
        }
    }
}
