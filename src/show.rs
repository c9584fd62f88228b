//! The present state of the rollouts for readers: the API, the page and the demo read it here and never ask an engine. The rollouts of
//! the partitions that other processes own are shown as their journals have them, with the age of that knowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use bellwether_core::engine::detail::{self, RolloutDetail};
use bellwether_core::engine::show;
use bellwether_core::engine::view::{AnswerView, FreezeView, RolloutView, StatusView};
use bellwether_core::engine::{Disposition, Transition, WorkloadState};
use bellwether_core::ids::Workload;
use bellwether_core::input::report::SuiteReport;
use bellwether_core::rollout::decision::Decision;
use bellwether_core::time::{Span, Timestamp};
use tokio::sync::{broadcast, watch};

use crate::clock::Stopwatch;
use crate::ports::Partition;

mod ages;
pub mod course;
pub mod standing;
pub mod verb;

pub use ages::ViewAges;
use course::Courses;

/// Maximum number of rollouts in the view. Beyond it the rollout that ended first is removed.
const MOST_SHOWN: usize = 20_000;
/// Maximum number of workloads with suite reports in the view. Beyond it those whose newest report is the oldest are removed.
const MOST_REPORTED: usize = 10_000;
/// Maximum number of answers to events in the view. Beyond it the oldest are removed.
const MOST_ANSWERS: usize = 20_000;
/// The time for which an answer is shown and kept.
pub const ANSWERS_LAST: Span = Span::from_secs(86_400);
/// Maximum number of decisions that a subscriber may leave unread. Beyond it the subscriber misses the oldest ones.
const MOST_UNREAD: usize = 1024;

/// The board on which shards publish the state of their rollouts and their decisions.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    view: Arc<watch::Sender<StatusView>>,
    decisions: broadcast::Sender<Decision>,
    /// The workloads with a running rollout.
    running: Arc<RwLock<BTreeSet<Workload>>>,
    ages: ViewAges,
    courses: Courses,
}

/// The views that have changed in a partition of another process.
#[derive(Debug, Default)]
pub struct FollowedViews {
    /// Whether these are the first ones of a reading from the beginning: the rollouts of other workloads don't go on.
    pub is_all: bool,
    /// The present rollouts of each changed workload, by its key in the journal; none if the workload is forgotten.
    pub workloads: BTreeMap<String, Vec<RolloutView>>,
    /// The details of changed rollouts, with the rollout's id and whether it has ended.
    pub details: Vec<(String, bool, RolloutDetail)>,
    /// The suite reports about each changed workload, by its key in the journal.
    pub reports: BTreeMap<String, Vec<SuiteReport>>,
    /// The answers to events.
    pub answers: Vec<AnswerView>,
    /// Rollouts that ended before the present ones.
    pub past: Vec<RolloutView>,
    /// The freezes that the partition knows; `None` if they have not changed.
    pub freezes: Option<Vec<FreezeView>>,
}

impl Default for StatusBoard {
    fn default() -> StatusBoard {
        StatusBoard::of_partitions(0)
    }
}

impl StatusBoard {
    /// Returns an empty board for the rollouts of `partitions` partitions, of which other processes may own some. With 0 there is
    /// no other process.
    pub fn of_partitions(partitions: i32) -> StatusBoard {
        StatusBoard {
            view: Arc::new(watch::Sender::default()),
            decisions: broadcast::channel(MOST_UNREAD).0,
            running: Arc::default(),
            ages: ViewAges::new(partitions),
            courses: Courses::default(),
        }
    }

    /// Returns the courses of the rollouts.
    pub fn courses(&self) -> Courses {
        self.courses.clone()
    }

    /// Returns the ages of the views.
    pub fn ages(&self) -> ViewAges {
        self.ages.clone()
    }

    /// Returns a receiver of the view: its present value and every later one.
    pub fn watch(&self) -> watch::Receiver<StatusView> {
        self.view.subscribe()
    }

