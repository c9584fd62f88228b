//! The wakes on their way to the daemon: its bounded channel, and those that wait for room in it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::ports::{Delivery, Partition, Wake};

/// The number of queued wakes at which the partitions are paused. They are resumed below a quarter of it.
const PAUSE_AT_WAKES: usize = 256;
/// The bytes of queued records at which the partitions are paused. They are resumed below a quarter of it.
const PAUSE_AT_BYTES: usize = 8 << 20;

/// The daemon's channel, and the wakes that wait for room in it, in order.
pub(super) struct WakeQueue {
    pub(super) wakes: mpsc::Sender<Wake>,
    queued: Mutex<VecDeque<Wake>>,
}

impl WakeQueue {
    pub(super) fn new(wakes: mpsc::Sender<Wake>) -> WakeQueue {
        WakeQueue { wakes, queued: Mutex::default() }
    }

    pub(super) fn push(&self, wake: Wake) {
        self.queued().push_back(wake);
        self.flush();
    }

    /// Sends wakes until the channel is full or the queue is empty. Returns the fill level of the queue.
    pub(super) fn flush(&self) -> FillLevel {
        let mut queued = self.queued();
        while let Some(wake) = queued.pop_front() {
            match self.wakes.try_send(wake) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(wake)) => {
                    queued.push_front(wake);
                    break;
                }
                // The daemon has ended.
                Err(mpsc::error::TrySendError::Closed(_)) => queued.clear(),
            }
        }
        FillLevel::of(&queued)
    }

    /// Drops the queued records of a partition. The partition's next owner reads them again.
    pub(super) fn drop_records(&self, partition: Partition) {
        self.queued()
            .retain(|wake| !matches!(wake, Wake::Record(Delivery { record, .. }) if record.partition == partition));
    }

    /// Returns the number of queued records of a partition.
    pub(super) fn records_of(&self, partition: Partition) -> usize {
        let is_of =
            |wake: &&Wake| matches!(wake, Wake::Record(Delivery { record, .. }) if record.partition == partition);
        self.queued().iter().filter(is_of).count()
    }

    /// Locks the queue. Poisoning is harmless: each statement leaves the queue consistent.
    fn queued(&self) -> MutexGuard<'_, VecDeque<Wake>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fill level of the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FillLevel {
    Empty,
    /// Below a quarter of both bounds: paused partitions are resumed.
    Low,
    /// Between a quarter of a bound and the bound: partitions stay paused or resumed as they are.
    Medium,
    /// At a bound: the partitions are paused.
    Full,
}

impl FillLevel {
    fn of(queued: &VecDeque<Wake>) -> FillLevel {
        let bytes: usize = queued
            .iter()
            .map(|wake| if let Wake::Record(Delivery { record, .. }) = wake { record.bytes() } else { 0 })
            .sum();
        match queued.len() {
            0 => FillLevel::Empty,
            wakes if wakes >= PAUSE_AT_WAKES || bytes >= PAUSE_AT_BYTES => FillLevel::Full,
            wakes if wakes >= PAUSE_AT_WAKES / 4 || bytes >= PAUSE_AT_BYTES / 4 => FillLevel::Medium,
            _ => FillLevel::Low,
        }
    }
}
