//! Random identifiers for uploads and moves.

use crate::error::{RegistryError, Result};

/// Returns 128 random bits as 32 hexadecimal digits.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(RegistryError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
