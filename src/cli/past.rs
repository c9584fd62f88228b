//! The past counts of a workload, read from Prometheus and the cluster for `plan`, `calibrate` and `backtest`.
//!
//! The cluster has no data about deleted pods, so they are assigned to their Deployment by their names, which consist of the
//! Deployment's name, the hash of the pod template and a suffix. Decisions about rollouts never use names. The start and
//! the restarts of such a process are unknown. Its counts before its first scrape are therefore left out in both arms, and
//! a decrease of its counters is a gap.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bellwether_core::ids::Workload;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, TimeRange, Timestamp};

use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::prometheus::Prometheus;
use crate::cli::check::when_listed;
use crate::cli::run::sampling_options;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::ports::{Metrics, PodDirectory, PodFacts, pod_hash};
use crate::sampling::{Options, grid, history};
use crate::telemetry;

/// A stretch of the past.
#[derive(Debug, Clone, Copy)]
pub struct PastRequest {
    /// The length of the stretch.
    pub over: Span,
    /// The end of the stretch; `None` for now.
    pub to: Option<Timestamp>,
    /// Whether the pods of canaries are counted as an arm of their own; if not, only the stable is counted.
    pub canary: bool,
}

/// Returns the blocks of the workload in the requested stretch, with the counts of the arms and of each pod of the stable.
/// Missing counts are gaps.
///
/// # Errors
/// Prometheus or the cluster can't be read, or the workload does not exist.
pub async fn blocks(
    config: &Config,
    policy: &Policy,
    workload: &Workload,
    request: PastRequest,
) -> anyhow::Result<Vec<Block>> {
    telemetry::install_tls();
    let prometheus = Prometheus::new(&config.prometheus).context("see [prometheus] in the configuration")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock));
    let cluster = cluster.context("see [kubernetes] in the configuration")?;
    let blocks = async {
        let preflight = cluster.preflight(workload, policy).await.map_err(|failure| anyhow!(failure.message))?;
        let Some(stable) = preflight.status.stable else {
            bail!("there is no workload {workload}; compare it with `kubectl get deployments -A`");
        };
        let options = sampling_options(config);
        let (_, newest) = grid(clock.now(), options.interval, options.lag);
        let end = request.to.map_or(newest, |to| grid(to, options.interval, Span::ZERO).1).min(newest);
        let sources = PastSources { metrics: Arc::new(prometheus), pods: Arc::new(cluster.clone()), options };
        let stretch = TimeRange::before(end, request.over, options.interval);
        Ok(sources.blocks(policy, workload, stable.uid, request.canary, stretch).await)
    };
    when_listed(&cluster, Box::pin(blocks)).await.map_err(|finding| anyhow!(finding.text))?
}

/// The sources of the counts, and the options of their reading.
pub(super) struct PastSources {
    pub(super) metrics: Arc<dyn Metrics>,
    pub(super) pods: Arc<dyn PodDirectory>,
    pub(super) options: Options,
}

impl PastSources {
    /// Returns the blocks of the workload whose Deployment has the uid `stable`, as [`blocks`].
    pub(super) async fn blocks(
        &self,
        policy: &Policy,
        workload: &Workload,
        stable: String,
        canary: bool,
        stretch: TimeRange,
    ) -> Vec<Block> {
        let pods = PastPods { pods: Arc::clone(&self.pods), name: workload.name.clone(), stable: stable.clone() };
        let arm = |deployment_uid, name| ArmKey { deployment_uid, pod_hash: None, name };
        let (metrics, stable) = (policy.measured_metrics(), arm(stable, workload.name.clone()));
        let watch = Watch {
            per_process: metrics.keys().cloned().collect(),
            per_pod: if canary { policy.per_process_metrics() } else { BTreeSet::new() },
            warm_up: policy.warm_up,
            canary: canary.then(|| arm(CANARY.to_owned(), workload.canary_name())),
            ..Watch::of_stable(workload.clone(), metrics, stable, Timestamp::UNIX_EPOCH)
        };
        history::blocks(Arc::clone(&self.metrics), Arc::new(pods), watch, stretch, self.options).await
    }
}

