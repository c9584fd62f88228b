//! Downloads into a directory that other downloads use at the same time, have used before, or left unfinished.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bellwether_registry::fetch::{FetchOptions, Fetched};
use bellwether_registry::register::VersionDraft;
use bellwether_registry::risk::Risk;
use bellwether_registry::{Manifest, Registry, RegistryError};
use object_store::memory::InMemory;

use crate::damage::count_partials;
use crate::stepped::{Operation, Stepped};
use crate::suite::{draft, register, write_model};

const PART: usize = 16 << 10;

/// Registers versions of a model, each with these files and sizes in bytes.
async fn registered(versions: &[(&str, &[(&str, usize)])]) -> (Arc<InMemory>, Vec<Manifest>) {
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(inner.clone(), PART);
    let mut manifests = Vec::new();
    for (version, files) in versions {
        let directory = tempfile::tempdir().unwrap();
        let paths = write_model(directory.path(), files);
        // The content of the files is made up, whatever they are named.
        let draft = VersionDraft { accept: vec![Risk::UnreadablePickle], ..draft("model", version) };
        manifests.push(register(&registry, draft, &paths).await.unwrap());
    }
    (inner, manifests)
}

/// Returns the files in a directory with their digests, without those of the downloads themselves.
fn files_in(directory: &FilePath) -> Vec<(String, bellwether_registry::Digest)> {
    let mut found: Vec<_> = bellwether_registry::source::files(&[directory.to_owned()])
        .unwrap()
        .into_iter()
        .filter(|file| !file.path.as_str().starts_with('.'))
        .map(|file| {
            let bytes = std::fs::read(&file.from).unwrap();
            (file.path.as_str().to_owned(), bellwether_registry::Digest::of(&bytes))
        })
        .collect();
    found.sort();
    found
}

/// Returns the files of a manifest with their digests.
fn files_of(manifest: &Manifest) -> Vec<(String, bellwether_registry::Digest)> {
    manifest.files.iter().map(|file| (file.path.as_str().to_owned(), file.checksum)).collect()
}

