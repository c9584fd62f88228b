//! `[registry]`: where the models are. Credentials have no place here: they come from the environment, or from the identity
//! that the machine or the pod has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::name::{Environment, Suite};

/// Where the registry is, and what it asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// A directory, or `s3://`, `gs://` or `az://` with a bucket and a prefix.
    pub url: String,
    /// Where the store's API answers, if it is not the provider's own.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// Talk to an endpoint without TLS.
    pub allow_http: bool,
    /// The CA's certificates (PEM) of such an endpoint.
    pub ca_file: Option<PathBuf>,
    /// How an S3 bucket encrypts what it is given.
    pub encryption: Encryption,
    /// The key of `kms`.
    pub kms_key: Option<String>,
    /// The public key (PEM) with which a version must be signed before it becomes current anywhere.
    pub signature_key: Option<PathBuf>,
    /// The suites that must have passed before a version becomes current in an environment.
    pub require: BTreeMap<Environment, Vec<Suite>>,
}

/// How a bucket encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// As the bucket itself is set up to.
    #[default]
    Bucket,
    /// With keys of S3 (SSE-S3).
    S3,
    /// With a key of the key management service (SSE-KMS).
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
            signature_key: None,
            require: BTreeMap::new(),
        }
    }
}

/// Which kind of store a URL names, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A bucket (a container, in Azure), and a prefix that may be empty.
    Bucket {
        /// Whose.
        kind: Kind,
        /// Which.
        bucket: String,
        /// Under what.
        prefix: String,
    },
}

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Amazon's, or one that speaks its language.
    S3,
    /// Google's.
    Gcs,
    /// Microsoft's.
    Azure,
}

impl Options {
    /// Where the models are.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn place(&self) -> Result<Place, String> {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return match self.url.trim() {
                "" => Err("name a directory, or a bucket as in \"s3://models/bellwether\"".to_owned()),
                path => Ok(Place::Directory(PathBuf::from(path))),
            };
        };
        let kind = match scheme {
            "file" if rest.starts_with('/') => return Ok(Place::Directory(PathBuf::from(rest))),
            "file" => return Err("a file URL is absolute, as in \"file:///var/lib/bellwether/models\"".to_owned()),
            "s3" => Kind::S3,
            "gs" => Kind::Gcs,
            "az" => Kind::Azure,
            other => return Err(format!("{other:?} is no kind of store; there are file, s3, gs and az")),
        };
        if rest.contains('@') {
            return Err("credentials do not belong here; put them into the environment".to_owned());
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("name the bucket, as in \"{scheme}://models\""));
        }
        Ok(Place::Bucket { kind, bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }

    /// What is wrong with the options, by key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let place = self.place().map_err(|why| problems.push(("url", why))).ok();
        let s3 = matches!(place, Some(Place::Bucket { kind: Kind::S3, .. }));
        if place.is_some() && !s3 && self.encryption != Encryption::Bucket {
            let why = "this is asked of S3 alone; set it up on the bucket or the disk itself, and leave it out";
            problems.push(("encryption", why.to_owned()));
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
        let unsafe_endpoint = self.endpoint.as_deref().is_some_and(|endpoint| !endpoint.starts_with("https://"));
        if unsafe_endpoint && !self.allow_http {
            problems.push((
                "endpoint",
                "it does not begin with https://; set allow-http = true if that is meant".to_owned(),
            ));
        }
        problems
    }
}
