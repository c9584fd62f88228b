//! The files with credentials. librdkafka reads them once for each client, so the clients are made anew after a change.
#![expect(clippy::disallowed_methods, reason = "instants of the polling thread; the engine does not see them")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::options::Options;

/// The time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The files of the configuration, with a digest of their content.
#[derive(Debug)]
pub(super) struct SecretFiles {
    files: Vec<PathBuf>,
    /// The digest of the content that the clients have; `None` if a file can't be read.
    used: Option<u64>,
    looked: Instant,
}

impl SecretFiles {
    pub(super) fn new(options: &Options) -> SecretFiles {
        let files = options.secret_files();
        SecretFiles { used: digest(&files), files, looked: Instant::now() }
    }

    /// Whether the content has changed since the last call that returned `true`. Looks at the files every 10 seconds. A file
    /// that can't be read is being replaced, and does not count as changed.
    pub(super) fn have_changed(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_EVERY {
            return false;
        }
        self.looked = Instant::now();
        let found = digest(&self.files);
        let have_changed = found.is_some() && found != self.used;
        if have_changed {
            self.used = found;
        }
        have_changed
    }
}

/// Returns a digest of the content of files; `None` if one can't be read.
fn digest(files: &[PathBuf]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).ok()?.hash(&mut hasher);
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_content_is_found_once_and_a_missing_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let password = directory.path().join("password");
        std::fs::write(&password, "one").unwrap();
        let mut files = SecretFiles { files: vec![password.clone()], used: None, looked: Instant::now() };
        files.used = digest(&files.files);
        let look = |files: &mut SecretFiles| {
            files.looked = Instant::now().checked_sub(LOOK_EVERY).unwrap();
            files.have_changed()
        };
        assert!(!look(&mut files));
        std::fs::remove_file(&password).unwrap();
        assert!(!look(&mut files));
        std::fs::write(&password, "one").unwrap();
        assert!(!look(&mut files), "the same content again");
        std::fs::write(&password, "two").unwrap();
        assert!(look(&mut files));
        assert!(!look(&mut files));
        assert!(!files.have_changed(), "it was looked at a moment ago");
    }
}
