//! Exports: plain files under a prefix.

use std::sync::Arc;

use bellwether_registry::export::ExportTarget;
use bellwether_registry::{Digest, Options, RegistryError};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::suite::{context, draft, register, write_model};

#[tokio::test]
async fn an_export_has_the_files_under_their_own_paths_and_nothing_else() {
    let (inner, bucket) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
    let registry = bellwether_registry::Registry::on(inner.clone(), 100);
    let directory = tempfile::tempdir().unwrap();
    let files = [("config.json", 17), ("shards/a 1.safetensors.txt", 1234), ("shards/b.txt", 100), ("zero.txt", 0)];
    let paths = write_model(directory.path(), &files);
    let manifest = register(&registry, draft("org/Model", "1.0.0"), &paths).await.unwrap();
    let target = || {
        let below = PrefixStore::new(bucket.clone() as Arc<dyn ObjectStore>, "served/model");
        ExportTarget::on(Arc::new(below), 100)
    };
    let keys = registry.export(&manifest, &target(), false).await.unwrap();
    assert_eq!(keys, files.map(|(path, _)| path));
    let found: Vec<_> = bucket.list(None).try_collect().await.unwrap();
    assert_eq!(found.len(), files.len());
    for (file, (path, _)) in manifest.files.iter().zip(files) {
        let key = Path::parse(format!("served/model/{path}")).unwrap();
        let bytes = bucket.get(&key).await.unwrap().bytes().await.unwrap();
        assert_eq!(Digest::of(&bytes), file.checksum, "{path}");
    }
    // A prefix that has objects is refused, because a server would load them too.
    let error = registry.export(&manifest, &target(), false).await.unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("use an empty prefix"), "{error}");
    // A wrong byte does not become an object.
    let key = Path::from(format!("uploads/org!!!model/1.0.0/{}/1", manifest.upload));
    inner.put(&key, vec![1; 1234].into()).await.unwrap();
    let elsewhere = Arc::new(InMemory::new());
    let error = registry.export(&manifest, &ExportTarget::on(elsewhere.clone(), 100), false).await.unwrap_err();
    assert!(matches!(error, RegistryError::Checksum { .. }), "{error}");
    let found: Vec<_> = elsewhere.list(None).try_collect().await.unwrap();
    assert_eq!(found.len(), 1, "only the file before it: {found:?}");
    registry.yank(&manifest.name, &manifest.version, &context(1)).await.unwrap();
    let error = registry.export(&manifest, &target(), false).await.unwrap_err();
    assert!(matches!(error, RegistryError::Withdrawn { .. }), "{error}");
    let directory = Options { url: "/tmp/somewhere".to_owned(), ..Options::default() };
    let error = ExportTarget::open(&directory).err().unwrap().to_string();
    assert!(error.contains("model get --to"), "{error}");
}
