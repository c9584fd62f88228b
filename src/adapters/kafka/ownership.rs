//! The partitions that the consumer group has assigned to this process: state shared by the intake and the journals.
//!
//! The polling thread updates the assignment and carries out the journals' commands; the journals read the assignment
//! and leave commands. Neither blocks while it holds the lock.
#![expect(clippy::disallowed_methods, reason = "delays of the polling thread; the engine does not see them")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use tokio::sync::oneshot;

use crate::ports::{Partition, ReadingId};

/// The partitions that this process owns, and the commands of the journals to the polling thread.
#[derive(Default)]
pub(super) struct Ownership {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether this process has joined the group. Tools and tests open journals without joining.
    member: bool,
    /// The partitions that are assigned, each with the group's metadata of the generation that assigned it.
    owned: HashMap<Partition, Arc<ConsumerGroupMetadata>>,
    commands: Vec<PollerCommand>,
    /// The readings that were asked for so far.
    readings: u64,
}

/// A command of a journal to the polling thread.
pub(super) enum PollerCommand {
    /// The journal is open: begin a reading of the partition from `position` on, and send the result to `done`.
    Start { partition: Partition, position: i64, reading: ReadingId, done: oneshot::Sender<Result<(), String>> },
    /// The partition can't be written for now: pause the partition now, and assign it again at this instant.
    Restart { partition: Partition, at: Instant },
    /// The daemon has too many inputs of the partition, or has caught up: pause or resume its records.
    Pace { partition: Partition, is_paused: bool },
}

/// The standing of this process towards a partition: whether it may open the journal.
pub(super) enum Standing {
    /// This process is no member of the group, so no group restricts it.
    NoMember,
    /// The group assigned the partition to this process, in the generation of this metadata.
    Owner(Arc<ConsumerGroupMetadata>),
    /// This process is a member of the group, and the partition is not assigned to it.
    NotOwner,
}

impl Ownership {
    /// Notes that the process joins the group. It owns no partition yet.
    pub(super) fn join(&self) {
        let mut state = self.lock();
        state.member = true;
        state.owned.clear();
        state.commands.clear();
    }

    /// Notes that the group assigned a partition to this process.
    pub(super) fn assigned(&self, partition: Partition, membership: Arc<ConsumerGroupMetadata>) {
        self.lock().owned.insert(partition, membership);
    }

    /// Notes that the group revoked a partition.
    pub(super) fn revoked(&self, partition: Partition) {
        self.lock().owned.remove(&partition);
    }

    /// Returns the partitions that this process owns.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.lock().owned.keys().copied().collect()
    }

    /// Returns whether this process owns a partition.
    pub(super) fn owns(&self, partition: Partition) -> bool {
        self.lock().owned.contains_key(&partition)
    }

    /// Returns the standing of this process towards a partition.
    pub(super) fn standing(&self, partition: Partition) -> Standing {
        let state = self.lock();
        match state.owned.get(&partition) {
            Some(membership) => Standing::Owner(Arc::clone(membership)),
            None if state.member => Standing::NotOwner,
            None => Standing::NoMember,
        }
    }

    /// Returns whether this process owns the partition in the generation of `membership`.
    pub(super) fn is_current(&self, partition: Partition, membership: &Arc<ConsumerGroupMetadata>) -> bool {
        self.lock().owned.get(&partition).is_some_and(|owned| Arc::ptr_eq(owned, membership))
    }

    /// Asks the polling thread for the records from `position` on of a partition that is restored. Returns the id of the reading,
    /// and the receiver of the result, whose sender is dropped if the partition is not owned.
    pub(super) fn start(
        &self,
        partition: Partition,
        position: i64,
    ) -> (ReadingId, oneshot::Receiver<Result<(), String>>) {
        let (done, started) = oneshot::channel();
        let mut state = self.lock();
        state.readings += 1;
        let reading = ReadingId(state.readings);
        if state.owned.contains_key(&partition) {
            state.commands.push(PollerCommand::Start { partition, position, reading, done });
        }
        (reading, started)
    }

    /// Asks the polling thread to stop a partition and to assign it again after `delay`, if it is still owned.
    pub(super) fn restart(&self, partition: Partition, delay: Duration) {
        let mut state = self.lock();
        if state.owned.contains_key(&partition) {
            state.commands.push(PollerCommand::Restart { partition, at: Instant::now() + delay });
        }
    }

    /// Asks the polling thread to pause or resume the records of a partition, if it is still owned.
    pub(super) fn pace(&self, partition: Partition, is_paused: bool) {
        let mut state = self.lock();
        if state.owned.contains_key(&partition) {
            state.commands.push(PollerCommand::Pace { partition, is_paused });
        }
    }

    /// Returns the commands since the last call.
    pub(super) fn take_commands(&self) -> Vec<PollerCommand> {
        std::mem::take(&mut self.lock().commands)
    }

    /// Locks the state. Poisoning is harmless: each statement leaves the state consistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
