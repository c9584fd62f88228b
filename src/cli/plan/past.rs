//! The traffic of the last hour, as the sampler would have counted it.

use std::sync::Arc;

use bellwether_core::event::Block;
use bellwether_core::ids::Workload;
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Timestamp};
use bellwether_core::watch::{ArmKey, Watch};

use crate::ports::{Metrics, Pods};
use crate::sampling::{Options, Sampler};

/// How far it looks back …
const HOUR: u64 = 3600;
/// … and how often it reads on the way: often enough to learn how errors cluster, and not sixty times a query for nothing.
const EVERY: u64 = 60;

/// Who is asked, and how.
pub(super) struct Asked {
    pub(super) metrics: Arc<dyn Metrics>,
    pub(super) pods: Arc<dyn Pods>,
    pub(super) options: Options,
}

impl Asked {
    /// What was counted of the workload in the hour before `end`, minute by minute. What could not be seen is a gap in it.
    pub(super) async fn hour(
        &self,
        policy: &Policy,
        workload: &Workload,
        stable: ArmKey,
        end: Timestamp,
    ) -> Vec<Block> {
        let begin = Span::from_secs(HOUR).before(end);
        let watch = Watch {
            workload: workload.clone(),
            metrics: policy.measured_metrics(),
            each: policy.measured_metrics().into_keys().collect(),
            canary: None,
            stable,
            since: begin,
            last: None,
        };
        let mut sampler = Sampler::new(Arc::clone(&self.metrics), Arc::clone(&self.pods), self.options);
        let mut blocks = Vec::new();
        for minute in 0..=HOUR / EVERY {
            let at = Span::from_secs(minute * EVERY).after(begin);
            blocks.extend(sampler.tick(std::slice::from_ref(&watch), at).await.into_iter().map(|(_, block)| block));
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_core::ids::Kind;
    use bellwether_core::plan::Present;

    use super::*;
    use crate::config::{self, Sources};
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
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.toml");
        std::fs::write(&file, POLICY).unwrap();
        let config = config::load(&Sources { files: vec![file], ..Sources::default() }).unwrap();
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
        let blocks = asked.hour(policy, &workload, stable, Timestamp::from_second(end).unwrap()).await;
        let present = Present::of(&blocks, &policy.steps[0].checks[0]).unwrap();
        assert!((present.rps - 20.0).abs() < 0.2, "{present:?}");
        assert!((present.share - 0.005).abs() < 0.0005, "{present:?}");
        assert_eq!(present.clusters.map(|clusters| clusters.pods), Some(2), "{present:?}");
    }
}
