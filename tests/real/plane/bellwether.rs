//! The daemon under test: the binary of this build, with a config file, a log and a port of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether::failpoints::Failpoint;
use serde_json::Value;
use tokio::process::Command;

use super::process::{Process, read_log};
use super::story::Story;
use super::wait;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bellwether");
const FIRST_PORT: u16 = 20_000;
const START: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(120);

pub struct Bellwether {
    /// Where its HTTP is to listen, on 127.0.0.1; the config has to say so.
    pub port: u16,
    /// A folder of its own, in memory: the config, and what it keeps there.
    pub dir: PathBuf,
    name: String,
    logs: PathBuf,
    kubeconfig: PathBuf,
    /// Where it dies by itself: a point's name, and how often it is passed before.
    dies_at: Option<String>,
    process: Option<Process>,
}

/// What a command of the CLI did. `code` is `None` when a signal ended it.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Bellwether {
    /// Not started yet: the config needs the port first. `name` tells the replicas of one story apart.
    pub fn new(story: &Story, name: &str, kubeconfig: PathBuf) -> Result<Self> {
        let name = format!("{}.{name}", story.namespace);
        let dir = story.plane.data.join("bellwether").join(&name);
        fs::create_dir_all(&dir)?;
        let port = FIRST_PORT + story.plane.number();
        Ok(Self { port, dir, name, logs: story.plane.logs.clone(), kubeconfig, dies_at: None, process: None })
    }

    /// Another replica of it: the same configuration but for its port and its name in the group.
    pub fn twin(&self, story: &Story, name: &str) -> Result<Self> {
        let twin = Self::new(story, name, self.kubeconfig.clone())?;
        let config = fs::read_to_string(self.config()).context("the config file")?;
        let ours = [format!("127.0.0.1:{}", self.port), format!("instance-id = \"{}-0\"", story.group())];
        let theirs = [format!("127.0.0.1:{}", twin.port), format!("instance-id = \"{}-{name}\"", story.group())];
        twin.configure(&ours.iter().zip(theirs).fold(config, |config, (ours, theirs)| config.replace(ours, &theirs)))?;
        Ok(twin)
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("bellwether.toml")
    }

    /// Writes the config file; counts from the next start.
    pub fn configure(&self, toml: &str) -> Result<()> {
        fs::write(self.config(), toml).context("the config file")
    }

    /// From its next start on it dies at this point, as a SIGKILL would have it.
    pub fn dies_at(&mut self, point: Option<(Failpoint, u64)>) {
        self.dies_at = point.map(|(point, passes)| format!("{}:{passes}", point.name()));
    }

    /// Whether it has died by itself within this time.
    pub async fn has_died(&mut self, within: Duration) -> Result<bool> {
        let process = self.process.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let died = process.ended(within).await.is_ok();
        if died {
            self.process = None;
        }
        Ok(died)
    }

    /// Starts `run --config FILE` and waits until it is alive. Also after [`Bellwether::kill`]: the log goes on.
    pub async fn start(&mut self) -> Result<()> {
        self.start_unready()?;
        let (http, url) = (super::http_client()?, self.url("/livez"));
        let process = self.process.as_mut().context("just started")?;
        process
            .until_ready(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await
    }

    /// Only starts it: for what it does while something it needs is missing.
    pub fn start_unready(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let mut command = self.command();
        command.args(["run", "--config"]).arg(self.config());
        command.envs(self.dies_at.iter().map(|at| ("BELLWETHER_FAILPOINT", at)));
        self.process = Some(Process::spawn(&self.name, command, &self.logs)?);
        Ok(())
    }

    /// Waits until `/readyz` says yes; the error shows what it said last.
    pub async fn until_ready(&mut self, deadline: Duration) -> Result<()> {
        let (http, url) = (super::http_client()?, self.url("/readyz?verbose"));
        let process = self.process.as_mut().with_context(|| format!("{} does not run", self.name))?;
        process
            .until_ready(deadline, async || {
                let answer = http.get(&url).send().await?;
                let status = answer.status();
                ensure!(status.is_success(), "{status}: {}", answer.text().await?);
                Ok(())
            })
            .await
    }

    /// SIGKILL: no time to say goodbye to anybody.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        process.kill().await
    }

    /// Another signal, by its name without `SIG`.
    pub async fn signal(&self, name: &str) -> Result<()> {
        self.process.as_ref().with_context(|| format!("{} does not run", self.name))?.signal(name).await
    }

    /// SIGTERM, and the exit code.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let mut process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        process.terminate(deadline).await
    }

    /// Waits for an end that it finds itself, such as a config error; the exit code.
    pub async fn ended(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let mut process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        process.ended(deadline).await
    }

    /// An error, with the end of the log, when it is not running (any more).
    pub fn ensure_running(&mut self) -> Result<()> {
        self.process.as_mut().with_context(|| format!("{} does not run", self.name))?.ensure_running()
    }

    pub fn id(&self) -> Option<u32> {
        self.process.as_ref()?.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = super::http_client()?.get(self.url(path)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The rollout by that id as it is shown; `None`: this daemon shows none.
    pub async fn rollout(&self, id: &str) -> Result<Option<Value>> {
        let (status, body) = self.get(&format!("/api/v1/rollouts/{id}")).await?;
        Ok(if status == 200 { Some(serde_json::from_str(&body)?) } else { None })
    }

    /// A command of the CLI, with exactly these arguments.
    pub async fn cli<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut command = self.command();
        command.args(arguments).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND, command.output()).await.context("a command that does not end")??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// Everything that its runs wrote so far, stdout and stderr.
    pub fn log(&self) -> String {
        read_log(&self.logs.join(format!("{}.log", self.name)))
    }

    /// Waits until the log has a line with all of these words in it; returns the line.
    pub async fn until_logged(&self, words: &[&str], deadline: Duration) -> Result<String> {
        wait::until(&format!("a log line with {words:?}"), deadline, async || {
            let log = self.log();
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            found
                .map(str::to_owned)
                .with_context(|| format!("the last line is: {}", log.lines().last().unwrap_or_default()))
        })
        .await
    }

    /// Nothing of the developer's own environment decides how it behaves.
    fn command(&self) -> Command {
        let mut command = Command::new(Path::new(PROGRAM));
        let ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("BELLWETHER_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.env_remove("RUST_LOG").env("RUST_BACKTRACE", "1").env("KUBECONFIG", &self.kubeconfig);
        command.current_dir(&self.dir);
        command
    }
}
