//! The past of a workload, from the Prometheus and the cluster that the configuration names: what `plan` and `calibrate` go by.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bellwether_core::event::Block;
use bellwether_core::ids::Workload;
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Stretch, Timestamp};
use bellwether_core::watch::{ArmKey, Watch};
use tokio_util::sync::CancellationToken;

use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::prometheus::Prometheus;
use crate::cli::check::{listed, watch};
use crate::cli::run::sampling_options;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::ports::{Metrics, Pods};
use crate::sampling::{Options, grid, history};
use crate::telemetry;

/// What was counted of the workload's stable in the last `length`, pod by pod. What could not be seen is a gap in it.
///
/// # Errors
/// Prometheus or the cluster can't be asked, or there is no such workload.
pub async fn blocks(config: &Config, policy: &Policy, workload: &Workload, length: Span) -> anyhow::Result<Vec<Block>> {
    telemetry::install_tls();
    let prometheus = Prometheus::new(&config.prometheus).context("see [prometheus] in the configuration")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)).await;
    let cluster = cluster.context("see [kubernetes] in the configuration")?;
    let stop = CancellationToken::new();
    let watching = tokio::spawn(watch(cluster.clone(), stop.clone()));
    let blocks = async {
        listed(&cluster).await.map_err(|found| anyhow!(found.text))?;
        let survey = cluster.survey(workload, &policy.traffic).await.map_err(|failure| anyhow!(failure.message))?;
        let Some(stable) = survey.sighting.stable else {
            bail!("there is no workload {workload}; compare it with `kubectl get deployments -A`");
        };
        let options = sampling_options(config);
        let (_, end) = grid(clock.now(), options.interval, options.lag);
        let stable = ArmKey { deployment_uid: stable.uid, pod_hash: None, name: workload.name.clone() };
        let asked = Asked { metrics: Arc::new(prometheus), pods: Arc::new(cluster.clone()), options };
        Ok(asked.blocks(policy, workload, stable, Stretch::before(end, length, options.interval)).await)
    }
    .await;
    stop.cancel();
    // It ends because it was told to; what it could still say was not asked for.
    let _ = watching.await;
    blocks
}

/// Who is asked, and how.
struct Asked {
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn Pods>,
    options: Options,
}

impl Asked {
    async fn blocks(&self, policy: &Policy, workload: &Workload, stable: ArmKey, stretch: Stretch) -> Vec<Block> {
        let watch = Watch {
            workload: workload.clone(),
            metrics: policy.measured_metrics(),
            each: policy.measured_metrics().into_keys().collect(),
            canary: None,
            stable,
            since: Timestamp::UNIX_EPOCH,
            last: None,
        };
        history::blocks(Arc::clone(&self.metrics), Arc::clone(&self.pods), watch, stretch, self.options).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_core::ids::Kind;
    use bellwether_core::plan::Present;

    use super::*;
    use crate::config;
    use crate::ports::PodFacts;
    use crate::sampling::store::Store;

    struct OneDeployment;

    impl Pods for OneDeployment {
        fn locate(&self, _: &str, _: &str) -> Option<PodFacts> {
            let started = Timestamp::from_second(1).ok()?;
            let (uid, hash) = ("uid".to_owned(), "hash".to_owned());
            Some(PodFacts { deployment_uid: uid, pod_hash: hash, started, restarts: BTreeMap::new() })
        }

        fn service(&self, _: &Workload) -> Option<(String, u16)> {
            None
        }
    }

    const POLICY: &str = r#"
        [metric.error-rate]
        kind = "ratio"
        series = "requests_total"
        hits = { label = "code", matches = "5.." }
        [[policy]]
        name = "shop"
        match = { namespaces = ["*"], workloads = ["*"], images = ["*"] }
        check = [{ metric = "error-rate", max = "1%" }]
        step = [{ weight = "10%", min-time = "5m" }]
    "#;

    /// Two pods with 10 requests a second each; one request of two hundred fails, and the failures come two at a time.
    #[tokio::test]
    async fn the_last_hours_requests_their_bad_share_and_their_clusters_are_found() {
        let config = config::of_text(POLICY);
        let policy = &config.policies[0];
        let store = Store::default();
        let end = 10_000;
        for second in (0..=end).step_by(15) {
            let at = Timestamp::from_second(second).unwrap();
            for (n, pod) in ["web-1", "web-2"].into_iter().enumerate() {
                let pairs = (second / 20 + i64::try_from(n).unwrap()) / 2;
                let labels = |code| [("namespace", "shop"), ("pod", pod), ("container", "app"), ("code", code)];
                store.put("requests_total", &labels("200"), at, (10 * second - 2 * pairs) as f64);
                store.put("requests_total", &labels("500"), at, (2 * pairs) as f64);
                store.put("up", &labels("")[..3], at, 1.0);
            }
        }
        let asked = Asked { metrics: Arc::new(store), pods: Arc::new(OneDeployment), options: Options::default() };
        let workload =
            Workload { cluster: "c".into(), namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() };
        let stable = ArmKey { deployment_uid: "uid".to_owned(), pod_hash: None, name: "web".to_owned() };
        let blocks = asked
            .blocks(
                policy,
                &workload,
                stable,
                Stretch::before(Timestamp::from_second(end).unwrap(), Span::from_secs(3600), Span::from_secs(15)),
            )
            .await;
        let present = Present::of(&blocks, &policy.steps[0].checks[0]).unwrap();
        assert!((present.rps - 20.0).abs() < 0.2, "{present:?}");
        assert!((present.share - 0.005).abs() < 0.0005, "{present:?}");
        assert_eq!(present.clusters.map(|clusters| clusters.pods), Some(2), "{present:?}");
    }
}
