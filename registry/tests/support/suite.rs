//! What a registry does in every store: in memory, in a directory, and in a real S3 (`tests/real`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bellwether_registry::list::Filter;
use bellwether_registry::point::{Mark, Promotion, Restoration};
use bellwether_registry::register::Draft;
use bellwether_registry::{Error, Manifest, Reference, Registry, source};
use futures::{StreamExt, stream};
use jiff::Timestamp;

/// How many do the same thing at the same time.
pub const MANY: usize = 32;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

pub fn draft(name: &str, version: &str) -> Draft {
    Draft {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        description: "makes long texts short".to_owned(),
        framework: "pytorch".to_owned(),
        framework_version: "2.9.1".to_owned(),
        performance_metrics: BTreeMap::from([("rouge-l".to_owned(), 0.1 + 0.2)]),
        validation_results: BTreeMap::from([("cases".to_owned(), serde_json::json!({"n": 250, "ok": true}))]),
        tags: vec!["nlp".to_owned()],
        checksum: None,
        by: "ada".to_owned(),
    }
}

pub fn mark(second: i64) -> Mark {
    Mark { by: "ada".to_owned(), why: "it is better".to_owned(), at: at(second), effect: None, expected: None }
}

pub fn promotion(name: &str, version: &str, second: i64) -> Promotion {
    Promotion {
        environment: "production".parse().unwrap(),
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        require: Vec::new(),
        mark: mark(second),
    }
}

/// Writes files of these sizes into `directory`, each with bytes of its own.
pub fn write_model(directory: &Path, files: &[(&str, usize)]) -> Vec<PathBuf> {
    for (n, (path, size)) in files.iter().enumerate() {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..*size).map(|at| ((at * 31 + at / 251 + n * 7) % 256) as u8).collect();
        std::fs::write(path, bytes).unwrap();
    }
    vec![directory.to_owned()]
}

pub async fn register(registry: &Registry, draft: Draft, places: &[PathBuf]) -> Result<Manifest, Error> {
    registry.register(draft, source::files(places)?, at(0)).await
}

/// All of it. `part` is the size of the registry's parts, and `versions` how many are listed.
pub async fn check(registry: &Registry, part: usize, versions: usize) {
    there_and_back(registry, part).await;
    one_of_many_registers(registry).await;
    no_promotion_is_lost(registry).await;
    back_and_forth(registry).await;
    pages(registry, versions).await;
}

/// Files below, at and above the size of a part come back as they were, and everything that was said of them.
pub async fn there_and_back(registry: &Registry, part: usize) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = [("config.json", 17), ("weights/a.bin", 2 * part), ("weights/b.bin", 2 * part + 3), ("empty", 0)];
    let places = write_model(from.path(), &files);
    let manifest = register(registry, draft("whole", "1.0.0"), &places).await.unwrap();
    assert_eq!(manifest.size, 4 * part as u64 + 20);
    let read = registry.manifest(&manifest.name, &manifest.version).await.unwrap();
    assert_eq!(read, manifest, "what is read is what was said");
    registry.fetch(&read, to.path(), false).await.unwrap();
    for (path, _) in files {
        assert!(
            std::fs::read(from.path().join(path)).unwrap() == std::fs::read(to.path().join(path)).unwrap(),
            "{path}"
        );
    }
    assert!(registry.verify(&read).await.unwrap().is_empty());
    let again = register(registry, draft("whole", "1.0.0"), &places).await.unwrap_err();
    assert!(again.to_string().contains("register another one"), "{again}");
}

/// Of many that register one version exactly one does, its files are those of its manifest, and the others know why not.
pub async fn one_of_many_registers(registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let tasks = (0..MANY).map(|n| {
        let places = write_model(&directory.path().join(n.to_string()), &[("model.bin", 1000 + n)]);
        let registry = registry.clone();
        let draft = Draft { by: format!("writer {n}"), ..draft("contended", "2.0.0") };
        tokio::spawn(async move { register(&registry, draft, &places).await })
    });
    let mut won = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(manifest) => won.push(manifest),
            Err(Error::Exists(there)) => assert!(there.created_by.starts_with("writer "), "{there:?}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
    let there = registry.manifest(&won[0].name, &won[0].version).await.unwrap();
    assert_eq!(there, won[0]);
    assert!(registry.verify(&there).await.unwrap().is_empty());
    assert_eq!(registry.versions(&there.name).await.unwrap().len(), 1);
}

/// Each of many promotions at the same time is in the history, once.
pub async fn no_promotion_is_lost(registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 10)]);
    for n in 0..MANY {
        register(registry, draft("crowded", &format!("1.{n}.0")), &places).await.unwrap();
    }
    let tasks = (0..MANY).map(|n| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.promote(&promotion("crowded", &format!("1.{n}.0"), 1)).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.unwrap().unwrap().now);
    }
    let history = registry.history(&"production".parse().unwrap(), &"crowded".parse().unwrap()).await.unwrap();
    let numbers: Vec<u64> = history.iter().map(|moved| moved.number).collect();
    assert_eq!(numbers, (1..=MANY as u64).rev().collect::<Vec<_>>());
    let versions: BTreeSet<_> = history.iter().map(|moved| moved.version.clone().unwrap()).collect();
    assert_eq!(versions.len(), MANY);
    for pair in history.windows(2) {
        assert_eq!(pair[0].before, pair[1].version, "each knows the one before it");
    }
}

