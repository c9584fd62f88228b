//! The files and folders that the plane uses.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The age at which the logs of a failed run are deleted.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The paths that cargo tells to test binaries and benchmarks only, so that they have to pass them on.
#[derive(Debug, Clone)]
pub struct PlanePaths {
    /// The program under test: `CARGO_BIN_EXE_bellwether`.
    pub program: PathBuf,
    /// A folder for the files of tests: `CARGO_TARGET_TMPDIR`.
    pub scratch: PathBuf,
}

impl PlanePaths {
    /// Returns the folder of the plane's data. It is in memory, only processes of the plane's namespace see it, and it
    /// ends with the namespace.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("plane")
    }

    /// Creates a folder for the logs of this run, and deletes those of runs that failed more than a day ago.
    ///
    /// # Errors
    /// The folder can't be read or created.
    pub fn fresh_logs(&self) -> Result<PathBuf> {
        let all = self.scratch.join("logs");
        fs::create_dir_all(&all)?;
        for entry in fs::read_dir(&all)?.flatten() {
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > KEPT {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let logs = all.join(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string());
        fs::create_dir_all(&logs)?;
        Ok(logs)
    }
}

/// Returns the folder in which `tests/provision` installs programs.
///
/// # Errors
/// None of `BELLWETHER_CACHE`, `XDG_CACHE_HOME` and `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    if let Some(cache) = env::var_os("BELLWETHER_CACHE") {
        return Ok(cache.into());
    }
    let caches = match env::var_os("XDG_CACHE_HOME") {
        Some(caches) => PathBuf::from(caches),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(caches.join("bellwether"))
}
