//! Signatures, tested with one that sigstore's own tool made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellwether_registry::fetch::FetchOptions;
use bellwether_registry::{Options, Registry, RegistryError, VerifyingKey};
use object_store::memory::InMemory;

use crate::suite::{draft, promotion, register};

/// The directory with the signed model and its public key.
fn signed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signed")
}

/// Returns a copy of the signed model that a test may change.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    for name in ["config.json", "model.sig", "sub/vocab.txt", "weights.bin"] {
        std::fs::copy(signed().join("model").join(name), directory.path().join(name)).unwrap();
    }
    directory
}

/// Registers the directory's files. Returns "valid" or the error's message.
async fn verification(directory: &Path, key: &VerifyingKey) -> String {
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let manifest = register(&registry, draft("model", "1.0.0"), &[directory.to_owned()]).await.unwrap();
    registry.verify_signature(&manifest, key).await.map_or_else(|error| error.to_string(), |()| "valid".to_owned())
}

#[tokio::test]
async fn only_the_files_that_sigstores_tool_signed_are_accepted() {
    let key = VerifyingKey::read(&signed().join("key.pub")).unwrap();
    assert_eq!(verification(copy().path(), &key).await, "valid");
    type Change = fn(&Path);
    let rows: [(Change, &str); 7] = [
        (|path| std::fs::write(path.join("weights.bin"), "Weights").unwrap(), "weights.bin is not as it was signed"),
        (|path| std::fs::write(path.join("more.bin"), "").unwrap(), "more.bin is not as it was signed"),
        (|path| std::fs::write(path.join(".gitmodules"), "x").unwrap(), ".gitmodules is not as it was signed"),
        (|path| std::fs::remove_file(path.join("sub/vocab.txt")).unwrap(), "sub/vocab.txt is not as it was signed"),
        (|path| std::fs::remove_file(path.join("model.sig")).unwrap(), "no model.sig"),
        (|path| change(&path.join("model.sig"), "MEYCIQD6", "MEYCIQD7"), "not made with this key, or was changed"),
        (|path| change(&path.join("model.sig"), "dsseEnvelope", "envelope"), "no sigstore bundle"),
    ];
    for (change, wanted) in rows {
        let directory = copy();
        change(directory.path());
        let got = verification(directory.path(), &key).await;
        assert!(got.contains(wanted), "{got:?} should say {wanted:?}");
    }
}

fn change(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// The signing tool lists what it left out: `.git`, `.github`, `.gitattributes`, `.gitignore` and the signature.
#[tokio::test]
async fn files_that_the_signature_leaves_out_are_not_asked_for() {
    let key = VerifyingKey::read(&signed().join("key.pub")).unwrap();
    let directory = copy();
    for (path, text) in [(".gitattributes", "*.bin filter=lfs"), (".git/config", "[core]"), (".github/ci.yml", "on:")] {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    assert_eq!(verification(directory.path(), &key).await, "valid");
}

#[tokio::test]
async fn with_a_key_an_unsigned_version_is_not_downloaded() {
    let root = tempfile::tempdir().unwrap();
    let url = root.path().join("models").display().to_string();
    let plain = Registry::create(&Options { url: url.clone(), ..Options::default() }).unwrap();
    let good = register(&plain, draft("model", "1.0.0"), &[copy().path().to_owned()]).await.unwrap();
    let changed = copy();
    std::fs::write(changed.path().join("weights.bin"), "Weights").unwrap();
    let bad = register(&plain, draft("model", "1.1.0"), &[changed.path().to_owned()]).await.unwrap();
    let options = Options { url, signature_key: Some(signed().join("key.pub")), ..Options::default() };
    let registry = Registry::open(&options).unwrap();
    let to = root.path().join("downloaded");
    let error = registry.fetch(&bad, &to, &FetchOptions::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Signature { .. }) && !to.exists(), "{error}");
    registry.fetch(&good, &to, &FetchOptions::default()).await.unwrap();
}

#[tokio::test]
async fn with_a_key_an_unsigned_version_is_not_promoted() {
    let root = tempfile::tempdir().unwrap();
    let url = root.path().display().to_string();
    let options = Options { url, signature_key: Some(signed().join("key.pub")), ..Options::default() };
    let registry = Registry::create(&options).unwrap();
    register(&registry, draft("model", "1.0.0"), &[copy().path().to_owned()]).await.unwrap();
    let unsigned = copy();
    std::fs::remove_file(unsigned.path().join("model.sig")).unwrap();
    register(&registry, draft("model", "1.1.0"), &[unsigned.path().to_owned()]).await.unwrap();
    assert!(registry.promote(&promotion("model", "1.0.0", 1)).await.unwrap().created);
    let error = registry.promote(&promotion("model", "1.1.0", 2)).await.unwrap_err().to_string();
    assert!(error.contains("sign it before it is registered"), "{error}");
}

#[test]
fn a_file_without_a_p256_public_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pub");
    let good = std::fs::read_to_string(signed().join("key.pub")).unwrap();
    for text in ["", "nonsense", &good.replace("MFkw", "MFkx"), &good.replace("PUBLIC", "PRIVATE")] {
        std::fs::write(&path, text).unwrap();
        assert!(VerifyingKey::read(&path).unwrap_err().to_string().contains("P-256"), "{text}");
    }
}
