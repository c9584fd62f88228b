//! The state of a simulation.

use std::collections::{BTreeSet, VecDeque};

use bellwether_core::engine::Engine;
use bellwether_core::ids::Workload;
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::Event;
use bellwether_core::time::Timestamp;

use super::api::ApiServer;
use super::counters::Counters;
use super::defect::Defect;
use super::journal::SimulatedJournal;
use super::oracle::Oracle;
use crate::broker::{Broker, Producer};
use crate::dice::Dice;

/// The time between two blocks, in seconds.
pub(super) const GRID: i64 = 15;
/// The index of the only partition.
pub(super) const PARTITION: usize = 0;

/// The process that owns the partition.
pub(super) struct Daemon {
    pub(super) engine: Engine,
    pub(super) producer: Producer,
    pub(super) epoch: u64,
    /// The index of the next event to consume.
    pub(super) offset: usize,
}

/// A write on its way to the API server.
pub(super) struct Flight {
    /// The time at which the write arrives.
    pub(super) at: Timestamp,
    pub(super) effect: Effect,
    /// The epoch of the daemon that sent the write.
    pub(super) epoch: u64,
}

/// A simulation of one seed.
///
/// The methods are in the modules by their subject: the cluster, the daemon, the measurements, the disturbances and the
/// run.
pub struct Simulator {
    pub(super) dice: Dice,
    pub(super) defect: Option<Defect>,
    /// An engine without any state, with which a daemon starts.
    pub(super) blank: Engine,
    pub(super) daemon: Daemon,
    pub(super) broker: Broker<SimulatedJournal>,
    pub(super) api: ApiServer,
    pub(super) counters: Counters,
    pub(super) oracle: Oracle,
    pub(super) now: Timestamp,
    /// Whether faults happen.
    pub(super) faults: bool,
    /// The writes in flight, in the order in which they were sent. Those of one workload arrive in that order.
    pub(super) flights: VecDeque<Flight>,
    /// The events that will reach the daemon outside the topic: outcomes of effects, each with its time.
    pub(super) outcomes: VecDeque<(Timestamp, Event)>,
    /// The events that a producer will send again, each with its time.
    pub(super) repeated: Vec<(Timestamp, Event)>,
    /// The workloads whose stable was changed by another party. Their rollouts may be held at the end.
    pub(super) interfered: BTreeSet<Workload>,
    /// The number of requests and commands so far, which numbers their ids.
    pub(super) requests: u32,
    /// The traffic of each workload in requests per second.
    pub(super) rps: u64,
    /// The time until which Prometheus is unavailable.
    pub(super) away: Timestamp,
    /// The workloads whose first block after a takeover is due.
    pub(super) recounts: BTreeSet<Workload>,
    /// The workloads whose status has not been sent to the present daemon.
    pub(super) unobserved: BTreeSet<Workload>,
}

impl Simulator {
    /// Returns the committed journal and audit.
    pub fn journal(&self) -> &SimulatedJournal {
        &self.broker.at(PARTITION).topics
    }
}
