//! The behaviour of a registry in every store. The same checks run in memory, in a local directory and in a real S3
//! (`tests/real`).
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bellwether_registry::fetch::FetchOptions;
use bellwether_registry::list::Filter;
use bellwether_registry::manifest::Provenance;
use bellwether_registry::point::{MoveContext, Promotion, Restoration};
use bellwether_registry::register::VersionDraft;
use bellwether_registry::risk::Risk;
use bellwether_registry::{Manifest, Registry, RegistryError, VersionReference, source};
use futures::{StreamExt, stream};
use jiff::Timestamp;

/// Number of concurrent callers.
pub const MANY: usize = 32;

/// Returns a fixed time plus this many seconds.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// Returns a draft with every optional field set, except the checksum.
pub fn draft(name: &str, version: &str) -> VersionDraft {
    VersionDraft {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        description: "makes long texts short".to_owned(),
        framework: "pytorch".to_owned(),
        framework_version: "2.9.1".to_owned(),
        performance_metrics: BTreeMap::from([("rouge-l".to_owned(), 0.1 + 0.2)]),
        validation_results: BTreeMap::from([("cases".to_owned(), serde_json::json!({"n": 250, "ok": true}))]),
        tags: vec!["nlp".to_owned()],
        checksum: None,
        accept: vec![Risk::EmptyFile],
        provenance: Provenance {
            base: vec!["org/Base-7B@1.0.0".to_owned()],
            license: "Apache-2.0".to_owned(),
            datasets: vec!["org/texts".to_owned()],
            commit: "076b0e7".to_owned(),
        },
        by: "ada".to_owned(),
    }
}

/// Returns a context without preconditions.
pub fn context(second: i64) -> MoveContext {
    MoveContext { by: "ada".to_owned(), why: "it is better".to_owned(), at: at(second), effect: None, expected: None }
}

/// Returns a promotion to production without required suites.
pub fn promotion(name: &str, version: &str, second: i64) -> Promotion {
    Promotion {
        environment: "production".parse().unwrap(),
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        require: Vec::new(),
        with: None,
        context: context(second),
    }
}

/// Writes files of these sizes in bytes into `directory`, each with different content. Returns the paths to register.
pub fn write_model(directory: &Path, files: &[(&str, usize)]) -> Vec<PathBuf> {
    for (n, (path, size)) in files.iter().enumerate() {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..*size).map(|at| ((at * 31 + at / 251 + n * 7) % 256) as u8).collect();
        std::fs::write(path, bytes).unwrap();
    }
    vec![directory.to_owned()]
}

/// Registers the files at these paths.
pub async fn register(registry: &Registry, draft: VersionDraft, paths: &[PathBuf]) -> Result<Manifest, RegistryError> {
    registry.register(draft, source::files(paths)?, at(0)).await
}

/// Runs all checks. `part_size` is the size of the registry's parts in bytes, and `versions` the number of versions that
/// are listed in pages.
pub async fn check(registry: &Registry, part_size: usize, versions: usize) {
    files_come_back_unchanged(registry, part_size).await;
    one_of_many_registers(registry).await;
    no_promotion_is_lost(registry).await;
    restorations_go_back_and_effects_happen_once(registry).await;
    hub_names(registry).await;
    pages(registry, versions).await;
}

