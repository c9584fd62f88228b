use std::time::Duration;

use async_trait::async_trait;
use bellwether_core::ids::{EffectId, RolloutId, Weight};
use bellwether_core::input::effect::ClusterAct;
use bellwether_core::policy::Traffic;

use super::*;
use crate::clock::SystemClock;
use crate::world::MemoryWorld;

/// A cluster that answers urgent acts only.
struct Busy;

#[async_trait]
impl Cluster for Busy {
    async fn perform(
        &self,
        effect: &Effect,
        _: &ClusterAct,
        _: Epoch,
        _: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        if !effect.act.is_urgent() {
            std::future::pending::<()>().await;
        }
        (Outcome::Done, Vec::new())
    }
}

fn set_weight(n: usize, percent: &str) -> Job {
    let act = ClusterAct::SetWeight { weight: percent.parse::<Weight>().unwrap(), traffic: Traffic::default() };
    let effect = Effect {
        id: EffectId(format!("web-{n}.1")),
        rollout: RolloutId(format!("web-{n}")),
        workload: format!("prod/shop/Deployment/web-{n}").parse().unwrap(),
        act: act.into(),
    };
    Job { effect, epoch: Epoch(1), template: None }
}

#[tokio::test]
async fn weight_0_waits_for_no_other_workloads_acts() {
    let port = || Arc::new(MemoryWorld::new(Arc::new(SystemClock)));
    let executor = Executor::new(Arc::new(Busy), port(), port(), Vec::new());
    for n in 0..2 * MAX_AT_ONCE {
        let (executor, job) = (executor.clone(), set_weight(n, "25%"));
        tokio::spawn(async move { executor.perform(job).await });
    }
    tokio::task::yield_now().await;
    let urgent = executor.perform(set_weight(999, "0%"));
    let report = tokio::time::timeout(Duration::from_secs(10), urgent).await.expect("weight 0 waits");
    assert!(matches!(report.outcome, Outcome::Done), "{report:?}");
}
