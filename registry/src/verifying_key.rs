//! The public key that signatures are verified with.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{RegistryError, Result};

/// The bytes before the point in the DER encoding of a P-256 public key (RFC 5480): the algorithm and the curve.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// An ECDSA public key on the curve P-256.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    /// The uncompressed point: 65 bytes.
    pub(crate) point: Vec<u8>,
}

impl VerifyingKey {
    /// Reads a public key from a PEM file.
    ///
    /// # Errors
    /// The file can't be read, or holds no public key on P-256.
    pub fn read(path: &Path) -> Result<VerifyingKey> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| RegistryError::file(path, format!("can't be read: {error}")))?;
        VerifyingKey::parse(&text).ok_or_else(|| {
            let reason = "it is no public key on P-256; write one with `openssl ec -pubout` (BEGIN PUBLIC KEY)";
            RegistryError::file(path, reason)
        })
    }

    fn parse(pem: &str) -> Option<VerifyingKey> {
        let (_, rest) = pem.split_once("-----BEGIN PUBLIC KEY-----")?;
        let (text, _) = rest.split_once("-----END PUBLIC KEY-----")?;
        let der = STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?;
        let point = der.strip_prefix(&P256_PREFIX)?;
        (point.len() == 65).then(|| VerifyingKey { point: point.to_vec() })
    }
}
