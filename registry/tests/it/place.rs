//! A place without a registry: the error says what is there, and where a registry is.

use std::path::Path;

use bellwether_registry::{Options, Registry};

use crate::suite::{draft, register, write_model};

fn options(path: &Path) -> Options {
    Options { url: format!("file://{}", path.display()), ..Options::default() }
}

#[tokio::test]
async fn a_wrong_place_is_answered_with_what_is_there_and_the_right_place() {
    let root = tempfile::tempdir().unwrap();
    let right = root.path().join("ai/models");
    let registry = Registry::create(&options(&right)).unwrap();
    let files = tempfile::tempdir().unwrap();
    register(&registry, draft("chat", "1.0.0"), &write_model(files.path(), &[("model.bin", 10)])).await.unwrap();
    registry.check_root().await.unwrap();
    std::fs::create_dir_all(root.path().join("ai/other")).unwrap();
    std::fs::create_dir_all(root.path().join("empty/models")).unwrap();
    let one = format!("one is at {}", right.canonicalize().unwrap().display());
    let rows = [
        // A segment too few, one too many, and a different one.
        ("ai", "only models/, other/ is there", Some(&one)),
        ("ai/models/uploads", "only chat/ is there", Some(&one)),
        ("ai/other", "nothing is there", Some(&one)),
        ("empty/models", "nothing is there; set registry.url to the right place", None),
    ];
    for (path, there, nearby) in rows {
        let registry = Registry::open(&options(&root.path().join(path))).unwrap();
        let error = registry.check_root().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("there is no registry at {}", root.path().join(path).display())), "{error}");
        assert!(error.contains(there) && nearby.is_none_or(|nearby| error.contains(nearby)), "{path}: {error}");
        assert_eq!(nearby.is_some(), error.contains("one is at"), "{path}: {error}");
        // The folders of a registry are not taken for its models.
        assert!(registry.models(50, None).await.unwrap().items.is_empty(), "{path}");
    }
}
