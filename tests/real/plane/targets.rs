//! Keeps Prometheus' list of targets in step with the pods that run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinHandle;

use super::pods::{PORT, Pods};

pub struct Targets {
    task: JoinHandle<()>,
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Targets {
    pub fn start(pods: Arc<Pods>, file: PathBuf) -> Self {
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

/// The labels are those of a stock PodMonitor: no version and no track, which is what most clusters have.
fn write(pods: &Pods, file: &Path) -> Result<()> {
    let targets = pods.running().into_iter().map(|pod| {
        let mut labels = json!({
            "namespace": pod.namespace,
            "pod": pod.name,
            "container": pod.container,
            "app": pod.labels.get("app"),
        });
        if let Some(interval) = pods.weather(&pod.namespace).scraped {
            labels["__scrape_interval__"] = interval.into();
        }
        json!({ "targets": [format!("{}:{PORT}", pod.address)], "labels": labels })
    });
    let text = serde_json::Value::from_iter(targets).to_string();
    // Renamed into place: Prometheus never reads half a list.
    let fresh = file.with_extension("new");
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, file)).context("Prometheus' list of targets")
}
