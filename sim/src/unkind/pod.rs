//! A pod: its state, its place among the others, and its counters.

use super::agenda::{MINUTE, Ms};

/// The arm that a pod belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    /// The workload's own Deployment.
    Stable,
    /// The canary's Deployment.
    Canary,
}

/// The state of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodState {
    /// It waits for a node.
    Pending,
    /// It has a node, and its process is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// Its process runs, and its readiness probe fails.
    Unready,
    /// Its process has ended, and the kubelet waits before it starts it again.
    BackingOff,
}

/// Requests of a pod: expected ones while they are not counted, whole ones afterwards.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Requests<T> {
    /// All answered requests.
    pub n: T,
    /// Those of them that failed.
    pub errors: T,
    /// Those of them that took longer than the limit.
    pub slow: T,
}

/// A pod of one arm.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    /// The number that its name ends with.
    pub id: u32,
    /// The time at which it was created.
    pub created: Ms,
    /// The index of its version.
    pub version: usize,
    /// The state of its process.
    pub state: PodState,
    /// The number of its changes of state; what was planned before the last one is void.
    pub turn: u32,
    /// The time since which it is ready.
    pub ready_since: Ms,
    /// The time at which its process became ready for the first time.
    pub started: Ms,
    /// The reading with the first request of its process.
    pub serves_since: Ms,
    /// Whether its process answers nothing any more.
    pub hung: bool,
    /// Whether its node is lost.
    pub lost: bool,
    /// Its share of slow requests relative to the version's, by its node's type.
    pub pace: f64,
    /// Its share of failed requests relative to the version's.
    pub luck: f64,
    /// The rates at present, per second.
    pub rate: Requests<f64>,
    /// The rate of requests that are not answered, per second.
    pub unanswered: f64,
    /// The expected requests that are not counted yet.
    pub expected: Requests<f64>,
    /// The counters at the last scrape, since the process started.
    pub counted: Requests<u64>,
    /// Whether its process was scraped.
    pub is_exported: bool,
    /// The answered requests since the process started, expected.
    pub served: f64,
    /// The restarts of its process.
    pub restarts: u32,
    /// The time of the last end of its process.
    pub ended: Ms,
    /// The wait before the next restart.
    pub back_off: Ms,
}

impl Pod {
    /// Returns a new pod that waits for a node.
    pub(super) fn new(id: u32, version: usize, created: Ms) -> Pod {
        Pod {
            id,
            created,
            version,
            state: PodState::Pending,
            turn: 0,
            ready_since: Ms::MAX,
            started: Ms::MAX,
            serves_since: Ms::MAX,
            hung: false,
            lost: false,
            pace: 1.0,
            luck: 1.0,
            rate: Requests::default(),
            unanswered: 0.0,
            expected: Requests::default(),
            counted: Requests::default(),
            is_exported: false,
            served: 0.0,
            restarts: 0,
            ended: Ms::MIN,
            back_off: 0,
        }
    }

    /// Changes its state.
    pub(super) fn enter(&mut self, state: PodState, now: Ms) {
        if state == PodState::Ready {
            self.ready_since = now;
            if self.started == Ms::MAX {
                self.started = now;
            }
        }
        self.state = state;
        self.turn += 1;
    }

    /// Returns whether it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.state == PodState::Ready
    }

    /// Returns whether it is ready for a time.
    pub(super) fn is_available(&self, min_ready: Ms, now: Ms) -> bool {
        self.is_ready() && now >= self.ready_since.saturating_add(min_ready)
    }

    /// Returns whether its process can be scraped.
    pub(super) fn is_scraped(&self) -> bool {
        !self.lost && matches!(self.state, PodState::Ready | PodState::Unready)
    }

    /// Ends its process. Requests since the last reading are lost with it. Returns the wait before it starts again: none
    /// at first, then 10 s and double with every end, until it has run for ten minutes.
    pub(super) fn end_process(&mut self, now: Ms) -> Ms {
        let quiet = now.saturating_sub(self.ended) > 10 * MINUTE;
        let wait = if self.ended == Ms::MIN || quiet { 0 } else { (self.back_off * 2).clamp(10_000, 5 * MINUTE) };
        self.back_off = wait;
        self.ended = now;
        self.restarts += 1;
        self.started = Ms::MAX;
        self.serves_since = Ms::MAX;
        self.hung = false;
        self.served = 0.0;
        self.expected = Requests::default();
        self.counted = Requests::default();
        self.is_exported = false;
        wait
    }
}
