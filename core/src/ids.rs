//! Identifiers and other small values. Each is a type of its own, so that a rollout's id can't be passed where an
//! effect's id is expected.

mod image;

use std::fmt;
use std::str::FromStr;

use litemap::LiteMap;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The kind of a workload's object. Its name in text is the variant's name, which is also the kind's name in Kubernetes.
///
/// A further kind is a variant here, and a file with its provider in the Kubernetes adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// A Deployment of `apps/v1`.
    Deployment,
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl FromStr for WorkloadKind {
    type Err = serde::de::value::Error;

    fn from_str(name: &str) -> Result<WorkloadKind, Self::Err> {
        WorkloadKind::deserialize(name.into_deserializer())
    }
}

/// The Kubernetes object that a rollout changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's kind.
    #[serde(default = "Workload::default_kind")]
    pub kind: WorkloadKind,
    /// The object's name.
    pub name: String,
}

impl Workload {
    fn default_kind() -> WorkloadKind {
        WorkloadKind::Deployment
    }

    /// Returns the name of the canary's Deployment and Service.
    pub fn canary_name(&self) -> String {
        format!("{}-canary", self.name)
    }

    /// Returns the name of the fresh baseline's Deployment.
    pub fn baseline_name(&self) -> String {
        format!("{}-baseline", self.name)
    }
}

/// Writes the canonical key, `cluster/namespace/kind/name`. It is the key of Kafka records and the prefix of journal
/// keys.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.cluster, self.namespace, self.kind, self.name)
    }
}

/// The error for a text that is not `cluster/namespace/kind/name`. It contains the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a workload; write it as cluster/namespace/Deployment/name")]
pub struct BadWorkload(String);

impl FromStr for Workload {
    type Err = BadWorkload;

    fn from_str(text: &str) -> Result<Workload, BadWorkload> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [cluster, namespace, kind, name] if parts.iter().all(|part| !part.is_empty()) => Ok(Workload {
                cluster: (*cluster).to_owned(),
                namespace: (*namespace).to_owned(),
                kind: kind.parse().map_err(|_| BadWorkload(text.to_owned()))?,
                name: (*name).to_owned(),
            }),
            _ => Err(BadWorkload(text.to_owned())),
        }
    }
}

/// The identity of an event: the `source` and `id` of its CloudEvent. Two events with the same identity are duplicates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId {
    /// The producer of the event, a URI reference. If the daemon has the identity of the sender, it is at the end: `#key=NAME`
    /// or `#user=NAME`.
    pub source: String,
    /// The event's id, unique for its producer.
    pub id: String,
}

impl EventId {
    /// Returns the SHA-256 of source and id in hexadecimal digits, by which a processed event is remembered.
    pub fn digest(&self) -> String {
        digest(&[&self.source, &self.id])
    }

    /// Returns the source as the producer wrote it, and the identity of its sender; `None` if there is none.
    pub fn split_source(&self) -> (&str, Option<&str>) {
        split_source(&self.source)
    }
}

/// The beginnings of the identities that the daemon appends to a source: of a key that has signed the event, and of a user who has
/// posted it.
pub const IDENTITY_MARKS: [&str; 2] = ["#key=", "#user="];

/// Splits a source into the text of the producer and the identity of its sender, such as `key=ci`.
fn split_source(source: &str) -> (&str, Option<&str>) {
    let at = IDENTITY_MARKS.iter().filter_map(|mark| source.find(mark)).min();
    at.map_or((source, None), |at| (&source[..at], Some(&source[at + 1..])))
}

/// Returns the name of a source's sender for people: the user or the key of its identity, or else the whole source.
pub fn sender_name(source: &str) -> &str {
    let identity = split_source(source).1.and_then(|identity| identity.split_once('='));
    identity.map_or(source, |(_, name)| name)
}

/// Returns whether two sources are of the same sender: by their identities, or by the producers' texts if not both have one.
pub fn is_same_sender(one: &str, other: &str) -> bool {
    match (split_source(one), split_source(other)) {
        ((_, Some(one)), (_, Some(other))) => one == other,
        ((one, _), (other, _)) => one == other,
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.id)
    }
}

/// The id of a rollout, `NAME-HASH`. It is derived from the workload and the requesting event, so that any process that
/// reads the event again derives the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutId(pub String);

