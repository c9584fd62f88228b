//! Signatures in the format of sigstore's model-transparency, made with a key (`model_signing sign key`): a file `model.sig`
//! among the model's files, whose list of digests must be that of the manifest.
//!
//! Only a narrow part of the format is accepted: one ECDSA P-256 key that the verifying side already has, SHA-256, and a
//! digest for every single file. Keyless signatures, certificates and transparency logs are not supported, and unknown
//! forms are refused. A signature covers the files; it does not cover the registry's model names and versions.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::{Digest, Hasher};
use crate::dsse::{STATEMENT, SignedEnvelope};
use crate::error::{RegistryError, Result};
use crate::manifest::Manifest;
use crate::registry::Registry;
use crate::verifying_key::VerifyingKey;

/// Path of the signature's file within the model.
pub const FILE: &str = "model.sig";

const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// The fields of a sigstore bundle that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: SignedEnvelope,
}

/// An in-toto statement: the payload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    /// Hexadecimal digests by their algorithm; that of `sha256` covers the digests of all resources.
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Predicate {
    resources: Vec<Resource>,
    serialization: Serialization,
}

/// A signed file.
#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
    /// Files and directories that the signing side left out, relative to the model.
    #[serde(default)]
    ignore_paths: Vec<String>,
}

impl Serialization {
    /// Returns whether the signature leaves a file out: the file itself, or a directory that it is in.
    fn ignores(&self, file: &str) -> bool {
        self.ignore_paths.iter().any(|path| {
            let path = path.trim_start_matches("./").trim_end_matches('/');
            !path.is_empty() && file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Registry {
    /// Verifies that `key` signed exactly the files of this manifest: all of them but those that the signature leaves out
    /// (`ignore_paths`), and no others. The files' bytes are not read; [`Registry::verify`] does that.
    ///
    /// # Errors
    /// There is no signature, it was made with another key or for other files, or the store fails.
    pub async fn verify_signature(&self, manifest: &Manifest, key: &VerifyingKey) -> Result<()> {
        let refused = |reason: String| RegistryError::Signature {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            reason,
        };
        let at = manifest.files.iter().position(|file| file.path.as_str() == FILE);
        let at =
            at.ok_or_else(|| refused(format!("there is no {FILE} among its files; sign it before it is registered")))?;
        let stored = manifest.key(at);
        let bytes = self
            .store
            .read(&stored)
            .await?
            .ok_or_else(|| RegistryError::damaged(&stored, "it is not there any more"))?;
        if Digest::of(&bytes) != manifest.files[at].checksum {
            return Err(RegistryError::damaged(&stored, "its bytes do not have the registered checksum"));
        }
        let statement = verified_statement(&bytes, key).map_err(refused)?;
        check_statement(statement, manifest).map_err(refused)
    }
}

/// Parses a bundle, and returns its statement if `key` signed it.
fn verified_statement(bytes: &[u8], key: &VerifyingKey) -> Result<Statement, String> {
    let Bundle { dsse_envelope: envelope } = serde_json::from_slice(bytes)
        .map_err(|error| format!("{FILE} is no sigstore bundle with an envelope: {error}"))?;
    let payload = envelope.verified(STATEMENT, key).map_err(|reason| format!("{FILE}: {reason}"))?;
    serde_json::from_slice(&payload).map_err(|error| format!("{FILE} holds no statement about a model: {error}"))
}

/// Checks that the statement covers exactly the manifest's files, except the signature itself and those that it leaves out.
fn check_statement(statement: Statement, manifest: &Manifest) -> Result<(), String> {
    let Statement { subject, predicate_type, predicate: Predicate { resources, serialization } } = statement;
    if predicate_type != PREDICATE || serialization.method != "files" {
        return Err(format!(
            "it is signed as {predicate_type:?} by {:?}; only {PREDICATE:?} by \"files\" is read",
            serialization.method
        ));
    }
    let mut signed = BTreeMap::new();
    let mut root = Hasher::default();
    for Resource { name, algorithm, digest } in resources {
        let digest = match algorithm.as_str() {
            "sha256" => format!("sha256:{digest}").parse::<Digest>().map_err(|error| error.to_string())?,
            other => return Err(format!("{name} is signed by its {other}; only sha256 is read")),
        };
        root.update(digest.bytes());
        signed.insert(name, digest);
    }
    let root = root.finish().hex();
    if !matches!(&subject[..], [one] if one.digest.get("sha256") == Some(&root)) {
        return Err("its subject is not the digest of its list of files".to_owned());
    }
    // A file that is signed is compared even if the signature says that it is left out.
    let counts = |file: &str| file != FILE && (signed.contains_key(file) || !serialization.ignores(file));
    let files = manifest.files.iter().filter(|file| counts(file.path.as_str()));
    let files: BTreeMap<String, Digest> = files.map(|file| (file.path.as_str().to_owned(), file.checksum)).collect();
    // The signing tool lists a model that is a single file as `.`.
    let single = files.len() == 1 && signed.len() == 1 && signed.contains_key(".");
    if if single { files.values().eq(signed.values()) } else { files == signed } {
        return Ok(());
    }
    let differing =
        files.iter().find(|(name, digest)| signed.get(*name) != Some(digest)).map(|(name, _)| name.as_str());
    let differing = differing.or_else(|| signed.keys().find(|name| !files.contains_key(*name)).map(String::as_str));
    Err(format!("{} is not as it was signed", differing.unwrap_or("a file")))
}
