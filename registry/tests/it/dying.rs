//! A store, or a writer, that dies at each write in turn: nothing is half there, and nothing that was said is lost.

use std::sync::Arc;
use std::time::Duration;

use bellwether_registry::{Error, Registry};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, path::Path};

use crate::suite::{at, draft, promotion, register, write_model};
use crate::unstable::{Failure, Unstable};

const PART: usize = 100;
const FILES: [(&str, usize); 4] = [("a", 10), ("b", 3 * PART + 1), ("c", PART), ("d", 10)];

/// Long after anything that is written now.
fn later() -> jiff::Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

async fn uploads(inner: &Arc<InMemory>) -> usize {
    let found: Vec<_> = inner.list(Some(&Path::from("uploads"))).try_collect().await.unwrap();
    found.len()
}

/// Registers 1.0.0 and promotes it, as far as the store goes.
async fn act(registry: &Registry, places: &[std::path::PathBuf]) -> (bool, bool) {
    let registered = register(registry, draft("mortal", "1.0.0"), places).await.is_ok();
    let promoted = registered && registry.promote(&promotion("mortal", "1.0.0", 1)).await.is_ok();
    (registered, promoted)
}

/// What must be so afterwards, whatever happened.
async fn holds(inner: &Arc<InMemory>, (registered, promoted): (bool, bool), places: &[std::path::PathBuf], when: &str) {
    let registry = Registry::on(inner.clone(), PART);
    let (name, production) = ("mortal".parse().unwrap(), "production".parse().unwrap());
    let versions = registry.versions(&name).await.unwrap();
    assert!(!registered || versions.len() == 1, "{when}: what was said to be registered is there");
    for version in &versions {
        let manifest = registry.manifest(&name, version).await.unwrap();
        assert!(registry.verify(&manifest).await.unwrap().is_empty(), "{when}: what is listed is whole");
    }
    let current = registry.current(&production, &name).await.unwrap();
    assert!(!promoted || current.is_some(), "{when}: what was said to be promoted is current");
    // And it goes on: whoever tries again succeeds, or is told that it has.
    match register(&registry, draft("mortal", "1.0.0"), places).await {
        Ok(_) => assert!(versions.is_empty(), "{when}"),
        Err(Error::Exists(_)) => assert_eq!(versions.len(), 1, "{when}"),
        Err(error) => panic!("{when}: {error}"),
    }
    registry.promote(&promotion("mortal", "1.0.0", 2)).await.unwrap();
    assert_eq!(registry.history(&production, &name).await.unwrap().len(), 1, "{when}: once");
    // What was left is collected, and nothing else: first the files, then the mark.
    for _ in 0..2 {
        registry.collect(Duration::from_secs(3600), true, later()).await.unwrap();
    }
    assert_eq!(uploads(inner).await, FILES.len() + 1, "{when}: the files and the mark of the one that is registered");
    let manifest = registry.manifest(&name, &"1.0.0".parse().unwrap()).await.unwrap();
    assert!(registry.verify(&manifest).await.unwrap().is_empty(), "{when}");
}

#[tokio::test]
async fn whichever_write_is_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &FILES);
    for (what, failure) in [("before", true), ("after", false)] {
        let mut nth = 1;
        loop {
            let inner = Arc::new(InMemory::new());
            let failure = if failure { Failure::Before } else { Failure::After };
            let store = Arc::new(Unstable::new(inner.clone(), failure, nth));
            let done = act(&Registry::on(store.clone(), PART), &places).await;
            holds(&inner, done, &places, &format!("dead {what} write {nth}")).await;
            if !store.has_failed() {
                break;
            }
            nth += 1;
        }
        // a; four parts of b; one of c, which is all of it; d; the mark; the manifest; the move.
        assert_eq!(nth, 11, "{what}: every write had its turn");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_and_asked_for_again_is_no_conflict() {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &FILES);
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(Arc::new(Unstable::new(inner.clone(), Failure::Twice, 0)), PART);
    assert_eq!(act(&registry, &places).await, (true, true));
    holds(&inner, (true, true), &places, "asked twice").await;
}

#[tokio::test]
async fn who_is_collected_while_he_registers_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &FILES);
    // After the first file, and after the last: the upload looks abandoned to a collector from the future.
    for nth in [1, 7] {
        let inner = Arc::new(InMemory::new());
        let collector = Registry::on(inner.clone(), PART);
        let collect = move |_| {
            let collector = collector.clone();
            let collect =
                async move { drop(collector.collect(Duration::from_secs(3600), true, later()).await.unwrap()) };
            Box::pin(collect) as futures::future::BoxFuture<'static, ()>
        };
        let store = Arc::new(Unstable::new(inner.clone(), Failure::Meanwhile(Box::new(collect)), nth));
        let registry = Registry::on(store, PART);
        let done =
            registry.register(draft("mortal", "1.0.0"), bellwether_registry::source::files(&places).unwrap(), at(0));
        let error = done.await.unwrap_err();
        assert!(matches!(error, Error::Collected { .. }), "{nth}: {error}");
        assert!(registry.versions(&"mortal".parse().unwrap()).await.unwrap().is_empty());
    }
}