/// The uid that stands for all past canaries of the workload. Their own uids are no longer known.
const CANARY: &str = "the canaries of the past";

/// A directory of the existing and the deleted pods of a workload.
struct PastPods {
    /// The directory of the existing pods.
    pods: Arc<dyn PodDirectory>,
    /// The workload's name.
    name: String,
    /// The uid of its Deployment.
    stable: String,
}

impl PastPods {
    /// Returns the facts that the name of a pod of the workload contains (`DEPLOYMENT-HASH-SUFFIX`); `None` for pods of
    /// other workloads.
    fn by_name(&self, pod: &str) -> Option<Arc<PodFacts>> {
        let canary = format!("{}-canary", self.name);
        let owners = [(&canary, CANARY), (&self.name, &*self.stable)];
        let (hash, uid) = owners.into_iter().find_map(|(owner, uid)| Some((pod_hash(pod, owner)?, uid)))?;
        Some(PodFacts::by_name(uid, hash).into())
    }
}

impl PodDirectory for PastPods {
    fn locate(&self, namespace: &str, pod: &str) -> Option<Arc<PodFacts>> {
        let existing = self.pods.locate(namespace, pod).filter(|facts| facts.deployment_uid == self.stable);
        existing.or_else(|| self.by_name(pod))
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        self.pods.service(workload)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_core::ids::WorkloadKind;
    use bellwether_lab::plan::CheckTraffic;

    use super::*;
    use crate::config;
    use crate::sampling::tests::store::Store;

    struct OneDeployment;

    impl PodDirectory for OneDeployment {
        fn locate(&self, _: &str, _: &str) -> Option<Arc<PodFacts>> {
            let started = Timestamp::from_second(1).ok()?;
            let (uid, hash) = ("uid".to_owned(), "hash".to_owned());
            Some(PodFacts { deployment_uid: uid, pod_hash: hash, started, restarts: BTreeMap::new() }.into())
        }

        fn service(&self, _: &Workload) -> Option<(String, u16)> {
            None
        }
    }

    struct NoPods;

    impl PodDirectory for NoPods {
        fn locate(&self, _: &str, _: &str) -> Option<Arc<PodFacts>> {
            None
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

    /// Two pods get 10 requests per second each. One of 200 requests fails, and failures come in pairs.
    #[tokio::test]
    async fn the_rate_the_bad_share_and_the_clusters_of_the_last_hour_are_measured() {
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
        let sources =
            PastSources { metrics: Arc::new(store), pods: Arc::new(OneDeployment), options: Options::default() };
        let workload = Workload {
            cluster: "c".into(),
            namespace: "shop".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
        };
        let end = Timestamp::from_second(end).unwrap();
        let stretch = TimeRange::before(end, Span::from_secs(3600), Span::from_secs(15));
        let blocks = sources.blocks(policy, &workload, "uid".to_owned(), false, stretch).await;
        let present = CheckTraffic::of(&blocks, &policy.steps[0].checks[0]).unwrap();
        assert!((present.rps - 20.0).abs() < 0.2, "{present:?}");
        assert!((present.share - 0.005).abs() < 0.0005, "{present:?}");
        assert_eq!(present.clusters.map(|clusters| clusters.pods), Some(2), "{present:?}");
    }

    #[test]
    fn deleted_pods_are_assigned_to_their_deployments_by_name() {
        let pods = PastPods { pods: Arc::new(NoPods), name: "web".to_owned(), stable: "uid".to_owned() };
        for (pod, uid) in [
            ("web-5d8f9c7b6-x2x4z", Some("uid")),
            ("web-canary-5d8f9c7b6-x2x4z", Some(CANARY)),
            ("web-admin-5d8f9c7b6-x2x4z", None),
            ("webshop-5d8f9c7b6-x2x4z", None),
            ("web-0", None),
            ("web", None),
        ] {
            assert_eq!(pods.locate("shop", pod).as_ref().map(|facts| &*facts.deployment_uid), uid, "{pod}");
        }
    }
}
