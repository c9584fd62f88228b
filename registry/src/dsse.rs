//! DSSE envelopes: a payload in base64 with its type and its signatures. The signed bytes are the pre-authentication encoding of the
//! payload and its type (github.com/secure-systems-lab/dsse, protocol.md).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::signing_key::SigningKey;
use crate::verifying_key::VerifyingKey;

/// The type of a payload that is an in-toto statement.
pub(crate) const STATEMENT: &str = "application/vnd.in-toto+json";

/// The number of signatures of an envelope that are looked at.
const MOST_SIGNATURES: usize = 16;

/// A payload with its signatures, in the form of DSSE v1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnvelopeSignature {
    /// The signature in base64.
    sig: String,
}

impl SignedEnvelope {
    /// Returns an envelope with a payload of the type `payload_type`, signed by `key`.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn signed(payload_type: &str, payload: &[u8], key: &SigningKey) -> Result<SignedEnvelope, String> {
        let sig = STANDARD.encode(key.sign(&encoded(payload_type, payload))?);
        Ok(SignedEnvelope {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![EnvelopeSignature { sig }],
        })
    }

    /// Returns the payload without a look at the signatures.
    ///
    /// # Errors
    /// The payload is not base64, or of another type than `payload_type`.
    pub fn payload(&self, payload_type: &str) -> Result<Vec<u8>, String> {
        if self.payload_type != payload_type {
            return Err(format!("it holds {:?}, and not {payload_type}", self.payload_type));
        }
        decode(&self.payload)
    }

    /// Returns the payload if `key` has signed it.
    ///
    /// # Errors
    /// No signature is of this key, or the envelope is invalid.
    pub fn verified(&self, payload_type: &str, key: &VerifyingKey) -> Result<Vec<u8>, String> {
        let payload = self.payload(payload_type)?;
        let signed = encoded(payload_type, &payload);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point);
        // Each signature costs a verification, and an honest envelope has one for each of its few signers.
        let is_valid = |one: &EnvelopeSignature| decode(&one.sig).is_ok_and(|sig| key.verify(&signed, &sig).is_ok());
        if self.signatures.iter().take(MOST_SIGNATURES).any(is_valid) {
            Ok(payload)
        } else {
            Err("it was not made with this key, or was changed".to_owned())
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("it is not base64: {error}"))
}

/// Returns the pre-authentication encoding of a payload.
fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
