//! The newest dead letters, as JSON and for the console. They are read when a person asks, at most one reading at a time and with a
//! deadline, so that a store that does not answer holds up nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bellwether_core::time::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::answer::{busy, problem};
use super::state::App;
use crate::clock::Stopwatch;
use crate::ports::{DeadLetter, DeadLetterList, DeadLetters, KeptBytes, LetterId, LetterOrigin};

/// The time for which a list is shown again before the store is asked anew.
const LASTS: Duration = Duration::from_secs(3);
/// The answer of a daemon without a store of dead letters.
const NO_STORE: &str = "this daemon has no dead letters to show";

/// The store of dead letters, with the list that was read last. Clones share it.
#[derive(Clone)]
pub(super) struct Letters {
    store: Option<Arc<dyn DeadLetters>>,
    /// The permit to read the store.
    reading: Arc<Semaphore>,
    last: Arc<Mutex<Option<(Stopwatch, DeadLetterList)>>>,
}

impl Letters {
    pub(super) fn new(store: Option<Arc<dyn DeadLetters>>) -> Letters {
        Letters { store, reading: Arc::new(Semaphore::new(1)), last: Arc::default() }
    }

    /// Returns the newest letters.
    ///
    /// # Errors
    /// A sentence with the reason why they can't be read within this time.
    pub(super) async fn newest(&self, within: Duration) -> Result<DeadLetterList, String> {
        if let Some(list) = self.recent() {
            return Ok(list);
        }
        let letters = self.clone();
        let newest = async move |store: Arc<dyn DeadLetters>| {
            // Another person may have asked while this one waited.
            if let Some(list) = letters.recent() {
                return Ok(list);
            }
            let list = store.newest().await?;
            *letters.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Stopwatch::start(), list.clone()));
            Ok(list)
        };
        self.read(within, newest).await
    }

    /// Returns one letter with all that was kept of it; `None` if there is none.
    ///
    /// # Errors
    /// A sentence with the reason why it can't be read within this time.
    pub(super) async fn letter(&self, id: LetterId, within: Duration) -> Result<Option<DeadLetter>, String> {
        self.read(within, async move |store: Arc<dyn DeadLetters>| store.letter(id).await).await
    }

    fn recent(&self) -> Option<DeadLetterList> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(read, _)| read.elapsed() < LASTS).map(|(_, list)| list.clone())
    }

    /// Calls `work` in a task that keeps the permit until it has ended, also if the request has ended before.
    async fn read<T: Send + 'static, F: Future<Output = Result<T, String>> + Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce(Arc<dyn DeadLetters>) -> F,
    ) -> Result<T, String> {
        let store = self.store.clone().ok_or(NO_STORE)?;
        let (reading, work) = (Arc::clone(&self.reading), work(store));
        let read = async {
            let permit = reading.acquire_owned().await.map_err(|error| error.to_string())?;
            let task = tokio::spawn(async move {
                let _permit = permit;
                work.await
            });
            task.await.unwrap_or_else(|error| Err(error.to_string()))
        };
        let late = || Err(format!("the store did not answer within {:.0} s", within.as_secs_f64()));
        tokio::time::timeout(within, read).await.unwrap_or_else(|_| late())
    }
}

/// The answer to `GET /api/v1/dead-letters`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct LettersAnswer {
    letters: Vec<LetterView>,
    /// Whether the store may have older ones.
    may_have_more: bool,
    /// The reason why some of the newest may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// A dead letter, as people and programs see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LetterView {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<OriginView>,
    pub(super) problem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<ShownBytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<ShownBytes>,
}

/// The place where the record of a dead letter was read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct OriginView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// Bytes of a sender, as a text that can be shown.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ShownBytes {
    pub(super) text: String,
    /// The form of the text: `utf-8`, or `hex` for bytes that are no UTF-8 or have control characters.
    pub(super) encoding: &'static str,
    /// The number of all bytes.
    pub(super) bytes: usize,
    /// Whether the text leaves some out.
    pub(super) cut: bool,
}

impl LetterView {
    /// Returns the view of a letter, with at most `most` bytes of its key and its value.
    pub(super) fn of(letter: &DeadLetter, most: usize) -> LetterView {
        let origin = letter.origin.clone();
        LetterView {
            id: letter.id.to_string(),
            at: letter.at,
            origin: origin.map(|LetterOrigin { topic, partition, offset }| OriginView { topic, partition, offset }),
            problem: letter.problem.clone(),
            key: letter.key.as_ref().map(|key| ShownBytes::of(key, most)),
            value: letter.value.as_ref().map(|value| ShownBytes::of(value, most)),
        }
    }
}