    /// Returns a receiver of every decision from now on.
    pub fn decisions(&self) -> broadcast::Receiver<Decision> {
        self.decisions.subscribe()
    }

    /// Publishes a committed decision.
    pub fn decided(&self, decision: &Decision) {
        // An error means that there is no subscriber.
        let _ = self.decisions.send(decision.clone());
    }

    /// Returns whether a rollout of the workload runs in this process.
    pub fn is_running(&self, workload: &Workload) -> bool {
        self.running.read().unwrap_or_else(PoisonError::into_inner).contains(workload)
    }

    /// Publishes the rollouts of a changed workload: the present one and the one that waits.
    pub fn show(&self, state: &WorkloadState) {
        self.change_running(|running| {
            if state.active().is_some() {
                running.insert(state.workload.clone());
            } else {
                running.remove(&state.workload);
            }
        });
        if let Some(rollout) = state.rollout.as_ref().filter(|rollout| self.courses.keeps(&rollout.id.0))
            && let Some(detail) = detail::detail(state)
        {
            self.courses.note(&rollout.id.0, rollout.ended.is_some(), detail);
        }
        self.put_reports(&state.workload.to_string(), &state.reports);
        state.rollout.iter().for_each(|rollout| self.put(show::view(rollout)));
        show::queued(state).into_iter().for_each(|waiting| self.put(waiting));
    }

    /// Publishes an isolated workload, by its key in the journal.
    pub fn show_unreadable(&self, workload: &str, why: &str, now: Timestamp) {
        self.change_running(|running| running.retain(|other| other.to_string() != workload));
        self.view.send_modify(|view| {
            view.rollouts.retain(|_, shown| shown.workload != workload || shown.ended.is_some());
        });
        self.put(show::unreadable(workload, why, now));
    }

    /// Publishes the answer to the event of a transition, and its rollouts that are not part of the workload's state: a request
    /// that was turned away, and rollouts that ended and gave way to the next one.
    pub fn passed(&self, transition: &Transition) {
        transition.passed.iter().for_each(|rollout| self.put(show::view(rollout)));
        let is_repeated = transition.disposition == Disposition::Duplicate;
        if let Some(turned_away) = show::turned_away(transition) {
            self.put_unless(is_repeated, turned_away);
        }
        self.put_answers(show::answer(transition).into_iter().collect(), is_repeated);
    }

    /// Publishes answers that rest on no transition: to events that no engine has seen, and those of the journal. An earlier answer
    /// to the same event stays.
    pub fn answered(&self, answers: Vec<AnswerView>) {
        self.put_answers(answers, true);
    }

    /// Publishes the freezes that a partition of this process knows, in place of those that it knew.
    pub fn show_freezes(&self, partition: Partition, freezes: Vec<FreezeView>) {
        self.view.send_modify(|view| drop(view.freezes.insert(partition, freezes.into())));
    }

    /// Publishes rollouts of the journal that ended before the present ones.
    pub fn recall(&self, past: Vec<RolloutView>) {
        if !past.is_empty() {
            self.view.send_modify(|view| {
                view.rollouts.extend(past.into_iter().map(|shown| (shown.id.clone(), Arc::new(shown))));
                bound(&mut view.rollouts);
            });
        }
    }

    /// Publishes answers. With `keeps` an earlier answer to the same event stays.
    fn put_answers(&self, answers: Vec<AnswerView>, keeps: bool) {
        if !answers.is_empty() {
            self.view.send_modify(|view| put_answers(&mut view.answers, answers, keeps));
        }
    }

    /// Notes that this process owns a partition and has published all of its rollouts.
    pub fn own(&self, partition: Partition) {
        self.view.send_modify(|view| {
            self.ages.own(partition);
            view.followed.retain(|_, shown| !self.is_of(partition, &shown.workload));
        });
    }

