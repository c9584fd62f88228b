//! The earlier rollouts of a workload, as people saw them last: `past/<workload>/<rollout>`. The present rollout and the last one are
//! in the workload's snapshot; those before it would be known to nothing but the decisions topic. Nothing is decided by them.

use bellwether_core::engine::Transition;
use bellwether_core::engine::show;
use bellwether_core::engine::view::RolloutView;
use bellwether_core::time::{Span, Timestamp};

use super::{Ledger, forget_before, read, write};
use crate::ports::Batch;
use crate::show::remove_oldest;

/// The beginning of the keys of earlier rollouts, before the workload and the rollout's id.
pub(super) const PAST: &str = "past/";
/// The most earlier rollouts of a workload that are kept; the one that ended first is removed first.
const MOST_OF_WORKLOAD: usize = 10;
/// The most earlier rollouts that a partition keeps.
const MOST_KEPT: usize = 10_000;
/// The time after its end for which an earlier rollout is kept.
const KEPT_FOR: Span = Span::from_secs(90 * 86_400);

impl Ledger {
    /// Restores an earlier rollout. One that can't be read is of another version, and is removed with the next old ones.
    pub(super) fn restore_past(&mut self, key: &str, value: &[u8]) {
        let rollout: Option<RolloutView> = read(key, value).ok();
        let ended = rollout.as_ref().and_then(|rollout| rollout.ended).unwrap_or(Timestamp::MIN);
        self.past.insert(key.to_owned(), ended);
        self.restored_past.extend(rollout);
    }

    /// Takes the earlier rollouts that were restored, for readers.
    pub fn take_past(&mut self) -> Vec<RolloutView> {
        std::mem::take(&mut self.restored_past)
    }

    /// Adds the rollouts to `batch` that ended and gave way to the next one.
    pub fn keep_past(&mut self, transition: &Transition, batch: &mut Batch) {
        for rollout in &transition.passed {
            let Some(ended) = rollout.ended else { continue };
            let workload = format!("{PAST}{}/", rollout.workload);
            let key = format!("{workload}{}", rollout.id);
            match write(&key, &show::view(rollout)) {
                Ok(value) => batch.puts.push((key.clone(), Some(value))),
                Err(problem) => {
                    tracing::warn!(problem, "an earlier rollout is not kept");
                    continue;
                }
            }
            self.past.insert(key, ended);
            self.remove_excess(&workload, batch);
        }
    }

    /// Removes the rollouts that ended first, of the workload whose keys have this beginning and of the partition, beyond their bounds.
    fn remove_excess(&mut self, workload: &str, batch: &mut Batch) {
        let of_workload = self.past.range(workload.to_owned()..).take_while(|(key, _)| key.starts_with(workload));
        let mut of_workload = of_workload.map(|(key, ended)| (key.clone(), *ended)).collect();
        let mut removed = remove_oldest(&mut of_workload, MOST_OF_WORKLOAD, |ended| Some(*ended));
        for key in &removed {
            self.past.remove(key);
        }
        removed.extend(remove_oldest(&mut self.past, MOST_KEPT, |ended| Some(*ended)));
        batch.puts.extend(removed.into_iter().map(|key| (key, None)));
    }

    /// Removes the rollouts that ended long ago.
    pub(super) fn forget_past(&mut self, now: Timestamp, batch: &mut Batch) {
        forget_before(&mut self.past, KEPT_FOR.before(now), str::to_owned, batch);
    }
}