impl RolloutId {
    /// Returns the id of the rollout of `workload` that `event` requests. It does not depend on the identity of the event's sender, so
    /// that the sender knows it.
    pub fn of(workload: &Workload, event: &EventId) -> RolloutId {
        let hash = digest(&[&workload.to_string(), event.split_source().0, &event.id]);
        RolloutId(format!("{}-{}", workload.name, &hash[..10]))
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an effect, `ROLLOUT.N`, where N counts the rollout's effects in the order of their decisions. It is
/// written on the object that the effect changes (`bellwether.dev/effect`), so that the next owner of the partition can
/// see that the effect was carried out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(pub String);

impl EffectId {
    /// Returns the id of the effect number `n` of `rollout`.
    pub fn of(rollout: &RolloutId, n: u32) -> EffectId {
        EffectId(format!("{rollout}.{n}"))
    }

    /// The notification of the sink named `sink` about the `n`th decision of `rollout`. The ids of other effects don't
    /// depend on the configured sinks, so a replay needs no knowledge of them.
    pub fn of_notification(rollout: &RolloutId, n: u32, sink: &str) -> EffectId {
        EffectId(format!("{rollout}.d{n}.{sink}"))
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash of a pod template's content. The template itself is kept out of decisions, the API and logs, because its
/// environment may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateHash(pub String);

impl fmt::Display for TemplateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub use image::{all_run, is_image, is_same_repository, runs};

/// Image references by container name. Pods have few containers, and a rollout has about ten of these maps: a tree would take ten times
/// the memory.
pub type Images = LiteMap<String, String>;

/// A share of the traffic in hundredths of a percent, 0 to 10 000. It is written as `"10%"` or `"0.5%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u16);

impl Weight {
    /// The weight of no traffic, 0 %.
    pub const ZERO: Weight = Weight(0);
    /// The weight of all traffic, 100 %.
    pub const FULL: Weight = Weight(10_000);

    /// Returns the weight of `percent` whole percent; values above 100 count as 100.
    pub const fn percent(percent: u16) -> Weight {
        if percent >= 100 { Weight::FULL } else { Weight(percent * 100) }
    }

    /// Returns the weight of `points` hundredths of a percent; values above 10 000 count as 10 000.
    pub const fn basis_points(points: u16) -> Weight {
        if points > 10_000 { Weight::FULL } else { Weight(points) }
    }

    /// Returns the weight in hundredths of a percent, 0 to 10 000.
    pub const fn as_basis_points(self) -> u16 {
        self.0
    }

    /// Returns the weight as a share, 0 to 1.
    pub fn as_share(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 100.0)
    }
}

/// The error for a text that is not a weight. It contains the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a weight; write a percentage from 0 to 100 with at most two decimals, as in \"10%\"")]
pub struct BadWeight(String);

impl FromStr for Weight {
    type Err = BadWeight;

    fn from_str(text: &str) -> Result<Weight, BadWeight> {
        let bad = || BadWeight(text.to_owned());
        let number: f64 = text.strip_suffix('%').ok_or_else(bad)?.trim().parse().map_err(|_| bad())?;
        let points = number * 100.0;
        let whole = (points + 0.5).floor();
        if (0.0..=10_000.0).contains(&points) && (points - whole).abs() < 1e-6 {
            Ok(Weight(whole as u16))
        } else {
            Err(bad())
        }
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}%", f64::from(self.0) / 100.0))
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns the SHA-256 of the parts in lower-case hex. Each part is followed by a zero byte, so that `("ab", "c")` and
/// `("a", "bc")` have different hashes.
pub fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        use fmt::Write as _;
        // Writing to a String can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Returns an image reference without its tag and digest: `registry:5000/shop/web:1.2@sha256:…` gives
/// `registry:5000/shop/web`.
pub fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Returns the version of an image reference for people: its tag, else the first twelve digits of its digest, else
/// `latest`.
pub fn version(image: &str) -> &str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    match (name.rsplit_once(':'), digest) {
        (Some((_, tag)), _) if !tag.contains('/') => tag,
        (_, Some(digest)) => {
            let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
            hex.get(..12).unwrap_or(hex)
        }
        _ => "latest",
    }
}

/// A cluster, a namespace or one workload, as the scope of a freeze or of another verb. It is written as the beginning
/// of a workload's key: `prod`, `prod/shop`, `prod/shop/Deployment/web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All workloads of the cluster with this name.
    Cluster(String),
    /// All workloads of a namespace.
    Namespace {
        /// The cluster's name.
        cluster: String,
        /// The namespace's name.
        namespace: String,
    },
    /// A single workload.
    Workload(Workload),
}

impl Scope {
    /// Returns whether `workload` lies in this scope.
    pub fn covers(&self, workload: &Workload) -> bool {
        match self {
            Scope::Cluster(cluster) => *cluster == workload.cluster,
            Scope::Namespace { cluster, namespace } => *cluster == workload.cluster && *namespace == workload.namespace,
            Scope::Workload(one) => one == workload,
        }
    }

    /// Returns the name of the scope's cluster.
    pub fn cluster(&self) -> &str {
        match self {
            Scope::Cluster(cluster) | Scope::Namespace { cluster, .. } => cluster,
            Scope::Workload(workload) => &workload.cluster,
        }
    }

    /// Returns the workload; `None` if the scope is a namespace or a cluster.
    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Scope::Workload(workload) => Some(workload),
            Scope::Cluster(_) | Scope::Namespace { .. } => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Cluster(cluster) => f.write_str(cluster),
            Scope::Namespace { cluster, namespace } => write!(f, "{cluster}/{namespace}"),
            Scope::Workload(workload) => write!(f, "{workload}"),
        }
    }
}

/// The error for a text that is not a scope. It contains the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope; write cluster, cluster/namespace or cluster/namespace/Deployment/name")]
pub struct BadScope(String);

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Scope, BadScope> {
        let bad = || BadScope(text.to_owned());
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [cluster] if !cluster.is_empty() => Ok(Scope::Cluster((*cluster).to_owned())),
            [cluster, namespace] if !cluster.is_empty() && !namespace.is_empty() => {
                Ok(Scope::Namespace { cluster: (*cluster).to_owned(), namespace: (*namespace).to_owned() })
            }
            _ => text.parse().map(Scope::Workload).map_err(|_| bad()),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
