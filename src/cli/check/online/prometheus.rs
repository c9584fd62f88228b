//! Prometheus: its answer, its version and its clock.

use std::sync::Arc;

use super::{CheckFinding, SYNCHRONIZE, clock_text};
use crate::adapters::prometheus::{Options, Prometheus, PrometheusSetupError};
use crate::clock::{Clock, MAX_SKEW_MS, SystemClock};
use crate::ports::{Metrics, MetricsError};

/// The consequence of a Prometheus that can't be asked.
const WHY: &str = "without it no rollout passes a step: its checks are blind, and it is held";
/// The remedy for a URL that leads to something else.
const WRONG_URL: &str = "set prometheus.url to the base of the query API, with its path: below it there must be /api/v1/query (Mimir: \
                         /prometheus, vmselect: /select/0/prometheus)";

/// Returns the client, or `None` if it can't be used, and the finding about it.
pub async fn connect(options: &Options) -> (Option<Arc<Prometheus>>, CheckFinding) {
    let prometheus = match Prometheus::new(options) {
        Ok(prometheus) => Arc::new(prometheus),
        Err(error) => return (None, setup_finding(&error)),
    };
    if let Err(error) = prometheus.instant("vector(1)", SystemClock.now()).await {
        return (None, error_finding(options, &error));
    }
    let version = match prometheus.server_version().await {
        Ok(version) => format!("version {version}"),
        Err(_) => "it answers, but not with its version".to_owned(),
    };
    let finding = clock_finding(version, prometheus.clock_ahead_ms());
    (Some(prometheus), finding)
}

fn setup_finding(error: &PrometheusSetupError) -> CheckFinding {
    CheckFinding::problem("prometheus", error.to_string(), "see [prometheus] in the configuration").because(WHY)
}

fn clock_finding(version: String, ahead_ms: i64) -> CheckFinding {
    if ahead_ms.abs() <= MAX_SKEW_MS {
        return CheckFinding::fine("prometheus", version);
    }
    let text = format!("{version}; {}", clock_text(ahead_ms));
    CheckFinding::warning("prometheus", text, SYNCHRONIZE)
        .because("counters are read at instants of our clock, so samples are missing or old")
}

/// Returns the finding about a server that gave no answer to a query.
fn error_finding(options: &Options, error: &MetricsError) -> CheckFinding {
    let text = error.to_string();
    let is_denied = text.starts_with("401") || text.starts_with("403");
    // A page of a proxy, of a console or of another server.
    let is_page = ["<html", "<!doctype"].iter().any(|tag| text.to_lowercase().contains(tag));
    let remedy = match error {
        MetricsError::Unavailable(_) if is_page => WRONG_URL,
        MetricsError::Refused(_) if is_denied => {
            "set prometheus.bearer-token-file, or username and password-file, and the tenant in [prometheus.headers]"
        }
        MetricsError::Refused(_) | MetricsError::Unreadable(_) => WRONG_URL,
        MetricsError::Partial(_) => {
            "see its warning; prometheus.accept-partial = true takes such answers, which is not advised"
        }
        MetricsError::Unavailable(_) => {
            "set prometheus.url to a server that runs; from outside of the cluster, `kubectl -n NAMESPACE port-forward service/NAME 9090`"
        }
    };
    // The password of a URL is never shown, so the URL is added only without one.
    let url = if options.url.contains('@') { String::new() } else { format!(" (prometheus.url = {:?})", options.url) };
    CheckFinding::problem("prometheus", format!("{text}{url}"), remedy).because(WHY)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::Html;
    use axum::routing::any;

    use super::*;
    use crate::cli::check::Level;

    async fn finding_of(router: Router) -> CheckFinding {
        crate::telemetry::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let (_, finding) = connect(&Options { url, ..Options::default() }).await;
        server.abort();
        finding
    }

    #[tokio::test]
    async fn a_wrong_url_missing_rights_and_a_silent_server_have_different_fixes() {
        let page = Router::new().fallback(any(async || Html("<html>Grafana</html>")));
        let other =
            Router::new().fallback(any(async || (StatusCode::NOT_IMPLEMENTED, "<!DOCTYPE HTML><html>no POST</html>")));
        let denied = Router::new().fallback(any(async || (StatusCode::UNAUTHORIZED, "who are you?")));
        for (router, fix) in [
            (page, "the base of the query API"),
            (Router::new(), "the base of the query API"),
            (other, "the base of the query API"),
            (denied, "bearer-token-file"),
        ] {
            let finding = finding_of(router).await;
            assert_eq!(finding.level, Level::Problem, "{finding:?}");
            assert!(finding.remedy.as_deref().unwrap_or_default().contains(fix), "{finding:?}");
            assert!(finding.text.contains("prometheus.url = \"http://127.0.0.1:"), "{finding:?}");
        }
        let (_, finding) = connect(&Options { url: "http://127.0.0.1:1".to_owned(), ..Options::default() }).await;
        assert!(finding.remedy.as_deref().unwrap_or_default().contains("a server that runs"), "{finding:?}");
    }

    #[test]
    fn a_clock_that_is_off_is_a_warning() {
        let finding = clock_finding("version 3".to_owned(), -90_000);
        assert_eq!(
            (finding.level, finding.text.as_str()),
            (Level::Warning, "version 3; its clock is 90 s behind ours")
        );
        assert_eq!(clock_finding("version 3".to_owned(), 1_000).level, Level::Fine);
    }
}
