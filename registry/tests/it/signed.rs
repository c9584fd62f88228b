//! Signatures, against one that sigstore's own tool has made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellwether_registry::signature::Key;
use bellwether_registry::{Options, Registry};
use object_store::memory::InMemory;

use crate::suite::{draft, promotion, register};

fn signed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signed")
}

/// A copy of the signed model that may be changed.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    for name in ["config.json", "model.sig", "sub/vocab.txt", "weights.bin"] {
        std::fs::copy(signed().join("model").join(name), directory.path().join(name)).unwrap();
    }
    directory
}

async fn said(directory: &Path, key: &Key) -> String {
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let manifest = register(&registry, draft("model", "1.0.0"), &[directory.to_owned()]).await.unwrap();
    registry.verify_signature(&manifest, key).await.map_or_else(|error| error.to_string(), |()| "holds".to_owned())
}

#[tokio::test]
async fn what_sigstores_tool_signed_holds_and_nothing_else() {
    let key = Key::read(&signed().join("key.pub")).unwrap();
    assert_eq!(said(copy().path(), &key).await, "holds");
    type Change = fn(&Path);
    let rows: [(Change, &str); 6] = [
        (|path| std::fs::write(path.join("weights.bin"), "Weights").unwrap(), "weights.bin is not as it was signed"),
        (|path| std::fs::write(path.join("more.bin"), "").unwrap(), "more.bin is not as it was signed"),
        (|path| std::fs::remove_file(path.join("sub/vocab.txt")).unwrap(), "sub/vocab.txt is not as it was signed"),
        (|path| std::fs::remove_file(path.join("model.sig")).unwrap(), "no model.sig"),
        (|path| change(&path.join("model.sig"), "MEYCIQD6", "MEYCIQD7"), "not made with this key, or was changed"),
        (|path| change(&path.join("model.sig"), "dsseEnvelope", "envelope"), "no sigstore bundle"),
    ];
    for (change, wanted) in rows {
        let directory = copy();
        change(directory.path());
        let got = said(directory.path(), &key).await;
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
}

fn change(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn where_a_key_is_set_only_what_is_signed_is_promoted() {
    let root = tempfile::tempdir().unwrap();
    let url = root.path().display().to_string();
    let options = Options { url, signature_key: Some(signed().join("key.pub")), ..Options::default() };
    let registry = Registry::create(&options).unwrap();
    register(&registry, draft("model", "1.0.0"), &[copy().path().to_owned()]).await.unwrap();
    let unsigned = copy();
    std::fs::remove_file(unsigned.path().join("model.sig")).unwrap();
    register(&registry, draft("model", "1.1.0"), &[unsigned.path().to_owned()]).await.unwrap();
    assert!(registry.promote(&promotion("model", "1.0.0", 1)).await.unwrap().now);
    let error = registry.promote(&promotion("model", "1.1.0", 2)).await.unwrap_err().to_string();
    assert!(error.contains("sign it before it is registered"), "{error}");
}

#[test]
fn what_is_no_key_on_p256_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pub");
    let good = std::fs::read_to_string(signed().join("key.pub")).unwrap();
    for text in ["", "nonsense", &good.replace("MFkw", "MFkx"), &good.replace("PUBLIC", "PRIVATE")] {
        std::fs::write(&path, text).unwrap();
        assert!(Key::read(&path).unwrap_err().to_string().contains("P-256"), "{text}");
    }
}
