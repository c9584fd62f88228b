//! The ports of the world in memory, with faults: refused, lost, slow and hanging attempts, and panics.

use bellwether::ports::{
    BlockSource, Cluster, Epoch, HandBlocks, Models, NotificationError, NotificationSink, PodTemplate, QueryProbe,
};
use bellwether_core::ids::EffectId;
use bellwether_core::input::effect::{ClusterAct, Effect, Probe, RegistryAct};
use bellwether_core::input::event::{Failure, FailureKind, Outcome};
use bellwether_core::input::notification::{Notification, Sink, Subscription};
use bellwether_core::measure::watch::Watch;

use super::*;

/// The ports.
pub(super) struct FaultyPort {
    world: MemoryWorld,
    schedule: Arc<Schedule>,
    broker: Broker,
}

impl FaultyPort {
    pub(super) fn new(world: MemoryWorld, schedule: Arc<Schedule>, broker: Broker) -> FaultyPort {
        FaultyPort { world, schedule, broker }
    }

    /// Lets an attempt fail before it has done anything. It may be slow, hang or panic.
    async fn before(&self) -> Option<Failure> {
        self.schedule.delay(100, 30).await;
        self.schedule.delay(3, 900).await;
        assert!(!self.schedule.happens(10), "a defect of the port, as the schedule has it");
        self.schedule.happens(80).then(|| self.failure())
    }

    fn failure(&self) -> Failure {
        let kind = [FailureKind::Unavailable, FailureKind::Conflict][self.schedule.below(2)];
        Failure { kind, message: "as the schedule has it".to_owned() }
    }
}

#[async_trait]
impl Cluster for FaultyPort {
    async fn perform(
        &self,
        effect: &Effect,
        act: &ClusterAct,
        epoch: Epoch,
        template: Option<&PodTemplate>,
    ) -> (Outcome, Vec<PodTemplate>) {
        if !self.broker.has_committed(&effect.id) {
            self.broker.broken(format!("effect {} was performed before it was committed", effect.id));
        }
        if let Some(failure) = self.before().await {
            return (Outcome::Failed(failure), Vec::new());
        }
        if self.broker.fences(&effect.workload, epoch) {
            let message = "a newer owner has written".to_owned();
            return (Outcome::Failed(Failure { kind: FailureKind::Fenced, message }), Vec::new());
        }
        let done = Cluster::perform(&self.world, effect, act, epoch, template).await;
        self.schedule.delay(50, 20).await;
        if self.schedule.happens(50) { (Outcome::Failed(self.failure()), Vec::new()) } else { done }
    }
}

#[async_trait]
impl QueryProbe for FaultyPort {
    async fn probe(&self, workload: &Workload, probe: &Probe) -> Outcome {
        match self.before().await {
            Some(failure) => Outcome::Failed(failure),
            None => self.world.probe(workload, probe).await,
        }
    }
}

#[async_trait]
impl Models for FaultyPort {
    async fn perform(&self, effect: &EffectId, act: &RegistryAct) -> Outcome {
        Models::perform(&self.world, effect, act).await
    }
}

#[async_trait]
impl NotificationSink for FaultyPort {
    fn sink(&self) -> Sink {
        self.world.sink()
    }

    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        receipt: Option<&str>,
    ) -> Result<Option<String>, NotificationError> {
        match self.before().await {
            Some(failure) => Err(NotificationError::Later { after: None, message: failure.message }),
            None => self.world.send(effect, notification, receipt).await,
        }
    }
}

/// A notification sink that is away.
pub(super) struct AwaySink;

#[async_trait]
impl NotificationSink for AwaySink {
    fn sink(&self) -> Sink {
        Sink { name: "memory".to_owned(), subscription: Subscription::Messages }
    }

    async fn send(&self, _: &Effect, _: &Notification, _: Option<&str>) -> Result<Option<String>, NotificationError> {
        Err(NotificationError::Later { after: None, message: "503 Service Unavailable".to_owned() })
    }
}

/// The counts of the world, which are late, missing, or end in a panic.
pub(super) struct FaultyBlocks {
    pub(super) world: MemoryWorld,
    pub(super) schedule: Arc<Schedule>,
}

#[async_trait]
impl BlockSource for FaultyBlocks {
    async fn tick(&mut self, watches: &[Watch], at: Timestamp, hand: &mut HandBlocks<'_>) {
        self.schedule.delay(100, 60).await;
        assert!(!self.schedule.happens(20), "a defect of the sampler, as the schedule has it");
        let mut blocks = Vec::new();
        self.world.tick(watches, at, &mut |more| blocks.extend(more)).await;
        if !self.schedule.happens(100) {
            hand(blocks);
        }
    }
}
