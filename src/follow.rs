//! The partitions that other processes own: their journals are followed, so that any replica can show all rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::{Clock, Stopwatch};
use crate::ledger::followed::FollowedPartition;
use crate::ports::{JournalFollower, Partition};
use crate::show::StatusBoard;

/// The followed partitions, shown on a board.
pub struct Followed {
    cluster: String,
    clock: Arc<dyn Clock>,
    board: StatusBoard,
    partitions: BTreeMap<Partition, FollowedPartition>,
}

impl Followed {
    /// Returns the follower of a cluster's journals. It follows no partition yet.
    pub fn new(cluster: String, clock: Arc<dyn Clock>, board: StatusBoard) -> Followed {
        Followed { cluster, clock, board, partitions: BTreeMap::new() }
    }
}

impl JournalFollower for Followed {
    fn begin(&mut self, partition: Partition) {
        self.partitions.insert(partition, FollowedPartition::new(&self.cluster));
    }

    fn entry(&mut self, partition: Partition, key: &str, value: Option<&[u8]>) {
        if let Some(followed) = self.partitions.get_mut(&partition) {
            followed.note(key, value);
        }
    }

    fn read(&mut self, partition: Partition, as_of: Stopwatch) {
        if let Some(followed) = self.partitions.get_mut(&partition) {
            self.board.follow(partition, followed.apply(self.clock.now()), as_of);
        }
    }
}
