//! Kafka: one KRaft node, with functions to create topics, write records and read all of them. [`KafkaBroker::start_cluster`]
//! starts three.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::program::Program;
use super::wait;

/// The broker's address.
pub const BROKERS: &str = "127.0.0.1:9092";
/// The broker's second listener. A broker tells its clients the address to use, so clients behind a proxy need a
/// listener that tells them the proxy's address: `127.0.0.1` with [`PROXY_PORT`]. One story can use it at a time.
pub const PROXIED_LISTENER: &str = "127.0.0.1:9094";
/// The broker's listener with TLS and SASL, for [`USER`] with the mechanisms `PLAIN` and `SCRAM-SHA-512`. Its certificate is its
/// own authority: `testkit/tls/localhost.pem`.
pub const SECURED_LISTENER: &str = "localhost:9096";
/// The user of [`SECURED_LISTENER`].
pub const USER: &str = "bellwether";
/// The password of [`USER`].
pub const PASSWORD: &str = "a password of the tests";
/// The port of a proxy in front of [`PROXIED_LISTENER`].
pub const PROXY_PORT: u16 = 9095;

/// The ports of the plane's broker: for its clients, for its controller, of [`PROXIED_LISTENER`], [`PROXY_PORT`], and of
/// [`SECURED_LISTENER`].
const PORTS: [u16; 5] = [9092, 9093, 9094, PROXY_PORT, 9096];
/// The ports of a broker that belongs to one story, in the same order.
const OWN_PORTS: [u16; 5] = [9192, 9193, 9194, 9195, 9196];

/// The ports of the brokers of [`KafkaBroker::start_cluster`], in the same order.
const CLUSTER_PORTS: [[u16; 5]; 3] =
    [[9292, 9293, 9294, 9295, 9296], [9392, 9393, 9394, 9395, 9396], [9492, 9493, 9494, 9495, 9496]];

/// The cluster's id: the 16 bytes "bellwether-tests" in base64.
const CLUSTER_ID: &str = "YmVsbHdldGhlci10ZXN0cw";

const START: Duration = Duration::from_secs(120);
const REQUEST: Duration = Duration::from_secs(20);
/// The time without a record after which a [`TopicTail`] returns.
const IDLE: Duration = Duration::from_millis(200);
/// The time after which it returns in any case.
const LONGEST_READ: Duration = Duration::from_secs(2);

/// A running broker.
pub struct KafkaBroker {
    /// Its address for clients.
    pub address: String,
    /// Name of its log.
    name: String,
    broker: Mutex<Program>,
    cache: PathBuf,
    dir: PathBuf,
    logs: PathBuf,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
}

