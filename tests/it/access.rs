//! The program with secrets that are marked: none of them is in anything that it prints.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The part that every secret of the test has.
const MARK: &str = "MARKED5ECRET";
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
async fn refusing_server() -> String {
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
fn configure(folder: &Path, server: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let mut secret = |name: &str, form: &dyn Fn(&str) -> String| {
        let secret = form(&format!("{MARK}{}", secrets.len()));
        std::fs::write(folder.join(name), format!("{secret}\n")).unwrap();
        secrets.push(secret);
        folder.join(name).display().to_string()
    };
    let prometheus = secret("prometheus", &|mark| mark.to_owned());
    let slack = secret("slack", &|mark| format!("http://{server}/services/{mark}"));
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
        http = {{ listen = "127.0.0.1:0", events = true, authenticate = true, stamp-key-file = {stamp:?} }}
        log = {{ filter = "trace", format = "json" }}
        "#
    );
    std::fs::write(folder.join("bellwether.toml"), config).unwrap();
    secrets
}

/// Returns a command of the program with the configuration in `folder`.
fn bellwether(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.args(arguments).arg("--config").arg(folder.join("bellwether.toml")).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A running daemon whose log is read all the time: a pipe that is full would stop it.
struct Daemon {
    process: Child,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Daemon {
    /// Starts the daemon and waits until it runs. Returns it with the URL of its HTTP server.
    async fn start(folder: &Path) -> (Self, String) {
        let mut process = bellwether(folder, &["run"]).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (into, (running, is_running)) = (Arc::clone(&log), oneshot::channel());
        let reader = tokio::spawn(async move {
            let mut running = Some(running);
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(listen) = listen_address(&line) {
                    running.take().map(|running| running.send(format!("http://{listen}")));
                }
                let mut log = into.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let daemon = Self { process, log, reader };
        let url = tokio::time::timeout(DEADLINE, is_running).await.expect("the daemon starts in time");
        let url = url.unwrap_or_else(|_| panic!("the daemon has ended:\n{}", daemon.log.lock().unwrap()));
        (daemon, url)
    }

    /// Stops the daemon and returns its log.
    async fn stop(mut self) -> String {
        Command::new("kill").arg(self.process.id().unwrap().to_string()).status().await.unwrap();
        tokio::time::timeout(DEADLINE, self.reader).await.expect("the daemon stops in time").unwrap();
        self.process.wait().await.unwrap();
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// Returns the address of the HTTP server, if `line` is the one that says that the daemon runs.
fn listen_address(line: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = &record["fields"];
    (fields["message"] == "running").then(|| fields["listen"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn no_output_of_any_command_contains_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = configure(folder.path(), &refusing_server().await);
    let mut printed = String::new();
    for arguments in [&["check"][..], &["check", "--online"], &["config", "show", "--origin"]] {
        printed += &run_and_print(folder.path(), arguments).await.1;
    }
    let (daemon, url) = Daemon::start(folder.path()).await;
    let token = folder.path().join("token").display().to_string();
    let emit = ["emit", "abort", "--workload", "test/shop/Deployment/web", "--url", &url, "--token-file", &token];
    let (status, refusal) = run_and_print(folder.path(), &emit).await;
    assert!(!status.success(), "{refusal}");
    printed += &refusal;
    printed += &daemon.stop().await;
    // It did read the secrets, and it says everything that it does.
    assert!(
        printed.contains("TRACE") && printed.contains("the sender of a posted event could not be checked"),
        "{printed}"
    );
    let leaks: Vec<&str> = printed.lines().filter(|line| line.contains(MARK)).collect();
    assert!(leaks.is_empty(), "of {secrets:?}: {leaks:#?}");
}

/// Runs a command until it ends. Returns its status and all that it has printed.
async fn run_and_print(folder: &Path, arguments: &[&str]) -> (ExitStatus, String) {
    let output = tokio::time::timeout(DEADLINE, bellwether(folder, arguments).output()).await;
    let output = output.expect("the command ends in time").unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status, format!("{stdout}{stderr}"))
}
