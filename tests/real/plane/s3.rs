//! S3: Versity's gateway on a folder. What it stores are files, which a test can damage behind its back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::process::Process;

pub const URL: &str = "http://127.0.0.1:7070";

/// The one bucket.
pub const BUCKET: &str = "models";

/// Of this server alone, which nobody outside of the namespace reaches.
pub const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "bellwether"), ("AWS_SECRET_ACCESS_KEY", "only-a-test")];

const START: Duration = Duration::from_secs(60);

pub struct S3 {
    _program: Process,
}

/// The folder with the bucket's objects, each a file of its key's name.
pub fn objects(data: &Path) -> PathBuf {
    data.join("s3").join(BUCKET)
}

impl S3 {
    pub async fn start(cache: &Path, data: &Path, logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(objects(data)).context("the bucket's folder")?;
        // Beside the objects and not in their attributes, which not every kernel has for files in memory.
        let sidecar = data.join("metadata-of-s3");
        std::fs::create_dir_all(&sidecar)?;
        let mut command = Command::new(cache.join("bin/versitygw"));
        let [(_, id), (_, key)] = CREDENTIALS;
        command.envs([("ROOT_ACCESS_KEY", id), ("ROOT_SECRET_KEY", key)]);
        command.args(["--port", "127.0.0.1:7070", "--health", "/health", "--keep-alive", "posix", "--sidecar"]);
        command.arg(sidecar).arg(data.join("s3"));
        let mut program = Process::spawn("s3", command, logs)?;
        let http = super::http_client()?;
        program
            .until_ready(START, async || {
                http.get(format!("{URL}/health")).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        Ok(Self { _program: program })
    }
}
