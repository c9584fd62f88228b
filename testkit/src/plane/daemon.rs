//! The daemon under test: the program of this build, with its own configuration file, log and port.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bellwether::failpoints::Failpoint;
use bellwether_core::ids::RolloutId;
use serde_json::Value;
use tokio::process::Command;

use super::program::{Program, read_log};
use super::sandbox::Sandbox;
use super::{http, wait};

const FIRST_PORT: u16 = 20_000;
const START: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(120);

/// The log line of a shard that owns its partition and has restored it from the journal.
const OWNED: &str = "partition restored";
/// SIGKILL, by which a failpoint ends the process.
const SIGKILL: i32 = 9;

/// A daemon, which may run or not.
pub struct Daemon {
    /// The port of its HTTP server on 127.0.0.1. The configuration must name it.
    pub port: u16,
    /// A folder for its files, in memory.
    pub dir: PathBuf,
    name: String,
    executable: PathBuf,
    logs: PathBuf,
    kubeconfig: PathBuf,
    /// The command that runs the daemon in place of the program of this build.
    pod: Option<PodCommand>,
    /// The failpoint of the next start, and how often it is passed before.
    failpoint: Option<(Failpoint, u64)>,
    /// The workload towards which it is a program of the next version, from the next start on.
    next_format: Option<String>,
    /// Length of the log at the last start, in bytes.
    log_before: u64,
    process: Option<Program>,
}

/// A command that runs the daemon as a container runtime runs it in a pod: with no other variables than these.
#[derive(Debug, Clone)]
pub struct PodCommand {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// The environment.
    pub variables: Vec<(String, String)>,
}

/// The result of a command of the CLI.
#[derive(Debug)]
pub struct CommandOutput {
    /// Its exit code. `None`: a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// The end of a run with a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailpointRun {
    /// The failpoint ended the daemon, which owned a partition.
    Ended,
    /// The failpoint ended the daemon before it owned a partition. The daemon writes its first transaction to open a
    /// partition, so [`Failpoint::Produced`] can do that, and no other failpoint.
    EndedWhileOpening,
    /// The daemon owns a partition and has not reached the failpoint.
    NotReached,
}

impl Daemon {
    /// Returns a daemon that does not run yet: its configuration needs its port. `name` distinguishes replicas.
    ///
    /// # Errors
    /// Its folder can't be created.
    pub fn new(sandbox: &Sandbox, name: &str, kubeconfig: PathBuf) -> Result<Self> {
        let name = format!("{}.{name}", sandbox.namespace);
        let dir = sandbox.plane.data.join("bellwether").join(&name);
        fs::create_dir_all(&dir)?;
        Ok(Self {
            port: FIRST_PORT + sandbox.plane.number(),
            dir,
            name,
            executable: sandbox.plane.program.clone(),
            logs: sandbox.plane.logs.clone(),
            kubeconfig,
            pod: None,
            failpoint: None,
            next_format: None,
            log_before: 0,
            process: None,
        })
    }

    /// Returns another replica, with the same configuration except for its port and its name in the consumer group.
    ///
    /// # Errors
    /// The configuration file can't be read or written.
    pub fn replica(&self, sandbox: &Sandbox, name: &str) -> Result<Self> {
        let replica = Self::new(sandbox, name, self.kubeconfig.clone())?;
        let config = fs::read_to_string(self.config()).context("the configuration file")?;
        let own = [format!("127.0.0.1:{}", self.port), format!("instance-id = \"{}-0\"", sandbox.group())];
        let other = [format!("127.0.0.1:{}", replica.port), format!("instance-id = \"{}-{name}\"", sandbox.group())];
        replica.configure(&own.iter().zip(other).fold(config, |config, (own, other)| config.replace(own, &other)))?;
        Ok(replica)
    }

