//! Small JSON objects that carry their own digest, so that a changed byte is detected.
//!
//! An object is `{"body": …, "sha256": …}`, pretty-printed. When it is read, it is serialized once more and must give the
//! same bytes. So any changed byte is found, even one that the parser would ignore, such as white space.

use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{RegistryError, Result};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<T> {
    body: T,
    sha256: Digest,
}

/// Serializes `body` with its digest.
pub(crate) fn write<T: Serialize>(body: &T) -> Result<Vec<u8>> {
    let sha256 = Digest::of(&serde_json::to_vec(body).map_err(RegistryError::Json)?);
    let mut bytes = serde_json::to_vec_pretty(&Sealed { body, sha256 }).map_err(RegistryError::Json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Parses the object that was read from `key`, and verifies its digest.
pub(crate) fn read<T: Serialize + DeserializeOwned>(key: &Path, bytes: &[u8]) -> Result<T> {
    let Sealed { body, .. }: Sealed<T> =
        serde_json::from_slice(bytes).map_err(|error| RegistryError::damaged(key, error))?;
    if write(&body)? != bytes {
        return Err(RegistryError::damaged(key, "its content does not match its own checksum"));
    }
    Ok(body)
}
