//! The suite, store by store.

use std::sync::Arc;

use bellwether_registry::{Options, Registry};
use object_store::memory::InMemory;

use crate::suite;

const PART: usize = 1000;

fn local(directory: &std::path::Path) -> Registry {
    Registry::create(&Options { url: directory.display().to_string(), ..Options::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_memory() {
    suite::check(&Registry::on(Arc::new(InMemory::new()), PART), PART, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    // Its parts are 1 MiB.
    suite::check(&local(directory.path()), 1 << 20, 1000).await;
}

/// As by several processes: nothing is shared but the directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_registries_in_one_directory_know_of_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let places = suite::write_model(files.path(), &[("model.bin", 10)]);
    let (one, two) = (local(directory.path()), local(directory.path()));
    suite::register(&one, suite::draft("shared", "1.0.0"), &places).await.unwrap();
    suite::register(&two, suite::draft("shared", "1.0.0"), &places).await.unwrap_err();
    two.promote(&suite::promotion("shared", "1.0.0", 0)).await.unwrap();
    let current = one.current(&"production".parse().unwrap(), &"shared".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(current.version.unwrap().to_string(), "1.0.0");
}

/// `tests/run real registry` does the same and starts a server for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "it needs an S3 server: BELLWETHER_REGISTRY_S3 is a bucket's URL, BELLWETHER_REGISTRY_ENDPOINT its server's"]
async fn in_s3() {
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

/// What the daemon does with it: its futures go to other threads.
#[test]
fn futures_may_move_between_threads() {
    fn sent<T: Send>(_: T) {}
    let registry = Registry::on(Arc::new(InMemory::new()), PART);
    let (environment, name) = ("production".parse().unwrap(), "x".parse().unwrap());
    let promotion = suite::promotion("x", "1.0.0", 0);
    let mark = suite::mark(0);
    sent(registry.promote(&promotion));
    sent(registry.current(&environment, &name));
    let back = bellwether_registry::point::Restoration {
        environment: "production".parse().unwrap(),
        name: "x".parse().unwrap(),
        to: None,
        mark: mark.clone(),
    };
    sent(registry.restore(&back));
    sent(registry.history(&environment, &name));
    let champion = "champion".parse().unwrap();
    sent(registry.set_alias(&name, &champion, None, &mark));
    sent(registry.register(suite::draft("x", "1.0.0"), Vec::new(), suite::at(0)));
    sent(registry.collect(std::time::Duration::from_secs(3600), true, suite::at(0)));
}
