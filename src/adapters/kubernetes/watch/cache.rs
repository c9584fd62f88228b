//! The state that the watches leave: the objects, the lists that are complete, and the failures by which changes may be missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use bellwether_core::ids::Workload;
use bellwether_core::time::Timestamp;
use tokio::sync::Notify;

use super::super::objects::Objects;
use crate::clock::Stopwatch;

/// The time after a failure of a watch for which it is not known to be complete: the longest wait until it is tried again,
/// and some time for the attempt.
pub(super) const RECOVERY: Duration = Duration::from_secs(35);
/// The time since a failure of a watch after which the same one is logged again.
const SAME_FAILURE: Duration = Duration::from_secs(300);
/// The time without an answer of the API server from which on it counts as unavailable.
const MAX_SILENCE: Duration = Duration::from_secs(8);

/// The state of the watches, shared between the task that fills it and its readers.
#[derive(Debug, Default)]
pub struct ClusterCache {
    pub(super) objects: RwLock<Objects>,
    state: Mutex<WatchState>,
    /// Workloads whose status is to be sent again, changed or not.
    requested: Mutex<BTreeSet<Workload>>,
    request: Notify,
}

#[derive(Debug, Default)]
struct WatchState {
    /// By watch: the reason why its list is not complete yet; `None`: it is.
    lists: BTreeMap<String, Option<String>>,
    contact: Option<Timestamp>,
    /// The time since that contact, which no jump of the clock changes.
    silence: Option<Stopwatch>,
    error: Option<String>,
    /// The time since the last failure of a watch.
    failed: Option<Stopwatch>,
    /// By watch: its last failure, and the time since then.
    failures: BTreeMap<String, (String, Stopwatch)>,
}

/// The state of the lists and of the connection to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The reason of every list that is not complete yet; empty: all are.
    pub waiting: Vec<String>,
    /// The time of the API server's last answer.
    pub contact: Option<Timestamp>,
    /// The error since that answer.
    pub error: Option<String>,
    /// The time since that answer; `None` before the first one.
    pub silence: Option<Duration>,
    /// The last failures of the watches that are not known to be complete because of them. One that the API server refuses
    /// names the missing verb.
    pub failures: Vec<String>,
}

impl Readiness {
    /// Returns whether all lists are complete. It stays true when the API server becomes unavailable later.
    pub fn is_ready(&self) -> bool {
        self.contact.is_some() && self.waiting.is_empty()
    }

    /// Returns why changes of the cluster may be missed now; `None` if every change is seen.
    pub fn problem(&self) -> Option<String> {
        let error = self.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        if !self.waiting.is_empty() {
            return Some(self.waiting.join("; "));
        }
        match self.silence {
            None => Some(format!("the API server has not answered yet{error}")),
            Some(silence) if silence > MAX_SILENCE => {
                Some(format!("the API server has not answered for {} s{error}", silence.as_secs()))
            }
            Some(_) if !self.failures.is_empty() => {
                Some(format!("changes may be missed, and nothing is decided: {}", self.failures.join("; ")))
            }
            Some(_) => None,
        }
    }
}

