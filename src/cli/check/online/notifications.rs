//! The notification sinks: the answer of each to a check of its settings.

use super::CheckFinding;
use crate::cli::sinks::{self, OpenedSink};
use crate::cli::with_causes;
use crate::config::Config;

/// Returns a finding for each sink.
pub async fn findings(config: &Config) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for OpenedSink { name, section, sink, .. } in sinks::opened(config) {
        let answer = match sink {
            Ok(sink) => sink.check().await.map_err(|error| error.to_string()),
            Err(error) => Err(with_causes(&error)),
        };
        findings.push(finding(&name, &section, answer));
    }
    findings
}

fn finding(name: &str, section: &str, answer: Result<String, String>) -> CheckFinding {
    match answer {
        Ok(text) => CheckFinding::fine(
            "notifications",
            format!("{name}: {text}; `bellwether sinks {name} --test` sends it a test"),
        ),
        Err(text) => {
            let remedy = format!("mend [{section}], and try it with `bellwether sinks {name} --test`");
            CheckFinding::problem("notifications", format!("{name}: {text}"), remedy)
                .because("people do not learn of rollouts that wait for them")
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::any;

    use super::*;
    use crate::cli::check::Level;
    use crate::config;

    #[tokio::test]
    async fn a_sink_that_refuses_is_a_problem_with_its_section() {
        crate::telemetry::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refusing = Router::new().fallback(any(async || (StatusCode::FORBIDDEN, "no")));
        let server = tokio::spawn(async move { axum::serve(listener, refusing).await });
        for url in [format!("http://{address}"), "http://127.0.0.1:1".to_owned()] {
            let config = config::of_text(&format!("[sink.alertmanager.alerts]\nurl = \"{url}\"\n"));
            let findings = findings(&config).await;
            assert_eq!(findings[0].level, Level::Problem, "{findings:?}");
            assert!(
                findings[0].remedy.as_deref().unwrap_or_default().contains("[sink.alertmanager.alerts]"),
                "{findings:?}"
            );
        }
        server.abort();
    }
}
