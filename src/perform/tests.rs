use std::time::Duration;

use async_trait::async_trait;
use bellwether_core::ids::{EffectId, RolloutId, Weight};
use bellwether_core::input::effect::{ClusterAct, ModelAct, Probe, RegistryAct};
use bellwether_core::input::notification::{Notification, NotificationFacts, Subscription};
use bellwether_core::measure::watch::ArmKey;
use bellwether_core::policy::Traffic;

use super::*;
use crate::clock::SystemClock;
use crate::world::MemoryWorld;

/// Ports of which each panics, or hangs.
struct Defective {
    hangs: bool,
}

impl Defective {
    async fn fail<T>(&self) -> T {
        assert!(self.hangs, "a defect");
        std::future::pending().await
    }
}

#[async_trait]
impl Cluster for Defective {
    async fn perform(
        &self,
        _: &Effect,
        _: &ClusterAct,
        _: Epoch,
        _: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        self.fail().await
    }
}

#[async_trait]
impl QueryProbe for Defective {
    async fn probe(&self, _: &Workload, _: &Probe) -> Outcome {
        self.fail().await
    }
}

#[async_trait]
impl Models for Defective {
    async fn perform(&self, _: &EffectId, _: &RegistryAct) -> Outcome {
        self.fail().await
    }
}

#[async_trait]
impl NotificationSink for Defective {
    fn sink(&self) -> Sink {
        Sink { name: "memory".to_owned(), subscription: Subscription::Messages }
    }

    async fn send(&self, _: &Effect, _: &Notification, _: Option<&str>) -> Result<Option<String>, NotificationError> {
        self.fail().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_or_hangs_is_reported_as_failed_and_frees_its_lane() {
    let notify = Notify {
        sink: Sink { name: "memory".to_owned(), subscription: Subscription::Messages },
        notification: Box::new(Notification {
            key: RolloutId("web".to_owned()),
            facts: NotificationFacts::default(),
            incident: None,
            note: None,
            message: None,
            trace: None,
        }),
        receipt: None,
    };
    let stable = ArmKey { deployment_uid: "1".to_owned(), pod_hash: None, name: "web".to_owned() };
    let acts = [
        set_weight(0, "25%").effect.act,
        Act::Metrics(Probe { metrics: Vec::new(), stable, learn: Vec::new() }),
        Act::Registry(RegistryAct { environment: "prod".to_owned(), model: "m@1".to_owned(), what: ModelAct::Point }),
        Act::People(notify),
    ];
    for (hangs, expected) in [(false, "panicked, which is a defect of Bellwether: a defect"), (true, "within 300 s")] {
        let port = || Arc::new(Defective { hangs });
        let executor = Executor::new(port(), port(), port(), vec![port()]);
        for act in &acts {
            let [first, second] = [1, 2].map(|n| {
                let mut job = set_weight(0, "25%");
                job.effect.id = EffectId(format!("web.{n}"));
                job.effect.act = act.clone();
                job
            });
            let mut lanes = Lanes::default();
            let job = lanes.begin(first).unwrap();
            assert!(lanes.begin(second).is_none());
            let JobReport { effect, outcome, .. } = executor.perform(job).await;
            let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
            assert_eq!(failure.kind, FailureKind::Unavailable);
            assert!(failure.message.contains(expected), "{}: {}", act.name(), failure.message);
            assert_eq!(lanes.finish(&effect).unwrap().effect.id.to_string(), "web.2");
        }
    }
}

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
