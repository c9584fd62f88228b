//! The past of a workload, from the Prometheus and the cluster that the configuration names: what `plan`, `calibrate`
//! and `backtest` go by.
//!
//! Of a pod that is gone the cluster knows nothing any more, and the past is full of them: they are told by what Kubernetes
//! makes their names of, the Deployment's and a template's hash. A decision never goes by that; what a name can't tell
//! (when the process started, how often it was restarted) is not known of them, so what they did before they were first
//! scraped is not counted, in neither arm, and a counter of theirs that falls is a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bellwether_core::ids::Workload;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::prometheus::Prometheus;
use crate::cli::check::{listed, watch};
use crate::cli::run::sampling_options;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::ports::{Metrics, PodDirectory, PodFacts};
use crate::sampling::{Options, grid, history};
use crate::telemetry;

/// Which stretch of the past.
#[derive(Debug, Clone, Copy)]
pub struct PastRequest {
    /// How long it is.
    pub over: Span,
    /// Where it ends; `None`: now.
    pub to: Option<Timestamp>,
    /// Whether a canary was in it, and is told apart; else there is the stable alone.
    pub canary: bool,
}

/// What was counted of the workload in that stretch, and of the stable pod by pod. What could not be seen is a gap in it.
///
/// # Errors
/// Prometheus or the cluster can't be asked, or there is no such workload.
pub async fn blocks(
    config: &Config,
    policy: &Policy,
    workload: &Workload,
    wanted: PastRequest,
) -> anyhow::Result<Vec<Block>> {
    telemetry::install_tls();
    let prometheus = Prometheus::new(&config.prometheus).context("see [prometheus] in the configuration")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)).await;
    let cluster = cluster.context("see [kubernetes] in the configuration")?;
    let stop = CancellationToken::new();
    let analysis = tokio::spawn(watch(cluster.clone(), stop.clone()));
    let blocks = async {
        listed(&cluster).await.map_err(|found| anyhow!(found.text))?;
        let preflight = cluster.preflight(workload, policy).await.map_err(|failure| anyhow!(failure.message))?;
        let Some(stable) = preflight.status.stable else {
            bail!("there is no workload {workload}; compare it with `kubectl get deployments -A`");
        };
        let options = sampling_options(config);
        let (_, newest) = grid(clock.now(), options.interval, options.lag);
        let end = wanted.to.map_or(newest, |to| grid(to, options.interval, Span::ZERO).1).min(newest);
        let sources = Sources { metrics: Arc::new(prometheus), pods: Arc::new(cluster.clone()), options };
        let stretch = TimeRange::before(end, wanted.over, options.interval);
        Ok(sources.blocks(policy, workload, stable.uid, wanted.canary, stretch).await)
    }
    .await;
    stop.cancel();
    // It ends because it was told to; what it could still say was not asked for.
    let _ = analysis.await;
    blocks
}

/// Who is asked, and how.
struct Sources {
    metrics: Arc<dyn Metrics>,
    pods: Arc<dyn PodDirectory>,
    options: Options,
}

impl Sources {
    async fn blocks(
        &self,
        policy: &Policy,
        workload: &Workload,
        stable: String,
        canary: bool,
        stretch: TimeRange,
    ) -> Vec<Block> {
        let gone = Gone { pods: Arc::clone(&self.pods), name: workload.name.clone(), stable: stable.clone() };
        let arm = |deployment_uid, name| ArmKey { deployment_uid, pod_hash: None, name };
        let (metrics, stable) = (policy.measured_metrics(), arm(stable, workload.name.clone()));
        let watch = Watch {
            per_process: metrics.keys().cloned().collect(),
            per_pod: if canary { policy.per_process_metrics() } else { BTreeSet::new() },
            canary: canary.then(|| arm(CANARY.to_owned(), workload.canary_name())),
            ..Watch::of_stable(workload.clone(), metrics, stable, Timestamp::UNIX_EPOCH)
        };
        history::blocks(Arc::clone(&self.metrics), Arc::new(gone), watch, stretch, self.options).await
    }
}

