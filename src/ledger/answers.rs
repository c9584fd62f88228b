//! The answers to events: `answer/<digest>`, for a day. They belong to no workload, and are known after a restart and to the other
//! replicas.

use bellwether_core::engine::view::AnswerView;
use bellwether_core::time::Timestamp;

use super::{Ledger, forget_before, read, write};
use crate::ports::Batch;
use crate::show::{ANSWERS_LAST, remove_oldest};

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
    pub fn answered(&mut self, answer: &AnswerView, keeps: bool, batch: &mut Batch) {
        let digest = answer.event_digest();
        if keeps && self.answers.contains_key(&digest) {
            return;
        }
        let key = key_of(&digest);
        match write(&key, answer) {
            Ok(value) => batch.puts.push((key, Some(value))),
            Err(problem) => return tracing::warn!(problem, "an answer is not kept"),
        }
        self.answers.insert(digest, answer.at);
        let removed = remove_oldest(&mut self.answers, MOST_KEPT, |at| Some(*at));
        batch.puts.extend(removed.iter().map(|digest| (key_of(digest), None)));
    }

    /// Removes the answers that are no longer shown.
    pub(super) fn forget_answers(&mut self, now: Timestamp, batch: &mut Batch) {
        forget_before(&mut self.answers, ANSWERS_LAST.before(now), key_of, batch);
    }
}

/// Returns the key of the answer to the event with this digest.
fn key_of(digest: &str) -> String {
    format!("{ANSWER}{digest}")
}
