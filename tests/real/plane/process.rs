//! A program of the plane: its output goes to a file, its readiness is a condition, and it dies with its owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::process::{Child, Command};

use super::wait;

const TAIL_LINES: usize = 30;

pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` with its output appended to `logs/NAME.log`.
    pub fn spawn(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).context("the log of a program")?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let child = command.spawn().with_context(|| format!("starting {name}: {}", program.display()))?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// Waits until `probe` succeeds; fails at once, with the end of the log, when the program ends before that.
    pub async fn until_ready<T>(&mut self, deadline: Duration, probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let what = format!("{} to be ready", self.name);
        let result = tokio::select! {
            status = self.child.wait() => Err(anyhow!("{} ended with {} before it was ready", self.name, status?)),
            ready = wait::until(&what, deadline, probe) => ready,
        };
        result.map_err(|error| anyhow!("{error:#}; {}", self.last_words()))
    }

    /// An error, with the end of the log, when the program has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; {}", self.name, self.last_words());
        }
        Ok(())
    }

    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL, and wait until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    /// Sends a signal, by its name without `SIG`.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let id = self.id().with_context(|| format!("{} has ended already", self.name))?;
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await?;
        ensure!(status.success(), "SIG{name} to {}: {status}", self.name);
        Ok(())
    }

    /// SIGTERM, and the exit code it ends with; `None` when a signal ended it.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<Option<i32>> {
        self.signal("TERM").await?;
        let ended = tokio::time::timeout(deadline, self.child.wait()).await;
        let status = ended.with_context(|| format!("{} ignored SIGTERM; {}", self.name, self.last_words()))??;
        Ok(status.code())
    }

    /// Waits for an end that nobody asked for, and returns its exit code.
    pub async fn ended(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let ended = tokio::time::timeout(deadline, self.child.wait()).await;
        Ok(ended.with_context(|| format!("{} did not end; {}", self.name, self.last_words()))??.code())
    }

    fn last_words(&self) -> String {
        format!("the end of {}:\n{}", self.log.display(), tail(&self.log, TAIL_LINES))
    }
}

/// All of a log. It may be cut in the middle of a character while it is written.
pub fn read_log(log: &Path) -> String {
    fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = read_log(log);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
