//! Which partitions this process owns, by the group's word: what the intake and the journals share.
//!
//! The polling thread writes it and carries out the commands; the journals read it and leave commands. Neither waits
//! for the other while holding the lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use tokio::sync::oneshot;

use crate::ports::Partition;

/// How long a partition in doubt waits before it is assigned again. Long enough not to spin against a broker that is
/// away, short enough not to be noticed after a single hiccup.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The group's word, and what the journals ask of the polling thread.
#[derive(Default)]
pub(super) struct Ownership {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether this process is a member at all. Tools and tests open journals without being one.
    member: bool,
    owned: HashMap<Partition, Owned>,
    commands: Vec<Command>,
}

struct Owned {
    membership: Arc<ConsumerGroupMetadata>,
    /// Records were read and may not have been committed: go back to the committed offset before the next is read.
    wind_back: bool,
}

/// What a journal asks of the polling thread.
pub(super) enum Command {
    /// The journal is open: let records flow, from the committed offset if `wind_back`.
    Start { partition: Partition, wind_back: bool, done: oneshot::Sender<Result<(), String>> },
    /// Something may have been lost: stop the flow, and assign the partition again at this time.
    Again { partition: Partition, at: Instant },
}

/// Whether a journal may be opened here.
pub(super) enum Standing {
    /// Nobody in this process is a member of the group.
    Free,
    /// The group gave the partition to this process, in this generation.
    Owner(Arc<ConsumerGroupMetadata>),
    /// The group gave it to somebody else, or to nobody.
    Stranger,
}

impl Ownership {
    /// The process joins the group; it owns nothing yet.
    pub(super) fn join(&self) {
        let mut state = self.lock();
        state.member = true;
        state.owned.clear();
        state.commands.clear();
    }

    /// The group gave a partition to this process.
    pub(super) fn assigned(&self, partition: Partition, membership: Arc<ConsumerGroupMetadata>) {
        self.lock().owned.insert(partition, Owned { membership, wind_back: false });
    }

    /// The group took a partition back.
    pub(super) fn revoked(&self, partition: Partition) {
        self.lock().owned.remove(&partition);
    }

    /// All partitions that this process owns.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.lock().owned.keys().copied().collect()
    }

    /// Whether the process owns a partition.
    pub(super) fn owns(&self, partition: Partition) -> bool {
        self.lock().owned.contains_key(&partition)
    }

    /// Whether the journal of a partition may be opened here.
    pub(super) fn standing(&self, partition: Partition) -> Standing {
        let state = self.lock();
        match state.owned.get(&partition) {
            Some(owned) => Standing::Owner(Arc::clone(&owned.membership)),
            None if state.member => Standing::Stranger,
            None => Standing::Free,
        }
    }

    /// Whether the partition is still owned in the generation of `membership`.
    pub(super) fn is_current(&self, partition: Partition, membership: &Arc<ConsumerGroupMetadata>) -> bool {
        self.lock().owned.get(&partition).is_some_and(|owned| Arc::ptr_eq(&owned.membership, membership))
    }

    /// The journal of an owned partition is open: asks for its records.
    pub(super) fn start(&self, partition: Partition) -> oneshot::Receiver<Result<(), String>> {
        let (done, started) = oneshot::channel();
        let mut state = self.lock();
        if let Some(owned) = state.owned.get_mut(&partition) {
            let wind_back = std::mem::replace(&mut owned.wind_back, false);
            state.commands.push(Command::Start { partition, wind_back, done });
        }
        started
    }

    /// It is not known what became of something: the partition is to be begun again, if it is still ours.
    pub(super) fn in_doubt(&self, partition: Partition) {
        let mut state = self.lock();
        if let Some(owned) = state.owned.get_mut(&partition) {
            owned.wind_back = true;
            state.commands.push(Command::Again { partition, at: Instant::now() + AGAIN_AFTER });
        }
    }

    /// What the journals asked since the last time.
    pub(super) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.lock().commands)
    }

    /// The state is whole after every statement that changes it, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
