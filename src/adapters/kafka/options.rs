//! The section `[kafka]` of the configuration, and its translation to properties of librdkafka.
//!
//! Any property of librdkafka can be set in `properties`, with two exceptions: those that the daemon relies on
//! (`RESERVED`), and secrets, which are read from files so that no shown configuration contains them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bellwether_core::time::Span;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use super::error::KafkaClientError;

pub use crate::ports::MAX_ENTRY_BYTES;

/// An upper bound in bytes for the envelope that librdkafka adds to a record.
const OVERHEAD_BYTES: usize = 64 << 10;

/// The time in milliseconds after which the broker aborts an open transaction of a daemon that died, if no other daemon
/// takes over its partition. Readers of the decisions wait for that.
const TRANSACTION_TIMEOUT_MS: &str = "30000";

/// The properties that the daemon sets and that the user must not change.
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

/// The SASL mechanisms that the linked librdkafka has. `GSSAPI` needs a library of the system, and `OAUTHBEARER` with the method `oidc` needs
/// libcurl; it is built with neither.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// The beginning of the names of the properties of `OAUTHBEARER`.
const OAUTH: &str = "sasl.oauthbearer.";

/// The placeholder for the cluster's name in the names of the group and the topics.
const CLUSTER: &str = "{{cluster}}";

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
    /// The name of the cluster that the group's members act in, which their committed offsets carry; empty if it is not known.
    #[serde(skip)]
    pub cluster: String,
    /// Some of the brokers as `host:port`, separated by commas.
    pub brokers: String,
    /// The topic of events.
    pub topic: String,
    /// The topic of the journal: compacted, with as many partitions as `topic`.
    pub journal_topic: String,
    /// The topic of decisions, with as many partitions as `topic`.
    pub decisions_topic: String,
    /// The topic of dead letters; `<topic>.dlq` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dlq_topic: Option<String>,
    /// The name of the consumer group, and the prefix of the transactional ids.
    pub group: String,
    /// The name of this replica in the group (`group.instance.id`), unique in the group. With it a restart causes no
    /// rebalance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The time without a heartbeat after which the group gives the partitions to another replica; at least 6 s.
    pub session_timeout: Span,
    /// The number of partitions of a topic that the daemon creates, at least 1.
    pub partitions: i32,
    /// The number of replicas of a topic that the daemon creates, at least 1.
    pub replication: i32,
    /// The retention of an events topic that the daemon creates.
    pub events_retention: Span,
    /// The retention of a decisions or dead-letter topic that the daemon creates.
    pub decisions_retention: Span,
    /// The encryption and authentication of the connections.
    pub security: Security,
    /// Further properties of librdkafka: name and value.
    pub properties: BTreeMap<String, String>,
    /// Further properties of librdkafka that hold secrets: name, and the file with the value.
    pub property_files: BTreeMap<String, PathBuf>,
}

/// The encryption and authentication of the connections to the brokers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Security {
    /// The security protocol.
    pub protocol: Protocol,
    /// The SASL mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// The name of the SASL user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The file with the SASL user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The file with the certificates of the authority that signed the brokers' certificates; the system's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The file with the client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The file with the private key of that certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The file with the private key's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password_file: Option<PathBuf>,
}

