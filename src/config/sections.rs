//! The sections that belong to adapters. Each is to be replaced by a `pub use` of the adapter's own `Options` of the
//! same fields as soon as that adapter is there: the fields are what `config/default.toml` documents.

/// `[kafka]`.
pub mod kafka {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use bellwether_core::time::Span;
    use serde::Deserialize;

    /// How the brokers are reached, and which topics are used.
    #[derive(Debug, Clone, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct Options {
        /// `host:port` of some of the brokers.
        pub brokers: Vec<String>,
        /// The events topic.
        pub topic: String,
        /// The journal.
        pub journal_topic: String,
        /// The decisions.
        pub decisions_topic: String,
        /// What can't be understood; empty: the events topic with `.dlq`.
        pub dlq_topic: Option<String>,
        /// The consumer group.
        pub group: String,
        /// `group.instance.id`; empty: the host's name.
        pub instance_id: Option<String>,
        /// After so long without a heartbeat the partitions go to somebody else.
        pub session_timeout: Span,
        /// How many partitions a topic gets that has to be made.
        pub partitions: i32,
        /// How many replicas.
        pub replication: i32,
        /// Further librdkafka properties.
        pub properties: BTreeMap<String, String>,
        /// TLS and SASL.
        pub security: Security,
    }

    impl Default for Options {
        fn default() -> Options {
            Options {
                brokers: vec!["localhost:9092".to_owned()],
                topic: "bellwether.events".to_owned(),
                journal_topic: "bellwether.journal".to_owned(),
                decisions_topic: "bellwether.decisions".to_owned(),
                dlq_topic: None,
                group: "bellwether".to_owned(),
                instance_id: None,
                session_timeout: Span::from_secs(10),
                partitions: 6,
                replication: 3,
                properties: BTreeMap::new(),
                security: Security::default(),
            }
        }
    }

    /// TLS and SASL.
    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct Security {
        /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
        pub protocol: Option<String>,
        /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        pub mechanism: Option<String>,
        /// The SASL user.
        pub username: Option<String>,
        /// The file that holds the SASL password.
        pub password_file: Option<PathBuf>,
        /// The CA's certificates.
        pub ca_file: Option<PathBuf>,
    }
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

    /// How events of others are read.
    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct DecodeOptions {
        /// Which workload a CDEvent is about; the first that matches.
        pub mapping: Vec<Mapping>,
    }

    /// One rule.
    #[derive(Debug, Clone, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub struct Mapping {
        /// A pattern for the subject's id.
        #[serde(default)]
        pub subject: Option<String>,
        /// A pattern for the environment's id.
        #[serde(default)]
        pub environment: Option<String>,
        /// A pattern for the package URL.
        #[serde(default)]
        pub purl: Option<String>,
        /// The workload's namespace.
        pub namespace: String,
        /// The workload's name.
        pub name: String,
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
