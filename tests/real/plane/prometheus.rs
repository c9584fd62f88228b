//! Prometheus. Debian builds it without Kubernetes discovery, so [`super::targets`] writes its targets to a file, with
//! the labels that a stock PodMonitor would give.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use tokio::process::Command;

use super::gateway;
use super::process::Process;

pub const URL: &str = "http://127.0.0.1:9090";

const START: Duration = Duration::from_secs(60);

pub struct Prometheus {
    /// The file that names the pods to scrape.
    pub targets: PathBuf,
    http: reqwest::Client,
    _program: Process,
}

#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Prometheus {
    pub async fn start(cache: &Path, data: &Path, logs: &Path, scrape_interval: Duration) -> Result<Self> {
        let dir = data.join("prometheus");
        fs::create_dir_all(&dir)?;
        let targets = dir.join("pods.json");
        fs::write(&targets, "[]")?;
        let settings = dir.join("prometheus.yml");
        // Whoever has exporters of their own tells of them in a file of this name beside it.
        let extra = dir.join("extra-*.json");
        fs::write(&settings, config(&targets, &extra, scrape_interval))?;

        let mut command = Command::new(cache.join("bin/prometheus"));
        command.arg(format!("--config.file={}", settings.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.args(["--web.listen-address=127.0.0.1:9090", "--web.enable-lifecycle"]);
        // Needed up to Prometheus 3.7. It asks for pages in protobuf then, and takes them in text.
        command.arg("--enable-feature=native-histograms");
        // Five seconds by default, and again as many (fixed) in the discovery before it.
        command.arg("--scrape.discovery-reload-interval=1s");
        let mut program = Process::spawn("prometheus", command, logs)?;
        let http = super::http_client()?;
        program
            .until_ready(START, async || {
                http.get(format!("{URL}/-/ready")).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        Ok(Self { targets, http, _program: program })
    }

    /// An instant query, at a time of the caller's choice.
    pub async fn query(&self, query: &str, at: Timestamp) -> Result<Vec<Sample>> {
        let time = format!("{:.3}", at.as_millisecond() as f64 / 1000.0);
        let form = [("query", query), ("time", &time)];
        let answer: Value = self.http.post(format!("{URL}/api/v1/query")).form(&form).send().await?.json().await?;
        if answer["status"] != "success" {
            bail!("Prometheus refuses `{query}`: {}", answer["error"]);
        }
        let result = answer.pointer("/data/result").and_then(Value::as_array).context("no vector")?;
        result.iter().map(sample).collect()
    }
}

fn sample(result: &Value) -> Result<Sample> {
    let labels = serde_json::from_value(result["metric"].clone())?;
    let value = result.pointer("/value/1").and_then(Value::as_str).context("a sample without a value")?;
    Ok(Sample { labels, value: value.parse()? })
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