/// The security protocol of librdkafka.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Neither TLS nor SASL.
    #[default]
    Plaintext,
    /// TLS without SASL.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl Default for Options {
    fn default() -> Options {
        const DAY: u64 = 24 * 60 * 60;
        Options {
            cluster: String::new(),
            brokers: "localhost:9092".to_owned(),
            topic: "bellwether.events".to_owned(),
            journal_topic: format!("bellwether.{CLUSTER}.journal"),
            decisions_topic: "bellwether.decisions".to_owned(),
            dlq_topic: None,
            group: format!("bellwether-{CLUSTER}"),
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
    /// Returns the name of the dead-letter topic.
    pub fn dlq(&self) -> String {
        self.dlq_topic.clone().unwrap_or_else(|| format!("{}.dlq", self.topic))
    }

    /// Replaces the placeholder of the cluster's name in the names of the group and the topics.
    pub fn name_cluster(&mut self, cluster: &str) {
        cluster.clone_into(&mut self.cluster);
        let names = [&mut self.topic, &mut self.journal_topic, &mut self.decisions_topic, &mut self.group];
        for name in names.into_iter().chain(&mut self.dlq_topic) {
            *name = name.replace(CLUSTER, cluster);
        }
    }

    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// The first setting or property with an invalid value.
    pub fn validate(&self) -> Result<(), KafkaClientError> {
        let invalid = |setting, value: &dyn ToString, remedy| {
            Err(KafkaClientError::Setting { setting, value: value.to_string(), remedy })
        };
        if self.brokers.trim().is_empty() {
            return invalid("brokers", &"empty", "write host:port, several with commas between");
        }
        if self.brokers.split(',').any(|broker| broker.trim().is_empty() || broker.trim().starts_with(':')) {
            return invalid(
                "brokers",
                &self.brokers,
                "one of them has no host; write host:port, several with commas between",
            );
        }
        if self.partitions < 1 {
            return invalid("partitions", &self.partitions, "it must be at least 1");
        }
        if self.replication < 1 {
            return invalid("replication", &self.replication, "it must be at least 1");
        }
        // The brokers' default of group.min.session.timeout.ms is six seconds.
        if self.session_timeout < Span::from_secs(6) {
            return invalid("session-timeout", &self.session_timeout, "brokers accept at least 6s");
        }
        let topics = [&self.topic, &self.journal_topic, &self.decisions_topic, &self.dlq()];
        if (1..topics.len()).any(|n| topics[..n].contains(&topics[n])) {
            return invalid(
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
        self.security.validate()?;
        let mut names = self.properties.keys().chain(self.property_files.keys());
        if let Some(name) = names.find(|name| name.starts_with(OAUTH)) {
            let reason = "this program can't get tokens for OAUTHBEARER, as its librdkafka is built without libcurl; use a SCRAM mechanism \
                          over TLS, or client certificates";
            return Err(KafkaClientError::Property { name: name.clone(), reason });
        }
        match self.properties.keys().find(|name| SECRET.contains(&name.as_str())) {
            Some(name) => {
                let reason = "it holds a secret; put it into a file and name that in kafka.property-files";
                Err(KafkaClientError::Property { name: name.clone(), reason })
            }
            None => Ok(()),
        }
    }

    /// Returns the files that the properties are read from.
    pub(super) fn secret_files(&self) -> Vec<PathBuf> {
        let Security { password_file, ca_file, cert_file, key_file, key_password_file, .. } = &self.security;
        let files = [password_file, ca_file, cert_file, key_file, key_password_file].into_iter().flatten();
        files.chain(self.property_files.values()).cloned().collect()
    }

    /// Returns the properties that all clients share.
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

    /// Returns the properties of the group's member.
    pub(super) fn group_consumer(&self) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.reader()?;
        config
            .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
            .set("enable.partition.eof", "false")
            // A position that the broker no longer has must not be moved in silence: events would be skipped.
            .set("auto.offset.reset", "error")
            // Eager: a rebalance revokes all partitions and assigns them again. Cooperative rebalancing would not
            // interrupt the other partitions, but defects of its client side are still being found; with static
            // membership a restart causes no rebalance, and restoring a partition is cheap.
            .set("partition.assignment.strategy", "range");
        // The records that librdkafka fetches ahead; its default is 64 MiB, an eighth of the memory of the shipped manifests.
        unless_set(&mut config, "queued.max.messages.kbytes", "16384");
        // The statistics have the lag for the metrics.
        unless_set(&mut config, "statistics.interval.ms", "5000");
        unless_set(&mut config, "heartbeat.interval.ms", &(self.session_timeout.as_millis() / 4).to_string());
        if let Some(id) = &self.instance_id {
            config.set("group.instance.id", id);
        }
        Ok(config)
    }

    /// Returns the properties of a reader of whole partitions. It never joins the group. It names the group because
    /// librdkafka assigns no partition without one, and because the ACLs know this group.
    pub(super) fn reader(&self) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.client()?;
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The topic's retention or compaction may remove the first records while they are read.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true");
        // A broker answers at once when it has records, so this only bounds the time of an empty fetch.
        unless_set(&mut config, "fetch.wait.max.ms", "100");
        unless_set(&mut config, "fetch.error.backoff.ms", "50");
        Ok(config)
    }

    /// Returns the properties of a producer of single events.
    pub(super) fn producer(&self) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.client()?;
        config.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
        unless_set(&mut config, "linger.ms", "0");
        // The states of the journal are JSON that repeats itself.
        unless_set(&mut config, "compression.type", "lz4");
        unless_set(&mut config, "message.max.bytes", &(MAX_ENTRY_BYTES + OVERHEAD_BYTES).to_string());
        Ok(config)
    }

    /// Returns the properties of the producer with the transactional id `id`.
    pub(super) fn transactional_producer(&self, id: &str) -> Result<ClientConfig, KafkaClientError> {
        let mut config = self.producer()?;
        config.set("transactional.id", id).set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        // While the broker writes the markers of the previous transaction, it answers "concurrent transactions". With
        // librdkafka's default of 100 ms before a retry, that wait would be most of the time of a commit.
        unless_set(&mut config, "retry.backoff.ms", "2");
        unless_set(&mut config, "retry.backoff.max.ms", "20");
        Ok(config)
    }
}

