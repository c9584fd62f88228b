//! The daemon that `--api` names: whether it runs, its version, and the conditions of its readiness.

use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;

use super::CheckFinding;

/// The deadline of a request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer in bytes that is read.
const MOST_BYTES: usize = 64 << 10;
/// The version of this program.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// The answer of `/version`.
#[derive(Debug, Deserialize)]
struct VersionAnswer {
    name: String,
    version: String,
    /// The cluster that the daemon acts in; `None` from a version that does not tell it.
    cluster: Option<String>,
}

/// Returns the findings about the daemon at `api`. `cluster` is the name of the cluster in the configuration; `None` if that can't be
/// read.
pub async fn findings(api: &str, cluster: Option<&str>) -> Vec<CheckFinding> {
    let client = bellwether_tools::http::client().timeout(TIMEOUT).build();
    let (Ok(client), Ok(base)) = (client, Url::parse(api)) else {
        let text = format!("{api:?} is not a URL");
        return vec![CheckFinding::problem("daemon", text, "write --api http://127.0.0.1:8080")];
    };
    let (version, ready) = (get(&client, &base, "version").await, get(&client, &base, "readyz?verbose").await);
    match version {
        Err(error) => vec![absent(api, &error)],
        Ok(text) => {
            let mut findings = vec![version_finding(api, &text)];
            findings.extend(cluster.and_then(|ours| cluster_finding(api, &text, ours)));
            findings.extend(ready.map(|text| conditions(&text)).unwrap_or_default());
            findings
        }
    }
}

async fn get(client: &Client, base: &Url, path: &str) -> Result<String, String> {
    let url = base.join(path).map_err(|error| error.to_string())?;
    let mut response = client.get(url).send().await.map_err(|error| super::super::with_causes(&error.into()))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err(format!("its answer is longer than {} KiB", MOST_BYTES >> 10));
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Returns the finding about a daemon that does not answer. It is no problem: it may run elsewhere, or not yet.
fn absent(api: &str, error: &str) -> CheckFinding {
    let remedy = "start it with `bellwether run`; if it runs in the cluster, `kubectl -n bellwether port-forward service/bellwether 8080`, \
                  or name its URL with --api";
    CheckFinding::warning("daemon", format!("no daemon answers at {api}: {error}"), remedy)
        .because("no event is taken and no rollout goes on without a daemon")
}

fn version_finding(api: &str, answer: &str) -> CheckFinding {
    match serde_json::from_str::<VersionAnswer>(answer).ok().filter(|answer| answer.name == "bellwether") {
        None => {
            let remedy = "name the daemon's URL with --api (http.listen of its configuration)";
            CheckFinding::problem("daemon", format!("{api} answers, and is no Bellwether"), remedy)
                .because("commands that ask the daemon fail")
        }
        Some(VersionAnswer { version, .. }) if version != OURS => {
            let text = format!("the daemon at {api} is version {version}, and this program is {OURS}");
            let remedy = format!("deploy the image with the tag {OURS}, or use the program of {version}");
            CheckFinding::warning("daemon", text, remedy)
                .because("its decisions and its configuration may differ from what this program says")
        }
        Some(VersionAnswer { version, .. }) => CheckFinding::fine("daemon", format!("version {version} runs at {api}")),
    }
}

/// Returns the problem of a daemon that acts in another cluster than the configuration names.
fn cluster_finding(api: &str, answer: &str, ours: &str) -> Option<CheckFinding> {
    let theirs = serde_json::from_str::<VersionAnswer>(answer).ok()?.cluster.filter(|theirs| theirs != ours)?;
    let text = format!("the daemon at {api} acts in cluster {theirs}, and the configuration is for {ours}");
    let remedy = format!(
        "name the URL of the daemon of {ours} with --api, or the configuration of {theirs} with --config; a port-forward may belong \
         to another context of kubectl"
    );
    let why = format!("the other findings are about {ours}, and an event for {ours} is ignored by this daemon");
    Some(CheckFinding::problem("daemon", text, remedy).because(why))
}

/// Returns a problem for each condition of `/readyz` that does not hold.
fn conditions(answer: &str) -> Vec<CheckFinding> {
    let failing = answer.lines().filter_map(|line| line.strip_prefix("[-] "));
    let finding = |line: &str| {
        let remedy = "see the findings above, and docs/operations.md for \"not ready\"; `/health` of its console has the same conditions";
        CheckFinding::problem("daemon", format!("it is not ready: {line}"), remedy)
            .because("it takes no events, or decides nothing, until the condition holds")
    };
    failing.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;
    use crate::cli::check::Level;

    async fn of(version: &'static str, readyz: &'static str) -> Vec<CheckFinding> {
        crate::telemetry::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/version", get(move || async move { version }))
            .route("/readyz", get(move || async move { (StatusCode::SERVICE_UNAVAILABLE, readyz) }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let found = findings(&api, Some("prod")).await;
        server.abort();
        found
    }

    #[tokio::test]
    async fn an_absent_an_old_a_foreign_and_an_unready_daemon_are_found() {
        crate::telemetry::install_tls();
        let absent = findings("http://127.0.0.1:1", None).await;
        assert!(absent[0].level == Level::Warning && absent[0].text.contains("no daemon answers"), "{absent:?}");
        assert!(absent[0].remedy.as_deref().unwrap_or_default().contains("bellwether run"), "{absent:?}");

        let old = of(r#"{"name": "bellwether", "version": "0.0.1"}"#, "ready\n").await;
        assert!(old[0].level == Level::Warning && old[0].text.contains("is version 0.0.1"), "{old:?}");
        assert_eq!(of("<html>", "").await[0].level, Level::Problem);

        const OURS: &str = concat!(r#"{"name": "bellwether", "version": ""#, env!("CARGO_PKG_VERSION"), r#""}"#);
        const THERE: &str =
            concat!(r#"{"name": "bellwether", "version": ""#, env!("CARGO_PKG_VERSION"), r#"", "cluster": "test"}"#);
        let other = of(THERE, "ready\n").await;
        let is_named =
            |finding: &CheckFinding| finding.text.ends_with("acts in cluster test, and the configuration is for prod");
        assert!(other[1].level == Level::Problem && is_named(&other[1]) && other.len() == 2, "{other:?}");
        let ours: &str = &THERE.replace("\"test\"", "\"prod\"");
        assert_eq!(cluster_finding("http://a", ours, "prod"), None);

        let unready = of(OURS, "[+] kafka ok\n[-] kubernetes no answer\nnot ready\n").await;
        let texts: Vec<(Level, &str)> = unready.iter().map(|finding| (finding.level, finding.text.as_str())).collect();
        assert!(
            matches!(texts[..], [(Level::Fine, _), (Level::Problem, "it is not ready: kubernetes no answer")]),
            "{texts:?}"
        );
    }
}