/// Starts `count` downloads of one version into one directory. Each that succeeds must have left the right bytes.
async fn race(count: usize) {
    let (inner, manifests) = registered(&[("1.0.0", &[("config.json", 10), ("weights.bin", 20 * PART + 7)])]).await;
    let to = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (registry, manifest) = (Registry::on(inner.clone(), PART), manifests[0].clone());
            let directory = to.path().join("model");
            tokio::spawn(async move {
                let fetched = registry.fetch(&manifest, &directory, &FetchOptions::default()).await;
                (fetched, files_in(&directory) == files_of(&manifest))
            })
        })
        .collect();
    let mut downloaded = 0;
    for task in tasks {
        let (fetched, right) = task.await.unwrap();
        assert!(right, "a download succeeded and left wrong bytes");
        downloaded += fetched.unwrap().iter().filter(|fetched| **fetched != Fetched::Kept).count();
    }
    assert_eq!(downloaded, 2, "each file is downloaded once, and the others find it");
    assert_eq!(count_partials(&to.path().join("model")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_downloads_into_one_directory_all_leave_the_right_bytes() {
    race(20).await;
    race(200).await;
}

#[tokio::test]
async fn a_download_gives_up_when_another_one_has_the_directory_for_too_long() {
    let (inner, manifests) = registered(&[("1.0.0", &[("weights.bin", 10)])]).await;
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join(".bellwether")).unwrap();
    let lock = std::fs::File::create(to.path().join(".bellwether/lock")).unwrap();
    lock.lock().unwrap();
    let options = FetchOptions { wait: Duration::from_millis(60), ..FetchOptions::default() };
    let registry = Registry::on(inner, PART);
    let error = registry.fetch(&manifests[0], to.path(), &options).await.unwrap_err().to_string();
    assert!(error.contains("another process has been downloading into it"), "{error}");
    drop(lock);
    registry.fetch(&manifests[0], to.path(), &options).await.unwrap();
}

#[tokio::test]
async fn a_directory_holds_one_version_and_nothing_else() {
    let one: &[(&str, usize)] = &[("config.json", 10), ("shards/1.bin", 30), ("shards/2.bin", 40), ("old/x.bin", 1)];
    let two: &[(&str, usize)] = &[("config.json", 11), ("shards/1.bin", 30)];
    let (inner, manifests) = registered(&[("1.0.0", one), ("2.0.0", two)]).await;
    let registry = Registry::on(inner, PART);
    let to = tempfile::tempdir().unwrap();
    let (keep, replace) = (FetchOptions::default(), FetchOptions { replace: true, ..FetchOptions::default() });
    registry.fetch(&manifests[0], to.path(), &keep).await.unwrap();
    let error = registry.fetch(&manifests[1], to.path(), &keep).await.unwrap_err().to_string();
    assert!(error.contains("it has model 1.0.0 (config.json, old/x.bin, ") && error.contains("--replace"), "{error}");
    assert_eq!(files_in(to.path()), files_of(&manifests[0]), "a refused download changes nothing");
    registry.fetch(&manifests[1], to.path(), &replace).await.unwrap();
    assert_eq!(files_in(to.path()), files_of(&manifests[1]), "files of the other version are removed");
    assert!(!to.path().join("old").exists(), "and so are their directories");
    // A file that no download has written is never removed.
    std::fs::write(to.path().join("shards/3.bin"), "mine").unwrap();
    std::fs::write(to.path().join(".gitkeep"), "").unwrap();
    for options in [&keep, &replace] {
        let error = registry.fetch(&manifests[1], to.path(), options).await.unwrap_err().to_string();
        assert!(error.contains("not of model 2.0.0 (shards/3.bin)") && error.contains("move them away"), "{error}");
    }
    std::fs::remove_file(to.path().join("shards/3.bin")).unwrap();
    assert_eq!(registry.fetch(&manifests[1], to.path(), &keep).await.unwrap(), [Fetched::Kept; 2]);
    // A directory that is refused without a download is left as it was.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("notes.txt"), "mine").unwrap();
    registry.fetch(&manifests[1], other.path(), &replace).await.unwrap_err();
    assert!(!other.path().join(".bellwether").exists());
}

#[tokio::test]
async fn a_link_is_not_taken_for_a_file_of_the_version() {
    let (inner, manifests) = registered(&[("1.0.0", &[("dir/weights.bin", 10)])]).await;
    let registry = Registry::on(inner, PART);
    let (to, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = FetchOptions { replace: true, ..FetchOptions::default() };
    registry.fetch(&manifests[0], elsewhere.path(), &options).await.unwrap();
    // A directory that is a link would lead out of the target.
    std::os::unix::fs::symlink(elsewhere.path().join("dir"), to.path().join("dir")).unwrap();
    let error = registry.fetch(&manifests[0], to.path(), &options).await.unwrap_err().to_string();
    assert!(error.contains("(dir)"), "{error}");
    std::fs::remove_file(to.path().join("dir")).unwrap();
    std::fs::create_dir(to.path().join("dir")).unwrap();
    let file = to.path().join("dir/weights.bin");
    std::os::unix::fs::symlink(elsewhere.path().join("dir/weights.bin"), &file).unwrap();
    let error = registry.fetch(&manifests[0], to.path(), &FetchOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("another file is there"), "{error}");
    registry.fetch(&manifests[0], to.path(), &options).await.unwrap();
    assert!(!file.is_symlink() && file.is_file());
}

/// The download is dropped before each of its reads in turn, as if its process was killed there.
#[tokio::test]
async fn a_download_that_is_killed_at_any_read_is_completed_by_the_next_one() {
    let files: &[(&str, usize)] = &[("a.bin", 10), ("b.bin", 5 * PART + 1), ("c.bin", 2 * PART)];
    let (inner, manifests) = registered(&[("0.9.0", &[("a.bin", 10), ("z.bin", 3)]), ("1.0.0", files)]).await;
    let options = FetchOptions { replace: true, ..FetchOptions::default() };
    let mut resumed = 0;
    for allowed in 0.. {
        let to = tempfile::tempdir().unwrap();
        Registry::on(inner.clone(), PART).fetch(&manifests[0], to.path(), &options).await.unwrap();
        let (store, killed) = Stepped::mortal(inner.clone(), &[Operation::Get], allowed);
        let registry = Registry::on(Arc::new(store), PART);
        let done = tokio::select! {
            fetched = registry.fetch(&manifests[1], to.path(), &options) => fetched.is_ok(),
            // The pieces that were read before are written in the meantime.
            () = async { killed.notified().await; tokio::time::sleep(Duration::from_millis(100)).await } => false,
        };
        let fetched = Registry::on(inner.clone(), PART).fetch(&manifests[1], to.path(), &options).await.unwrap();
        resumed += fetched.iter().filter(|fetched| matches!(fetched, Fetched::DownloadedFrom(1..))).count();
        assert_eq!(files_in(to.path()), files_of(&manifests[1]), "killed before read {allowed}");
        assert_eq!(count_partials(to.path()), 0);
        if done {
            // `a.bin` is the same in both versions. The first read looks for the mark of a deletion.
            assert_eq!(allowed, 1 + 6 + 2, "the number of reads");
            break;
        }
    }
    assert!(resumed > 0, "only {resumed} downloads were resumed");
}

#[tokio::test]
async fn a_file_that_the_version_does_not_have_is_answered_with_those_that_it_has() {
    let (inner, manifests) = registered(&[("1.0.0", &[("a.txt", 10), ("model/model.pkl", 20)])]).await;
    let registry = Registry::on(inner, PART);
    let to = tempfile::tempdir().unwrap();
    let select =
        |path: &str| FetchOptions { files: vec![path.to_owned().try_into().unwrap()], ..FetchOptions::default() };
    let error = registry.fetch(&manifests[0], to.path(), &select("model.pkl")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Absent { .. }), "{error}");
    let wanted = "there is no file model.pkl in model 1.0.0; its files are model/model.pkl, a.txt";
    assert_eq!(error.to_string(), wanted);
    assert!(!to.path().join(".bellwether").exists());
    let fetched = registry.fetch(&manifests[0], to.path(), &select("model/model.pkl")).await.unwrap();
    assert_eq!(fetched, [Fetched::DownloadedFrom(0)]);
    assert_eq!(files_in(to.path()), files_of(&manifests[0])[1..]);
    let all = registry.fetch(&manifests[0], to.path(), &FetchOptions::default()).await.unwrap();
    assert_eq!(all, [Fetched::DownloadedFrom(0), Fetched::Kept]);
}
