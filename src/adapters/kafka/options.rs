//! The `[kafka]` section of the configuration, and how it becomes librdkafka's.
//!
//! Everything that librdkafka can do stays reachable through `properties`, except what the daemon's promises rest on
//! (`RESERVED`), and except secrets, which come from files so that they never stand in a configuration that is shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bellwether_core::time::Span;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use super::error::KafkaClientError;

/// The longest entry of the journal and the longest decision. Topics that are created here take it.
pub const MAX_ENTRY_BYTES: usize = 4 << 20;

/// What librdkafka adds around a record, generously.
const OVERHEAD_BYTES: usize = 64 << 10;

/// How long an unfinished transaction of a daemon that died may stay open if nobody takes over its partition. Readers
/// of the decisions wait for it.
const TRANSACTION_TIMEOUT_MS: &str = "30000";

/// What the daemon's promises rest on.
const RESERVED: [&str; 16] = [
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "partition.assignment.strategy",
    "partitioner",
    "session.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// The properties that hold secrets.
const SECRET: [&str; 7] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "ssl_key",
];

/// The `[kafka]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Where events arrive.
    pub topic: String,
    /// Where state is kept: compacted, with as many partitions as `topic`.
    pub journal_topic: String,
    /// Where decisions are told.
    pub decisions_topic: String,
    /// Where events go that can't be understood; absent: `<topic>.dlq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dlq_topic: Option<String>,
    /// The consumer group, and the beginning of the transactional ids.
    pub group: String,
    /// A name of this replica that survives its restart, so that a restart is no rebalance. Unique in the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// After so long without a sign of life, another replica takes over.
    pub session_timeout: Span,
    /// Partitions of the topics that are created.
    pub partitions: i32,
    /// Copies of the topics that are created.
    pub replication: i32,
    /// How long created events topics keep events.
    pub events_retention: Span,
    /// How long created decisions and dead-letter topics keep them.
    pub decisions_retention: Span,
    /// How the brokers are spoken to.
    pub security: Security,
    /// Any other property of librdkafka, as it is.
    pub properties: BTreeMap<String, String>,
    /// The same for secrets: property to file.
    pub property_files: BTreeMap<String, PathBuf>,
}

/// How the brokers are spoken to, and who says so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Security {
    /// With or without TLS and SASL.
    pub protocol: Protocol,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// The SASL user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The file with the SASL user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The authority that signed the brokers' certificates; absent: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The file with the private key's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password_file: Option<PathBuf>,
}

/// With or without TLS and SASL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Neither.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL.
    SaslPlaintext,
    /// Both.
    SaslSsl,
}

impl Default for Options {
    fn default() -> Options {
        const DAY: u64 = 24 * 60 * 60;
        Options {
            brokers: "localhost:9092".to_owned(),
            topic: "bellwether.events".to_owned(),
            journal_topic: "bellwether.journal".to_owned(),
            decisions_topic: "bellwether.decisions".to_owned(),
            dlq_topic: None,
            group: "bellwether".to_owned(),
            instance_id: None,
            session_timeout: Span::from_secs(10),
            partitions: 12,
            replication: 3,
            events_retention: Span::from_secs(7 * DAY),
            decisions_retention: Span::from_secs(90 * DAY),
            security: Security::default(),
            properties: BTreeMap::new(),
            property_files: BTreeMap::new(),
        }
    }
}

impl Options {
    /// The dead-letter topic.
    pub fn dlq(&self) -> String {
        self.dlq_topic.clone().unwrap_or_else(|| format!("{}.dlq", self.topic))
    }

    /// What can be known to be wrong without asking a broker.
    pub fn validate(&self) -> Result<(), KafkaClientError> {
        let wrong = |setting, value: &dyn ToString, remedy| {
            Err(KafkaClientError::Setting { setting, value: value.to_string(), remedy })
        };
        if self.brokers.trim().is_empty() {
            return wrong("brokers", &"empty", "write host:port, several with commas between");
        }
        if self.partitions < 1 {
            return wrong("partitions", &self.partitions, "it must be at least 1");
        }
        if self.replication < 1 {
            return wrong("replication", &self.replication, "it must be at least 1");
        }
        // Brokers refuse less than six seconds unless they are told otherwise.
        if self.session_timeout < Span::from_secs(6) {
            return wrong("session-timeout", &self.session_timeout, "brokers want at least 6s");
        }
        let topics = [&self.topic, &self.journal_topic, &self.decisions_topic, &self.dlq()];
        if (1..topics.len()).any(|n| topics[..n].contains(&topics[n])) {
            return wrong(
                "topic",
                &self.topic,
                "events, journal, decisions and dead letters each need a topic of their own",
            );
        }
        for name in self.properties.keys().chain(self.property_files.keys()) {
            if RESERVED.contains(&name.as_str()) {
                let reason = "the daemon relies on its own value; most have a setting of their own in [kafka]";
                return Err(KafkaClientError::Property { name: name.clone(), reason });
            }
        }
        match self.properties.keys().find(|name| SECRET.contains(&name.as_str())) {
            Some(name) => {
                let reason = "it holds a secret; put it into a file and name that in kafka.property-files";
                Err(KafkaClientError::Property { name: name.clone(), reason })
            }
            None => Ok(()),
        }
    }

