//! A store or a writer that fails at each write in turn. Afterwards no version is incomplete, and every acknowledged version
//! and promotion is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bellwether_registry::{Registry, RegistryError};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, path::Path};

use crate::suite::{at, draft, promotion, register, write_model};
use crate::unstable::{Failure, Unstable};

const PART: usize = 100;
const FILES: [(&str, usize); 4] = [("a", 10), ("b", 3 * PART + 1), ("c", PART), ("d", 10)];

/// A time at which everything that these tests write is old.
fn far_future() -> jiff::Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

/// Counts the objects of all uploads.
async fn count_uploaded(inner: &Arc<InMemory>) -> usize {
    let found: Vec<_> = inner.list(Some(&Path::from("uploads"))).try_collect().await.unwrap();
    found.len()
}

/// Registers 1.0.0 and promotes it. Returns whether each was acknowledged.
async fn register_and_promote(registry: &Registry, paths: &[PathBuf]) -> (bool, bool) {
    let registered = register(registry, draft("mortal", "1.0.0"), paths).await.is_ok();
    let promoted = registered && registry.promote(&promotion("mortal", "1.0.0", 1)).await.is_ok();
    (registered, promoted)
}

/// Checks the invariants after a failure: acknowledged results are there, a new attempt succeeds, and only garbage is
/// collected.
async fn check_invariants(inner: &Arc<InMemory>, (registered, promoted): (bool, bool), paths: &[PathBuf], when: &str) {
    let registry = Registry::on(inner.clone(), PART);
    let (name, production) = ("mortal".parse().unwrap(), "production".parse().unwrap());
    let versions = registry.versions(&name).await.unwrap();
    assert!(!registered || versions.len() == 1, "{when}: an acknowledged version is missing");
    for version in &versions {
        let manifest = registry.manifest(&name, version).await.unwrap();
        assert!(registry.verify(&manifest).await.unwrap().is_empty(), "{when}: a listed version is incomplete");
    }
    let current = registry.current(&production, &name).await.unwrap();
    assert!(!promoted || current.is_some(), "{when}: an acknowledged promotion is missing");
    // A new attempt succeeds, or is told that the version exists.
    match register(&registry, draft("mortal", "1.0.0"), paths).await {
        Ok(_) => assert!(versions.is_empty(), "{when}"),
        Err(RegistryError::Exists(_)) => assert_eq!(versions.len(), 1, "{when}"),
        Err(error) => panic!("{when}: {error}"),
    }
    registry.promote(&promotion("mortal", "1.0.0", 2)).await.unwrap();
    assert_eq!(registry.history(&production, &name).await.unwrap().len(), 1, "{when}: the version was promoted once");
    // The first collection removes the files of abandoned uploads, the second one their closing marks.
    for _ in 0..2 {
        registry.collect(Duration::from_secs(3600), true, far_future()).await.unwrap();
    }
    assert_eq!(count_uploaded(inner).await, FILES.len() + 1, "{when}: the registered version keeps its files and mark");
    let manifest = registry.manifest(&name, &"1.0.0".parse().unwrap()).await.unwrap();
    assert!(registry.verify(&manifest).await.unwrap().is_empty(), "{when}");
}

#[tokio::test]
async fn a_failure_at_any_write_leaves_no_partial_state() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &FILES);
    for (moment, before) in [("before", true), ("after", false)] {
        let mut nth = 1;
        loop {
            let inner = Arc::new(InMemory::new());
            let failure = if before { Failure::Before } else { Failure::After };
            let store = Arc::new(Unstable::new(inner.clone(), failure, nth));
            let done = register_and_promote(&Registry::on(store.clone(), PART), &paths).await;
            check_invariants(&inner, done, &paths, &format!("failure {moment} write {nth}")).await;
            if !store.has_failed() {
                break;
            }
            nth += 1;
        }
        // Two writes for the root object, one for a, four parts of b, one part of c, one write each for d, the mark, the manifest and the move; and the
        // last round without a failure.
        assert_eq!(nth, 13, "failure {moment} the write: the number of writes");
    }
}

#[tokio::test]
async fn a_write_that_is_repeated_after_a_lost_answer_is_no_conflict() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &FILES);
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(Arc::new(Unstable::new(inner.clone(), Failure::Twice, 0)), PART);
    assert_eq!(register_and_promote(&registry, &paths).await, (true, true));
    check_invariants(&inner, (true, true), &paths, "every write is repeated").await;
}

#[tokio::test]
async fn a_registration_whose_upload_is_collected_fails_and_creates_no_version() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &FILES);
    // The collector runs after the first file and after the last one; the root object takes two writes. Its clock is far ahead, so the upload looks abandoned.
    for nth in [3, 9] {
        let inner = Arc::new(InMemory::new());
        let collector = Registry::on(inner.clone(), PART);
        let collect = move |_| {
            let collector = collector.clone();
            let collect =
                async move { drop(collector.collect(Duration::from_secs(3600), true, far_future()).await.unwrap()) };
            Box::pin(collect) as futures::future::BoxFuture<'static, ()>
        };
        let store = Arc::new(Unstable::new(inner.clone(), Failure::Meanwhile(Box::new(collect)), nth));
        let registry = Registry::on(store, PART);
        let done =
            registry.register(draft("mortal", "1.0.0"), bellwether_registry::source::files(&paths).unwrap(), at(0));
        let error = done.await.unwrap_err();
        assert!(matches!(error, RegistryError::Collected { .. }), "{nth}: {error}");
        assert!(registry.versions(&"mortal".parse().unwrap()).await.unwrap().is_empty());
    }
}
