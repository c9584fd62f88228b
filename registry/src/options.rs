//! The options of the section `[registry]`. Credentials are not among them: they come from the environment, or from the
//! identity of the machine or pod.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::age::MaxAge;
use crate::name::{Environment, SuiteName};

/// Minimum size in MiB of a part that S3 accepts.
const MIN_PART_MIB: usize = 5;

/// Maximum size in MiB of a part. S3 accepts larger ones, and several of them are in memory.
const MAX_PART_MIB: usize = 512;

/// Maximum number of parts in transfer at a time.
const MAX_PARALLEL: usize = 64;

/// The location of the registry, and its requirements for versions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// A directory, a `file://` URL, or a bucket and an optional prefix as `s3://`, `gs://` or `az://`.
    pub url: String,
    /// URL of the store's API; without it the provider's own.
    pub endpoint: Option<String>,
    /// Region of an S3 bucket.
    pub region: Option<String>,
    /// Whether requests may be sent without TLS.
    pub allow_http: bool,
    /// File with the CA's certificates (PEM) for the endpoint.
    pub ca_file: Option<PathBuf>,
    /// Encryption that an S3 bucket is asked for.
    pub encryption: Encryption,
    /// Id or ARN of the key for [`Encryption::Kms`].
    pub kms_key: Option<String>,
    /// Size in MiB of an upload's parts and of a download's ranges; `None`: a size by the kind of the store. A part has 5 MiB
    /// or more in a bucket.
    pub part_size_mib: Option<usize>,
    /// Number of parts or ranges in transfer at a time, 1 to 64; `None`: a number by the kind of the store. Together with
    /// their size it bounds the memory.
    pub parallel: Option<usize>,
    /// Number of the newest versions of a model that the retention keeps; `None`: there is no retention.
    pub keep: Option<usize>,
    /// File with the public key (PEM, ECDSA P-256) with which a version must be signed before it is downloaded or
    /// becomes current in any environment. Without it signatures are not checked.
    pub signature_key: Option<PathBuf>,
    /// File with the public key (PEM, ECDSA P-256) with which a report must be attested before it counts. Without it reports
    /// need no signature.
    pub report_key: Option<PathBuf>,
    /// Suites that a version must have passed before it becomes current, by environment.
    pub require: BTreeMap<Environment, Vec<SuiteName>>,
    /// The longest age of a report that lets a version become current; without it reports of any age do.
    pub require_max_age: Option<MaxAge>,
    /// The tests of which the reports must be, by suite: the pin that `bellwether gate check` prints.
    pub require_pins: BTreeMap<SuiteName, String>,
}

/// The server-side encryption of an S3 bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// The bucket's own default.
    #[default]
    Bucket,
    /// Keys that S3 manages (SSE-S3).
    S3,
    /// A key of the key management service (SSE-KMS).
    Kms,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: "bellwether-models".to_owned(),
            endpoint: None,
            region: None,
            allow_http: false,
            ca_file: None,
            encryption: Encryption::default(),
            kms_key: None,
            part_size_mib: None,
            parallel: None,
            keep: None,
            signature_key: None,
            report_key: None,
            require: BTreeMap::new(),
            require_max_age: None,
            require_pins: BTreeMap::new(),
        }
    }
}

/// The location that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A local directory.
    Directory(PathBuf),
    /// A bucket, which Azure calls a container.
    Bucket {
        /// The provider's kind of store.
        kind: StoreKind,
        /// The bucket's name.
        bucket: String,
        /// Prefix of all keys, without slashes at its ends; may be empty.
        prefix: String,
    },
}

/// The API of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Amazon S3, or a store that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Options {
    /// Parses the URL.
    ///
    /// # Errors
    /// The fault of the URL, and the remedy.
    pub fn place(&self) -> Result<StorePlace, String> {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return match self.url.trim() {
                "" => Err("name a directory, or a bucket as in \"s3://models/bellwether\"".to_owned()),
                path => Ok(StorePlace::Directory(PathBuf::from(path))),
            };
        };
        let kind = match scheme {
            "file" if rest.starts_with('/') => return Ok(StorePlace::Directory(PathBuf::from(rest))),
            "file" => return Err("a file URL is absolute, as in \"file:///var/lib/bellwether/models\"".to_owned()),
            "s3" => StoreKind::S3,
            "gs" => StoreKind::Gcs,
            "az" => StoreKind::Azure,
            other => return Err(format!("{other:?} is no kind of store; there are file, s3, gs and az")),
        };
        if rest.contains('@') {
            return Err("credentials do not belong here; put them into the environment".to_owned());
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("name the bucket, as in \"{scheme}://models\""));
        }
        Ok(StorePlace::Bucket { kind, bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }

    /// Returns the faults of the options: the option's key, and the fault with its remedy. It is empty if there are none.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let place = self.place().map_err(|reason| problems.push(("url", reason))).ok();
        let s3 = matches!(place, Some(StorePlace::Bucket { kind: StoreKind::S3, .. }));
        if place.is_some() && !s3 && self.encryption != Encryption::Bucket {
            let reason = "it applies to S3 alone; set encryption up on the bucket or the disk itself, and leave it out";
            problems.push(("encryption", reason.to_owned()));
        }
        match (self.encryption, &self.kms_key) {
            (Encryption::Kms, None) => {
                problems.push(("kms-key", "encryption = \"kms\" needs the key's id or ARN".to_owned()));
            }
            (Encryption::Bucket | Encryption::S3, Some(_)) => {
                problems.push(("kms-key", "a key is used with encryption = \"kms\" only".to_owned()));
            }
            _ => {}
        }
        let bucket = matches!(place, Some(StorePlace::Bucket { .. }));
        let sizes = if bucket { MIN_PART_MIB..=MAX_PART_MIB } else { 1..=MAX_PART_MIB };
        if self.part_size_mib.is_some_and(|size| !sizes.contains(&size)) {
            let reason = format!("write {} to {}, which is the size in MiB", sizes.start(), sizes.end());
            problems.push(("part-size-mib", reason));
        }
        if self.parallel.is_some_and(|parallel| !(1..=MAX_PARALLEL).contains(&parallel)) {
            problems.push(("parallel", format!("write 1 to {MAX_PARALLEL}")));
        }
        if self.keep == Some(0) {
            problems.push(("keep", "write 1 or more, or leave it out to keep all versions".to_owned()));
        }
        let unsafe_endpoint = self.endpoint.as_deref().is_some_and(|endpoint| !endpoint.starts_with("https://"));
        if unsafe_endpoint && !self.allow_http {
            problems.push((
                "endpoint",
                "it does not begin with https://; set allow-http = true to send requests without TLS".to_owned(),
            ));
        }
        problems
    }
}
