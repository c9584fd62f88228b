//! The identity of a record's sender. There are two kinds, and a record may have both.
//!
//! - **A signature.** The record's value is a DSSE envelope whose payload is the event in structured mode. The producer's key has
//!   signed every attribute and the data, so nothing outside of the envelope is read.
//! - **A stamp.** The event was posted over HTTP by a user whom the API server knows. The posting daemon adds the user and the
//!   address as headers, with an HMAC over them and over the whole record, by a key that the daemons of a cluster share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_registry::{SignedEnvelope, SigningKey, VerifyingKey};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use super::cloudevents::{CloudEvent, STRUCTURED};
use crate::ports::EventRecord;

/// The content type of a record whose value is an envelope.
pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The header with the user who posted the event.
const USER: &str = "bellwether-user";
/// The header with the address from which the event was posted.
const FROM: &str = "bellwether-from";
/// The header with the HMAC over the record and both headers, in base64.
const STAMP: &str = "bellwether-stamp";
/// The shortest key of stamps, in bytes: as long as their digest.
pub const SHORTEST_STAMP_KEY: usize = 32;

/// The verified identity of a record's sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name of the key that has signed the event.
    pub key: Option<String>,
    /// The user who has posted the event.
    pub user: Option<String>,
    /// The address from which the event was posted.
    pub from: Option<String>,
    /// The reason why an identity that the record claims is none.
    pub problem: Option<&'static str>,
}

/// The key of stamps. It can't be printed.
pub struct StampKey(hmac::Key);

impl std::fmt::Debug for StampKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StampKey")
    }
}

impl StampKey {
    /// Returns the key with this secret; `None` if the secret is shorter than [`SHORTEST_STAMP_KEY`].
    pub fn of(secret: &SecretString) -> Option<StampKey> {
        let bytes = secret.expose_secret().as_bytes();
        (bytes.len() >= SHORTEST_STAMP_KEY).then(|| StampKey(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// Returns a new key that no other process has. `None` if the operating system gives no random numbers.
    pub fn random() -> Option<StampKey> {
        hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).ok().map(StampKey)
    }

    /// Returns the record with a stamp that says who has posted it, and from which address.
    pub fn stamp(&self, mut record: EventRecord, user: &str, from: &str) -> EventRecord {
        record.headers.retain(|(name, _)| !is_of_stamp(name));
        let tag = hmac::sign(&self.0, &stamped_bytes(&record, user.as_bytes(), from.as_bytes()));
        record.headers.extend([
            (USER.to_owned(), user.as_bytes().to_vec()),
            (FROM.to_owned(), from.as_bytes().to_vec()),
            (STAMP.to_owned(), STANDARD.encode(tag).into_bytes()),
        ]);
        record
    }

    /// Returns whether `tag` is the stamp of this record, user and address.
    fn has_stamped(&self, record: &EventRecord, user: &[u8], from: &[u8], tag: &[u8]) -> bool {
        let tag = STANDARD.decode(tag).unwrap_or_default();
        hmac::verify(&self.0, &stamped_bytes(record, user, from), &tag).is_ok()
    }
}

fn is_of_stamp(name: &str) -> bool {
    [USER, FROM, STAMP].contains(&name)
}

/// Returns the bytes under a stamp: each part of the record after its length, so that no two records have the same bytes.
fn stamped_bytes(record: &EventRecord, user: &[u8], from: &[u8]) -> Vec<u8> {
    let headers = record.headers.iter().filter(|(name, _)| !is_of_stamp(name));
    let headers = headers.flat_map(|(name, value)| [name.as_bytes(), value.as_slice()]);
    let parts = [user, from, record.value.as_deref().unwrap_or_default()].into_iter().chain(headers);
    parts.flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.iter().copied())).collect()
}

/// The keys that identities are verified with.
#[derive(Debug, Default)]
pub struct IdentityKeys {
    /// The public keys of producers, by name.
    pub signers: BTreeMap<String, VerifyingKey>,
    /// The key of stamps; `None` if this daemon takes no posted events of users.
    pub stamp: Option<StampKey>,
}

impl IdentityKeys {
    /// Takes the event out of its envelope, if it has one, and verifies the identity of the record's sender.
    pub fn open<'a>(&self, record: &'a EventRecord) -> (Cow<'a, EventRecord>, Identity) {
        let mut identity = self.stamp_of(record);
        let Some((envelope, payload)) = envelope_of(record) else { return (Cow::Borrowed(record), identity) };
        let signer = self.signers.iter().find(|(_, key)| envelope.verified(STRUCTURED, key).is_ok());
        identity.key = signer.map(|(name, _)| name.clone());
        if identity.key.is_none() {
            identity.problem = Some("no key of access.keys has signed it");
        }
        let headers = vec![("content-type".to_owned(), STRUCTURED.as_bytes().to_vec())];
        (Cow::Owned(EventRecord { value: Some(payload), headers, ..record.clone() }), identity)
    }

    fn stamp_of(&self, record: &EventRecord) -> Identity {
        let header =
            |wanted: &str| record.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
        if !record.headers.iter().any(|(name, _)| is_of_stamp(name)) {
            return Identity::default();
        }
        let (user, from, tag) = (header(USER).unwrap_or_default(), header(FROM).unwrap_or_default(), header(STAMP));
        let is_ours = self.stamp.as_ref().zip(tag).is_some_and(|(key, tag)| key.has_stamped(record, user, from, tag));
        match (is_ours, std::str::from_utf8(user), std::str::from_utf8(from)) {
            (true, Ok(user), Ok(from)) => {
                Identity { user: Some(user.to_owned()), from: Some(from.to_owned()), ..Identity::default() }
            }
            _ => Identity { problem: Some("its user is not stamped by http.stamp-key-file"), ..Identity::default() },
        }
    }
}

/// Returns the envelope in a record with its payload; `None` if the record has none.
fn envelope_of(record: &EventRecord) -> Option<(SignedEnvelope, Vec<u8>)> {
    let is_envelope = |(name, value): &(String, Vec<u8>)| {
        name.eq_ignore_ascii_case("content-type") && value.trim_ascii().eq_ignore_ascii_case(ENVELOPE.as_bytes())
    };
    if !record.headers.iter().any(is_envelope) {
        return None;
    }
    let envelope: SignedEnvelope = serde_json::from_slice(record.value.as_deref()?).ok()?;
    let payload = envelope.payload(STRUCTURED).ok()?;
    Some((envelope, payload))
}

/// Returns the value of a record with a signed event. Its content type is [`ENVELOPE`].
///
/// # Errors
/// The operating system gives no random numbers.
pub fn signed(event: &CloudEvent, key: &SigningKey) -> Result<String, String> {
    let envelope = SignedEnvelope::signed(STRUCTURED, event.to_structured().to_string().as_bytes(), key)?;
    serde_json::to_string(&envelope).map_err(|error| error.to_string())
}
