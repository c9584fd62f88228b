//! The end of everything that an engine remembers: freezes that are over, events that can't come again, and workloads that are
//! gone.

use super::partition::Engine;
use super::workload::WorkloadState;
use crate::ids::{Scope, Workload};
use crate::input::status::WorkloadStatus;
use crate::time::{Span, Timestamp};

/// The time after the beginning of a sight after which a workload that no status has told of does not exist.
const SEES_ALL_AFTER: Span = Span::from_secs(3600);

impl Engine {
    /// Forgets the freezes that have ended, and returns their scopes for the journal.
    pub fn forget_freezes(&mut self, now: Timestamp) -> Vec<Scope> {
        let over: Vec<Scope> =
            self.freezes.iter().filter(|(_, freeze)| !freeze.holds(now)).map(|(scope, _)| scope.clone()).collect();
        for scope in &over {
            self.freezes.remove(scope);
        }
        over
    }

    /// Forgets the workloads that are gone from the cluster, or that nothing has told of since the cluster can be seen, a week
    /// after their last change. Returns them for the journal.
    pub fn forget_workloads(&mut self, now: Timestamp) -> Vec<Workload> {
        let sees_all = self.sight.is_some_and(|sight| sight.is_fresh(now) && SEES_ALL_AFTER.after(sight.since) <= now);
        let is_absent = |state: &WorkloadState| state.status.as_ref().is_none_or(|it| *it == WorkloadStatus::ABSENT);
        let is_gone = |state: &WorkloadState| {
            if self.observed.contains(&state.workload) { is_absent(state) } else { sees_all }
        };
        let outdated = self.states.values().filter(|state| is_gone(state) && state.is_outdated(now));
        let gone: Vec<Workload> = outdated.map(|state| state.workload.clone()).collect();
        for workload in &gone {
            self.set_wakeup(workload, None);
            self.states.remove(workload);
            self.at_rest.remove(workload);
        }
        gone
    }

    /// Forgets the events that can't be delivered again, and returns their digests for the journal.
    pub fn forget_seen(&mut self, now: Timestamp) -> Vec<String> {
        let latest = self.retention.after(now);
        self.seen.values_mut().for_each(|until| *until = (*until).min(latest));
        let old: Vec<String> =
            self.seen.iter().filter(|(_, until)| **until <= now).map(|(digest, _)| digest.clone()).collect();
        for digest in &old {
            self.seen.remove(digest);
        }
        old
    }
}
