//! Small objects that carry their own digest, so that a flipped byte is found in them too.
//!
//! They are JSON that people can read. On reading they are written once more, and must come out as the same bytes: then
//! no byte of them can have changed, not even one that the parser would have passed over.

use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::digest::Digest;
use crate::error::Error;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<T> {
    body: T,
    sha256: Digest,
}

/// `body` with its digest.
pub(crate) fn write<T: Serialize>(body: &T) -> Result<Vec<u8>> {
    let sha256 = Digest::of(&serde_json::to_vec(body).map_err(Error::Json)?);
    let mut bytes = serde_json::to_vec_pretty(&Sealed { body, sha256 }).map_err(Error::Json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What was written at `key`, if that is still what it was.
pub(crate) fn read<T: Serialize + DeserializeOwned>(key: &Path, bytes: &[u8]) -> Result<T> {
    let Sealed { body, .. }: Sealed<T> = serde_json::from_slice(bytes).map_err(|error| Error::damaged(key, error))?;
    if write(&body)? != bytes {
        return Err(Error::damaged(key, "it is not what its own checksum says"));
    }
    Ok(body)
}
