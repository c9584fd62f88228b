//! The answers to events: `answer/<digest>`, for a day. They belong to no workload, and are known after a restart and to the other
//! replicas.

use bellwether_core::engine::view::AnswerView;
use bellwether_core::ids::EventId;
use bellwether_core::time::Timestamp;

use super::{Ledger, read, write};
use crate::ports::Batch;
use crate::show::ANSWERS_LAST;

/// The beginning of the keys of answers, before the digest of the event's source and id.
pub(super) const ANSWER: &str = "answer/";
/// The most answers that a partition keeps; the oldest is removed first.
const MOST_KEPT: usize = 5_000;

impl Ledger {
    /// Restores an answer. One that can't be read is of another version, and is removed with the next old ones.
    pub(super) fn restore_answer(&mut self, key: &str, digest: &str, value: &[u8]) {
        let answer: Option<AnswerView> = read(key, value).ok();
        self.answers.insert(digest.to_owned(), answer.as_ref().map_or(Timestamp::MIN, |answer| answer.at));
        self.restored_answers.extend(answer);
    }

    /// Takes the answers that were restored, for readers.
    pub fn take_answers(&mut self) -> Vec<AnswerView> {
        std::mem::take(&mut self.restored_answers)
    }

    /// Adds an answer to `batch`. With `keeps` an earlier answer to the same event stays.
    pub fn answered(&mut self, id: &EventId, answer: &AnswerView, keeps: bool, batch: &mut Batch) {
        let digest = id.digest();
        if keeps && self.answers.contains_key(&digest) {
            return;
        }
        let key = format!("{ANSWER}{digest}");
        match write(&key, answer) {
            Ok(value) => batch.puts.push((key, Some(value))),
            Err(problem) => return tracing::warn!(problem, "an answer is not kept"),
        }
        self.answers.insert(digest, answer.at);
        if self.answers.len() > MOST_KEPT
            && let Some(oldest) = self.answers.iter().min_by_key(|(_, at)| **at).map(|(digest, _)| digest.clone())
        {
            self.remove_answer(&oldest, batch);
        }
    }

    /// Removes the answers that are no longer shown.
    pub(super) fn forget_answers(&mut self, now: Timestamp, batch: &mut Batch) {
        let since = ANSWERS_LAST.before(now);
        let old: Vec<String> =
            self.answers.iter().filter(|(_, at)| **at < since).map(|(digest, _)| digest.clone()).collect();
        old.iter().for_each(|digest| self.remove_answer(digest, batch));
    }

    fn remove_answer(&mut self, digest: &str, batch: &mut Batch) {
        self.answers.remove(digest);
        batch.puts.push((format!("{ANSWER}{digest}"), None));
    }
}