impl ClusterCache {
    /// Reads the objects.
    pub fn with<T>(&self, read: impl FnOnce(&Objects) -> T) -> T {
        read(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests that the status of these workloads is sent again, changed or not.
    pub fn resend(&self, workloads: impl IntoIterator<Item = Workload>) {
        lock(&self.requested).extend(workloads);
        self.request.notify_one();
    }

    /// Waits until statuses are requested.
    pub(super) async fn requested(&self) {
        self.request.notified().await;
    }

    /// Takes the workloads whose status is requested.
    pub(super) fn take_requested(&self) -> BTreeSet<Workload> {
        std::mem::take(&mut *lock(&self.requested))
    }

    /// Returns the state of the lists and of the connection.
    pub fn readiness(&self) -> Readiness {
        let state = lock(&self.state);
        Readiness {
            waiting: state.lists.values().flatten().cloned().collect(),
            contact: state.contact,
            error: state.error.clone(),
            silence: state.silence.map(|silence| silence.elapsed()),
            failures: state
                .failures
                .values()
                .filter(|(_, since)| since.elapsed() <= RECOVERY)
                .map(|(error, _)| error.clone())
                .collect(),
        }
    }

    pub(super) fn has_all_lists(&self) -> bool {
        let state = lock(&self.state);
        !state.lists.is_empty() && state.lists.values().all(Option::is_none)
    }

    pub(super) fn expect_list(&self, watch: &str) {
        lock(&self.state).lists.insert(watch.to_owned(), Some(format!("{watch} are not listed yet")));
    }

    pub(super) fn note_list(&self, watch: &str, now: Timestamp) {
        lock(&self.state).lists.insert(watch.to_owned(), None);
        self.note_contact(now);
    }

    pub(super) fn note_contact(&self, now: Timestamp) {
        let mut state = lock(&self.state);
        state.contact = Some(now);
        state.silence = Some(Stopwatch::start());
        state.error = None;
    }

    /// Returns the time up to which every change is known; `None` if a list is missing, a watch has failed lately, or the
    /// API server did not answer the last question.
    pub(super) fn complete_until(&self) -> Option<Timestamp> {
        let state = lock(&self.state);
        let contact = state.contact.filter(|_| state.error.is_none())?;
        let is_listed = !state.lists.is_empty() && state.lists.values().all(Option::is_none);
        let silence = state.silence.map(|silence| silence.elapsed()).unwrap_or_default();
        let has_recovered = state.failed.is_none_or(|failed| failed.elapsed().saturating_sub(silence) > RECOVERY);
        (is_listed && has_recovered).then_some(contact)
    }

    /// Notes the failure of a watch. Returns whether it is to be logged: it is another one than the watch's last one, or that is over.
    pub(super) fn note_watch_failure(&self, watch: &str, error: String) -> bool {
        self.note_failure(watch, error.clone());
        let mut state = lock(&self.state);
        state.failed = Some(Stopwatch::start());
        let last = state.failures.insert(watch.to_owned(), (error.clone(), Stopwatch::start()));
        last.is_none_or(|(last, since)| last != error || since.elapsed() > SAME_FAILURE)
    }

    pub(super) fn note_failure(&self, watch: &str, error: String) {
        let mut state = lock(&self.state);
        if let Some(reason @ Some(_)) = state.lists.get_mut(watch) {
            *reason = Some(error.clone());
        }
        state.error = Some(error);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_watch_and_a_silent_server_are_a_problem_by_name() {
        let cache = ClusterCache::default();
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let problem = || cache.readiness().problem().unwrap_or_default();
        cache.expect_list("Pods");
        assert!(problem().contains("Pods are not listed yet"), "{}", problem());
        cache.note_list("Pods", now);
        assert_eq!(problem(), "");
        let refused = "watching Pods: pods is forbidden: User \"bellwether\" cannot watch resource \"pods\"";
        assert!(cache.note_watch_failure("Pods", refused.to_owned()));
        assert!(!cache.note_watch_failure("Pods", refused.to_owned()), "it is logged once");
        // The watcher lists again, which is allowed.
        cache.note_list("Pods", now);
        assert!(problem().contains("cannot watch resource \"pods\""), "{}", problem());
        tokio::time::advance(RECOVERY + Duration::from_secs(1)).await;
        cache.note_contact(now);
        assert_eq!(problem(), "");
        tokio::time::advance(Duration::from_secs(9)).await;
        cache.note_failure("", "connection refused".to_owned());
        assert_eq!(problem(), "the API server has not answered for 9 s: connection refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_failed_is_complete_again_by_the_time_that_has_passed_and_not_by_the_clock() {
        let cache = ClusterCache::default();
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let earlier: Timestamp = "2026-01-30T12:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-02-01T12:00:00Z".parse().unwrap();
        cache.note_list("Pods", now);
        cache.note_watch_failure("Pods", "gone".to_owned());
        cache.note_list("Pods", later);
        assert_eq!(cache.complete_until(), None, "the clock is a day ahead");
        tokio::time::advance(RECOVERY + Duration::from_secs(1)).await;
        cache.note_contact(earlier);
        assert_eq!(cache.complete_until(), Some(earlier), "the clock is a day behind");
    }
}