    /// Notes that a commit has shown that this process still owns a partition.
    pub fn committed(&self, partition: Partition) {
        self.ages.committed(partition);
    }

    /// Notes that this process owns a partition no longer: its rollouts stay as those of another process. With `is_lost` that one may
    /// have owned it since the last commit.
    pub fn release(&self, partition: Partition, is_lost: bool) {
        self.change_running(|running| running.retain(|workload| !self.is_of(partition, &workload.to_string())));
        self.view.send_modify(|view| {
            self.ages.release(partition, is_lost);
            let all = std::mem::take(&mut view.rollouts).into_iter();
            let (released, kept) = all.partition(|(_, shown)| self.is_of(partition, &shown.workload));
            view.rollouts = kept;
            view.followed.extend::<BTreeMap<_, _>>(released);
            bound(&mut view.followed);
        });
    }

    /// Publishes the views that the journal of a partition tells, which was read to the end that it had at `as_of`. They are dropped if
    /// this process owns the partition, or has a newer view of it.
    pub fn follow(&self, partition: Partition, views: FollowedViews, as_of: Stopwatch) {
        let FollowedViews { is_all, workloads, details, reports, answers, past, freezes } = views;
        if !is_all && workloads.is_empty() && answers.is_empty() && past.is_empty() && freezes.is_none() {
            self.ages.followed(partition, as_of);
            return;
        }
        self.view.send_modify(|view| {
            put_answers(&mut view.answers, answers, true);
            if self.ages.followed(partition, as_of) {
                // An ended rollout changes no more, so it stays.
                view.followed.retain(|_, shown| {
                    shown.ended.is_some()
                        || !(workloads.contains_key(&shown.workload)
                            || is_all && self.is_of(partition, &shown.workload))
                });
                let shown = past.into_iter().chain(workloads.into_values().flatten());
                let shown = shown.map(|shown| (shown.id.clone(), Arc::new(shown)));
                view.followed.extend(shown);
                bound(&mut view.followed);
                for (workload, reports) in reports {
                    put_reports(&mut view.reports, &workload, &reports);
                }
                view.freezes.extend(freezes.map(|freezes| (partition, freezes.into())));
                for (rollout, has_ended, detail) in details {
                    self.courses.note(&rollout, has_ended, detail);
                }
            }
        });
    }

    /// Returns whether a workload, by its key in the journal, belongs to a partition. A process alone has only one.
    fn is_of(&self, partition: Partition, workload: &str) -> bool {
        self.ages.partition_of(workload).is_none_or(|of| of == partition)
    }

