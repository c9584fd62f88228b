//! Prometheus. Debian builds it without Kubernetes discovery, so [`super::targets`] writes its targets to a file, with
//! the labels of a default PodMonitor.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use tokio::process::Command;

use super::program::Program;
use super::{gateway, http};

/// URL of the server.
pub const URL: &str = "http://127.0.0.1:9090";

const START: Duration = Duration::from_secs(60);

/// A running Prometheus.
pub struct PrometheusServer {
    /// The file that names the pods to scrape. Files `extra-*.json` beside it name further targets.
    pub targets: PathBuf,
    http: reqwest::Client,
    _program: Program,
}

/// A point of the answer to a query.
#[derive(Debug, Clone)]
pub struct QueriedSample {
    /// The labels of its series.
    pub labels: BTreeMap<String, String>,
    /// The value at the time of the query.
    pub value: f64,
}

impl PrometheusServer {
    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// The program does not start, or is not ready in time.
    pub async fn start(cache: &Path, data: &Path, logs: &Path, scrape_interval: Duration) -> Result<Self> {
        let dir = data.join("prometheus");
        fs::create_dir_all(&dir)?;
        let targets = dir.join("pods.json");
        fs::write(&targets, "[]")?;
        let settings = dir.join("prometheus.yml");
        // A story with its own exporters names them in such a file.
        let extra = dir.join("extra-*.json");
        fs::write(&settings, config(&targets, &extra, scrape_interval))?;

        let mut command = Command::new(cache.join("bin/prometheus"));
        command.arg(format!("--config.file={}", settings.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.args(["--web.listen-address=127.0.0.1:9090", "--web.enable-lifecycle"]);
        // Needed before Prometheus 3.8. Prometheus then asks for protobuf, and accepts text as well.
        command.arg("--enable-feature=native-histograms");
        // The default is 5 s. The discovery before it adds a fixed delay of up to 5 s.
        command.arg("--scrape.discovery-reload-interval=1s");
        let mut program = Program::spawn("prometheus", command, logs)?;
        let http = http::client()?;
        program
            .until_ready(START, async || {
                http.get(format!("{URL}/-/ready")).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        Ok(Self { targets, http, _program: program })
    }

    /// Returns the answer to an instant query as of `at`.
    ///
    /// # Errors
    /// Prometheus does not answer, or refuses the query.
    pub async fn query(&self, query: &str, at: Timestamp) -> Result<Vec<QueriedSample>> {
        let time = format!("{:.3}", at.as_millisecond() as f64 / 1000.0);
        let form = [("query", query), ("time", &time)];
        let answer: Value = self.http.post(format!("{URL}/api/v1/query")).form(&form).send().await?.json().await?;
        if answer["status"] != "success" {
            bail!("Prometheus refused `{query}`: {}", answer["error"]);
        }
        let result = answer.pointer("/data/result").and_then(Value::as_array).context("the answer is not a vector")?;
        result.iter().map(sample).collect()
    }
}

fn sample(result: &Value) -> Result<QueriedSample> {
    let labels = serde_json::from_value(result["metric"].clone())?;
    let value = result.pointer("/value/1").and_then(Value::as_str).context("a sample without a value")?;
    Ok(QueriedSample { labels, value: value.parse()? })
}

fn config(targets: &Path, extra: &Path, interval: Duration) -> String {
    let (targets, extra) = (targets.display(), extra.display());
    let (interval, traefik) = (interval.as_millis(), gateway::ADMIN_ADDRESS);
    format!(
        "global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms, evaluation_interval: {interval}ms}}
scrape_configs:
  - job_name: pods
    file_sd_configs: [{{files: ['{targets}', '{extra}'], refresh_interval: 1s}}]
  - job_name: traefik
    static_configs: [{{targets: ['{traefik}']}}]
"
    )
}
