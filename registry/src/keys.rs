//! Where everything lies. The one place that knows a key by its text.
//!
//! ```text
//! models/NAME/VERSION.json                 a version's manifest: there, and the version exists
//! uploads/NAME/VERSION/ID/0, 1, …          the files of one attempt to register it
//! uploads/NAME/VERSION/ID/closed           that attempt is over: its manifest comes next, or it was collected
//! reports/NAME/VERSION/SUITE/DIGEST.json   gate reports
//! environments/ENV/NAME/NUMBER.json        the moves of what is current there; the highest is where it stands
//! aliases/NAME/ALIAS/NUMBER.json           the moves of an alias
//! ```

use object_store::path::Path;

use crate::digest::Digest;
use crate::name::{ModelName, Suite, Version};

pub(crate) const MODELS: &str = "models";
pub(crate) const UPLOADS: &str = "uploads";

pub(crate) fn models() -> Path {
    Path::from(MODELS)
}

pub(crate) fn versions(name: &ModelName) -> Path {
    models().join(name.to_string())
}

pub(crate) fn manifest(name: &ModelName, version: &Version) -> Path {
    versions(name).join(format!("{version}.json"))
}

/// The version whose manifest this is; `None`: something that is not ours.
pub(crate) fn version_of(key: &Path) -> Option<Version> {
    key.filename()?.strip_suffix(".json")?.parse().ok()
}

pub(crate) fn uploads() -> Path {
    Path::from(UPLOADS)
}

pub(crate) fn upload(name: &ModelName, version: &Version, id: &str) -> Path {
    uploads().join(name.to_string()).join(version.to_string()).join(id.to_owned())
}

pub(crate) fn closed(upload: &Path) -> Path {
    upload.clone().join("closed")
}

/// The upload that an object is of: model, version and id.
pub(crate) fn upload_of(key: &Path) -> Option<(ModelName, Version, String)> {
    let mut parts = key.parts().skip(1);
    let mut next = || parts.next().map(|part| part.as_ref().to_owned());
    Some((next()?.parse().ok()?, next()?.parse().ok()?, next()?))
}

pub(crate) fn reports(name: &ModelName, version: &Version) -> Path {
    Path::from("reports").join(name.to_string()).join(version.to_string())
}

pub(crate) fn report(name: &ModelName, version: &Version, suite: &Suite, digest: &Digest) -> Path {
    reports(name, version).join(suite.to_string()).join(format!("{}.json", digest.hex()))
}

/// The digest that a report's key names.
pub(crate) fn digest_of(key: &Path) -> Option<Digest> {
    format!("sha256:{}", key.filename()?.strip_suffix(".json")?).parse().ok()
}

/// Numbers of one width, so that they are in order as text too.
pub(crate) fn step(line: &Path, number: u64) -> Path {
    line.clone().join(format!("{number:020}.json"))
}

pub(crate) fn number_of(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(".json")?.parse().ok()
}
