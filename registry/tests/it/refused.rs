//! Invalid input, and the error messages for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_registry::options::Encryption;
use bellwether_registry::register::VersionDraft;
use bellwether_registry::{Digest, ModelName, Options, Registry, RegistryError, Version, VersionReference, source};
use object_store::memory::InMemory;

use crate::suite::{at, context, draft, promotion, register, write_model};

/// Returns the error's message, or "no error".
fn message<T, E: ToString>(result: Result<T, E>) -> String {
    result.err().map_or_else(|| "no error".to_owned(), |error| error.to_string())
}

#[test]
fn invalid_names_versions_and_digests_are_refused_with_the_broken_rule() {
    let long = "x".repeat(129);
    let rows = [
        (message("1.2".parse::<Version>()), "\"1.2\" is no version: unexpected end of input"),
        (message("v1.2.0".parse::<Version>()), "as in 1.4.0"),
        (message("1.02.0".parse::<Version>()), "leading zero"),
        (message("1.2.0+gpu".parse::<Version>()), "leave it out"),
        (message("1.2.0-RC1".parse::<Version>()), "lower case"),
        (message(format!("1.2.0-{long}").parse::<Version>()), "64 are allowed"),
        (message("../x".parse::<ModelName>()), "\"../x\" is no model name"),
        (message("org/team/model".parse::<ModelName>()), "as in summarizer-large or org/Model-7B"),
        (message("/model".parse::<ModelName>()), "at most one `/`"),
        (message("org/.model".parse::<ModelName>()), "at most one `/`"),
        (message("Production".parse::<bellwether_registry::Environment>()), "lower-case"),
        (message("".parse::<ModelName>()), "no model name"),
        (message(long.parse::<ModelName>()), "128 are allowed"),
        (message("md5:0123".parse::<Digest>()), "`sha256sum` prints"),
        (message("sha256:12".parse::<Digest>()), "64 hexadecimal digits"),
        (message("@Champion".parse::<VersionReference>()), "no alias"),
        (message("newest".parse::<VersionReference>()), "no version"),
    ];
    for (got, wanted) in rows {
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
}

#[test]
fn contradictory_options_are_refused_without_showing_credentials() {
    let url = |url: &str| Options { url: url.to_owned(), ..Options::default() };
    let kms = |options: Options| Options { encryption: Encryption::Kms, ..options };
    let rows = [
        (url(""), "url", "name a directory"),
        (url("ftp://x"), "url", "no kind of store"),
        (url("s3:///prefix"), "url", "name the bucket"),
        (url("s3://AKIA:secret@bucket"), "url", "credentials do not belong here"),
        (url("file://relative"), "url", "absolute"),
        (kms(url("models")), "encryption", "S3 alone"),
        (kms(url("gs://models")), "encryption", "S3 alone"),
        (kms(url("s3://models")), "kms-key", "id or ARN"),
        (Options { kms_key: Some("k".to_owned()), ..url("s3://models") }, "kms-key", "only"),
        (
            Options { endpoint: Some("http://127.0.0.1:9000".to_owned()), ..url("s3://models") },
            "endpoint",
            "allow-http",
        ),
    ];
    for (options, key, wanted) in rows {
        let problems = options.problems();
        assert!(problems.iter().any(|(at, why)| *at == key && why.contains(wanted)), "{options:?}: {problems:?}");
        let shown = message(Registry::open(&options));
        assert!(shown.starts_with("registry.") && !shown.contains("secret"), "{shown}");
    }
}

#[tokio::test]
async fn invalid_drafts_and_files_register_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 10)]);
    std::fs::create_dir(directory.path().join("nothing")).unwrap();
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let other = Some(Digest::of(b"something else"));
    let metrics = BTreeMap::from([("f1".to_owned(), f64::NAN)]);
    let rows = [
        (VersionDraft { checksum: other, ..draft("model", "1.0.0") }, "nothing was registered"),
        (VersionDraft { by: " ".to_owned(), ..draft("model", "1.0.0") }, "say who"),
        (VersionDraft { performance_metrics: metrics, ..draft("model", "1.0.0") }, "f1=NaN"),
        (VersionDraft { tags: vec!["ä".repeat(4000)], ..draft("model", "1.0.0") }, "longer than 4096"),
    ];
    for (draft, wanted) in rows {
        let got = message(register(&registry, draft, &paths).await);
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
    let rows = [
        (vec![directory.path().join("absent")], "can't be read"),
        (vec![directory.path().join("nothing")], "there is no file in it"),
        (vec![directory.path().join("model.bin"), directory.path().to_owned()], "the same path"),
    ];
    for (paths, wanted) in rows {
        let got = message(source::files(&paths));
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
    assert!(registry.versions(&"model".parse().unwrap()).await.unwrap().is_empty());
    let good = VersionDraft {
        checksum: Some(Digest::of(&std::fs::read(directory.path().join("model.bin")).unwrap())),
        ..draft("model", "1.0.0")
    };
    register(&registry, good, &paths).await.unwrap();
}

#[tokio::test]
async fn an_error_about_a_missing_thing_names_alternatives_or_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 10)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let (model, version) = ("model".parse().unwrap(), "2.0.0".parse().unwrap());
    let empty = message(registry.resolve(&model, &VersionReference::Latest).await);
    assert!(empty.contains("nothing is registered there yet"), "{empty}");
    for n in 0..7 {
        register(&registry, draft("model", &format!("1.{n}.0")), &paths).await.unwrap();
    }
    let rows = [
        (message(registry.manifest(&model, &version).await), "newest versions are 1.6.0, 1.5.0, 1.4.0, 1.3.0, 1.2.0"),
        (message(registry.manifest(&"modell".parse().unwrap(), &version).await), "there are model"),
        (message(registry.promote(&promotion("model", "2.0.0", 0)).await), "no model 2.0.0"),
        (message(registry.resolve(&model, &"@champion".parse().unwrap()).await), "bellwether model alias"),
        (message(registry.set_alias(&model, &"x".parse().unwrap(), None, &context(0)).await), "never set"),
        (
            message(registry.set_alias(&model, &"x".parse().unwrap(), Some(&version), &context(0)).await),
            "no model 2.0.0",
        ),
        (
            message(registry.resolve(&model, &VersionReference::Current("production".parse().unwrap())).await),
            "model promote",
        ),
        (message(registry.list(&model, &Default::default(), 10, Some("page two")).await), "no version"),
        (message(registry.collect(std::time::Duration::from_secs(60), false, at(0)).await), "1h or more"),
    ];
    for (got, wanted) in rows {
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
}

#[tokio::test]
async fn an_alias_follows_its_moves_until_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 10)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let (name, champion) = ("model".parse().unwrap(), "champion".parse().unwrap());
    for version in ["1.0.0", "2.0.0-rc.1"] {
        register(&registry, draft("model", version), &paths).await.unwrap();
        registry.set_alias(&name, &champion, Some(&version.parse().unwrap()), &context(0)).await.unwrap();
    }
    let at = registry.resolve(&name, &"@champion".parse().unwrap()).await.unwrap();
    assert_eq!(at.to_string(), "2.0.0-rc.1");
    assert_eq!(registry.aliases(&name).await.unwrap(), [(champion.clone(), at)]);
    registry.set_alias(&name, &champion, None, &context(1)).await.unwrap();
    assert!(matches!(registry.resolve(&name, &"@champion".parse().unwrap()).await, Err(RegistryError::Absent { .. })));
    assert!(registry.aliases(&name).await.unwrap().is_empty());
    assert_eq!(registry.alias_history(&name, &champion).await.unwrap().len(), 3);
}
