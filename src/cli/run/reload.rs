//! Reloads of the policies, on SIGHUP and when a file of the configuration has changed. They apply to rollouts that begin later.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::policy::Policy;
use bellwether_core::time::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::Common;
use crate::clock::Clock;
use crate::config::{self, Sources};
use crate::http::ShownConfig;
use crate::metrics;

/// The interval at which the files are read. The kubelet brings the change of a ConfigMap within about a minute.
const INTERVAL: Duration = Duration::from_secs(10);

/// Returns the effective configuration with the origin of each value; `None` if it can't be read.
pub(super) fn shown(sources: &Sources, now: Timestamp) -> Option<ShownConfig> {
    let text = config::show(sources, true).ok()?;
    Some(ShownConfig { text: text.into(), read: now })
}

/// Reloads the policies for as long as the daemon runs, and publishes the configuration that the console shows. A configuration with
/// problems is logged and changes nothing.
pub(super) async fn follow(
    common: Common,
    clock: Arc<dyn Clock>,
    policies: watch::Sender<Vec<Policy>>,
    config: watch::Sender<Option<ShownConfig>>,
) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::error!(%error, "SIGHUP can't be listened to; changes of the files are still noticed");
            None
        }
    };
    let mut loaded = contents(&common.sources());
    loop {
        let is_asked = asked(&mut hangup).await;
        let sources = common.sources();
        let now = contents(&sources);
        if is_asked || now != loaded {
            loaded = now;
            if reload(&sources, &policies) {
                config.send_replace(shown(&sources, clock.now()));
            }
        }
    }
}

/// Waits for SIGHUP or for the next look at the files. Returns whether it was SIGHUP.
async fn asked(hangup: &mut Option<Signal>) -> bool {
    match hangup {
        Some(hangup) => tokio::time::timeout(INTERVAL, hangup.recv()).await.is_ok_and(|signal| signal.is_some()),
        None => {
            tokio::time::sleep(INTERVAL).await;
            false
        }
    }
}

/// Returns whether the new configuration is in force.
fn reload(sources: &Sources, policies: &watch::Sender<Vec<Policy>>) -> bool {
    match config::load(sources) {
        Ok(config) => {
            tracing::info!(policies = config.policies.len(), "policies reloaded; other changes need a restart");
            metrics::config_reload(true);
            policies.send_replace(config.policies);
            true
        }
        Err(report) => {
            metrics::config_reload(false);
            tracing::error!(
                "the new configuration is refused and the old one stays in force; correct the files:\n{report}"
            );
            false
        }
    }
}

/// Returns the content of each file of the configuration; `None` for one that can't be read now.
fn contents(sources: &Sources) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let read = |path: PathBuf| {
        let content = std::fs::read(&path).ok();
        (path, content)
    };
    let files = |path: &PathBuf| match config::config_files(path) {
        Ok(files) => files,
        Err(_) => vec![path.clone()],
    };
    sources.files.iter().flat_map(files).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::POLICY;
    use super::*;

    #[test]
    fn a_changed_and_an_added_file_of_a_directory_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources { files: vec![folder.path().to_owned()], ..Sources::default() };
        std::fs::write(folder.path().join("a.toml"), "cluster = \"prod\"").unwrap();
        let first = contents(&sources);
        assert_eq!(first, contents(&sources));
        std::fs::write(folder.path().join("a.toml"), "cluster = \"edge\"").unwrap();
        let second = contents(&sources);
        assert_ne!(first, second);
        std::fs::write(folder.path().join("b.toml"), "").unwrap();
        assert_ne!(second, contents(&sources));
    }

    #[test]
    fn a_refused_configuration_leaves_the_policies_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let sources = Sources { files: vec![file.clone()], ..Sources::default() };
        let policies = watch::Sender::default();
        for (text, expected) in [("cluster = 7", 0), (POLICY, 1), ("cluster = 7", 1)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(reload(&sources, &policies), text == POLICY, "{text}");
            assert_eq!(policies.borrow().len(), expected, "{text}");
        }
    }
}
