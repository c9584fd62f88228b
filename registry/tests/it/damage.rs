//! Bytes that change in the store, and downloads that are cut off.

use std::path::Path as FilePath;
use std::sync::Arc;

use bellwether_registry::fetch::Fetched;
use bellwether_registry::{Error, Manifest, Registry};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::reports::report;
use crate::suite::{draft, promotion, register, write_model};

const PART: usize = 100;

async fn registered() -> (Arc<InMemory>, Registry, Manifest) {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("config.json", 20), ("weights.bin", 250)]);
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(inner.clone(), PART);
    let manifest = register(&registry, draft("model", "1.0.0"), &places).await.unwrap();
    (inner, registry, manifest)
}

/// Reads everything that there is, as whoever uses it does.
async fn read_all(registry: &Registry) -> Result<(), Error> {
    let (name, version) = ("model".parse().unwrap(), "1.0.0".parse().unwrap());
    let manifest = registry.manifest(&name, &version).await?;
    let to = tempfile::tempdir().unwrap();
    registry.fetch(&manifest, to.path(), false).await?;
    registry.reports(&manifest).await?;
    registry.history(&"production".parse().unwrap(), &name).await.map(drop)
}

#[tokio::test]
async fn whichever_byte_is_flipped_is_found() {
    let (inner, registry, manifest) = registered().await;
    registry.attach(&manifest, report(&manifest, "safety", "pass", 1)).await.unwrap();
    registry.promote(&promotion("model", "1.0.0", 1)).await.unwrap();
    read_all(&registry).await.unwrap();
    let objects: Vec<_> = inner.list(None).try_collect().await.unwrap();
    let mut flipped = 0;
    for key in objects.into_iter().map(|object| object.location) {
        // The mark of a closed upload is read by collectors alone.
        if key.filename() == Some("closed") {
            continue;
        }
        let good = inner.get(&key).await.unwrap().bytes().await.unwrap();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= if at % 2 == 0 { 1 } else { 0x20 };
            inner.put(&key, bad.into()).await.unwrap();
            let error = read_all(&registry).await.expect_err(&format!("{key}, byte {at}"));
            assert!(matches!(error, Error::Damaged { .. } | Error::Checksum { .. }), "{key}, byte {at}: {error}");
            flipped += 1;
        }
        inner.put(&key, good.into()).await.unwrap();
    }
    read_all(&registry).await.unwrap();
    assert!(flipped > 2000, "{flipped}");
}

#[tokio::test]
async fn what_is_shorter_or_gone_is_said() {
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

fn part_of(directory: &FilePath, manifest: &Manifest) -> std::path::PathBuf {
    let hex = manifest.files[1].checksum.hex();
    directory.join(format!("weights.bin.{}.part", &hex[..12]))
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_cut_off() {
    let (inner, registry, manifest) = registered().await;
    let to = tempfile::tempdir().unwrap();
    let key = object_store::path::Path::from(format!("uploads/model/1.0.0/{}/1", manifest.upload));
    let good = inner.get(&key).await.unwrap().bytes().await.unwrap();
    std::fs::write(part_of(to.path(), &manifest), &good[..130]).unwrap();
    assert_eq!(registry.fetch(&manifest, to.path(), false).await.unwrap(), [Fetched::From(0), Fetched::From(130)]);
    assert_eq!(std::fs::read(to.path().join("weights.bin")).unwrap(), good);
    assert_eq!(registry.fetch(&manifest, to.path(), false).await.unwrap(), [Fetched::Kept; 2]);
    // What was left is not what it seems, or longer than it may be: all of it is fetched.
    for left in [vec![9; 130], vec![9; 900], good.to_vec()] {
        std::fs::remove_file(to.path().join("weights.bin")).unwrap();
        std::fs::write(part_of(to.path(), &manifest), &left).unwrap();
        let from = if left == good { 250 } else { 0 };
        assert_eq!(registry.fetch(&manifest, to.path(), false).await.unwrap(), [Fetched::Kept, Fetched::From(from)]);
        assert_eq!(std::fs::read(to.path().join("weights.bin")).unwrap(), good);
    }
    std::fs::write(to.path().join("weights.bin"), "mine").unwrap();
    let error = registry.fetch(&manifest, to.path(), false).await.unwrap_err();
    assert!(error.to_string().contains("--replace"), "{error}");
    registry.fetch(&manifest, to.path(), true).await.unwrap();
    assert_eq!(std::fs::read(to.path().join("weights.bin")).unwrap(), good);
}

#[tokio::test]
async fn what_is_refused_is_not_left_on_the_disk() {
    let (inner, registry, manifest) = registered().await;
    let key = object_store::path::Path::from(format!("uploads/model/1.0.0/{}/1", manifest.upload));
    inner.put(&key, vec![7; 250].into()).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let error = registry.fetch(&manifest, to.path(), false).await.unwrap_err().to_string();
    assert!(error.contains("weights.bin of model 1.0.0") && error.contains("refused"), "{error}");
    assert!(!to.path().join("weights.bin").exists() && !part_of(to.path(), &manifest).exists());
}
