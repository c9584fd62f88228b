//! Deleting versions, and the retention.

use std::sync::Arc;
use std::time::Duration;

use bellwether_registry::delete::Pruning;
use bellwether_registry::fetch::FetchOptions;
use bellwether_registry::point::Restoration;
use bellwether_registry::{ModelName, Registry, RegistryError, Version};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::stepped::{Operation, Stepped};
use crate::suite::{context, draft, promotion, register, write_model};
use crate::withdrawn::registered;

const HOUR: i64 = 3600;

fn name() -> ModelName {
    "model".parse().unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

async fn uploaded(inner: &Arc<InMemory>) -> Vec<String> {
    let found: Vec<_> = inner.list(Some(&Path::from("uploads"))).try_collect().await.unwrap();
    found.into_iter().map(|object| object.location.to_string()).collect()
}

#[tokio::test]
async fn a_version_that_a_pointer_names_is_not_deleted() {
    let (inner, registry, manifests) = registered(&["1.0.0", "1.1.0", "1.2.0", "1.3.0"]).await;
    registry.promote(&promotion("model", "1.0.0", 1)).await.unwrap();
    registry.promote(&promotion("model", "1.1.0", 2)).await.unwrap();
    registry.set_alias(&name(), &"champion".parse().unwrap(), Some(&version("1.2.0")), &context(3)).await.unwrap();
    let refused = async |text: &str, at: i64| {
        let error = registry.delete(&name(), &version(text), &context(at)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Undeletable { .. }), "{error}");
        error.to_string()
    };
    assert!(refused("1.3.0", 4).await.contains("it is in use; yank it first"));
    for manifest in &manifests {
        registry.yank(&name(), &manifest.version, &context(5)).await.unwrap();
    }
    assert!(refused("1.3.0", 5 + HOUR - 1).await.contains("it was yanked only at"));
    let rows = [
        ("1.0.0", "a rollback in production would go back to it"),
        ("1.1.0", "it is current in production"),
        ("1.2.0", "the alias @champion points to it"),
    ];
    for (text, reason) in rows {
        let told = refused(text, 5 + HOUR).await;
        assert!(told.contains(reason) && told.contains("move that first"), "{told}");
    }
    let before = uploaded(&inner).await.len();
    assert_eq!(registry.delete(&name(), &version("1.3.0"), &context(5 + HOUR)).await.unwrap(), 253 + 11);
    assert_eq!(uploaded(&inner).await.len(), before - 2, "the file and the closing mark are removed");
    for manifest in &manifests[..3] {
        assert!(registry.verify(manifest).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_deleted_version_is_told_of_and_its_number_is_never_used_again() {
    let (_, registry, manifests) = registered(&["1.0.0", "2.0.0"]).await;
    registry.promote(&promotion("model", "2.0.0", 1)).await.unwrap();
    registry.promote(&promotion("model", "1.0.0", 2)).await.unwrap();
    registry.promote(&promotion("model", "1.0.0", 3)).await.unwrap();
    registry.yank(&name(), &version("2.0.0"), &context(4)).await.unwrap();
    registry.clear(&"production".parse().unwrap(), &name(), &context(5)).await.unwrap();
    registry.delete(&name(), &version("2.0.0"), &context(4 + HOUR)).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let on_request = FetchOptions { yanked: true, ..FetchOptions::default() };
    let told = registry.fetch(&manifests[1], to.path(), &on_request).await.unwrap_err().to_string();
    assert!(told.contains("model 2.0.0 is withdrawn: it was deleted by ada"), "{told}");
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("other.bin", 7)]);
    let again = register(&registry, draft("model", "2.0.0"), &paths).await.unwrap_err();
    assert!(matches!(again, RegistryError::Exists(_)), "{again}");
    for act in [
        registry.unyank(&name(), &version("2.0.0"), &context(9)).await.map(drop),
        registry.yank(&name(), &version("2.0.0"), &context(9)).await.map(drop),
        registry.promote(&promotion("model", "2.0.0", 9)).await.map(drop),
        registry
            .restore(&Restoration {
                environment: "production".parse().unwrap(),
                name: name(),
                to: Some(version("2.0.0")),
                context: context(9),
            })
            .await
            .map(drop),
    ] {
        let error = act.unwrap_err();
        assert!(matches!(error, RegistryError::Withdrawn { .. }), "{error}");
    }
}

/// The deletion is dropped before each of its writes and removals in turn, as if its process was killed there.
#[tokio::test]
async fn a_deletion_that_is_killed_at_any_write_is_completed_by_the_next_one() {
    for allowed in 0.. {
        let (inner, registry, manifests) = registered(&["1.0.0", "1.1.0"]).await;
        registry.yank(&name(), &version("1.0.0"), &context(1)).await.unwrap();
        let (store, killed) = Stepped::mortal(inner.clone(), &[Operation::Put, Operation::Delete], allowed);
        let mortal = Registry::on(Arc::new(store), 100);
        let (model, old, late) = (name(), version("1.0.0"), context(1 + HOUR));
        let done = tokio::select! {
            deleted = mortal.delete(&model, &old, &late) => deleted.is_ok(),
            () = killed.notified() => false,
        };
        // Until its files are removed, a version that is marked is not given out.
        let to = tempfile::tempdir().unwrap();
        registry.fetch(&manifests[0], to.path(), &FetchOptions::default()).await.unwrap_err();
        registry.delete(&name(), &version("1.0.0"), &context(2 + HOUR)).await.unwrap();
        let left = uploaded(&inner).await;
        assert!(left.iter().all(|key| key.starts_with("uploads/model/1.1.0/")), "write {allowed}: {left:?}");
        if done {
            // The root object, which exists, the mark, the file and its upload's closing mark.
            assert_eq!(allowed, 4, "the number of writes");
            return;
        }
    }
}

#[tokio::test]
async fn retention_yanks_old_versions_and_deletes_them_later() {
    let versions = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"];
    let (_, registry, manifests) = registered(&versions).await;
    registry.promote(&promotion("model", "1.1.0", 1)).await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    let prune = async |apply: bool, at: i64| {
        let pruned = registry.prune(&name(), 2, day, apply, &context(at)).await.unwrap();
        pruned.into_iter().map(|pruned| (pruned.version.to_string(), pruned.act)).collect::<Vec<_>>()
    };
    let rows = |act: Pruning| Vec::from(["1.2.0", "1.0.0"].map(|version| (version.to_owned(), act)));
    assert_eq!(prune(false, 2).await, rows(Pruning::Yank));
    assert!(registry.withdrawals(&name()).await.unwrap().is_empty(), "it was only asked");
    assert_eq!(prune(true, 2).await, rows(Pruning::Yank));
    assert_eq!(prune(true, 3).await, [], "they are young");
    let later = 2 + day.as_secs() as i64;
    assert_eq!(prune(true, later).await, rows(Pruning::Delete));
    assert_eq!(prune(true, later + 1).await, []);
    for (manifest, kept) in manifests.iter().zip([false, true, false, true, true]) {
        assert_eq!(registry.verify(manifest).await.unwrap().is_empty(), kept, "{}", manifest.version);
    }
    for (keep, age) in [(0, day), (1, Duration::from_secs(60))] {
        let error = registry.prune(&name(), keep, age, true, &context(later)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Invalid(_)), "{error}");
    }
    // The collector has nothing to do with withdrawn versions.
    let far = "2100-01-01T00:00:00Z".parse().unwrap();
    assert!(registry.collect(day, true, far).await.unwrap().is_empty());
    let to = tempfile::tempdir().unwrap();
    registry.fetch(&manifests[4], to.path(), &FetchOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_mark_of_a_deletion_is_detected() {
    let (inner, registry, manifests) = registered(&["1.0.0"]).await;
    registry.yank(&name(), &version("1.0.0"), &context(1)).await.unwrap();
    registry.delete(&name(), &version("1.0.0"), &context(1 + HOUR)).await.unwrap();
    let key = Path::from("deletions/model/1.0.0.json");
    let mut bytes = inner.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    inner.put(&key, bytes.into()).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let error = registry.fetch(&manifests[0], to.path(), &FetchOptions::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Damaged { .. }), "{error}");
}
