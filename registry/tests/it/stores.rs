//! The shared suite (`bellwether_testkit::registry_suite`) on each kind of store.

use std::sync::Arc;

use bellwether_registry::{Options, Registry};
use object_store::memory::InMemory;

use crate::suite;

const PART: usize = 1000;

fn local(directory: &std::path::Path) -> Registry {
    Registry::create(&Options { url: directory.display().to_string(), ..Options::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_registry_in_memory_passes_the_suite() {
    suite::check(&Registry::on(Arc::new(InMemory::new()), PART), PART, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_registry_in_a_directory_passes_the_suite() {
    let directory = tempfile::tempdir().unwrap();
    // A local directory has parts of 1 MiB.
    suite::check(&local(directory.path()), 1 << 20, 1000).await;
}

/// Like two processes, the registries share nothing but the directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_registries_in_one_directory_see_each_others_versions_and_moves() {
    let directory = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let paths = suite::write_model(files.path(), &[("model.bin", 10)]);
    let (one, two) = (local(directory.path()), local(directory.path()));
    suite::register(&one, suite::draft("shared", "1.0.0"), &paths).await.unwrap();
    suite::register(&two, suite::draft("shared", "1.0.0"), &paths).await.unwrap_err();
    two.promote(&suite::promotion("shared", "1.0.0", 0)).await.unwrap();
    let current = one.current(&"production".parse().unwrap(), &"shared".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(current.version.unwrap().to_string(), "1.0.0");
}

/// `tests/run real registry` runs the same suite and starts a server for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "it needs an S3 server: set BELLWETHER_REGISTRY_S3 to a bucket's URL, BELLWETHER_REGISTRY_ENDPOINT to the server's"]
async fn a_registry_in_s3_passes_the_suite() {
    let get = |name: &str| std::env::var(name).unwrap();
    let options = Options {
        url: get("BELLWETHER_REGISTRY_S3"),
        endpoint: Some(get("BELLWETHER_REGISTRY_ENDPOINT")),
        region: Some("us-east-1".to_owned()),
        allow_http: true,
        ..Options::default()
    };
    suite::check(&Registry::open(&options).unwrap(), 6 << 20, 1000).await;
}

/// The daemon polls the registry's futures on several threads.
#[test]
fn futures_may_move_between_threads() {
    fn assert_send<T: Send>(_: T) {}
    let registry = Registry::on(Arc::new(InMemory::new()), PART);
    let (environment, name) = ("production".parse().unwrap(), "x".parse().unwrap());
    let promotion = suite::promotion("x", "1.0.0", 0);
    let context = suite::context(0);
    assert_send(registry.promote(&promotion));
    assert_send(registry.current(&environment, &name));
    let restoration = bellwether_registry::point::Restoration {
        environment: "production".parse().unwrap(),
        name: "x".parse().unwrap(),
        to: None,
        context: context.clone(),
    };
    assert_send(registry.restore(&restoration));
    assert_send(registry.history(&environment, &name));
    let champion = "champion".parse().unwrap();
    assert_send(registry.set_alias(&name, &champion, None, &context));
    assert_send(registry.register(suite::draft("x", "1.0.0"), Vec::new(), suite::at(0)));
    assert_send(registry.collect(std::time::Duration::from_secs(3600), true, suite::at(0)));
}
