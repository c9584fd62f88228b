//! Models in an object store: versions that never change, and pointers that remember where they have been.
//!
//! Everything rests on one property that a local directory, S3, GCS and Azure all have: a key can be created by one
//! writer only. A version is a manifest that is created last, after its files, so it is there whole or not at all; a
//! pointer is a line of numbered moves, of which each is created once, so the highest is where it points and the others
//! are its history. Nothing is ever overwritten, so there is nothing that two writers could lose.
//!
//! Whatever is read is verified: a file by the digest in its manifest, and a manifest, a move and a report by the digest
//! that they carry themselves. The crate reads no clock: whoever acts says when.

pub mod error;
pub mod name;
pub mod digest;
mod seal;
mod keys;
pub mod options;
mod store;
mod open;
pub mod manifest;
pub mod source;
mod upload;
pub mod register;
pub mod list;
mod pieces;
pub mod fetch;
pub mod report;
pub mod signature;
pub mod line;
pub mod point;
pub mod gc;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;

pub use self::digest::Digest;
pub use self::error::Error;
pub use self::manifest::Manifest;
pub use self::name::{Alias, Environment, ModelName, Reference, Suite, Version};
pub use self::options::Options;
use self::signature::Key;
use self::store::Store;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A registry of models.
#[derive(Clone)]
pub struct Registry {
    store: Store,
    /// The suites that a version must have passed before it becomes current there.
    require: BTreeMap<Environment, Vec<Suite>>,
    /// The key with which it must be signed.
    key: Option<Key>,
}

impl Registry {
    /// Opens what the options name.
    ///
    /// # Errors
    /// The options are wrong, or there is no such directory. Nothing is asked of a bucket yet.
    pub fn open(options: &Options) -> Result<Registry> {
        Registry::of(open::open(options, false)?, options)
    }

    /// The same, and a directory that is not there is made.
    ///
    /// # Errors
    /// The options are wrong, or the directory can't be made.
    pub fn create(options: &Options) -> Result<Registry> {
        Registry::of(open::open(options, true)?, options)
    }

    fn of(store: Store, options: &Options) -> Result<Registry> {
        let key = options.signature_key.as_deref().map(Key::read).transpose()?;
        Ok(Registry { store, require: options.require.clone(), key })
    }

    /// A registry in any store, for tests. `part` is the size of an upload's parts.
    pub fn on(inner: Arc<dyn ObjectStore>, part: usize) -> Registry {
        Registry {
            store: Store { inner, place: "a store".to_owned(), part, flying: 2, root: None },
            require: BTreeMap::new(),
            key: None,
        }
    }

    /// The same registry with these suites required.
    #[must_use]
    pub fn requiring(self, require: BTreeMap<Environment, Vec<Suite>>) -> Registry {
        Registry { require, ..self }
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        &self.store.place
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The store itself holds credentials.
        f.debug_struct("Registry").field("place", &self.store.place).field("require", &self.require).finish()
    }
}
