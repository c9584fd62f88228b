//! Collecting garbage in a local directory, where a killed writer also leaves unfinished files.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bellwether_registry::{Options, Registry};

use crate::suite::{draft, register, write_model};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Writes a file that was last changed `age` ago.
fn write_aged(path: &Path, age: Duration) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "left").unwrap();
    #[expect(clippy::disallowed_methods, reason = "a file's age is counted from the system's time")]
    let then = SystemTime::now() - age;
    File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
}

#[tokio::test]
async fn collection_removes_only_old_unreferenced_uploads_and_unfinished_files() {
    let (root, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry =
        Registry::create(&Options { url: format!("file://{}", root.path().display()), ..Options::default() }).unwrap();
    let paths = write_model(files.path(), &[("model.bin", 10)]);
    let manifest = register(&registry, draft("model", "1.0.0"), &paths).await.unwrap();
    // Path, age, and whether it is garbage.
    let rows = [
        ("uploads/model/2.0.0/0123/0", 3 * DAY, true),
        ("uploads/model/2.0.0/4567/0", DAY / 4, false),
        ("uploads/model/3.0.0/89ab/0#1", 3 * DAY, true),
        ("models/model/3.0.0.json#2", 3 * DAY, true),
        ("models/model/4.0.0.json#1", DAY / 4, false),
        ("notes.txt", 3 * DAY, false),
        ("uploads/readme.txt", 3 * DAY, false),
    ];
    for (path, age, _) in rows {
        write_aged(&root.path().join(path), age);
    }
    // The files of a registered version are never garbage, however old they are.
    let own = format!("uploads/model/1.0.0/{}", manifest.upload);
    for name in ["0", "closed"] {
        let file = File::options().append(true).open(root.path().join(&own).join(name)).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a file's age is counted from the system's time")]
        file.set_modified(SystemTime::now() - 3 * DAY).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the collector must get the real time, because files have it")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let now = jiff::Timestamp::from_second(now as i64).unwrap();
    let expected = ["models/model/3.0.0.json#2", "uploads/model/2.0.0/0123", "uploads/model/3.0.0/89ab/0#1"];
    for delete in [false, true] {
        let found = registry.collect(DAY, delete, now).await.unwrap();
        assert_eq!(found.iter().map(|garbage| garbage.place.as_str()).collect::<Vec<_>>(), expected);
        for (path, _, garbage) in rows {
            assert_eq!(root.path().join(path).exists(), !(delete && garbage), "{path}");
        }
    }
    assert!(registry.verify(&manifest).await.unwrap().is_empty());
    assert_eq!(registry.versions(&"model".parse().unwrap()).await.unwrap().len(), 1);
}
