//! The dead letters of the embedded journal, for people. They are read beside the commits, which wait for the beginning of a
//! reading alone.

use std::sync::Arc;

use async_trait::async_trait;
use redb::{ReadTransaction, ReadableDatabase as _};

use super::Embedded;
use super::file::{letter_of, newest_letters};
use crate::ports::{DeadLetter, DeadLetterList, DeadLetters, LetterId};

impl Embedded {
    /// Calls `work` with the state of the file, on a thread for blocking work.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, String> {
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || {
            let begun = shared.file.with(|database| Ok(database.begin_read()?));
            begun.and_then(|reading| work(&reading)).map_err(|error| shared.file.error(&error).to_string())
        });
        reading.await.unwrap_or_else(|error| Err(format!("the thread that reads has ended: {error}")))
    }
}

#[async_trait]
impl DeadLetters for Embedded {
    async fn newest(&self) -> Result<DeadLetterList, String> {
        self.read(newest_letters).await
    }

    async fn letter(&self, id: LetterId) -> Result<Option<DeadLetter>, String> {
        match u64::try_from(id.offset).ok().filter(|_| id.partition == 0) {
            Some(number) => self.read(move |reading| letter_of(reading, number)).await,
            None => Ok(None),
        }
    }
}
