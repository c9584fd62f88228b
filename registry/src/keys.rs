//! The layout of the store: the keys of all objects. Only this module knows it.
//!
//! ```text
//! models/NAME/VERSION.json                 a version's manifest; the version exists if this object does
//! uploads/NAME/VERSION/ID/0, 1, …          the files of one attempt to register the version
//! uploads/NAME/VERSION/ID/closed           marks that attempt as over: its manifest comes next, or it was collected
//! reports/NAME/VERSION/SUITE/DIGEST.json   gate reports
//! ledgers/NAME/VERSION/RUN/NUMBER.json     ledgers of runs of gates; the highest number is the newest
//! environments/ENV/NAME/NUMBER.json        moves of the environment's pointer; the highest number is its position
//! aliases/NAME/ALIAS/NUMBER.json           moves of an alias
//! ```

use object_store::path::Path;

use crate::digest::Digest;
use crate::name::{Alias, Environment, ModelName, SuiteName, Version};

pub(crate) fn models() -> Path {
    Path::from("models")
}

/// Returns the prefix of all manifests of a model.
pub(crate) fn versions(name: &ModelName) -> Path {
    models().join(name.to_string())
}

pub(crate) fn manifest(name: &ModelName, version: &Version) -> Path {
    versions(name).join(format!("{version}.json"))
}

/// Returns the version that a manifest's key names, or `None` if the key is not of this layout.
pub(crate) fn version_of(key: &Path) -> Option<Version> {
    key.filename()?.strip_suffix(".json")?.parse().ok()
}

pub(crate) fn uploads() -> Path {
    Path::from("uploads")
}

/// Returns the prefix of one upload's files.
pub(crate) fn upload(name: &ModelName, version: &Version, id: &str) -> Path {
    uploads().join(name.to_string()).join(version.to_string()).join(id.to_owned())
}

/// Returns the key of file number `at` of an upload.
pub(crate) fn file(upload: &Path, at: usize) -> Path {
    upload.clone().join(at.to_string())
}

/// Returns the key of an upload's closing mark.
pub(crate) fn closed(upload: &Path) -> Path {
    upload.clone().join("closed")
}

/// Returns the model, version and id of the upload that an object belongs to, or `None` if the key is not of this layout.
pub(crate) fn upload_of(key: &Path) -> Option<(ModelName, Version, String)> {
    let mut parts = key.parts().skip(1);
    let mut next = || parts.next().map(|part| part.as_ref().to_owned());
    Some((next()?.parse().ok()?, next()?.parse().ok()?, next()?))
}

/// Returns the prefix of all reports on a version.
pub(crate) fn reports(name: &ModelName, version: &Version) -> Path {
    Path::from("reports").join(name.to_string()).join(version.to_string())
}

pub(crate) fn report(name: &ModelName, version: &Version, suite: &SuiteName, digest: &Digest) -> Path {
    reports(name, version).join(suite.to_string()).join(format!("{}.json", digest.hex()))
}

/// Returns the digest that a report's key names, or `None` if the key is not of this layout.
pub(crate) fn digest_of(key: &Path) -> Option<Digest> {
    format!("sha256:{}", key.filename()?.strip_suffix(".json")?).parse().ok()
}

/// Returns the prefix of the ledgers of one run of gates on a version.
pub(crate) fn ledgers(name: &ModelName, version: &Version, run: &str) -> Path {
    Path::from("ledgers").join(name.to_string()).join(version.to_string()).join(run.to_owned())
}

/// Returns the prefix of the pointers of all environments.
pub(crate) fn environments() -> Path {
    Path::from("environments")
}

/// Returns the prefix of the moves of an environment's pointer.
pub(crate) fn environment(environment: &Environment, name: &ModelName) -> Path {
    environments().join(environment.to_string()).join(name.to_string())
}

/// Returns the prefix of all aliases of a model.
pub(crate) fn aliases(name: &ModelName) -> Path {
    Path::from("aliases").join(name.to_string())
}

/// Returns the prefix of the moves of an alias.
pub(crate) fn alias(name: &ModelName, alias: &Alias) -> Path {
    aliases(name).join(alias.to_string())
}

/// Returns the key of a pointer's move. Numbers are padded to one width, so that they sort as text too.
pub(crate) fn pointer_move(line: &Path, number: u64) -> Path {
    line.clone().join(format!("{number:020}.json"))
}

/// Returns the number that a move's key names, or `None` if the key is not of this layout.
pub(crate) fn number_of(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(".json")?.parse().ok()
}
