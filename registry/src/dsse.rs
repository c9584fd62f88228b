//! DSSE envelopes with in-toto statements: a payload in base64 with its signatures. The signed bytes are the pre-authentication
//! encoding of the payload and its type (github.com/secure-systems-lab/dsse, protocol.md).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::verifying_key::VerifyingKey;

/// The type of the payload: an in-toto statement.
pub(crate) const STATEMENT: &str = "application/vnd.in-toto+json";

/// An envelope.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnvelopeSignature {
    /// The signature in base64.
    sig: String,
}

impl Envelope {
    /// Returns an envelope with one signature, which `sign` makes of the bytes to be signed.
    pub(crate) fn signed<E>(payload: &[u8], sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<Envelope, E> {
        let sig = STANDARD.encode(sign(&encoded(payload))?);
        Ok(Envelope {
            payload: STANDARD.encode(payload),
            payload_type: STATEMENT.to_owned(),
            signatures: vec![EnvelopeSignature { sig }],
        })
    }

    /// Returns the payload without a look at the signatures.
    ///
    /// # Errors
    /// The payload is not base64, or no in-toto statement.
    pub(crate) fn payload(&self) -> Result<Vec<u8>, String> {
        if self.payload_type != STATEMENT {
            return Err(format!("it holds {:?}, and no in-toto statement", self.payload_type));
        }
        decode(&self.payload)
    }

    /// Returns the payload if `key` has signed it.
    ///
    /// # Errors
    /// No signature is of this key, or the envelope is invalid.
    pub(crate) fn verified(&self, key: &VerifyingKey) -> Result<Vec<u8>, String> {
        let payload = self.payload()?;
        let (signed, key) = (encoded(&payload), UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point));
        let is_valid = |one: &EnvelopeSignature| decode(&one.sig).is_ok_and(|sig| key.verify(&signed, &sig).is_ok());
        if self.signatures.iter().any(is_valid) {
            Ok(payload)
        } else {
            Err("it was not made with this key, or was changed".to_owned())
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("it is not base64: {error}"))
}

/// Returns the pre-authentication encoding of a statement.
fn encoded(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {STATEMENT} {} ", STATEMENT.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
