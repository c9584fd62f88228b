//! The plan of the faults: their kinds, their times and their targets, all by the dice of a seed.

use std::time::Duration;

use bellwether_sim::dice::Dice;

/// The time between two faults.
const GAP: Duration = Duration::from_millis(2000);

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChaosFault {
    /// SIGKILL of a daemon, which is started again.
    DaemonKilled,
    /// SIGKILL of a daemon at a failpoint.
    DaemonKilledAtFailpoint,
    /// SIGSTOP of a daemon for longer than its session, then SIGCONT.
    DaemonPaused,
    /// SIGTERM of a daemon, which is started again.
    DaemonTerminated,
    /// SIGKILL of the broker, which is started again on the same data.
    BrokerKilled,
    /// A daemon's connections to the API server are closed and refused.
    ApiServerRefuses,
    /// A daemon's connections to the API server are accepted and never answered.
    ApiServerHangs,
    /// A daemon's connections to the API server are slow.
    ApiServerSlow,
    /// A daemon's connections to Prometheus are closed and refused.
    PrometheusRefuses,
    /// A daemon's connections to Prometheus are accepted and never answered.
    PrometheusHangs,
    /// A record that is not an event.
    PoisonRecord,
    /// The last request of a workload again.
    DuplicateEvent,
    /// A freeze of the namespace, and its end.
    Freeze,
    /// A pause of a rollout by a person, and its end.
    PersonPauses,
    /// A newer version is requested during a rollout.
    NewerRequest,
    /// A pod is deleted.
    PodDeleted,
    /// A pod is evicted, as by a node without memory.
    PodEvicted,
    /// The canary's pods are not ready for a while.
    PodsNotReady,
    /// An autoscaler gives the stable one pod more, and takes it away.
    AutoscalerScales,
    /// Another client changes the same objects all the time.
    ConflictingWriter,
    /// A person changes the weights of a route, and sets them back.
    RouteEdited,
    /// The gateway's status is frozen for a while, in all routes.
    StatusFrozen,
}

impl ChaosFault {
    /// The kinds, each with the number of such faults in a round.
    const IN_A_ROUND: [(ChaosFault, usize); 22] = [
        (ChaosFault::DaemonKilled, 6),
        (ChaosFault::DaemonKilledAtFailpoint, 5),
        (ChaosFault::DaemonPaused, 4),
        (ChaosFault::DaemonTerminated, 2),
        (ChaosFault::BrokerKilled, 2),
        (ChaosFault::ApiServerRefuses, 4),
        (ChaosFault::ApiServerHangs, 2),
        (ChaosFault::ApiServerSlow, 2),
        (ChaosFault::PrometheusRefuses, 4),
        (ChaosFault::PrometheusHangs, 2),
        (ChaosFault::PoisonRecord, 4),
        (ChaosFault::DuplicateEvent, 5),
        (ChaosFault::Freeze, 2),
        (ChaosFault::PersonPauses, 3),
        (ChaosFault::NewerRequest, 4),
        (ChaosFault::PodDeleted, 4),
        (ChaosFault::PodEvicted, 3),
        (ChaosFault::PodsNotReady, 3),
        (ChaosFault::AutoscalerScales, 3),
        (ChaosFault::ConflictingWriter, 3),
        (ChaosFault::RouteEdited, 3),
        (ChaosFault::StatusFrozen, 2),
    ];

    /// Returns the name that the oracle knows it by.
    pub fn name(self) -> &'static str {
        match self {
            ChaosFault::DaemonKilled => "daemon-killed",
            ChaosFault::DaemonKilledAtFailpoint => "daemon-killed-at-failpoint",
            ChaosFault::DaemonPaused => "daemon-paused",
            ChaosFault::DaemonTerminated => "daemon-terminated",
            ChaosFault::BrokerKilled => "broker-killed",
            ChaosFault::ApiServerRefuses => "api-server-refuses",
            ChaosFault::ApiServerHangs => "api-server-hangs",
            ChaosFault::ApiServerSlow => "api-server-slow",
            ChaosFault::PrometheusRefuses => "prometheus-refuses",
            ChaosFault::PrometheusHangs => "prometheus-hangs",
            ChaosFault::PoisonRecord => "poison-record",
            ChaosFault::DuplicateEvent => "duplicate-event",
            ChaosFault::Freeze => "freeze",
            ChaosFault::PersonPauses => "person-pauses",
            ChaosFault::NewerRequest => "newer-request",
            ChaosFault::PodDeleted => "pod-deleted",
            ChaosFault::PodEvicted => "pod-evicted",
            ChaosFault::PodsNotReady => "pods-not-ready",
            ChaosFault::AutoscalerScales => "autoscaler-scales",
            ChaosFault::ConflictingWriter => "conflicting-writer",
            ChaosFault::RouteEdited => "route-edited",
            ChaosFault::StatusFrozen => "status-frozen",
        }
    }
}

/// A fault to come.
#[derive(Debug, Clone, Copy)]
pub struct PlannedFault {
    /// Its kind.
    pub kind: ChaosFault,
    /// The time after the beginning.
    pub at: Duration,
    /// The daemon that it concerns: 0 or 1.
    pub daemon: usize,
    /// A random number, by which the workload and further details are chosen.
    pub lot: u64,
    /// Its length, where it has one.
    pub lasts: Duration,
}

/// Returns the faults of one round, in a random order.
pub fn plan(dice: &mut Dice, round: usize) -> Vec<PlannedFault> {
    let all = ChaosFault::IN_A_ROUND.iter();
    let mut kinds: Vec<ChaosFault> = all.flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count)).collect();
    for last in (1..kinds.len()).rev() {
        kinds.swap(last, dice.below(last as u64 + 1) as usize);
    }
    let before = round * kinds.len();
    let fault = |(n, kind)| PlannedFault {
        kind,
        at: GAP * (before + n) as u32 + Duration::from_millis(dice.below(1000)),
        daemon: dice.below(2) as usize,
        lot: dice.below(1 << 32),
        lasts: Duration::from_millis(3000 + dice.below(4000)),
    };
    kinds.into_iter().enumerate().map(fault).collect()
}