/// A record as it was read.
#[derive(Debug, Clone)]
pub struct KafkaRecord {
    /// The partition that it was read from.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp in milliseconds of Unix time.
    pub timestamp_ms: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value. `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers by name.
    pub headers: BTreeMap<String, String>,
}

impl KafkaRecord {
    /// Returns the key as text; empty if there is none.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// Returns the value as JSON.
    ///
    /// # Errors
    /// The record has no value, or the value is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let value = self.value.as_deref().context("a record without a value")?;
        serde_json::from_slice(value).with_context(|| format!("not JSON: {}", String::from_utf8_lossy(value)))
    }
}

impl KafkaBroker {
    /// Formats the storage, starts the broker and waits until it answers.
    ///
    /// # Errors
    /// Java or the broker does not start, or the broker does not answer in time.
    pub async fn start(cache: &Path, data: &Path, logs: &Path) -> Result<Self> {
        Self::start_node(&Node::of(&[PORTS], 0), "kafka", cache, &data.join("kafka"), logs).await
    }

    /// Starts a second broker, for a story that kills its broker while other stories run. One story can have it at a time.
    /// `name` is that of its log, and `data` the folder that its data are in.
    ///
    /// # Errors
    /// See [`KafkaBroker::start`].
    pub async fn start_own(name: &str, cache: &Path, data: &Path, logs: &Path) -> Result<Self> {
        Self::start_node(&Node::of(&[OWN_PORTS], 0), name, cache, &data.join(name), logs).await
    }

    /// Starts three brokers of one cluster, each of which is a controller as well, with their data in `data`. Topics can have three
    /// replicas. One test can have them at a time.
    ///
    /// # Errors
    /// See [`KafkaBroker::start`].
    pub async fn start_cluster(cache: &Path, data: &Path, logs: &Path) -> Result<[Self; 3]> {
        let start = async |n: usize| {
            let name = format!("kafka-{}", n + 1);
            Self::start_node(&Node::of(&CLUSTER_PORTS, n), &name, cache, &data.join(&name), logs).await
        };
        let (one, two, three) = tokio::try_join!(start(0), start(1), start(2))?;
        Ok([one, two, three])
    }

    async fn start_node(node: &Node, name: &str, cache: &Path, dir: &Path, logs: &Path) -> Result<Self> {
        let address = format!("127.0.0.1:{}", node.ports[0]);
        format_storage(node, cache, dir).await?;
        let broker = Mutex::new(start_broker(&address, name, cache, dir, logs).await?);
        let admin = AdminClient::from_config(&client(&address))?;
        let producer =
            client(&address).set("acks", "all").set("linger.ms", "0").set("message.max.bytes", "1048576").create()?;
        let (name, cache, dir, logs) = (name.to_owned(), cache.to_owned(), dir.to_owned(), logs.to_owned());
        Ok(Self { address, name, broker, cache, dir, logs, admin, producer })
    }

    /// Returns the size of a topic's segments on the broker's disk, in bytes, compressed as they are.
    ///
    /// # Errors
    /// The broker's folder can't be read.
    pub fn stored_bytes(&self, topic: &str) -> Result<u64> {
        let mut bytes = 0;
        for partition in fs::read_dir(self.dir.join("data"))? {
            let partition = partition?;
            let name = partition.file_name().to_string_lossy().into_owned();
            if name.rsplit_once('-').is_some_and(|(of, number)| of == topic && number.parse::<u32>().is_ok()) {
                for file in fs::read_dir(partition.path())? {
                    let file = file?;
                    if file.path().extension().is_some_and(|extension| extension == "log") {
                        bytes += file.metadata()?.len();
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// Kills the broker by SIGKILL, and starts it again on the same data after the time `away`.
    ///
    /// # Errors
    /// The broker can't be killed, or is not ready in time.
    pub async fn restart(&self, away: Duration) -> Result<()> {
        let mut broker = self.broker.lock().await;
        broker.kill().await?;
        tokio::time::sleep(away).await;
        *broker = start_broker(&self.address, &self.name, &self.cache, &self.dir, &self.logs).await?;
        Ok(())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// The broker refuses it.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let results = self.admin.create_topics([&topic], &options).await?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("creating the topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Writes one record, and returns its partition and offset.
    ///
    /// # Errors
    /// The broker does not acknowledge it in time.
    pub async fn produce(
        &self,
        topic: &str,
        key: Option<&str>,
        headers: &[(&str, &str)],
        value: &[u8],
    ) -> Result<(i32, i64)> {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.produce_bytes(topic, key.map(str::as_bytes), &headers, Some(value)).await
    }

    /// Writes one record of any bytes; without a value it is a tombstone. Returns its partition and offset.
    ///
    /// # Errors
    /// The broker does not acknowledge it in time.
    pub async fn produce_bytes(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        value: Option<&[u8]>,
    ) -> Result<(i32, i64)> {
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        (record.key, record.payload) = (key, value);
        let delivery = self.producer.send(record, REQUEST).await;
        let delivery = delivery.map_err(|(error, _)| error).with_context(|| format!("a record for {topic}"))?;
        Ok((delivery.partition, delivery.offset))
    }

    /// Returns a reader of the committed records of a topic from its beginning.
    ///
    /// # Errors
    /// There is no such topic, or the broker does not answer.
    pub async fn tail(&self, topic: &str) -> Result<TopicTail> {
        let open = async || {
            let (address, topic) = (self.address.clone(), topic.to_owned());
            let open = move || {
                let consumer = reader(&address).create::<BaseConsumer>()?;
                let partitions = partitions(&consumer, &topic)?.context("there is no such topic")?;
                consumer.assign(&partitions)?;
                Ok(consumer)
            };
            blocking(open).await
        };
        let consumer = wait::until(&format!("the topic {topic}"), REQUEST, open).await?;
        Ok(TopicTail { consumer: std::sync::Arc::new(consumer) })
    }

    /// Returns all committed records of a topic up to its present end, by partition and offset; none if there is no such
    /// topic.
    ///
    /// # Errors
    /// They can't be read in time.
    pub async fn records(&self, topic: &str) -> Result<Vec<KafkaRecord>> {
        let name = topic.to_owned();
        wait::until(&format!("the records of topic {topic}"), REQUEST, async || {
            let (address, name) = (self.address.clone(), name.clone());
            blocking(move || read_all(&address, &name)).await
        })
        .await
    }
}

/// The committed records of a topic, read once each while they are written.
pub struct TopicTail {
    consumer: std::sync::Arc<BaseConsumer>,
}

impl TopicTail {
    /// Returns the records since the last call, of each partition in their order; none while the broker is away.
    ///
    /// # Errors
    /// The records can't be read for another reason than an absent broker.
    pub async fn records(&self) -> Result<Vec<KafkaRecord>> {
        let consumer = self.consumer.clone();
        blocking(move || {
            let (began, mut records) = (Instant::now(), Vec::new());
            while began.elapsed() < LONGEST_READ {
                match consumer.poll(IDLE) {
                    None => break,
                    Some(Ok(message)) => records.push(record(&message)),
                    Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(code.into()),
                    // The client connects again by itself. Errors from before wait in front of the next records.
                    Some(Err(_)) => {}
                }
            }
            Ok(records)
        })
        .await
    }
}

async fn start_broker(address: &str, name: &str, cache: &Path, dir: &Path, logs: &Path) -> Result<Program> {
    let mut command = java(cache, "kafka.Kafka", dir);
    command.arg(dir.join("server.properties"));
    let mut broker = Program::spawn(name, command, logs)?;
    // Calls of librdkafka block, so they run on threads for blocking calls.
    let consumer = std::sync::Arc::new(BaseConsumer::from_config(&client(address))?);
    broker
        .until_ready(START, async || {
            let consumer = consumer.clone();
            let metadata = blocking(move || Ok(consumer.fetch_metadata(None, Duration::from_secs(2))?)).await?;
            ensure!(!metadata.brokers().is_empty(), "no broker has registered");
            Ok(())
        })
        .await?;
    Ok(broker)
}

/// Returns the configuration that every client of the broker at `address` needs.
fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    // The first client waits while the broker starts.
    config.set("reconnect.backoff.max.ms", "200");
    config
}

async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call).await.context("a call to Kafka")?
}

fn read_all(address: &str, topic: &str) -> Result<Vec<KafkaRecord>> {
    let consumer: BaseConsumer = reader(address).set("enable.partition.eof", "true").create()?;
    let Some(partitions) = partitions(&consumer, topic)? else { return Ok(Vec::new()) };
    consumer.assign(&partitions)?;

    let mut open = partitions.count();
    let mut records = Vec::new();
    while open > 0 {
        match consumer.poll(REQUEST).context("neither a record nor the end of the topic was read")? {
            Ok(message) => records.push(record(&message)),
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Returns the configuration of a consumer that reads committed records.
fn reader(address: &str) -> ClientConfig {
    let mut config = client(address);
    // librdkafka needs a group, which is not used: the consumer assigns its partitions itself.
    config.set("group.id", "unused").set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    config
}

/// Returns the beginning of each partition of a topic; `None` if there is no such topic.
fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Option<TopicPartitionList>> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
    let found = metadata.topics().first().context("no metadata of the topic")?;
    if found.error().is_some() {
        return Ok(None);
    }
    let mut partitions = TopicPartitionList::new();
    for partition in found.partitions() {
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    Ok(Some(partitions))
}

fn record(message: &impl Message) -> KafkaRecord {
    let mut headers = BTreeMap::new();
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
        headers.insert(header.key.to_owned(), value);
    }
    KafkaRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

fn java(cache: &Path, class: &str, dir: &Path) -> Command {
    let jars: PathBuf = cache.join("kafka/lib/*");
    let mut command = Command::new("java");
    // One thread for garbage collection and the fast compiler: the broker shares two cores with the whole plane.
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(jars).arg(class);
    command.current_dir(dir);
    command
}

/// A node, which is a broker and a controller.
struct Node {
    /// Its number in the cluster, from 1.
    id: u32,
    /// Its ports, in the order of [`PORTS`].
    ports: [u16; 5],
    /// The numbers and the controller's ports of all nodes of the cluster.
    voters: Vec<(u32, u16)>,
}

impl Node {
    /// Returns the `n`th node, counted from 0, of a cluster whose nodes have these ports.
    fn of(cluster: &[[u16; 5]], n: usize) -> Node {
        let voters: Vec<(u32, u16)> = (1..).zip(cluster.iter().map(|ports| ports[1])).collect();
        Node { id: voters[n].0, ports: cluster[n], voters }
    }
}

/// Writes the settings of a node, and formats its storage in `dir`.
async fn format_storage(node: &Node, cache: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let settings = dir.join("server.properties");
    let keys = concat!(include_str!("../../tls/localhost.key"), include_str!("../../tls/localhost.pem"));
    fs::write(dir.join("localhost.pem"), keys)?;
    fs::write(&settings, properties(node, dir))?;
    let mut format = java(cache, "kafka.tools.StorageTool", dir);
    format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(&settings);
    format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]")]);
    let output = format.output().await.context("starting java")?;
    ensure!(output.status.success(), "Kafka's storage: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Returns the settings of a node: those of a production broker, except for the number of partitions of the internal topics, of
/// which fifty would take seconds to create.
fn properties(Node { id, ports, voters }: &Node, dir: &Path) -> String {
    let [clients, controller, proxied, proxy, secured] = ports;
    let quorum = voters.iter().map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    // All nodes have a replica, and most of them a write that is acknowledged.
    let (replicas, in_sync) = (voters.len(), voters.len() / 2 + 1);
    let modules = "org.apache.kafka.common.security";
    let mut lines = vec![
        format!("log.dirs={}", dir.join("data").display()),
        format!("node.id={id}"),
        format!("controller.quorum.voters={quorum}"),
        format!("default.replication.factor={replicas}"),
        format!("min.insync.replicas={in_sync}"),
        format!("offsets.topic.replication.factor={replicas}"),
        format!("transaction.state.log.replication.factor={replicas}"),
        format!("transaction.state.log.min.isr={in_sync}"),
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller},\
             PROXIED://127.0.0.1:{proxied},SECURED://127.0.0.1:{secured}"
        ),
        format!(
            "advertised.listeners=PLAINTEXT://127.0.0.1:{clients},PROXIED://127.0.0.1:{proxy},\
             SECURED://localhost:{secured}"
        ),
        format!("listener.name.secured.ssl.keystore.location={}", dir.join("localhost.pem").display()),
        format!(
            "listener.name.secured.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
        ),
        format!("listener.name.secured.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;"),
    ];
    let settings = [
        ("process.roles", "broker,controller"),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SECURED:SASL_SSL",
        ),
        ("listener.name.secured.ssl.keystore.type", "PEM"),
        ("listener.name.secured.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("controller.listener.names", "CONTROLLER"),
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.num.partitions", "4"),
        ("group.initial.rebalance.delay.ms", "0"),
        // Lets a test write a record of a transaction that the coordinator does not know to belong to it (wire.rs).
        ("transaction.partition.verification.enable", "false"),
        // Allows short session timeouts, so that a dead static member is soon replaced.
        ("group.min.session.timeout.ms", "1000"),
        // Index files are created at their full size.
        ("log.index.size.max.bytes", "65536"),
    ];
    lines.extend(settings.map(|(key, value)| format!("{key}={value}")));
    lines.join("\n")
}
