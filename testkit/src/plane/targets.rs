//! Writes the running pods to Prometheus' file of targets.
#![expect(clippy::print_stderr, reason = "the test binary shows the output of its threads")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinHandle;

use super::pods::{PORT, PodServer};

/// The task that writes the file.
pub struct TargetFile {
    task: JoinHandle<()>,
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TargetFile {
    /// Writes `file` now and whenever a pod starts or ends.
    pub fn start(pods: Arc<PodServer>, file: PathBuf) -> Self {
        let mut changes = pods.changes.clone();
        let task = tokio::spawn(async move {
            loop {
                changes.mark_unchanged();
                if let Err(error) = write(&pods, &file) {
                    eprintln!("{error:#}");
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { task }
    }
}

/// Writes the file. Its labels are those of a default PodMonitor, as in most clusters: neither version nor track.
fn write(pods: &PodServer, file: &Path) -> Result<()> {
    let targets = pods.running().into_iter().map(|pod| {
        let mut labels = json!({
            "namespace": pod.namespace,
            "pod": pod.name,
            "container": pod.container,
            "app": pod.labels.get("app"),
        });
        if let Some(interval) = pods.conditions(&pod.namespace).scrape_interval {
            labels["__scrape_interval__"] = interval.into();
        }
        json!({ "targets": [format!("{}:{PORT}", pod.address)], "labels": labels })
    });
    let text = serde_json::Value::from_iter(targets).to_string();
    // Renaming is atomic, so Prometheus never reads an incomplete file.
    let new = file.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, file)).context("Prometheus' list of targets")
}
