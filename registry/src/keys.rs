//! The layout of the store: the keys of all objects. Only this module knows it.
//!
//! ```text
//! registry.json                            marks the place of a registry; it is created first
//! models/NAME/VERSION.json                 a version's manifest; the version exists if this object does
//! uploads/NAME/VERSION/ID/0, 1, …          the files of one attempt to register the version
//! uploads/NAME/VERSION/ID/closed           marks that attempt as over: its manifest comes next, or it was collected
//! reports/NAME/VERSION/SUITE/DIGEST.json   gate reports
//! ledgers/NAME/VERSION/RUN/NUMBER.json     ledgers of runs of gates; the highest number is the newest
//! yanks/NAME/VERSION/NUMBER.json           moves of a version's yank; it is yanked while the highest number names it
//! deletions/NAME/VERSION.json              marks a version as deleted; its files are removed after that
//! environments/ENV/NAME/NUMBER.json        moves of the environment's pointer; the highest number is its position
//! aliases/NAME/ALIAS/NUMBER.json           moves of an alias
//! ```
//!
//! NAME is one segment without capitals, so that no file system takes two models for one: a capital is written as `!` and
//! the small letter, and a slash as `!!`. `org/Model-7B` is `org!!!model-7!b`.

use object_store::path::Path;

use crate::digest::Digest;
use crate::name::{Alias, Environment, ModelName, SuiteName, Version};

/// Name of the root object.
pub(crate) const ROOT: &str = "registry.json";

/// Returns the key of the root object.
pub(crate) fn root() -> Path {
    Path::from(ROOT)
}

/// Writes a model's name as one segment of a key.
fn segment(name: &ModelName) -> String {
    let mut segment = String::new();
    for c in name.to_string().chars() {
        match c {
            '/' => segment.push_str("!!"),
            c if c.is_ascii_uppercase() => segment.extend(['!', c.to_ascii_lowercase()]),
            c => segment.push(c),
        }
    }
    segment
}

/// Reads the model's name in a segment of a key; `None` if the segment is not of this layout.
pub(crate) fn name_of(text: &str) -> Option<ModelName> {
    let mut name = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '!') {
            (_, true) => name.push(match chars.next()? {
                '!' => '/',
                c => c.to_ascii_uppercase(),
            }),
            (c, false) => name.push(c),
        }
    }
    name.parse().ok().filter(|name| segment(name) == text)
}

pub(crate) fn models() -> Path {
    Path::from("models")
}

/// Returns the prefix of all manifests of a model.
pub(crate) fn versions(name: &ModelName) -> Path {
    models().join(segment(name))
}

pub(crate) fn manifest(name: &ModelName, version: &Version) -> Path {
    versions(name).join(format!("{version}.json"))
}

/// Returns the version that the key of one of a model's manifests names, or `None` if the key is not of this layout.
pub(crate) fn version_of(name: &ModelName, key: &Path) -> Option<Version> {
    let version = key.filename()?.strip_suffix(".json")?.parse().ok()?;
    (manifest(name, &version) == *key).then_some(version)
}

pub(crate) fn uploads() -> Path {
    Path::from("uploads")
}

/// Returns the prefix of all uploads of a model.
pub(crate) fn uploads_of(name: &ModelName) -> Path {
    uploads().join(segment(name))
}

/// Returns the prefix of one upload's files.
pub(crate) fn upload(name: &ModelName, version: &Version, id: &str) -> Path {
    uploads_of(name).join(version.to_string()).join(id.to_owned())
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
    Some((name_of(&next()?)?, next()?.parse().ok()?, next()?))
}

/// Returns the prefix of all reports on a version.
pub(crate) fn reports(name: &ModelName, version: &Version) -> Path {
    Path::from("reports").join(segment(name)).join(version.to_string())
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
    Path::from("ledgers").join(segment(name)).join(version.to_string()).join(run.to_owned())
}

/// Returns the prefix of the yanks of a model's versions.
pub(crate) fn yanks(name: &ModelName) -> Path {
    Path::from("yanks").join(segment(name))
}

/// Returns the prefix of the moves of a version's yank.
pub(crate) fn yank(name: &ModelName, version: &Version) -> Path {
    yanks(name).join(version.to_string())
}

/// Returns the prefix of the marks of a model's deleted versions.
pub(crate) fn deletions(name: &ModelName) -> Path {
    Path::from("deletions").join(segment(name))
}

pub(crate) fn deletion(name: &ModelName, version: &Version) -> Path {
    deletions(name).join(format!("{version}.json"))
}

/// Returns the version that the key of a mark of a deletion names, or `None` if the key is not of this layout.
pub(crate) fn deleted_version_of(name: &ModelName, key: &Path) -> Option<Version> {
    let version = key.filename()?.strip_suffix(".json")?.parse().ok()?;
    (deletion(name, &version) == *key).then_some(version)
}

/// Returns the prefix of the pointers of all environments.
pub(crate) fn environments() -> Path {
    Path::from("environments")
}

/// Returns the prefix of the moves of an environment's pointer.
pub(crate) fn environment(environment: &Environment, name: &ModelName) -> Path {
    environments().join(environment.to_string()).join(segment(name))
}

/// Returns the prefix of all aliases of a model.
pub(crate) fn aliases(name: &ModelName) -> Path {
    Path::from("aliases").join(segment(name))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hubs_name_is_one_segment_without_capitals() {
        let name: ModelName = "org/Model-7B".parse().unwrap();
        assert_eq!(versions(&name).as_ref(), "models/org!!!model-7!b");
        assert_eq!(name_of("org!!!model-7!b"), Some(name));
        for other in ["", "!", "a!", "a!1", "a!!", "Model", "a!!b!!c", "a!.b"] {
            assert_eq!(name_of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back_from_its_segment(name in "[A-Za-z0-9._/-]{1,12}|[A-Z]{120,130}|\\PC{0,12}") {
            if let Ok(name) = name.parse::<ModelName>() {
                let segment = segment(&name);
                prop_assert_eq!(segment.to_lowercase(), segment.clone());
                prop_assert!(segment.len() <= 256 && !segment.contains(['/', '#', '%', ' ', '\\']));
                let path = Path::from(segment.as_str());
                prop_assert_eq!(path.parts().count(), 1);
                prop_assert_eq!(path.as_ref(), segment.as_str());
                prop_assert_eq!(name_of(&segment), Some(name));
            }
        }
    }
}