    /// Returns the path of the configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("bellwether.toml")
    }

    /// Writes the configuration file. A running daemon reads it at its next start or reload.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn configure(&self, toml: &str) -> Result<()> {
        fs::write(self.config(), toml).context("the configuration file")
    }

    // ---- start and end ----

    /// Starts the daemon and waits until its HTTP server answers. The log of earlier runs is continued.
    ///
    /// # Errors
    /// It runs already, ends, or does not answer in time.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let (http, url) = (http::client()?, self.url("/livez"));
        self.running()?
            .until_ready(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await
    }

    /// Runs the daemon by this command from its next start on. Its HTTP server must have the port of this value.
    pub fn run_as(&mut self, pod: PodCommand) {
        self.pod = Some(pod);
    }

    /// Starts the daemon and waits for nothing.
    ///
    /// # Errors
    /// It runs already, or can't be started.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let mut command = match &self.pod {
            Some(PodCommand { words, variables }) => {
                let mut command = Command::new(words.first().context("a command without a program")?);
                command.args(&words[1..]).env_clear().envs(variables.iter().cloned());
                command
            }
            None => {
                let mut command = self.command();
                command.args(["run", "--config"]).arg(self.config());
                command
            }
        };
        let failpoint = self.failpoint.map(|(failpoint, passes)| format!("{}:{passes}", failpoint.name()));
        command.envs(failpoint.map(|text| ("BELLWETHER_FAILPOINT", text)));
        command.envs(self.next_format.as_ref().map(|workload| ("BELLWETHER_NEXT_FORMAT", workload)));
        self.log_before = fs::metadata(self.log_file()).map_or(0, |log| log.len());
        self.process = Some(Program::spawn(&self.name, command, &self.logs)?);
        Ok(())
    }

    /// Waits until `/readyz` answers with 200.
    ///
    /// # Errors
    /// The daemon ends, or is not ready in time. The error has the last answer.
    pub async fn until_ready(&mut self, deadline: Duration) -> Result<()> {
        let (http, url) = (http::client()?, self.url("/readyz?verbose"));
        self.running()?
            .until_ready(deadline, async || {
                let answer = http.get(&url).send().await?;
                let status = answer.status();
                ensure!(status.is_success(), "{status}: {}", answer.text().await?);
                Ok(())
            })
            .await
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// The daemon does not run.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        process.kill().await
    }

    /// Sends the signal with this name, which has no `SIG` in front.
    ///
    /// # Errors
    /// The daemon does not run, or there is no such signal.
    pub async fn signal(&self, name: &str) -> Result<()> {
        self.process.as_ref().with_context(|| format!("{} does not run", self.name))?.signal(name).await
    }

    /// Sends SIGTERM, waits for the end and returns the exit code. `None`: a signal ended the daemon.
    ///
    /// # Errors
    /// The daemon does not run, or does not end in time.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<Option<i32>> {
        self.signal("TERM").await?;
        self.ended(deadline).await
    }

    /// Waits until the daemon ends by itself, and returns the exit code. `None`: a signal ended it.
    ///
    /// # Errors
    /// The daemon does not run, or does not end in time.
    pub async fn ended(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let mut process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        Ok(process.ended(deadline).await?.code())
    }

    /// Returns the exit status if the daemon has ended without having been told to, so that it can be started again.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn ended_by_itself(&mut self) -> Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.try_status()?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// Returns the id of its process.
    ///
    /// # Errors
    /// The daemon does not run.
    pub fn pid(&self) -> Result<u32> {
        self.process.as_ref().and_then(Program::pid).with_context(|| format!("{} does not run", self.name))
    }

    fn running(&mut self) -> Result<&mut Program> {
        self.process.as_mut().with_context(|| format!("{} does not run", self.name))
    }

    // ---- failpoints ----

    /// Sets the failpoint that ends the daemon from its next start on, and how often it is passed before.
    pub fn set_failpoint(&mut self, failpoint: Option<(Failpoint, u64)>) {
        self.failpoint = failpoint;
    }

    /// Makes the daemon a program of the next version towards a workload, from its next start on: it writes the workload's journal
    /// entries in the next format, and reads them.
    pub fn set_next_format(&mut self, workload: String) {
        self.next_format = Some(workload);
    }

    /// Waits until the daemon owns a partition, and then up to `within` until its failpoint ends it.
    ///
    /// # Errors
    /// The daemon ended otherwise than by SIGKILL, as it does after an error in its configuration; or it owns no partition
    /// in time. The error has the end of the log.
    pub async fn until_failpoint(&mut self, within: Duration) -> Result<FailpointRun> {
        let (failpoint, _) = self.failpoint.context("no failpoint is set")?;
        let started = Instant::now();
        let mut owned_since: Option<Instant> = None;
        loop {
            let status = self.running()?.try_status()?;
            // Read after the status, so that the log of an ended daemon is complete.
            let owned = owned_since.is_some() || self.log().contains(OWNED);
            let end_of_log = || self.process.as_ref().map(Program::end_of_log).unwrap_or_default();
            if let Some(status) = status {
                ensure!(
                    status.signal() == Some(SIGKILL),
                    "{} ended with {status} and not by SIGKILL at the failpoint `{}`; {}",
                    self.name,
                    failpoint.name(),
                    end_of_log()
                );
                ensure!(
                    self.log().contains(&failpoint.last_line()),
                    "{} was killed and not by the failpoint `{}`; {}",
                    self.name,
                    failpoint.name(),
                    end_of_log()
                );
                self.process = None;
                // The line about the partition may be lost in the log's queue. All other failpoints are in a partition.
                let owned = owned || failpoint != Failpoint::Produced;
                return Ok(if owned { FailpointRun::Ended } else { FailpointRun::EndedWhileOpening });
            }
            let now = Instant::now();
            match owned_since {
                Some(since) if now - since >= within => return Ok(FailpointRun::NotReached),
                Some(_) => {}
                None if owned => owned_since = Some(now),
                None if now - started >= START => {
                    bail!("{} owned no partition within {START:?}; {}", self.name, end_of_log());
                }
                None => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    // ---- its answers ----

    /// Returns the URL of a path of its HTTP server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the status and the body of a GET.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = http::client()?.get(self.url(path)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Returns a rollout as the API shows it. `None`: this daemon does not show it.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn rollout(&self, id: &RolloutId) -> Result<Option<Value>> {
        let (status, body) = self.get(&format!("/api/v1/rollouts/{id}")).await?;
        ensure!(status == 200 || status == 404, "{status}: {body}");
        Ok(if status == 200 { Some(serde_json::from_str(&body)?) } else { None })
    }

    /// Runs a command of the CLI with exactly these arguments.
    ///
    /// # Errors
    /// The command can't be started, or does not end in time.
    pub async fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<CommandOutput> {
        let mut command = self.command();
        command.args(arguments).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND, command.output())
            .await
            .with_context(|| format!("the command did not end within {COMMAND:?}"))??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(CommandOutput { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// Returns the output since the last start.
    pub fn log(&self) -> String {
        read_log(&self.log_file(), self.log_before)
    }

    fn log_file(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name))
    }

    /// Waits until a log line since the last start has all of these words, and returns it.
    ///
    /// # Errors
    /// There is no such line in time.
    pub async fn until_logged(&self, words: &[&str], deadline: Duration) -> Result<String> {
        wait::until(&format!("a log line of {} with {words:?}", self.name), deadline, async || {
            let log = self.log();
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            let last = || format!("the last line is: {}", log.lines().last().unwrap_or_default());
            found.map(str::to_owned).with_context(last)
        })
        .await
    }

    /// Returns a command of the program. Its environment has no variables that would configure it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        let configures = |name: &OsString| name.to_string_lossy().starts_with("BELLWETHER_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| configures(name)) {
            command.env_remove(name);
        }
        // `USER` would be a part of the source of events.
        command
            .env_remove("USER")
            .env_remove("RUST_LOG")
            .env("RUST_BACKTRACE", "1")
            .env("KUBECONFIG", &self.kubeconfig);
        command.current_dir(&self.dir);
        command
    }
}
