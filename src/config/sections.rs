//! The sections that belong to adapters. Each is to be replaced by a `pub use` of the adapter's own `Options` of the
//! same fields as soon as that adapter is there: the fields are what `config/default.toml` documents.

/// `[kafka]`.
pub mod kafka {
    pub use crate::adapters::kafka::Options;
}

/// `[kubernetes]`.
pub mod kubernetes {
    use std::path::PathBuf;

    use bellwether_core::time::Span;
    use serde::Deserialize;

    /// How the API server is reached, and what of it is watched.
    #[derive(Debug, Clone, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct Options {
        /// The kubeconfig; empty: the service account, then the usual places.
        pub kubeconfig: Option<PathBuf>,
        /// The kubeconfig's context.
        pub context: Option<String>,
        /// The namespaces to watch; empty: all.
        pub namespaces: Vec<String>,
        /// How long a request may take.
        pub timeout: Span,
    }

    impl Default for Options {
        fn default() -> Options {
            Options { kubeconfig: None, context: None, namespaces: Vec::new(), timeout: Span::from_secs(10) }
        }
    }
}

/// `[prometheus]`.
pub mod prometheus {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use bellwether_core::time::Span;
    use serde::Deserialize;

    /// How Prometheus is asked, and how often.
    #[derive(Debug, Clone, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct Options {
        /// Its base URL.
        pub url: String,
        /// How long a query may take.
        pub timeout: Span,
        /// The file that holds a bearer token.
        pub bearer_token_file: Option<PathBuf>,
        /// The user for basic authentication.
        pub username: Option<String>,
        /// The file that holds the password for it.
        pub password_file: Option<PathBuf>,
        /// The CA's certificates.
        pub ca_file: Option<PathBuf>,
        /// Further request headers.
        pub headers: BTreeMap<String, String>,
        /// Queries at the same time.
        pub concurrency: u32,
        /// Queries per second.
        pub queries_per_second: u32,
        /// How long before now the counters are read.
        pub lag: Span,
        /// How often they are read.
        pub interval: Span,
        /// How often Prometheus scrapes.
        pub scrape_interval: Span,
        /// Whether answers with warnings count.
        pub accept_partial: bool,
    }

    impl Default for Options {
        fn default() -> Options {
            Options {
                url: "http://localhost:9090".to_owned(),
                timeout: Span::from_secs(10),
                bearer_token_file: None,
                username: None,
                password_file: None,
                ca_file: None,
                headers: BTreeMap::new(),
                concurrency: 4,
                queries_per_second: 20,
                lag: Span::from_secs(20),
                interval: Span::from_secs(15),
                scrape_interval: Span::from_secs(15),
                accept_partial: false,
            }
        }
    }
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
        pub kind: Kind,
        /// The file.
        pub path: PathBuf,
    }

    /// Which journal.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Kind {
        /// In Kafka, beside the events.
        #[default]
        Kafka,
        /// In one file: one process, no Kafka.
        Embedded,
    }

    impl Default for Options {
        fn default() -> Options {
            Options { kind: Kind::default(), path: PathBuf::from("bellwether.redb") }
        }
    }
}
