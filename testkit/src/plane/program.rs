//! A program of the plane: its output goes to a file, and it ends with its owner.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::process::{Child, Command};

use super::wait;

/// Number of log lines in an error.
const TAIL_LINES: usize = 30;

/// A running program.
pub struct Program {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts `command`. Its output is appended to `logs/NAME.log`.
    ///
    /// # Errors
    /// The log can't be opened, or the program can't be started.
    pub fn spawn(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).context("the log of a program")?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let child = command.spawn().with_context(|| format!("starting {name}: {}", program.display()))?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// Returns the id of the process; `None` if it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until `probe` succeeds, and returns its value.
    ///
    /// # Errors
    /// The program ended before, or the deadline has passed. The error has the end of the log.
    pub async fn until_ready<T>(&mut self, deadline: Duration, probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let condition = format!("{} to be ready", self.name);
        let result = tokio::select! {
            status = self.child.wait() => Err(anyhow!("{} ended with {} before it was ready", self.name, status?)),
            ready = wait::until(&condition, deadline, probe) => ready,
        };
        result.map_err(|error| anyhow!("{error:#}; {}", self.end_of_log()))
    }

    /// Checks that the program runs.
    ///
    /// # Errors
    /// It has ended. The error has the end of the log.
    pub fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; {}", self.name, self.end_of_log());
        }
        Ok(())
    }

    /// Returns the exit status if the program has ended.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn try_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// The signal can't be sent.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    /// Sends the signal with this name, which has no `SIG` in front.
    ///
    /// # Errors
    /// The program has ended, or there is no such signal.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().with_context(|| format!("{} has ended already", self.name))?;
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await?;
        ensure!(status.success(), "SIG{name} to {}: {status}", self.name);
        Ok(())
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// It still runs after `deadline`. The error has the end of the log.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(deadline, self.child.wait()).await;
        Ok(ended.with_context(|| format!("{} did not end within {deadline:?}; {}", self.name, self.end_of_log()))??)
    }

    /// Returns the end of the log with its path, for an error.
    pub fn end_of_log(&self) -> String {
        format!("the end of {}:\n{}", self.log.display(), tail(&self.log, TAIL_LINES))
    }
}

/// Returns a log from the byte `start` on; empty if there is no such file. While a program writes, a character at the end
/// may be incomplete and is replaced.
pub fn read_log(log: &Path, start: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Returns the last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = read_log(log, 0);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