/// Sets a property that `kafka.properties` does not set.
fn unless_set(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

impl Security {
    /// Checks that a SASL protocol has a mechanism that this program has.
    fn validate(&self) -> Result<(), KafkaClientError> {
        let is_sasl = matches!(self.protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
        let mechanism = self.mechanism.as_deref().unwrap_or_default();
        if !is_sasl || MECHANISMS.contains(&mechanism) {
            return Ok(());
        }
        let remedy = "write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or use client certificates with protocol = \"ssl\"; this program has \
                      neither OAUTHBEARER nor GSSAPI";
        let value = if mechanism.is_empty() { "empty" } else { mechanism }.to_owned();
        Err(KafkaClientError::Setting { setting: "security.mechanism", value, remedy })
    }

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
        if matches!(protocol, Protocol::Ssl | Protocol::SaslSsl) {
            // The OpenSSL of this program has no default place for the system's certificates.
            config.set("ssl.ca.location", "probe");
        }
        let files =
            [("ssl.ca.location", ca_file), ("ssl.certificate.location", cert_file), ("ssl.key.location", key_file)];
        for (name, path) in files {
            if let Some(path) = path {
                config.set(name, path.to_string_lossy());
            }
        }
        if let Some(path) = password_file {
            config.set("sasl.password", password("security.password-file", path)?);
        }
        if let Some(path) = key_password_file {
            config.set("ssl.key.password", password("security.key-password-file", path)?);
        }
        Ok(())
    }
}

/// Returns the content of a file with a secret, without the line end that editors and `echo` append.
fn secret(setting: &str, path: &Path) -> Result<String, KafkaClientError> {
    let text = std::fs::read_to_string(path).map_err(|source| KafkaClientError::Secret {
        setting: setting.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Returns the content of a file with a password, which is one line.
fn password(setting: &str, path: &Path) -> Result<String, KafkaClientError> {
    let text = secret(setting, path)?;
    if text.contains(['\n', '\r']) {
        return Err(KafkaClientError::Lines { setting: setting.to_owned(), path: path.to_owned() });
    }
    Ok(text)
}
