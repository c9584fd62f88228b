//! Traces that another program writes to files during a run: OTLP as JSON, one export a line, as the file exporter of the
//! OpenTelemetry Collector writes them. (Its `format: proto` and its compression are not read.)

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::otlp::{MAX_EXPORT, OtlpEncoding, decode};
use super::store::TraceStore;

/// Pause between two looks at the files.
const PAUSE: Duration = Duration::from_millis(250);

/// Files of a directory that are followed; further ones are ignored.
const MAX_FILES: usize = 1_000;

/// The files that are followed; dropping it ends that.
#[derive(Debug)]
pub(super) struct FollowedFiles {
    task: JoinHandle<()>,
}

/// The part of a file that was read.
#[derive(Debug, Default)]
struct Followed {
    /// Bytes that were read.
    read: u64,
    /// The last line as far as it has come.
    line: Vec<u8>,
}

impl FollowedFiles {
    /// Follows the file or the directory at `path`, which may come into being later.
    pub(super) fn open(path: PathBuf, store: Arc<TraceStore>) -> FollowedFiles {
        let task = tokio::spawn(async move {
            let mut files: BTreeMap<PathBuf, Followed> = BTreeMap::new();
            loop {
                let (path, store) = (path.clone(), store.clone());
                let look = tokio::task::spawn_blocking(move || {
                    for file in listed(&path) {
                        read(&file, files.entry(file.clone()).or_default(), &store);
                    }
                    files
                });
                let Ok(after) = look.await else { return };
                files = after;
                tokio::time::sleep(PAUSE).await;
            }
        });
        FollowedFiles { task }
    }
}

impl Drop for FollowedFiles {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the file itself, or the files of the directory that end in `.json` or `.jsonl`.
fn listed(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is_json = |file: &PathBuf| file.extension().is_some_and(|end| end == "json" || end == "jsonl");
    files.filter(is_json).take(MAX_FILES).collect()
}

/// Reads the lines that were added to a file. A file that has become shorter was rotated, and is read from its start.
/// Lines that are no exports are skipped: a trace that they hid is missing, and told so.
fn read(path: &Path, followed: &mut Followed, store: &TraceStore) {
    let Ok(mut file) = File::open(path) else { return };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    if length < followed.read {
        *followed = Followed::default();
    }
    if followed.read == length {
        return;
    }
    while followed.read < length {
        let mut added = Vec::new();
        let part = file
            .seek(SeekFrom::Start(followed.read))
            .and_then(|_| file.by_ref().take((length - followed.read).min(MAX_EXPORT as u64)).read_to_end(&mut added));
        match part {
            Ok(bytes) if bytes > 0 => followed.read += bytes as u64,
            _ => return,
        }
        for piece in added.split_inclusive(|byte| *byte == b'\n') {
            // A line that is too large is cut, and then no export.
            let room = MAX_EXPORT.saturating_sub(followed.line.len());
            followed.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n")
                && let Ok(spans) = decode(&std::mem::take(&mut followed.line), OtlpEncoding::Json)
            {
                store.add(spans);
            }
        }
    }
    // The last export of a file may have no line end.
    if let Ok(spans) = decode(&followed.line, OtlpEncoding::Json) {
        followed.line.clear();
        store.add(spans);
    }
}
