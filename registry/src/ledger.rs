//! Ledgers of runs of gates, kept with the version that they tested. A run that begins on another machine continues from the
//! kept ledger, so a pipeline that starts its run anew gets the answers of the first one, and not another chance.

use bytes::Bytes;

use crate::error::{RegistryError, Result};
use crate::keys;
use crate::manifest::Manifest;
use crate::registry::Registry;
use crate::store::{Created, MAX_OBJECT_SIZE};

/// A kept ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLedger {
    /// Number of the ledger within its run, from 1.
    pub number: u64,
    /// Content of the ledger.
    pub content: Bytes,
}

impl Registry {
    /// Returns the newest ledger of a run on this version; `None` if none was kept. `run` is the run's short name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn kept_ledger(&self, manifest: &Manifest, run: &str) -> Result<Option<KeptLedger>> {
        let prefix = keys::ledgers(&manifest.name, &manifest.version, run);
        let found = self.store.list(&prefix).await?;
        let Some(number) = found.iter().filter_map(|object| keys::number_of(&object.location)).max() else {
            return Ok(None);
        };
        let content = self.store.read(&keys::pointer_move(&prefix, number)).await?;
        Ok(content.map(|content| KeptLedger { number, content }))
    }

    /// Keeps a ledger as the one after number `after`, which is 0 for the first.
    ///
    /// # Errors
    /// The ledger is too large, another run has kept one in the meantime, or the store fails.
    pub async fn keep_ledger(&self, manifest: &Manifest, run: &str, after: u64, content: Vec<u8>) -> Result<()> {
        let refused = |reason: String| RegistryError::Ledger {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            reason,
        };
        if content.len() > MAX_OBJECT_SIZE {
            return Err(refused(format!("it has {} bytes, and {MAX_OBJECT_SIZE} are allowed", content.len())));
        }
        let key = keys::pointer_move(&keys::ledgers(&manifest.name, &manifest.version, run), after + 1);
        match self.store.create(&key, content.clone()).await? {
            Created::Yes => Ok(()),
            // The store may have created it although its answer was lost.
            Created::Taken if self.store.read(&key).await?.is_some_and(|kept| kept == content) => Ok(()),
            Created::Taken => Err(refused(
                "another run of the suite was under way; start this one again, it continues from there".to_owned(),
            )),
        }
    }
}
