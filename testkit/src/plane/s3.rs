//! S3: Versity's gateway on a folder. Its objects are files, which a test can damage.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use super::http;
use super::program::Program;

/// URL of the server.
pub const URL: &str = "http://127.0.0.1:7070";

/// The only bucket.
pub const BUCKET: &str = "models";

/// Credentials of this server, as environment variables. No process outside of the plane's namespace can reach it.
pub const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "bellwether"), ("AWS_SECRET_ACCESS_KEY", "only-a-test")];

const START: Duration = Duration::from_secs(60);

/// A running S3 server.
pub struct S3Server {
    _program: Program,
}

/// Returns the folder with the bucket's objects. Each is a file named by its key.
pub fn objects(data: &Path) -> PathBuf {
    data.join("s3").join(BUCKET)
}

impl S3Server {
    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// The program does not start, or does not answer in time.
    pub async fn start(cache: &Path, data: &Path, logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(objects(data)).context("the bucket's folder")?;
        // Metadata in files: not every kernel has extended attributes for files in memory.
        let sidecar = data.join("metadata-of-s3");
        std::fs::create_dir_all(&sidecar)?;
        let mut command = Command::new(cache.join("bin/versitygw"));
        let [(_, id), (_, key)] = CREDENTIALS;
        command.envs([("ROOT_ACCESS_KEY", id), ("ROOT_SECRET_KEY", key)]);
        command.args(["--port", "127.0.0.1:7070", "--health", "/health", "--keep-alive", "posix", "--sidecar"]);
        command.arg(sidecar).arg(data.join("s3"));
        let mut program = Program::spawn("s3", command, logs)?;
        let http = http::client()?;
        program
            .until_ready(START, async || {
                http.get(format!("{URL}/health")).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        Ok(Self { _program: program })
    }
}