/// The uid of all canaries that the workload ever had: each had one of its own.
const CANARY: &str = "the canaries of the past";

/// The pods that are there, and those that are gone.
struct Gone {
    pods: Arc<dyn PodDirectory>,
    /// The workload's name.
    name: String,
    /// The uid of its Deployment.
    stable: String,
}

impl Gone {
    /// `DEPLOYMENT-HASH-SUFFIX`.
    fn by_name(&self, pod: &str) -> Option<PodFacts> {
        let rest = pod.strip_prefix(&self.name)?.strip_prefix('-')?;
        let (rest, uid) = match rest.strip_prefix("canary-") {
            Some(rest) => (rest, CANARY),
            None => (rest, &*self.stable),
        };
        let (hash, suffix) = rest.split_once('-')?;
        let made = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (made(hash) && made(suffix)).then(|| PodFacts {
            deployment_uid: uid.to_owned(),
            pod_hash: hash.to_owned(),
            started: Timestamp::UNIX_EPOCH,
            restarts: BTreeMap::new(),
        })
    }
}

impl PodDirectory for Gone {
    fn locate(&self, namespace: &str, pod: &str) -> Option<PodFacts> {
        let there = self.pods.locate(namespace, pod).filter(|facts| facts.deployment_uid == self.stable);
        there.or_else(|| self.by_name(pod))
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        self.pods.service(workload)
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::ids::WorkloadKind;
    use bellwether_lab::plan::Present;

    use super::*;
    use crate::config;
    use crate::sampling::tests::store::Store;

    struct OneDeployment;

    impl PodDirectory for OneDeployment {
        fn locate(&self, _: &str, _: &str) -> Option<PodFacts> {
            let started = Timestamp::from_second(1).ok()?;
            let (uid, hash) = ("uid".to_owned(), "hash".to_owned());
            Some(PodFacts { deployment_uid: uid, pod_hash: hash, started, restarts: BTreeMap::new() })
        }

        fn service(&self, _: &Workload) -> Option<(String, u16)> {
            None
        }
    }

    struct NoPods;

    impl PodDirectory for NoPods {
        fn locate(&self, _: &str, _: &str) -> Option<PodFacts> {
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
        let sources = Sources { metrics: Arc::new(store), pods: Arc::new(OneDeployment), options: Options::default() };
        let workload = Workload {
            cluster: "c".into(),
            namespace: "shop".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
        };
        let end = Timestamp::from_second(end).unwrap();
        let stretch = TimeRange::before(end, Span::from_secs(3600), Span::from_secs(15));
        let blocks = sources.blocks(policy, &workload, "uid".to_owned(), false, stretch).await;
        let present = Present::of(&blocks, &policy.steps[0].checks[0]).unwrap();
        assert!((present.rps - 20.0).abs() < 0.2, "{present:?}");
        assert!((present.share - 0.005).abs() < 0.0005, "{present:?}");
        assert_eq!(present.clusters.map(|clusters| clusters.pods), Some(2), "{present:?}");
    }

    #[test]
    fn pods_that_are_gone_are_told_by_their_names() {
        let gone = Gone { pods: Arc::new(NoPods), name: "web".to_owned(), stable: "uid".to_owned() };
        for (pod, whose) in [
            ("web-5d8f9c7b6-x2x4z", Some("uid")),
            ("web-canary-5d8f9c7b6-x2x4z", Some(CANARY)),
            ("web-admin-5d8f9c7b6-x2x4z", None),
            ("webshop-5d8f9c7b6-x2x4z", None),
            ("web-0", None),
            ("web", None),
        ] {
            assert_eq!(gone.locate("shop", pod).map(|facts| facts.deployment_uid).as_deref(), whose, "{pod}");
        }
    }
}
