//! Signatures, tested with one that sigstore's own tool made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_registry::attest::{attest, attested_report};
use bellwether_registry::fetch::FetchOptions;
use bellwether_registry::{Options, Registry, RegistryError, SigningKey, VerifyingKey};
use object_store::memory::InMemory;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::reports::report;
use crate::suite::{draft, promotion, register, write_model};

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

/// Returns a private key and its public key.
fn keys(directory: &Path, name: &str) -> (SigningKey, VerifyingKey) {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    let public =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pair.as_ref(), &SystemRandom::new()).unwrap();
    // The algorithm and the curve before the point, as in RFC 5480.
    let mut der =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
            .to_vec();
    der.extend_from_slice(public.public_key().as_ref());
    let write = |kind: &str, der: &[u8]| {
        let path = directory.join(format!("{name}-{kind}.pem"));
        let text = format!("-----BEGIN {kind} KEY-----\n{}\n-----END {kind} KEY-----\n", STANDARD.encode(der));
        std::fs::write(&path, text).unwrap();
        path
    };
    let (private, public) = (write("PRIVATE", pair.as_ref()), write("PUBLIC", &der));
    (SigningKey::read(&private).unwrap(), VerifyingKey::read(&public).unwrap())
}

#[tokio::test]
async fn with_a_key_for_reports_only_those_that_it_signed_count() {
    let directory = tempfile::tempdir().unwrap();
    let ((ours, trusted), (theirs, _)) = (keys(directory.path(), "ours"), keys(directory.path(), "theirs"));
    let model = tempfile::tempdir().unwrap();
    let paths = write_model(model.path(), &[("model.bin", 10)]);
    let require = BTreeMap::from([("production".parse().unwrap(), vec!["safety".parse().unwrap()])]);
    let plain = Registry::on(Arc::new(InMemory::new()), 100).requiring(require);
    let manifest = register(&plain, draft("model", "1.0.0"), &paths).await.unwrap();
    // Attached before there was a key.
    plain.attach(&manifest, report(&manifest, "safety", "pass", 1)).await.unwrap();
    let registry = plain.clone().trusting(trusted.clone());
    let promote = || promotion("model", "1.0.0", 9);
    let refused = registry.promote(&promote()).await.unwrap_err().to_string();
    assert!(refused.contains("it has no safety report"), "{refused}");
    let passed = report(&manifest, "safety", "pass", 2);
    let attested = |key| attest(&passed, key).unwrap();
    let good = attested(&ours);
    let payload = |envelope: &str| -> Value {
        let envelope: Value = serde_json::from_str(envelope).unwrap();
        serde_json::from_slice(&STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(payload(&good)["subject"][0]["digest"]["sha256"], manifest.checksum.hex());
    // A failure, whose verdict was changed after it was signed.
    let failed = attest(&report(&manifest, "safety", "fail", 2), &ours).unwrap();
    let mut forged: Value = serde_json::from_str(&failed).unwrap();
    let mut statement = payload(&failed);
    statement["predicate"]["verdict"] = "pass".into();
    forged["payload"] = STANDARD.encode(statement.to_string()).into();
    for wrong in [String::from_utf8(passed.clone()).unwrap(), attested(&theirs), forged.to_string()] {
        let error = registry.attach(&manifest, wrong.into_bytes()).await.unwrap_err().to_string();
        assert!(error.contains("is not signed with the registry's key for reports"), "{error}");
    }
    registry.attach(&manifest, good.clone().into_bytes()).await.unwrap();
    assert!(registry.promote(&promote()).await.unwrap().created);
    assert_eq!(attested_report(good.as_bytes(), Some(&trusted)).unwrap(), {
        serde_json::from_slice::<Value>(&passed).unwrap().to_string().into_bytes()
    });
    let nameless = json!({ "subject": { "model": "m" } }).to_string();
    assert!(attest(nameless.as_bytes(), &ours).unwrap_err().contains("names nothing by digest"));
    assert_eq!(format!("{ours:?}"), "SigningKey");
}

#[tokio::test]
async fn a_kept_ledger_is_found_again_and_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 10)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    let manifest = register(&registry, draft("model", "1.0.0"), &paths).await.unwrap();
    assert_eq!(registry.kept_ledger(&manifest, "run").await.unwrap(), None);
    for (after, content) in [(0, "one"), (1, "two"), (1, "two")] {
        registry.keep_ledger(&manifest, "run", after, content.into()).await.unwrap();
    }
    let kept = registry.kept_ledger(&manifest, "run").await.unwrap().unwrap();
    assert_eq!((kept.number, &kept.content[..]), (2, &b"two"[..]));
    let other = registry.keep_ledger(&manifest, "run", 1, "another".into()).await.unwrap_err().to_string();
    assert!(other.contains("another run of the suite was under way"), "{other}");
    assert_eq!(registry.kept_ledger(&manifest, "other").await.unwrap(), None);
}
