//! The registry as a value: a store, and the requirements for versions that become current.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::age::MaxAge;
use crate::error::Result;
use crate::name::{Environment, SuiteName};
use crate::open;
use crate::options::Options;
use crate::store::{Store, Surroundings};
use crate::verifying_key::VerifyingKey;

/// A registry of models. Clones share the store's client.
///
/// The modules of this crate add its methods: [`Registry::register`], [`Registry::fetch`], [`Registry::promote`] and so on.
#[derive(Clone)]
pub struct Registry {
    pub(crate) store: Store,
    /// Suites that a version must have passed before it becomes current, by environment.
    pub(crate) require: BTreeMap<Environment, Vec<SuiteName>>,
    /// Longest age of a report that counts; `None`: any.
    pub(crate) max_age: Option<MaxAge>,
    /// Pins of the tests that count, by suite; a suite without one has any.
    pub(crate) pins: BTreeMap<SuiteName, String>,
    /// Key with which a version must be signed before it is downloaded or becomes current; `None`: signatures are not checked.
    pub(crate) key: Option<VerifyingKey>,
    /// Key with which a report must be attested before it counts; `None`: reports need no signature.
    pub(crate) report_key: Option<VerifyingKey>,
}

impl Registry {
    /// Opens the registry that the options name. A bucket is not contacted yet.
    ///
    /// # Errors
    /// The options are wrong, or the directory does not exist.
    pub fn open(options: &Options) -> Result<Registry> {
        Registry::with_requirements(open::open(options, false)?, options)
    }

    /// Opens the registry that the options name, and creates its directory if it is missing.
    ///
    /// # Errors
    /// The options are wrong, or the directory can't be created.
    pub fn create(options: &Options) -> Result<Registry> {
        Registry::with_requirements(open::open(options, true)?, options)
    }

    fn with_requirements(store: Store, options: &Options) -> Result<Registry> {
        let key = options.signature_key.as_deref().map(VerifyingKey::read).transpose()?;
        let report_key = options.report_key.as_deref().map(VerifyingKey::read).transpose()?;
        let Options { require, require_max_age, require_pins, .. } = options.clone();
        Ok(Registry { store, require, max_age: require_max_age, pins: require_pins, key, report_key })
    }

    /// Returns a registry without requirements on any object store, for tests. `part_size` is the size of an upload's
    /// parts in bytes.
    pub fn on(inner: Arc<dyn ObjectStore>, part_size: usize) -> Registry {
        Registry {
            store: Store {
                prober: inner.clone(),
                proven: Arc::default(),
                surroundings: Surroundings {
                    store: inner.clone(),
                    prefix: Path::default(),
                    base: "a store".to_owned(),
                },
                inner,
                place: "a store".to_owned(),
                part_size,
                piece_size: part_size,
                concurrency: 2,
                root: None,
            },
            require: BTreeMap::new(),
            max_age: None,
            pins: BTreeMap::new(),
            key: None,
            report_key: None,
        }
    }

    /// Replaces the suites that a version must have passed before it becomes current, by environment.
    #[must_use]
    pub fn requiring(self, require: BTreeMap<Environment, Vec<SuiteName>>) -> Registry {
        Registry { require, ..self }
    }

    /// Sets the longest age of a report that counts, and the pins of the tests that count, by suite.
    #[must_use]
    pub fn requiring_tests(self, max_age: MaxAge, pins: BTreeMap<SuiteName, String>) -> Registry {
        Registry { max_age: Some(max_age), pins, ..self }
    }

    /// Sets the key with which a report must be attested before it counts.
    #[must_use]
    pub fn trusting(self, report_key: VerifyingKey) -> Registry {
        Registry { report_key: Some(report_key), ..self }
    }

    /// Returns the store's URL or directory, for messages.
    pub fn place(&self) -> &str {
        &self.store.place
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store itself is left out because it holds credentials.
        f.debug_struct("Registry").field("place", &self.store.place).field("require", &self.require).finish()
    }
}