/// Promotions and ways back, by their effects once each.
pub async fn back_and_forth(registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 10)]);
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        register(registry, draft("moved", version), &places).await.unwrap();
    }
    let (production, name) = ("production".parse().unwrap(), "moved".parse().unwrap());
    let with = |version: &str, effect: &str| {
        let mut promotion = promotion("moved", version, 1);
        promotion.mark.effect = Some(effect.to_owned());
        promotion
    };
    for (version, effect) in [("1.0.0", "a"), ("1.1.0", "b"), ("1.2.0", "c")] {
        assert!(registry.promote(&with(version, effect)).await.unwrap().now);
    }
    let back = |to: Option<&str>, effect: Option<&str>| Restoration {
        environment: "production".parse().unwrap(),
        name: "moved".parse().unwrap(),
        to: to.map(|to| to.parse().unwrap()),
        mark: Mark { effect: effect.map(str::to_owned), ..mark(2) },
    };
    let version = async || registry.current(&production, &name).await.unwrap().unwrap().version.unwrap().to_string();
    assert!(registry.restore(&back(Some("1.1.0"), Some("d"))).await.unwrap().now);
    // A late repetition says what came of it, and changes nothing.
    let late = registry.promote(&with("1.2.0", "c")).await.unwrap();
    assert!(!late.now && late.to.number == 3, "{late:?}");
    assert!(!registry.restore(&back(Some("1.1.0"), Some("d"))).await.unwrap().now);
    assert_eq!(version().await, "1.1.0");
    let other = registry.promote(&with("1.0.0", "c")).await.unwrap_err();
    assert!(matches!(other, Error::Effect { .. }), "{other}");
    // Further back, and no further than there is.
    assert!(registry.restore(&back(None, None)).await.unwrap().now);
    assert_eq!(version().await, "1.0.0");
    let end = registry.restore(&back(None, None)).await.unwrap_err();
    assert!(end.to_string().contains("to go back to"), "{end}");
    let stale = Promotion { mark: Mark { expected: Some(3), ..mark(3) }, ..promotion("moved", "1.2.0", 3) };
    assert!(matches!(registry.promote(&stale).await.unwrap_err(), Error::Moved { expected: 3, found: 5, .. }));
    let unchanged = registry.promote(&promotion("moved", "1.0.0", 4)).await.unwrap();
    assert!(!unchanged.now);
    register(registry, draft("moved", "9.0.0"), &places).await.unwrap();
    let never = registry.restore(&back(Some("9.0.0"), None)).await.unwrap_err();
    assert!(never.to_string().contains("never current"), "{never}");
    assert_eq!(registry.history(&production, &name).await.unwrap().len(), 5);
}

/// So many versions are listed in pages, each once and in the order of versions, while others are registered.
pub async fn pages(registry: &Registry, versions: usize) {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 3)]);
    let text = |n: usize| format!("{}.{}.{}", n / 1000, n / 10 % 100, n % 10);
    let made = stream::iter(0..versions).for_each_concurrent(MANY, |n| {
        let draft = draft("listed", &text(n));
        let places = places.clone();
        async move { drop(register(registry, draft, &places).await.unwrap()) }
    });
    made.await;
    let name = "listed".parse().unwrap();
    let (mut seen, mut after, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = registry.list(&name, &Filter::default(), 100, after.as_deref()).await.unwrap();
        seen.extend(page.items.into_iter().map(|manifest| manifest.version.to_string()));
        pages += 1;
        // What comes in between shifts nothing.
        register(registry, draft("listed", &format!("999.0.{pages}")), &places).await.unwrap();
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<String> = (0..versions).rev().map(text).collect();
    assert_eq!((seen.len(), pages), (versions, versions.div_ceil(100)));
    assert!(seen == expected, "in the order of versions");
    let latest = registry.resolve(&name, &Reference::Latest).await.unwrap();
    assert_eq!(latest.to_string(), format!("999.0.{pages}"));
}
