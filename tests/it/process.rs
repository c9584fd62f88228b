//! The program as a process, with a configuration that has a secret in each place that takes one.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

/// The part that every secret of the test has.
pub const MARK: &str = "MARKED5ECRET";
/// The time in which the daemon has to start and to stop.
const DEADLINE: Duration = Duration::from_secs(60);

/// Answers every request of a connection as an API server that doesn't know the token, and repeats the request's head in its answer.
async fn refuse(mut stream: TcpStream) {
    let mut head = vec![0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut head).await {
        let text = String::from_utf8_lossy(&head[..length]).replace(['"', '\\', '\r', '\n'], " ");
        let message = text.split("uthorization").next().unwrap_or_default();
        let body =
            format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{message}","code":401}}"#);
        let answer = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Starts a server that refuses everything; returns its address.
pub async fn refusing_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(refuse(stream));
        }
    });
    address
}

/// Writes the configuration with a secret in each place that takes one. Returns the secrets.
pub fn configure(folder: &Path, server: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let mut secret = |name: &str, form: &dyn Fn(&str) -> String| {
        let secret = form(&format!("{MARK}{}", secrets.len()));
        std::fs::write(folder.join(name), format!("{secret}\n")).unwrap();
        secrets.push(secret);
        folder.join(name).display().to_string()
    };
    let prometheus = secret("prometheus", &|mark| mark.to_owned());
    let slack = secret("slack", &|mark| format!("http://{server}/services/{mark}"));
    let hook = secret("hook", &|mark| format!("http://{server}/api/webhooks/1/{mark}"));
    let key = secret("key", &|mark| format!("{mark}-{}", "0".repeat(32)));
    let stamp = secret("stamp", &|mark| format!("{mark}-{}", "0".repeat(32)));
    let kubernetes = secret("kubernetes", &|mark| mark.to_owned());
    let _ = secret("token", &|mark| mark.to_owned());
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": { "server": format!("http://{server}") } }],
        "users": [{ "name": "test", "user": { "tokenFile": kubernetes } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    });
    std::fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let (journal, kubeconfig) = (folder.join("journal.redb"), folder.join("kubeconfig"));
    let config = format!(
        r#"
        cluster = "test"
        journal = {{ kind = "embedded", path = {journal:?} }}
        kubernetes = {{ kubeconfig = {kubeconfig:?} }}
        prometheus = {{ url = "http://{server}", bearer-token-file = {prometheus:?} }}
        slack = {{ webhook-file = {slack:?} }}
        http = {{ listen = "127.0.0.1:0", events = true, authenticate = true, posts-per-second = 1000, stamp-key-file = {stamp:?} }}
        log = {{ filter = "trace", format = "json" }}
        [sink]
        alertmanager.am = {{ url = "http://{server}", bearer-token-file = {key:?} }}
        discord.chat = {{ webhook-file = {hook:?} }}
        http.hook = {{ url-file = {hook:?}, secret-file = {key:?}, header-files = {{ X-Token = {key:?} }} }}
        opsgenie.ops = {{ url = "http://{server}", api-key-file = {key:?} }}
        pagerduty.duty = {{ url = "http://{server}", routing-key-file = {key:?} }}
        slack.team = {{ webhook-file = {hook:?} }}
        teams.work = {{ webhook-file = {hook:?} }}
        "#
    );
    std::fs::write(folder.join("bellwether.toml"), config).unwrap();
    secrets
}

/// Returns the variables of the tests' environment that the program would read as settings, such as `BELLWETHER_CACHE`.
pub fn settings_in_environment() -> impl Iterator<Item = String> {
    std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("BELLWETHER_"))
}

