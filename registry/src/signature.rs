//! Signatures as sigstore's model-transparency makes them with a key (`model_signing sign key`): a file `model.sig` beside the
//! model's others, whose list of digests must be the manifest's own.
//!
//! It is read narrowly: one ECDSA P-256 key that whoever verifies has got by another way, SHA-256, and every file by itself.
//! Keyless signatures, certificates and transparency logs are not looked at, and what is not understood is refused. A
//! signature says whose files these are; it knows nothing of our names and versions.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::Deserialize;

use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::manifest::Manifest;
use crate::{Registry, Result};

/// The file's name.
pub const FILE: &str = "model.sig";

const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// What stands before the point in the DER of a public key on P-256.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A public key.
#[derive(Debug, Clone)]
pub struct Key {
    point: Vec<u8>,
}

impl Key {
    /// Reads a public key (PEM).
    ///
    /// # Errors
    /// It can't be read, or is of another kind.
    pub fn read(path: &Path) -> Result<Key> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Error::file(path, format!("can't be read: {error}")))?;
        Key::parse(&text).ok_or_else(|| {
            Error::file(path, "it is no public key on P-256; write one with `openssl ec -pubout` (BEGIN PUBLIC KEY)")
        })
    }

    fn parse(pem: &str) -> Option<Key> {
        let (_, rest) = pem.split_once("-----BEGIN PUBLIC KEY-----")?;
        let (text, _) = rest.split_once("-----END PUBLIC KEY-----")?;
        let der = STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?;
        let point = der.strip_prefix(&P256)?;
        (point.len() == 65).then(|| Key { point: point.to_vec() })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Deserialize)]
struct Signed {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Predicate {
    resources: Vec<Resource>,
    serialization: Serialization,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
}

impl Registry {
    /// Verifies that a version's files are exactly those that its `model.sig` signs, with this key. Their bytes are not read:
    /// see [`Registry::verify`] for that.
    ///
    /// # Errors
    /// There is no signature, or it does not hold.
    pub async fn verify_signature(&self, manifest: &Manifest, key: &Key) -> Result<()> {
        let wrong =
            |why: String| Error::Signature { name: manifest.name.clone(), version: manifest.version.clone(), why };
        let at = manifest.files.iter().position(|file| file.path.as_str() == FILE);
        let at =
            at.ok_or_else(|| wrong(format!("there is no {FILE} among its files; sign it before it is registered")))?;
        let stored = manifest.key(at);
        let bytes =
            self.store.read(&stored).await?.ok_or_else(|| Error::damaged(&stored, "it is not there any more"))?;
        if Digest::of(&bytes) != manifest.files[at].checksum {
            return Err(Error::damaged(&stored, "it is not what was registered"));
        }
        let statement = opened(&bytes, key).map_err(wrong)?;
        same(statement, manifest).map_err(wrong)
    }
}

/// The statement, if the key has signed it.
fn opened(bytes: &[u8], key: &Key) -> Result<Statement, String> {
    let Bundle { dsse_envelope: envelope } = serde_json::from_slice(bytes)
        .map_err(|error| format!("{FILE} is no sigstore bundle with an envelope: {error}"))?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| format!("{FILE} is not base64: {error}"));
    let payload = decode(&envelope.payload)?;
    if envelope.payload_type != STATEMENT {
        return Err(format!("{FILE} holds {:?}, and no in-toto statement", envelope.payload_type));
    }
    // What is signed is not the payload alone: DSSE's pre-authentication encoding.
    let mut signed = format!("DSSEv1 {} {STATEMENT} {} ", STATEMENT.len(), payload.len()).into_bytes();
    signed.extend_from_slice(&payload);
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point);
    let holds = |one: &Signed| decode(&one.sig).is_ok_and(|signature| key.verify(&signed, &signature).is_ok());
    if !envelope.signatures.iter().any(holds) {
        return Err(format!("{FILE} was not made with this key, or was changed"));
    }
    serde_json::from_slice(&payload).map_err(|error| format!("{FILE} holds no statement about a model: {error}"))
}

/// Whether the statement is about these files, all of them and no others.
fn same(statement: Statement, manifest: &Manifest) -> Result<(), String> {
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
        return Err("its subject is not the digest of what it lists".to_owned());
    }
    let files = manifest.files.iter().filter(|file| file.path.as_str() != FILE);
    let files: BTreeMap<String, Digest> = files.map(|file| (file.path.as_str().to_owned(), file.checksum)).collect();
    // A model of one file is signed under the name of the place where it was.
    let one = files.len() == 1 && signed.len() == 1 && signed.contains_key(".");
    if if one { files.values().eq(signed.values()) } else { files == signed } {
        return Ok(());
    }
    let odd = files.iter().find(|(name, digest)| signed.get(*name) != Some(digest)).map(|(name, _)| name.as_str());
    let odd = odd.or_else(|| signed.keys().find(|name| !files.contains_key(*name)).map(String::as_str));
    Err(format!("{} is not as it was signed", odd.unwrap_or("a file")))
}
