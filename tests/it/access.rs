//! The program with secrets that are marked: none of them is in anything that it prints.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

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
fn configure(folder: &Path, server: &str, listen: &str) -> Vec<String> {
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
        http = {{ listen = {listen:?}, events = true, authenticate = true, stamp-key-file = {stamp:?} }}
        log = {{ filter = "trace" }}
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

#[tokio::test]
async fn no_output_of_any_command_contains_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let secrets = configure(folder.path(), &refusing_server().await, &listen);
    let mut printed = String::new();
    for arguments in [&["check"][..], &["check", "--online"], &["config", "show", "--origin"]] {
        let output =
            tokio::time::timeout(DEADLINE, bellwether(folder.path(), arguments).output()).await.unwrap().unwrap();
        printed += &format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    printed += &run_and_post(folder.path(), &listen).await;
    // It did read the secrets, and it says everything that it does.
    assert!(
        printed.contains("TRACE") && printed.contains("the sender of a posted event could not be checked"),
        "{printed}"
    );
    let leaks: Vec<&str> = printed.lines().filter(|line| line.contains(MARK)).collect();
    assert!(leaks.is_empty(), "of {secrets:?}: {leaks:#?}");
}

/// Runs the daemon, posts an event with a token, and stops the daemon. Returns all that both have printed.
async fn run_and_post(folder: &Path, listen: &str) -> String {
    let mut daemon = bellwether(folder, &["run"]).spawn().unwrap();
    let (mut lines, mut printed) = (BufReader::new(daemon.stderr.take().unwrap()).lines(), String::new());
    while !printed.contains("running") {
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        printed += &line.unwrap_or_else(|| panic!("the daemon has ended:\n{printed}"));
        printed += "\n";
    }
    let (url, token) = (format!("http://{listen}"), folder.join("token").display().to_string());
    let workload = "test/shop/Deployment/web";
    let emit = ["emit", "abort", "--workload", workload, "--url", &url, "--token-file", &token];
    let output = tokio::time::timeout(DEADLINE, bellwether(folder, &emit).output()).await.unwrap().unwrap();
    assert!(!output.status.success());
    printed += &String::from_utf8_lossy(&output.stderr);
    let pid = daemon.id().unwrap().to_string();
    Command::new("kill").arg(pid).status().await.unwrap();
    while let Some(line) = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap() {
        printed += &format!("{line}\n");
    }
    printed
}
