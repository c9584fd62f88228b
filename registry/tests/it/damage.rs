//! Damaged objects in the store, and interrupted downloads.

use std::path::Path as FilePath;
use std::sync::Arc;

use bellwether_registry::fetch::{FetchOptions, Fetched};
use bellwether_registry::{Manifest, Registry, RegistryError};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::reports::report;
use crate::suite::{draft, promotion, register, write_model};

const PART: usize = 100;

async fn registered() -> (Arc<InMemory>, Registry, Manifest) {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("config.json", 20), ("weights.bin", 250)]);
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(inner.clone(), PART);
    let manifest = register(&registry, draft("model", "1.0.0"), &paths).await.unwrap();
    (inner, registry, manifest)
}

/// Reads every object that users of the version `1.0.0` read.
async fn read_all(registry: &Registry) -> Result<(), RegistryError> {
    let (name, version) = ("model".parse().unwrap(), "1.0.0".parse().unwrap());
    registry.check_root().await?;
    let manifest = registry.manifest(&name, &version).await?;
    registry.reports(&manifest).await?;
    registry.history(&"production".parse().unwrap(), &name).await?;
    // It is done some hundred times, and would wait for a disk each time.
    let to = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    registry.fetch(&manifest, to.path(), &FetchOptions::default()).await.map(drop)
}

#[tokio::test]
async fn a_flipped_byte_in_any_object_is_detected() {
    let (inner, registry, manifest) = registered().await;
    registry.attach(&manifest, report(&manifest, "safety", "pass", 1)).await.unwrap();
    registry.promote(&promotion("model", "1.0.0", 1)).await.unwrap();
    read_all(&registry).await.unwrap();
    let objects: Vec<_> = inner.list(None).try_collect().await.unwrap();
    let mut flipped = 0;
    for key in objects.into_iter().map(|object| object.location) {
        // Only collectors read the closing mark of an upload.
        if key.filename() == Some("closed") {
            continue;
        }
        let good = inner.get(&key).await.unwrap().bytes().await.unwrap();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= if at % 2 == 0 { 1 } else { 0x20 };
            inner.put(&key, bad.into()).await.unwrap();
            let error = read_all(&registry).await.expect_err(&format!("{key}, byte {at}"));
            assert!(
                matches!(error, RegistryError::Damaged { .. } | RegistryError::Checksum { .. }),
                "{key}, byte {at}: {error}"
            );
            flipped += 1;
        }
        inner.put(&key, good.into()).await.unwrap();
    }
    read_all(&registry).await.unwrap();
    assert!(flipped > 2000, "{flipped}");
}

#[tokio::test]
async fn verification_reports_a_truncated_and_a_missing_file() {
    let (inner, registry, manifest) = registered().await;
    let key = object_store::path::Path::from(format!("uploads/model/1.0.0/{}/1", manifest.upload));
    let good = inner.get(&key).await.unwrap().bytes().await.unwrap();
    inner.put(&key, good.slice(..249).into()).await.unwrap();
    let bad = registry.verify(&manifest).await.unwrap();
    assert!(bad.len() == 1 && bad[0].error.to_string().contains("shorter"), "{bad:?}");
    inner.delete(&key).await.unwrap();
    let bad = registry.verify(&manifest).await.unwrap();
    assert!(bad.len() == 1 && bad[0].error.to_string().contains("not there"), "{bad:?}");
}

fn replacing() -> FetchOptions {
    FetchOptions { replace: true, ..FetchOptions::default() }
}

/// Writes the beginning of `weights.bin` as a killed download leaves it.
fn write_partial(directory: &FilePath, manifest: &Manifest, bytes: &[u8]) {
    let own = directory.join(".bellwether");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join(format!("{}.0123.part", manifest.files[1].checksum.hex())), bytes).unwrap();
}

/// Counts the partial files in a directory.
pub fn count_partials(directory: &FilePath) -> usize {
    let entries = std::fs::read_dir(directory.join(".bellwether")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|found| found == "part")).count()
}

#[tokio::test]
async fn an_interrupted_download_resumes_after_the_bytes_on_disk() {
    let (inner, registry, manifest) = registered().await;
    let to = tempfile::tempdir().unwrap();
    let key = object_store::path::Path::from(format!("uploads/model/1.0.0/{}/1", manifest.upload));
    let good = inner.get(&key).await.unwrap().bytes().await.unwrap();
    write_partial(to.path(), &manifest, &good[..130]);
    assert_eq!(
        registry.fetch(&manifest, to.path(), &FetchOptions::default()).await.unwrap(),
        [Fetched::DownloadedFrom(0), Fetched::DownloadedFrom(130)]
    );
    assert_eq!(std::fs::read(to.path().join("weights.bin")).unwrap(), good);
    assert_eq!(registry.fetch(&manifest, to.path(), &FetchOptions::default()).await.unwrap(), [Fetched::Kept; 2]);
    // A partial file with wrong bytes or too many is discarded; one that is complete is kept.
    for left in [vec![9; 130], vec![9; 900], good.to_vec()] {
        std::fs::remove_file(to.path().join("weights.bin")).unwrap();
        write_partial(to.path(), &manifest, &left);
        let from = if left == good { 250 } else { 0 };
        assert_eq!(
            registry.fetch(&manifest, to.path(), &FetchOptions::default()).await.unwrap(),
            [Fetched::Kept, Fetched::DownloadedFrom(from)]
        );
        assert_eq!(std::fs::read(to.path().join("weights.bin")).unwrap(), good);
    }
    std::fs::write(to.path().join("weights.bin"), "a different file").unwrap();
    let error = registry.fetch(&manifest, to.path(), &FetchOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("--replace"), "{error}");
    registry.fetch(&manifest, to.path(), &replacing()).await.unwrap();
    assert_eq!(std::fs::read(to.path().join("weights.bin")).unwrap(), good);
}

#[tokio::test]
async fn a_download_with_a_wrong_digest_leaves_no_file() {
    let (inner, registry, manifest) = registered().await;
    let key = object_store::path::Path::from(format!("uploads/model/1.0.0/{}/1", manifest.upload));
    inner.put(&key, vec![7; 250].into()).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let error = registry.fetch(&manifest, to.path(), &FetchOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("weights.bin of model 1.0.0") && error.contains("refused"), "{error}");
    assert!(!to.path().join("weights.bin").exists() && count_partials(to.path()) == 0);
}