/// Returns a command of the program with the configuration in `folder` alone. Its environment names proxies that take no
/// connection: every server of the tests is on this machine.
pub fn bellwether(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.args(arguments).arg("--config").arg(folder.join("bellwether.toml")).env_remove("RUST_LOG");
    for name in settings_in_environment().chain(["NO_PROXY".to_owned(), "no_proxy".to_owned()]) {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, "http://127.0.0.1:9");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A running daemon.
pub struct Daemon {
    process: Child,
    /// The URL of its HTTP server.
    pub url: String,
    /// Its log up to the line that says that it runs.
    log: String,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Daemon {
    /// Starts the daemon and waits until it runs. Its log is not read from then on.
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// Does as [`Daemon::start`], with these variables in the daemon's environment.
    pub async fn start_with(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut process = bellwether(folder, &["run"]).envs(environment.iter().copied()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut log = String::new();
        loop {
            let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("the daemon starts in time");
            let line = line.unwrap().unwrap_or_else(|| panic!("the daemon has ended:\n{log}"));
            log.push_str(&line);
            log.push('\n');
            if let Some(listen) = listen_address(&line) {
                return Self { process, url: format!("http://{listen}"), log, lines };
            }
        }
    }

    /// Reads the log from here on.
    pub fn read(self) -> ReadDaemon {
        let Self { process, url, mut log, mut lines } = self;
        let reader = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                log.push_str(&line);
                log.push('\n');
            }
            log
        });
        ReadDaemon { process, url, reader }
    }

    /// Stops the daemon while its log is not read. Returns its status.
    pub async fn stop(mut self) -> ExitStatus {
        terminate(&self.process).await;
        tokio::time::timeout(DEADLINE, self.process.wait()).await.expect("the daemon stops in time").unwrap()
    }
}

/// A running daemon whose log is read.
pub struct ReadDaemon {
    process: Child,
    /// The URL of its HTTP server.
    pub url: String,
    reader: JoinHandle<String>,
}

impl ReadDaemon {
    /// Stops the daemon and returns its log.
    pub async fn stop(mut self) -> String {
        terminate(&self.process).await;
        let log = tokio::time::timeout(DEADLINE, self.reader).await.expect("the daemon stops in time").unwrap();
        self.process.wait().await.unwrap();
        log
    }
}

/// Sends SIGTERM to a process.
async fn terminate(process: &Child) {
    Command::new("kill").arg(process.id().unwrap().to_string()).status().await.unwrap();
}

/// Returns the address of the HTTP server, if `line` is the one that says that the daemon runs.
fn listen_address(line: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = &record["fields"];
    (fields["message"] == "running").then(|| fields["listen"].as_str().unwrap().to_owned())
}

/// Runs a command until it ends. Returns its status and all that it has printed.
pub async fn run_and_print(folder: &Path, arguments: &[&str]) -> (ExitStatus, String) {
    let output = tokio::time::timeout(DEADLINE, bellwether(folder, arguments).output()).await;
    let output = output.expect("the command ends in time").unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status, format!("{stdout}{stderr}"))
}

/// The events that are posted to a daemon that logs more than a kilobyte for each: several times the bytes that a pipe takes.
const EVENTS: usize = 300;

#[tokio::test]
async fn a_log_that_is_not_read_delays_nothing() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &refusing_server().await);
    let daemon = Daemon::start(folder.path()).await;
    bellwether::telemetry::install_tls();
    let http = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
    for event in 0..EVENTS {
        let post = http.post(format!("{}/api/v1/events", daemon.url)).bearer_auth("unknown").body("{}");
        let answer = post.send().await.unwrap_or_else(|error| panic!("event {event}: {error}"));
        assert_eq!(answer.status(), reqwest::StatusCode::SERVICE_UNAVAILABLE, "event {event}");
    }
    assert!(daemon.stop().await.success());
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_panic_is_a_line_of_the_log_with_its_message_its_place_and_its_task() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &refusing_server().await);
    let daemon = Daemon::start_with(folder.path(), &[("BELLWETHER_PANIC", "readiness")]).await.read();
    bellwether::telemetry::install_tls();
    let metrics = format!("{}/metrics", daemon.url);
    let counted = async {
        while !reqwest::get(&metrics)
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("task_panics_total{task=\"readiness\"} 1")
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.expect("the panic is counted in time");
    let log = daemon.stop().await;
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let panics: Vec<_> =
        lines.iter().map(|line| &line["fields"]).filter(|fields| fields["panic"].is_string()).collect();
    assert_eq!(panics.len(), 1, "{panics:#?}");
    let has = |field: &str, part: &str| panics[0][field].as_str().is_some_and(|text| text.contains(part));
    assert!(has("panic", "the task readiness panics") && has("task", "readiness"), "{panics:#?}");
    assert!(has("place", "src/failpoints.rs:") && has("message", "a task has panicked"), "{panics:#?}");
}
