//! The private key that reports are signed with.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use crate::error::{RegistryError, Result};

/// An ECDSA private key on the curve P-256. It can't be printed.
pub struct SigningKey {
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// Reads a private key from a PEM file in PKCS #8.
    ///
    /// # Errors
    /// The file can't be read, or holds no private key on P-256.
    pub fn read(path: &Path) -> Result<SigningKey> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| RegistryError::file(path, format!("can't be read: {error}")))?;
        SigningKey::parse(&text).ok_or_else(|| {
            let reason = "it is no private key on P-256; make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` \
                          (BEGIN PRIVATE KEY)";
            RegistryError::file(path, reason)
        })
    }

    fn parse(pem: &str) -> Option<SigningKey> {
        let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (text, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let der = STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &SystemRandom::new()).ok()?;
        Some(SigningKey { pair })
    }

    /// Signs bytes.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let signature = self.pair.sign(&SystemRandom::new(), bytes);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| "no random numbers can be had".to_owned())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}
