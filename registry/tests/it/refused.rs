//! What people write by mistake, and what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_registry::options::Encryption;
use bellwether_registry::register::Draft;
use bellwether_registry::{Digest, Error, ModelName, Options, Reference, Registry, Version, source};
use object_store::memory::InMemory;

use crate::suite::{at, draft, mark, promotion, register, write_model};

fn words<T, E: ToString>(result: Result<T, E>) -> String {
    result.err().map_or_else(|| "fine".to_owned(), |error| error.to_string())
}

#[test]
fn words_that_are_none() {
    let long = "x".repeat(129);
    let rows = [
        (words("1.2".parse::<Version>()), "\"1.2\" is no version: unexpected end of input"),
        (words("v1.2.0".parse::<Version>()), "as in 1.4.0"),
        (words("1.02.0".parse::<Version>()), "leading zero"),
        (words("1.2.0+gpu".parse::<Version>()), "leave it out"),
        (words("1.2.0-RC1".parse::<Version>()), "lower case"),
        (words(format!("1.2.0-{long}").parse::<Version>()), "64 are allowed"),
        (words("../x".parse::<ModelName>()), "\"../x\" is no model name"),
        (words("org/model".parse::<ModelName>()), "as in summarizer-large"),
        (words("Model".parse::<ModelName>()), "lower-case"),
        (words("".parse::<ModelName>()), "no model name"),
        (words(long.parse::<ModelName>()), "128 are allowed"),
        (words("md5:0123".parse::<Digest>()), "`sha256sum` prints"),
        (words("sha256:12".parse::<Digest>()), "64 hexadecimal digits"),
        (words("@Champion".parse::<Reference>()), "no alias"),
        (words("newest".parse::<Reference>()), "no version"),
    ];
    for (got, wanted) in rows {
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
}

#[test]
fn options_that_contradict_themselves() {
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
        let shown = words(Registry::open(&options));
        assert!(shown.starts_with("registry.") && !shown.contains("secret"), "{shown}");
    }
}

#[tokio::test]
async fn drafts_and_files_that_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 10)]);
    std::fs::create_dir(directory.path().join("nothing")).unwrap();
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let other = Some(Digest::of(b"something else"));
    let metrics = BTreeMap::from([("f1".to_owned(), f64::NAN)]);
    let rows = [
        (Draft { checksum: other, ..draft("model", "1.0.0") }, "nothing was registered"),
        (Draft { by: " ".to_owned(), ..draft("model", "1.0.0") }, "say who"),
        (Draft { performance_metrics: metrics, ..draft("model", "1.0.0") }, "f1=NaN"),
        (Draft { tags: vec!["ä".repeat(4000)], ..draft("model", "1.0.0") }, "longer than 4096"),
    ];
    for (draft, wanted) in rows {
        let got = words(register(&registry, draft, &places).await);
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
    let rows = [
        (vec![directory.path().join("absent")], "can't be read"),
        (vec![directory.path().join("nothing")], "there is no file in it"),
        (vec![directory.path().join("model.bin"), directory.path().to_owned()], "the same path"),
    ];
    for (places, wanted) in rows {
        let got = words(source::files(&places));
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
    assert!(registry.versions(&"model".parse().unwrap()).await.unwrap().is_empty());
    let good = Draft {
        checksum: Some(Digest::of(&std::fs::read(directory.path().join("model.bin")).unwrap())),
        ..draft("model", "1.0.0")
    };
    register(&registry, good, &places).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 10)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let (model, version) = ("model".parse().unwrap(), "2.0.0".parse().unwrap());
    let empty = words(registry.resolve(&model, &Reference::Latest).await);
    assert!(empty.contains("nothing is registered there yet"), "{empty}");
    for n in 0..7 {
        register(&registry, draft("model", &format!("1.{n}.0")), &places).await.unwrap();
    }
    let rows = [
        (words(registry.manifest(&model, &version).await), "newest versions are 1.6.0, 1.5.0, 1.4.0, 1.3.0, 1.2.0"),
        (words(registry.manifest(&"modell".parse().unwrap(), &version).await), "there are model"),
        (words(registry.promote(&promotion("model", "2.0.0", 0)).await), "no model 2.0.0"),
        (words(registry.resolve(&model, &"@champion".parse().unwrap()).await), "bellwether model alias"),
        (words(registry.set_alias(&model, &"x".parse().unwrap(), None, &mark(0)).await), "never set"),
        (words(registry.set_alias(&model, &"x".parse().unwrap(), Some(&version), &mark(0)).await), "no model 2.0.0"),
        (words(registry.resolve(&model, &Reference::Current("production".parse().unwrap())).await), "model promote"),
        (words(registry.list(&model, &Default::default(), 10, Some("page two")).await), "no version"),
        (words(registry.collect(std::time::Duration::from_secs(60), false, at(0)).await), "1h or more"),
    ];
    for (got, wanted) in rows {
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
}

#[tokio::test]
async fn aliases_move_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 10)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let (name, champion) = ("model".parse().unwrap(), "champion".parse().unwrap());
    for version in ["1.0.0", "2.0.0-rc.1"] {
        register(&registry, draft("model", version), &places).await.unwrap();
        registry.set_alias(&name, &champion, Some(&version.parse().unwrap()), &mark(0)).await.unwrap();
    }
    let at = registry.resolve(&name, &"@champion".parse().unwrap()).await.unwrap();
    assert_eq!(at.to_string(), "2.0.0-rc.1");
    assert_eq!(registry.aliases(&name).await.unwrap(), [(champion.clone(), at)]);
    registry.set_alias(&name, &champion, None, &mark(1)).await.unwrap();
    assert!(matches!(registry.resolve(&name, &"@champion".parse().unwrap()).await, Err(Error::Absent { .. })));
    assert!(registry.aliases(&name).await.unwrap().is_empty());
    assert_eq!(registry.alias_history(&name, &champion).await.unwrap().len(), 3);
}
