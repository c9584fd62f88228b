//! The scan of files before they are registered, and the links that are followed.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bellwether_registry::register::VersionDraft;
use bellwether_registry::risk::Risk;
use bellwether_registry::{Registry, RegistryError, source};
use object_store::memory::InMemory;

use crate::suite::{draft, register};

/// `pickle.dumps({"a": 1}, 4)` of Python.
const HARMLESS: &[u8] = b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.";
/// `pickle.dumps` of an object whose `__reduce__` returns `(os.system, ("id",))`.
const SYSTEM: &[u8] = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.";
/// A pickle of protocol 2 with a class of scikit-learn.
const SKLEARN: &[u8] = b"\x80\x02csklearn.linear_model._logistic\nLogisticRegression\n)\x81.";

/// Writes a zip archive of entries that are not compressed, as PyTorch and NumPy do.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        out.start_file(*name, stored).unwrap();
        out.write_all(bytes).unwrap();
    }
    out.finish().unwrap().into_inner()
}

/// Returns a safetensors file with this header and so many bytes of tensors.
fn safetensors(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

/// Returns an array of NumPy with this type of elements.
fn array(elements: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{elements}', 'fortran_order': False, 'shape': (1,), }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// Registers one file. Returns the kinds of its risks, and the error's message if it was refused.
async fn risks(name: &str, bytes: &[u8]) -> (Vec<Risk>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let registry = Registry::on(Arc::new(InMemory::new()), 1 << 20);
    let strict = VersionDraft { accept: Vec::new(), ..draft("model", "1.0.0") };
    match register(&registry, strict, &[path]).await {
        Ok(manifest) => {
            assert!(manifest.accepted.is_empty());
            (Vec::new(), String::new())
        }
        Err(RegistryError::Risky(found)) => {
            assert!(registry.versions(&"model".parse().unwrap()).await.unwrap().is_empty());
            let text = RegistryError::Risky(found.clone()).to_string();
            (found.into_iter().map(|finding| finding.risk).collect(), text)
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

#[tokio::test]
async fn each_risk_is_found_and_named() {
    let f32s = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let hole = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5000000\n";
    let mut old_torch = HARMLESS.to_vec();
    old_torch.extend(SYSTEM);
    let rows: Vec<(&str, Vec<u8>, Vec<Risk>, &str)> = vec![
        ("model.pkl", HARMLESS.to_vec(), vec![], ""),
        (
            "model.pkl",
            SYSTEM.to_vec(),
            vec![Risk::DangerousImport],
            "model.pkl: it imports posix.system (dangerous-import)",
        ),
        ("MODEL.PKL", SKLEARN.to_vec(), vec![Risk::UnknownImport], "LogisticRegression (unknown-import)"),
        ("weights.dat", SYSTEM.to_vec(), vec![Risk::DangerousImport], "posix.system"),
        ("no-extension", SYSTEM.to_vec(), vec![Risk::DangerousImport], "posix.system"),
        ("pytorch_model.bin", b"cposix\nsystem\n(Vid\ntR.".to_vec(), vec![Risk::DangerousImport], "posix.system"),
        ("pytorch_model.bin", old_torch, vec![Risk::DangerousImport], "posix.system"),
        ("pytorch_model.bin", vec![7; 100], vec![], ""),
        ("model.pkl", SYSTEM[..39].to_vec(), vec![Risk::DangerousImport, Risk::UnreadablePickle], "at byte"),
        ("model.pkl", vec![7; 100], vec![Risk::UnreadablePickle], "0x07 is no opcode"),
        ("vocab.txt", b"cat\ndog\nfish\n".to_vec(), vec![], ""),
        ("m.pt", archive(&[("m/data.pkl", HARMLESS), ("m/data/0", &[0x80, 2, 9, 9])]), vec![], ""),
        ("m.pt", archive(&[("m/data.pkl", SYSTEM)]), vec![Risk::DangerousImport], "posix.system"),
        ("m.pt", archive(&[("m/data/0", SYSTEM)]), vec![Risk::DangerousImport], "posix.system"),
        ("m.pt", b"PK\x03\x04 and no directory".to_vec(), vec![Risk::UnreadablePickle], "archive can't be read"),
        ("a.npy", array("<f4", &[0; 4]), vec![], ""),
        ("a.npy", array("|O", SYSTEM), vec![Risk::DangerousImport], "posix.system"),
        ("a.npz", archive(&[("w.npy", &array("|O", SYSTEM))]), vec![Risk::DangerousImport], "posix.system"),
        ("m.safetensors", safetensors(f32s, 8), vec![], ""),
        ("m.safetensors", safetensors(f32s, 7), vec![Risk::BadSafetensors], "its tensors end at byte"),
        ("m.safetensors", safetensors(hole, 16), vec![Risk::BadSafetensors], "its header is wrong"),
        ("m.safetensors", safetensors("[]", 0), vec![Risk::BadSafetensors], "its header is wrong"),
        ("m.safetensors", vec![255; 20], vec![Risk::BadSafetensors], "and the file has 20"),
        ("m.safetensors", vec![1; 3], vec![Risk::BadSafetensors], "too short"),
        ("config.json", br#"{"auto_map":{"AutoModel":"modeling.M"}}"#.to_vec(), vec![Risk::RemoteCode], "auto_map"),
        (
            "tokenizer_config.json",
            br#"{"trust_remote_code":true}"#.to_vec(),
            vec![Risk::RemoteCode],
            "trust_remote_code",
        ),
        ("config.json", br#"{"auto_map":{},"trust_remote_code":false}"#.to_vec(), vec![], ""),
        ("m.safetensors", pointer.into(), vec![Risk::LfsPointer], "git lfs pull"),
        ("model.gguf", Vec::new(), vec![Risk::EmptyFile], "it has no bytes (empty-file)"),
        ("__init__.py", Vec::new(), vec![], ""),
    ];
    for (name, bytes, wanted, text) in rows {
        let (found, message) = risks(name, &bytes).await;
        assert_eq!(found, wanted, "{name}: {message}");
        assert!(message.contains(text), "{name}: {message:?} should say {text:?}");
        assert!(found.is_empty() || message.contains("--accept"), "{message}");
    }
}

#[tokio::test]
async fn an_accepted_risk_is_recorded_and_no_other_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.pkl"), SKLEARN).unwrap();
    std::fs::write(directory.path().join("b.pkl"), SYSTEM).unwrap();
    let registry = Registry::on(Arc::new(InMemory::new()), 1 << 20);
    let paths = [directory.path().to_owned()];
    let accepting = |accept: &[Risk]| VersionDraft { accept: accept.to_vec(), ..draft("model", "1.0.0") };
    let error = register(&registry, accepting(&[Risk::UnknownImport]), &paths).await.unwrap_err().to_string();
    assert!(error.contains("b.pkl") && !error.contains("a.pkl"), "{error}");
    let accept = accepting(&[Risk::UnknownImport, Risk::DangerousImport, Risk::EmptyFile]);
    let manifest = register(&registry, accept, &paths).await.unwrap();
    let read = registry.manifest(&manifest.name, &manifest.version).await.unwrap();
    let recorded: Vec<String> = read.accepted.iter().map(ToString::to_string).collect();
    assert_eq!(
        recorded,
        [
            "a.pkl: it imports sklearn.linear_model._logistic.LogisticRegression (unknown-import)",
            "b.pkl: it imports posix.system (dangerous-import)",
        ]
    );
}

/// Returns the paths that would be registered, or the error's message.
fn found(directory: &Path) -> Result<Vec<String>, String> {
    let files = source::files(&[directory.to_owned()]).map_err(|error| error.to_string())?;
    Ok(files.into_iter().map(|file| file.path.as_str().to_owned()).collect())
}

#[test]
fn links_are_followed_in_the_directory_and_in_a_hubs_cache_only() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("secret"), "key").unwrap();
    let model = root.path().join("model");
    std::fs::create_dir_all(model.join("shards")).unwrap();
    std::fs::write(model.join("shards/1.bin"), "1").unwrap();
    symlink("shards/1.bin", model.join("model.bin")).unwrap();
    assert_eq!(found(&model).unwrap(), ["model.bin", "shards/1.bin"]);
    // The directory that was asked for may be a link itself.
    symlink(&model, root.path().join("current")).unwrap();
    assert_eq!(found(&root.path().join("current")).unwrap(), ["model.bin", "shards/1.bin"]);
    for (target, wanted) in [
        ("../secret", "outside of the directory"),
        ("/etc/passwd", "outside of the directory"),
        ("..", "outside of the directory"),
        (".", "a directory that it is in"),
        ("gone", "can't be read"),
    ] {
        symlink(target, model.join("link")).unwrap();
        let error = found(&model).unwrap_err();
        assert!(error.contains(wanted) && error.contains("link"), "{target}: {error}");
        std::fs::remove_file(model.join("link")).unwrap();
    }
    // The layout of Hugging Face's cache.
    let hub = root.path().join("hub/models--org--Model");
    std::fs::create_dir_all(hub.join("blobs")).unwrap();
    std::fs::create_dir_all(hub.join("snapshots/abc/sub")).unwrap();
    std::fs::write(hub.join("blobs/0123"), "w").unwrap();
    symlink("../../blobs/0123", hub.join("snapshots/abc/w.bin")).unwrap();
    symlink("../../../blobs/0123", hub.join("snapshots/abc/sub/w.bin")).unwrap();
    assert_eq!(found(&hub.join("snapshots/abc")).unwrap(), ["sub/w.bin", "w.bin"]);
    symlink("../../../../secret", hub.join("snapshots/abc/x.bin")).unwrap();
    assert!(found(&hub.join("snapshots/abc")).unwrap_err().contains("outside"));
}

#[test]
fn the_files_of_a_download_are_not_registered_again() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(".bellwether")).unwrap();
    std::fs::write(root.path().join(".bellwether/lock"), "").unwrap();
    std::fs::write(root.path().join("model.bin"), "1").unwrap();
    assert_eq!(found(root.path()).unwrap(), ["model.bin"]);
}