    /// What every client is made from.
    fn client(&self) -> Result<ClientConfig, KafkaClientError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "bellwether");
        self.security.apply(&mut config)?;
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, path) in &self.property_files {
            config.set(name, secret(&format!("property-files.\"{name}\""), path)?);
        }
        Ok(config)
    }

    /// For the member of the group.
    pub(super) fn group_consumer(&self) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.reader()?;
        config
            .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
            .set("enable.partition.eof", "false")
            // Eager: every rebalance takes everything back and gives it out again. Cooperative rebalancing would keep
            // partitions flowing through one, at the price of a protocol whose client-side faults are still being
            // found; with static membership a restart is no rebalance at all, and restoring a partition is cheap.
            .set("partition.assignment.strategy", "range");
        // For the lag that the metrics show.
        unless_set(&mut config, "statistics.interval.ms", "5000");
        unless_set(&mut config, "heartbeat.interval.ms", &(self.session_timeout.as_millis() / 4).to_string());
        if let Some(id) = &self.instance_id {
            config.set("group.instance.id", id);
        }
        Ok(config)
    }

    /// For reading whole partitions. It names the group because librdkafka assigns nothing without one, and because
    /// that is the group which the ACLs know; it never joins it.
    pub(super) fn reader(&self) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.client()?;
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // librdkafka would begin at the end, and pass over what is waiting.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true");
        // The broker answers at once when there is something, so this bounds only idle waiting.
        unless_set(&mut config, "fetch.wait.max.ms", "100");
        unless_set(&mut config, "fetch.error.backoff.ms", "50");
        Ok(config)
    }

    /// For producing single events.
    pub(super) fn producer(&self) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.client()?;
        config.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
        unless_set(&mut config, "linger.ms", "0");
        unless_set(&mut config, "message.max.bytes", &(MAX_ENTRY_BYTES + OVERHEAD_BYTES).to_string());
        Ok(config)
    }

    /// For the transactions of one partition's journal.
    pub(super) fn transactional_producer(&self, id: &str) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.producer()?;
        config.set("transactional.id", id).set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        // While the markers of the previous transaction are being written the broker answers "concurrent transactions";
        // librdkafka's 100 ms of patience would be most of a commit.
        unless_set(&mut config, "retry.backoff.ms", "2");
        unless_set(&mut config, "retry.backoff.max.ms", "20");
        Ok(config)
    }
}

/// A value that the person who configures may know better.
fn unless_set(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

impl Security {
    fn apply(&self, config: &mut ClientConfig) -> Result<(), KafkaClientError> {
        let Self { protocol, mechanism, username, password_file, ca_file, cert_file, key_file, key_password_file } =
            self;
        config.set(
            "security.protocol",
            match protocol {
                Protocol::Plaintext => "plaintext",
                Protocol::Ssl => "ssl",
                Protocol::SaslPlaintext => "sasl_plaintext",
                Protocol::SaslSsl => "sasl_ssl",
            },
        );
        for (name, value) in [("sasl.mechanism", mechanism), ("sasl.username", username)] {
            if let Some(value) = value {
                config.set(name, value);
            }
        }
        let files =
            [("ssl.ca.location", ca_file), ("ssl.certificate.location", cert_file), ("ssl.key.location", key_file)];
        for (name, path) in files {
            if let Some(path) = path {
                config.set(name, path.to_string_lossy());
            }
        }
        if let Some(path) = password_file {
            config.set("sasl.password", secret("security.password-file", path)?);
        }
        if let Some(path) = key_password_file {
            config.set("ssl.key.password", secret("security.key-password-file", path)?);
        }
        Ok(())
    }
}

/// The content of a secret's file, without the line end that editors and `echo` leave behind.
fn secret(setting: &str, path: &Path) -> Result<String, KafkaClientError> {
    let text = std::fs::read_to_string(path).map_err(|source| KafkaClientError::Secret {
        setting: setting.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
