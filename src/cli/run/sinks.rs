//! The notification sinks of the configuration.

use std::sync::Arc;

use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::slack::Slack;
use crate::config::Config;
use crate::ports::NotificationSink;

/// Opens the configured sinks. Events on the workloads need no configuration.
///
/// # Errors
/// A sink's secret can't be read, or its client can't be created.
pub(super) fn open(config: &Config, cluster: &Kubernetes) -> anyhow::Result<Vec<Arc<dyn NotificationSink>>> {
    let mut sinks: Vec<Arc<dyn NotificationSink>> = vec![Arc::new(cluster.events())];
    if let Some(slack) = Slack::open(&config.slack)? {
        sinks.push(Arc::new(slack));
    }
    Ok(sinks)
}