/// Models with the names of hubs are kept apart, whatever their capitals, and have all that others have.
pub async fn hub_names(registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let names = ["Org/Model-7B", "org/Model-7B", "org/model-7b", "org"];
    for (n, name) in names.into_iter().enumerate() {
        let paths = write_model(&directory.path().join(n.to_string()), &[("model.bin", 100 + n)]);
        let manifest = register(registry, draft(name, "1.0.0"), &paths).await.unwrap();
        assert_eq!(manifest.name.to_string(), name);
        assert!(registry.promote(&promotion(name, "1.0.0", 1)).await.unwrap().created);
    }
    let (mut listed, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = registry.models(2, after.as_deref()).await.unwrap();
        listed.extend(page.items.into_iter().map(|model| (model.name.to_string(), model.versions)));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    for (n, name) in names.into_iter().enumerate() {
        assert_eq!(listed.iter().filter(|model| **model == (name.to_owned(), 1)).count(), 1, "{listed:?}");
        let manifest = registry.manifest(&name.parse().unwrap(), &"1.0.0".parse().unwrap()).await.unwrap();
        assert_eq!(manifest.size, 100 + n as u64);
        let current = registry.current(&"production".parse().unwrap(), &manifest.name).await.unwrap().unwrap();
        assert_eq!(current.checksum, Some(manifest.checksum));
    }
}

/// Files below, at and above the size of a part come back unchanged, and so does the manifest.
pub async fn files_come_back_unchanged(registry: &Registry, part_size: usize) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files =
        [("config.json", 17), ("weights/a.bin", 2 * part_size), ("weights/b.bin", 2 * part_size + 3), ("empty", 0)];
    let paths = write_model(from.path(), &files);
    let manifest = register(registry, draft("whole", "1.0.0"), &paths).await.unwrap();
    assert_eq!(manifest.size, 4 * part_size as u64 + 20);
    let read = registry.manifest(&manifest.name, &manifest.version).await.unwrap();
    assert_eq!(read, manifest, "the manifest that is read is the one that was returned");
    registry.fetch(&read, to.path(), &FetchOptions::default()).await.unwrap();
    for (path, _) in files {
        assert!(
            std::fs::read(from.path().join(path)).unwrap() == std::fs::read(to.path().join(path)).unwrap(),
            "{path}"
        );
    }
    assert!(registry.verify(&read).await.unwrap().is_empty());
    let again = register(registry, draft("whole", "1.0.0"), &paths).await.unwrap_err();
    assert!(again.to_string().contains("register another one"), "{again}");
}

/// If many callers register one version, exactly one succeeds with its own files, and the others learn of its manifest.
pub async fn one_of_many_registers(registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let tasks = (0..MANY).map(|n| {
        let paths = write_model(&directory.path().join(n.to_string()), &[("model.bin", 1000 + n)]);
        let registry = registry.clone();
        let draft = VersionDraft { by: format!("writer {n}"), ..draft("contended", "2.0.0") };
        tokio::spawn(async move { register(&registry, draft, &paths).await })
    });
    let mut winners = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(manifest) => winners.push(manifest),
            Err(RegistryError::Exists(existing)) => {
                assert!(existing.created_by.starts_with("writer "), "{existing:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let registered = registry.manifest(&winners[0].name, &winners[0].version).await.unwrap();
    assert_eq!(registered, winners[0]);
    assert!(registry.verify(&registered).await.unwrap().is_empty());
    assert_eq!(registry.versions(&registered.name).await.unwrap().len(), 1);
}

/// Each of many concurrent promotions is in the history exactly once.
pub async fn no_promotion_is_lost(registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 10)]);
    for n in 0..MANY {
        register(registry, draft("crowded", &format!("1.{n}.0")), &paths).await.unwrap();
    }
    let tasks = (0..MANY).map(|n| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.promote(&promotion("crowded", &format!("1.{n}.0"), 1)).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.unwrap().unwrap().created);
    }
    let history = registry.history(&"production".parse().unwrap(), &"crowded".parse().unwrap()).await.unwrap();
    let numbers: Vec<u64> = history.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=MANY as u64).rev().collect::<Vec<_>>());
    let versions: BTreeSet<_> = history.iter().map(|entry| entry.version.clone().unwrap()).collect();
    assert_eq!(versions.len(), MANY);
    for pair in history.windows(2) {
        assert_eq!(pair[0].before, pair[1].version, "each move names the version before it");
    }
}

