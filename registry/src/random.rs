//! Random identifiers for uploads and moves, and random delays.

use crate::error::{RegistryError, Result};

/// Returns 128 random bits as 32 hexadecimal digits.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(RegistryError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns a random number from 0 to 1, to spread the attempts of several writers.
pub(crate) fn random_fraction() -> Result<f64> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(RegistryError::Random)?;
    Ok(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}