    fn change_running(&self, change: impl FnOnce(&mut BTreeSet<Workload>)) {
        // Poisoning is harmless: each change leaves the set consistent.
        change(&mut self.running.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Publishes the suite reports about a workload, if they have changed.
    fn put_reports(&self, workload: &str, reports: &[SuiteReport]) {
        self.view.send_if_modified(|view| put_reports(&mut view.reports, workload, reports));
    }

    /// Publishes a rollout. With `keeps` one with the same id stays as it is.
    fn put_unless(&self, keeps: bool, shown: RolloutView) {
        if !(keeps && self.view.borrow().rollouts.contains_key(&shown.id)) {
            self.put(shown);
        }
    }

    fn put(&self, shown: RolloutView) {
        self.view.send_modify(|view| {
            view.rollouts.insert(shown.id.clone(), Arc::new(shown));
            bound(&mut view.rollouts);
        });
    }
}

/// Removes the rollouts that ended first if there are more than [`MOST_SHOWN`].
fn bound(rollouts: &mut BTreeMap<String, Arc<RolloutView>>) {
    remove_oldest(rollouts, MOST_SHOWN, |shown| shown.ended);
}

/// Sets the suite reports about a workload. Returns whether they have changed.
fn put_reports(all: &mut BTreeMap<String, Arc<[SuiteReport]>>, workload: &str, reports: &[SuiteReport]) -> bool {
    if all.get(workload).map_or(&[][..], |known| &**known) == reports {
        return false;
    }
    if reports.is_empty() {
        all.remove(workload);
    } else {
        all.insert(workload.to_owned(), reports.into());
        remove_oldest(all, MOST_REPORTED, |reports| reports.iter().map(|report| report.at).max());
    }
    true
}

/// Adds answers to `all`. With `keeps` an earlier answer to the same event stays.
fn put_answers(all: &mut BTreeMap<String, AnswerView>, answers: Vec<AnswerView>, keeps: bool) {
    let Some(newest) = answers.iter().map(|answer| answer.at).max() else { return };
    let since = ANSWERS_LAST.before(newest);
    all.retain(|_, old| old.at >= since);
    for answer in answers {
        let digest = answer.event_digest();
        if !(keeps && all.contains_key(&digest)) {
            all.insert(digest, answer);
        }
    }
    remove_oldest(all, MOST_ANSWERS, |answer| Some(answer.at));
}

/// Removes the entries with the earliest times until `most` are left, and returns their keys. Entries without a time stay.
pub fn remove_oldest<V>(
    entries: &mut BTreeMap<String, V>,
    most: usize,
    time: impl Fn(&V) -> Option<Timestamp>,
) -> Vec<String> {
    let excess = entries.len().saturating_sub(most);
    if excess == 0 {
        return Vec::new();
    }
    let mut oldest: Vec<(Timestamp, &String)> =
        entries.iter().filter_map(|(key, entry)| Some((time(entry)?, key))).collect();
    if excess < oldest.len() {
        oldest.select_nth_unstable(excess);
        oldest.truncate(excess);
    }
    let removed: Vec<String> = oldest.into_iter().map(|(_, key)| key.clone()).collect();
    for key in &removed {
        entries.remove(key);
    }
    removed
}

#[cfg(test)]
mod tests {
    use bellwether_core::engine::Engine;
    use bellwether_core::ids::EventId;
    use bellwether_core::input::event::{Event, Request};
    use serde_json::json;

    use super::*;
    use crate::journal::partition_of;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id(id: &str) -> EventId {
        EventId { source: "ci".to_owned(), id: id.to_owned() }
    }

    fn answer(event: &str, second: i64) -> AnswerView {
        AnswerView {
            source: "ci".to_owned(),
            id: event.to_owned(),
            result: AnswerView::IGNORED.to_owned(),
            reason: format!("{event} expired"),
            rollout: None,
            at: at(second),
        }
    }

    fn reason_of(board: &StatusBoard, event: &str) -> Option<String> {
        board.watch().borrow().answers.get(&id(event).digest()).map(|answer| answer.reason.clone())
    }

    #[test]
    fn a_refused_request_has_an_answer_and_a_rollout_that_a_client_can_wait_for() {
        let board = StatusBoard::default();
        let mut engine = Engine::new("prod".to_owned(), Vec::new(), Span::from_secs(3600));
        let request =
            json!({ "workload": { "cluster": "prod", "namespace": "shop", "name": "web" }, "image": "web:2" });
        let request: Request = serde_json::from_value(request).unwrap();
        for transition in engine.step(Event::Requested { id: id("1"), time: None, request }, at(100)) {
            board.passed(&transition);
        }
        let view = board.watch().borrow().clone();
        let answer = &view.answers[&id("1").digest()];
        assert_eq!((answer.result.as_str(), answer.is_taken()), ("refused", false));
        assert!(answer.reason.starts_with("no policy covers prod/shop/Deployment/web"), "{answer:?}");
        assert_eq!(view.rollouts[answer.rollout.as_ref().unwrap()].outcome.as_deref(), Some("refused"));
    }

    fn shown(id: &str, namespace: &str, ended: Option<Timestamp>) -> RolloutView {
        let workload = format!("prod/{namespace}/Deployment/web");
        RolloutView { id: id.to_owned(), ended, ..show::unreadable(&workload, "a test", at(0)) }
    }

    fn ids(rollouts: &BTreeMap<String, Arc<RolloutView>>) -> Vec<&str> {
        rollouts.keys().map(String::as_str).collect()
    }

    fn of(rollouts: &[RolloutView]) -> FollowedViews {
        let mut views = FollowedViews::default();
        for shown in rollouts {
            views.workloads.entry(shown.workload.clone()).or_default().push(shown.clone());
        }
        views
    }

    #[test]
    fn a_partition_is_shown_once_while_it_is_followed_taken_over_and_released() {
        let board = StatusBoard::of_partitions(4);
        let partition = |shown: &RolloutView| partition_of(shown.workload.as_bytes(), 4);
        let first = shown("first", "shop", None);
        let others = ["pay", "cart", "mail", "search"].map(|namespace| shown("other", namespace, None));
        let other = others.into_iter().find(|other| partition(other) != partition(&first)).unwrap();
        let (here, there) = (partition(&first), partition(&other));
        let view = || board.watch().borrow().clone();
        let read = Stopwatch::start();
        board.follow(here, FollowedViews { is_all: true, ..of(std::slice::from_ref(&first)) }, read);
        board.follow(there, FollowedViews { is_all: true, ..of(std::slice::from_ref(&other)) }, read);
        assert_eq!((ids(&view().followed), board.ages().of(&first.workload).is_some()), (vec!["first", "other"], true));

        // Taken over: what was read before comes too late.
        board.put(first.clone());
        board.own(here);
        board.follow(here, of(&[shown("late", "shop", None)]), read);
        assert_eq!((ids(&view().rollouts), ids(&view().followed)), (vec!["first"], vec!["other"]));
        assert_eq!(board.ages().of(&first.workload), None);

        // Released: it stays, until the journal tells that another rollout has followed.
        board.release(here, false);
        assert_eq!((ids(&view().rollouts), ids(&view().followed)), (vec![], vec!["first", "other"]));
        let next = [shown("first", "shop", Some(at(5))), shown("second", "shop", None)];
        board.follow(here, FollowedViews { is_all: true, ..of(&next) }, Stopwatch::start());
        board.follow(here, of(&[shown("third", "shop", None)]), Stopwatch::start());
        assert_eq!(
            ids(&view().followed),
            ["first", "other", "third"],
            "an ended one stays, and a replaced one does not"
        );
        board.follow(here, FollowedViews { is_all: true, ..FollowedViews::default() }, Stopwatch::start());
        assert_eq!(ids(&view().followed), ["first", "other"]);
    }

    #[test]
    fn the_first_answer_to_an_event_that_comes_again_stays() {
        let board = StatusBoard::default();
        board.answered(vec![answer("1", 100)]);
        board.answered(vec![AnswerView { reason: "later".to_owned(), ..answer("1", 200) }]);
        assert_eq!(reason_of(&board, "1").as_deref(), Some("1 expired"));
    }

    #[test]
    fn answers_are_bounded_in_number_and_age() {
        let board = StatusBoard::default();
        board.answered(vec![answer("old", 0)]);
        board.answered(vec![answer("new", 86_400)]);
        assert!(reason_of(&board, "old").is_some(), "a day old");
        board.answered(vec![answer("newer", 86_401)]);
        assert_eq!((reason_of(&board, "old"), reason_of(&board, "new").is_some()), (None, true));
        board.view.send_modify(|view| {
            let many = (0..MOST_ANSWERS).map(|n| (n.to_string(), answer("one of many", 86_402)));
            view.answers = many.collect();
        });
        board.answered(vec![answer("last", 86_403)]);
        assert_eq!(board.watch().borrow().answers.len(), MOST_ANSWERS);
        assert!(reason_of(&board, "last").is_some());
    }
}