/// Restorations go back along the history. A repeated effect changes nothing, and returns its first outcome.
pub async fn restorations_go_back_and_effects_happen_once(registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 10)]);
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        register(registry, draft("moved", version), &paths).await.unwrap();
    }
    let (production, name) = ("production".parse().unwrap(), "moved".parse().unwrap());
    let promote = |version: &str, effect: &str| {
        let mut promotion = promotion("moved", version, 1);
        promotion.context.effect = Some(effect.to_owned());
        promotion
    };
    for (version, effect) in [("1.0.0", "a"), ("1.1.0", "b"), ("1.2.0", "c")] {
        assert!(registry.promote(&promote(version, effect)).await.unwrap().created);
    }
    let restore = |to: Option<&str>, effect: Option<&str>| Restoration {
        environment: "production".parse().unwrap(),
        name: "moved".parse().unwrap(),
        to: to.map(|to| to.parse().unwrap()),
        context: MoveContext { effect: effect.map(str::to_owned), ..context(2) },
    };
    let current = async || registry.current(&production, &name).await.unwrap().unwrap().version.unwrap().to_string();
    assert!(registry.restore(&restore(Some("1.1.0"), Some("d"))).await.unwrap().created);
    // A late repetition returns the effect's own move, and changes nothing.
    let late = registry.promote(&promote("1.2.0", "c")).await.unwrap();
    assert!(!late.created && late.entry.number == 3, "{late:?}");
    assert!(!registry.restore(&restore(Some("1.1.0"), Some("d"))).await.unwrap().created);
    assert_eq!(current().await, "1.1.0");
    let other = registry.promote(&promote("1.0.0", "c")).await.unwrap_err();
    assert!(matches!(other, RegistryError::Effect { .. }), "{other}");
    // Restorations without a version go further back, until there is no earlier version.
    assert!(registry.restore(&restore(None, None)).await.unwrap().created);
    assert_eq!(current().await, "1.0.0");
    let refused = registry.restore(&restore(None, None)).await.unwrap_err();
    assert!(refused.to_string().contains("to go back to"), "{refused}");
    let stale =
        Promotion { context: MoveContext { expected: Some(3), ..context(3) }, ..promotion("moved", "1.2.0", 3) };
    assert!(matches!(registry.promote(&stale).await.unwrap_err(), RegistryError::Moved { expected: 3, found: 5, .. }));
    let unchanged = registry.promote(&promotion("moved", "1.0.0", 4)).await.unwrap();
    assert!(!unchanged.created);
    register(registry, draft("moved", "9.0.0"), &paths).await.unwrap();
    let never = registry.restore(&restore(Some("9.0.0"), None)).await.unwrap_err();
    assert!(never.to_string().contains("never current"), "{never}");
    assert_eq!(registry.history(&production, &name).await.unwrap().len(), 5);
}

/// Versions are listed in pages, each once and in the order of versions, while other versions are registered.
pub async fn pages(registry: &Registry, versions: usize) {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 3)]);
    let text = |n: usize| format!("{}.{}.{}", n / 1000, n / 10 % 100, n % 10);
    let registrations = stream::iter(0..versions).for_each_concurrent(MANY, |n| {
        let draft = draft("listed", &text(n));
        let paths = paths.clone();
        async move { drop(register(registry, draft, &paths).await.unwrap()) }
    });
    registrations.await;
    let name = "listed".parse().unwrap();
    let (mut seen, mut after, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = registry.list(&name, &Filter::default(), 100, after.as_deref()).await.unwrap();
        seen.extend(page.items.into_iter().map(|manifest| manifest.version.to_string()));
        pages += 1;
        // A version that is registered between two pages shifts nothing.
        register(registry, draft("listed", &format!("999.0.{pages}")), &paths).await.unwrap();
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<String> = (0..versions).rev().map(text).collect();
    assert_eq!((seen.len(), pages), (versions, versions.div_ceil(100)));
    assert!(seen == expected, "the versions are not listed in their order");
    let latest = registry.resolve(&name, &VersionReference::Latest).await.unwrap();
    assert_eq!(latest.to_string(), format!("999.0.{pages}"));
}
