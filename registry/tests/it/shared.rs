//! Files that several versions have are stored once, and go with the last version that has them.

use std::path::PathBuf;
use std::sync::Arc;

use bellwether_registry::fetch::FetchOptions;
use bellwether_registry::{Manifest, ModelName, Registry, RegistryError, Version, source};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::interleaved::some_orders;
use crate::suite::{at, context, draft, register, write_model};

const HOUR: i64 = 3600;

fn name() -> ModelName {
    "model".parse().unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

async fn uploaded(inner: &Arc<InMemory>) -> Vec<ObjectMeta> {
    let found: Vec<_> = inner.list(Some(&Path::from("uploads"))).try_collect().await.unwrap();
    found.into_iter().filter(|object: &ObjectMeta| object.location.filename() != Some("closed")).collect()
}

/// Writes a model whose tokenizer and first shard are always the same, and registers it.
async fn version_with(registry: &Registry, version: &str, weights: usize) -> Manifest {
    let directory = tempfile::tempdir().unwrap();
    let files = [("shard-1.bin", 500), ("tokenizer.txt", 90), ("weights.bin", weights), ("zero.txt", 0)];
    let paths = write_model(directory.path(), &files);
    register(registry, draft("model", version), &paths).await.unwrap()
}

async fn check(registry: &Registry, manifest: &Manifest) {
    assert!(registry.verify(manifest).await.unwrap().is_empty(), "{}", manifest.version);
    let to = tempfile::tempdir().unwrap();
    registry.fetch(manifest, to.path(), &FetchOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_stored_once() {
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(inner.clone(), 100);
    let first = version_with(&registry, "1.0.0", 250).await;
    assert_eq!(uploaded(&inner).await.len(), 4);
    let second = version_with(&registry, "1.1.0", 251).await;
    let third = version_with(&registry, "1.2.0", 251).await;
    let shared = |manifest: &Manifest| manifest.files.iter().map(|file| file.shared.is_some()).collect::<Vec<_>>();
    assert_eq!(shared(&first), [false; 4]);
    assert_eq!(shared(&second), [true, true, false, false], "the shard and the tokenizer");
    assert_eq!(shared(&third), [true, true, true, false], "empty files are not worth it");
    assert_eq!(uploaded(&inner).await.len(), 4 + 2 + 1);
    // Another model shares nothing with it.
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("shard-1.bin", 500)]);
    let other = register(&registry, draft("other", "1.0.0"), &paths).await.unwrap();
    assert!(other.files[0].shared.is_none());
    for manifest in [&first, &second, &third, &other] {
        check(&registry, manifest).await;
        assert_eq!(registry.manifest(&manifest.name, &manifest.version).await.unwrap(), *manifest);
    }
    // A file that the store has lost is uploaded once more.
    inner.delete(&Path::from(format!("uploads/other/1.0.0/{}/0", other.upload))).await.unwrap();
    let again = register(&registry, draft("other", "1.1.0"), &paths).await.unwrap();
    assert!(again.files[0].shared.is_none());
    check(&registry, &again).await;
    // A file of the same size with other bytes is uploaded.
    std::fs::write(directory.path().join("shard-1.bin"), vec![7; 500]).unwrap();
    let same_size = register(&registry, draft("model", "1.3.0"), &paths).await.unwrap();
    assert!(same_size.files[0].shared.is_none());
    check(&registry, &same_size).await;
}

#[tokio::test]
async fn a_shared_file_goes_with_the_last_version_that_has_it() {
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(inner.clone(), 100);
    let mut manifests = Vec::new();
    for (text, weights) in [("1.0.0", 250), ("1.1.0", 251), ("1.2.0", 252)] {
        manifests.push(version_with(&registry, text, weights).await);
    }
    let far = "2100-01-01T00:00:00Z".parse().unwrap();
    // Bytes that each deletion frees: its weights and marks, and with the last one the files that all had.
    for (text, freed) in [("1.0.0", 250 + 11), ("1.2.0", 252 + 11), ("1.1.0", 251 + 11 + 500 + 90)] {
        registry.yank(&name(), &version(text), &context(1)).await.unwrap();
        assert_eq!(registry.delete(&name(), &version(text), &context(1 + HOUR)).await.unwrap(), freed, "{text}");
        manifests.retain(|manifest| manifest.version != version(text));
        for _ in 0..2 {
            registry.collect(std::time::Duration::from_secs(3600), true, far).await.unwrap();
        }
        for manifest in &manifests {
            check(&registry, manifest).await;
        }
    }
    assert!(uploaded(&inner).await.is_empty());
    // A withdrawn version shares nothing.
    let next = version_with(&registry, "2.0.0", 250).await;
    assert!(next.files.iter().all(|file| file.shared.is_none()));
    check(&registry, &next).await;
}

/// A version is deleted while another one that shares its files is registered. The deletion's time is an hour after the
/// yank, as if the registration had been suspended for so long.
#[tokio::test]
async fn a_deletion_at_any_step_of_a_registration_takes_no_file_of_a_listed_version() {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = write_model(directory.path(), &[("a", 10)]);
    let (mut shared, mut refused, mut own) = (0, 0, 0);
    let orders = some_orders(async |race| {
        let inner = Arc::new(InMemory::new());
        let plain = Registry::on(inner.clone(), 100);
        register(&plain, draft("model", "1.0.0"), &paths).await.unwrap();
        let files = source::files(&paths).unwrap();
        let (registrar, deleter) = (race.registry(&inner), race.registry(&inner));
        let registration = race.spawn(async move { registrar.register(draft("model", "2.0.0"), files, at(0)).await });
        let deletion = race.spawn(async move {
            deleter.yank(&name(), &version("1.0.0"), &context(1)).await.unwrap();
            deleter.delete(&name(), &version("1.0.0"), &context(1 + HOUR)).await.unwrap();
        });
        race.run().await;
        deletion.await.unwrap();
        match registration.await.unwrap() {
            Ok(manifest) => {
                assert!(plain.verify(&manifest).await.unwrap().is_empty(), "a registered version has lost files");
                *if manifest.files[0].shared.is_some() { &mut shared } else { &mut own } += 1;
            }
            Err(RegistryError::Withdrawn { .. }) => {
                let marked = plain.withdrawal(&name(), &version("2.0.0")).await.unwrap();
                assert!(marked.is_some(), "a version that may have lost files is not marked");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    assert!(shared > 0 && refused > 0 && own > 0, "of {orders}: {shared} shared, {refused} refused, {own} own");
}