impl ShownBytes {
    fn of(kept: &KeptBytes, most: usize) -> ShownBytes {
        let first = kept.bytes.get(..most).unwrap_or(&kept.bytes);
        let is_cut = first.len() < kept.all;
        // A character may be cut in two.
        let readable = match std::str::from_utf8(first) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() && is_cut => {
                first.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok())
            }
            Err(_) => None,
        };
        let is_plain = |text: &&str| !text.chars().any(|c| c.is_control() && !['\n', '\r', '\t'].contains(&c));
        let (text, encoding) = match readable.filter(is_plain) {
            Some(text) => (text.to_owned(), "utf-8"),
            None => (first.iter().map(|byte| format!("{byte:02x}")).collect(), "hex"),
        };
        ShownBytes { text, encoding, bytes: kept.all, cut: is_cut }
    }
}

/// Handles `GET /api/v1/dead-letters`: the newest ones, the newest first.
pub(super) async fn list(State(app): State<App>) -> Response {
    match app.letters.newest(app.patience()).await {
        Ok(DeadLetterList { letters, may_have_more, problem }) => {
            let letters = letters.iter().map(|letter| LetterView::of(letter, usize::MAX)).collect();
            Json(LettersAnswer { letters, may_have_more, problem }).into_response()
        }
        Err(reason) if reason == NO_STORE => problem(StatusCode::NOT_FOUND, NO_STORE),
        Err(reason) => busy(&format!("the dead letters can't be read: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    fn shown(bytes: &[u8], all: usize, most: usize) -> ShownBytes {
        ShownBytes::of(&KeptBytes { bytes: bytes.to_vec(), all }, most)
    }

    #[test]
    fn bytes_are_shown_as_text_or_as_hex_and_cut_between_characters() {
        let text = |text: &str, encoding, bytes, cut| ShownBytes { text: text.to_owned(), encoding, bytes, cut };
        assert_eq!(shown("{\n\t\"ä\"".as_bytes(), 7, 9), text("{\n\t\"ä\"", "utf-8", 7, false));
        assert_eq!(shown("aä".as_bytes(), 3, 2), text("a", "utf-8", 3, true), "half a character is left out");
        assert_eq!(shown(b"a\xc3", 2, 9), text("61c3", "hex", 2, false), "the end is no character");
        assert_eq!(shown(b"\xff\x00a", 3, 2), text("ff00", "hex", 3, true));
        assert_eq!(shown(b"\x1b[2J", 4, 9), text("1b5b324a", "hex", 4, false), "a terminal would obey it");
        assert_eq!(shown(b"", 3_000_000, 9), text("", "utf-8", 3_000_000, true));
    }

    /// A store that answers after some time, and counts the readings.
    #[derive(Default)]
    struct Slow(Duration, std::sync::atomic::AtomicUsize);

    #[async_trait]
    impl DeadLetters for Slow {
        async fn newest(&self) -> Result<DeadLetterList, String> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::time::sleep(self.0).await;
            Ok(DeadLetterList { may_have_more: true, ..DeadLetterList::default() })
        }

        async fn letter(&self, _: LetterId) -> Result<Option<DeadLetter>, String> {
            Ok(None)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_reading_serves_all_who_ask_meanwhile_and_shortly_after() {
        let store = Arc::new(Slow(Duration::from_secs(1), Default::default()));
        let letters = Letters::new(Some(Arc::clone(&store) as Arc<dyn DeadLetters>));
        let within = Duration::from_secs(5);
        let asked = || store.1.load(std::sync::atomic::Ordering::SeqCst);
        let (one, other) = tokio::join!(letters.newest(within), letters.newest(within));
        assert!(one.unwrap().may_have_more && other.unwrap().may_have_more);
        assert_eq!(asked(), 1);
        tokio::time::advance(LASTS).await;
        letters.newest(within).await.unwrap();
        assert_eq!(asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_told_and_read_by_one_task_alone() {
        let store = Arc::new(Slow(Duration::from_secs(3600), Default::default()));
        let letters = Letters::new(Some(Arc::clone(&store) as Arc<dyn DeadLetters>));
        for _ in 0..5 {
            let problem = letters.newest(Duration::from_secs(9)).await.unwrap_err();
            assert_eq!(problem, "the store did not answer within 9 s");
        }
        assert_eq!(store.1.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert_eq!(Letters::new(None).newest(Duration::from_secs(9)).await.unwrap_err(), NO_STORE);
    }
}
