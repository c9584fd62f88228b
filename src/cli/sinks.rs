//! The configured notification sinks. A further sink adds one line to [`open`].

use std::sync::Arc;

use crate::adapters::slack::Slack;
use crate::config::Config;
use crate::ports::NotificationSink;

/// A sink as the executor takes it.
type DynSink = Arc<dyn NotificationSink>;

/// Opens the sinks that the configuration names, without a call to any of them.
///
/// # Errors
/// A sink's secret can't be read or used, or its client can't be created.
pub(super) fn open(config: &Config) -> anyhow::Result<Vec<DynSink>> {
    let mut sinks = Vec::new();
    sinks.extend(Slack::open(&config.slack)?.map(shared));
    Ok(sinks)
}

fn shared(sink: impl NotificationSink + 'static) -> DynSink {
    Arc::new(sink)
}
