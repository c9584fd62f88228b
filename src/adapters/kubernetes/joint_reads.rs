//! Reads of whole namespaces, each of which serves all acts that wait for it.
//!
//! Many rollouts that begin together each need all Services of their namespace, and other lists that are as long. One read
//! answers all callers that asked before it began. A caller that asks later gets the next read, so that no answer is older
//! than one of the caller's own would be.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::input::event::{Failure, FailureKind};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use super::failure;

/// The type of an answer, and the name of the read.
type ReadKey = (TypeId, String);
type Answer = Result<Arc<dyn Any + Send + Sync>, Failure>;
type PendingRead = Shared<BoxFuture<'static, Answer>>;

/// The reads under way, and those that begin after them. Clones share them.
#[derive(Clone, Default)]
pub struct JointReads(Arc<Mutex<HashMap<ReadKey, ReadQueue>>>);

/// The reads of one name.
#[derive(Default)]
struct ReadQueue {
    /// Held by the read under way.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The read that has not begun.
    next: Option<PendingRead>,
}

impl JointReads {
    /// Returns the answer of a read that begins after this call. `name` names the objects and their namespace; `read` is called
    /// unless another caller of the same name waits already.
    ///
    /// # Errors
    /// The failure of the read.
    pub async fn read<T, F>(&self, name: String, read: impl FnOnce() -> F + Send + 'static) -> Result<Arc<T>, Failure>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let pending = self.join((TypeId::of::<T>(), name), read);
        let other_type = |_| failure::new(FailureKind::Refused, "a joint read has another type".to_owned());
        pending.await?.downcast().map_err(other_type)
    }

    /// Returns the read that begins next.
    fn join<T, F>(&self, key: ReadKey, read: impl FnOnce() -> F + Send + 'static) -> PendingRead
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let mut queues = self.queues();
        queues.retain(|_, queue| queue.next.is_some() || Arc::strong_count(&queue.turn) > 1);
        let queue = queues.entry(key.clone()).or_default();
        let (reads, turn) = (self.clone(), Arc::clone(&queue.turn));
        let begin = async move {
            let _turn = turn.lock().await;
            if let Some(queue) = reads.queues().get_mut(&key) {
                queue.next = None;
            }
            read().await.map(|answer| Arc::new(answer) as Arc<dyn Any + Send + Sync>)
        };
        queue.next.get_or_insert_with(|| begin.boxed().shared()).clone()
    }

    /// Locks the queues. Poisoning is harmless: each statement leaves them consistent.
    fn queues(&self) -> MutexGuard<'_, HashMap<ReadKey, ReadQueue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// A store whose reads wait for permits, and are numbered from 1.
    #[derive(Clone)]
    struct Store {
        reads: JointReads,
        begun: Arc<AtomicU32>,
        permits: Arc<Semaphore>,
    }

    impl Store {
        fn new() -> Store {
            Store { reads: JointReads::default(), begun: Arc::default(), permits: Arc::new(Semaphore::new(0)) }
        }

        /// Asks for the number of a read, and lets all tasks run until they wait.
        async fn ask(&self, name: &str) -> tokio::task::JoinHandle<Result<Arc<u32>, Failure>> {
            let (store, name) = (self.clone(), name.to_owned());
            let asked = tokio::spawn(async move {
                let Store { reads, begun, permits } = store;
                let read = async move || {
                    let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                    permits.acquire().await.unwrap().forget();
                    Ok(number)
                };
                reads.read(name, read).await
            });
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            asked
        }
    }

    #[tokio::test]
    async fn a_read_answers_those_who_asked_before_it_began_and_no_later_one() {
        let store = Store::new();
        let first = store.ask("Services of shop").await;
        let later = [store.ask("Services of shop").await, store.ask("Services of shop").await];
        let other = store.ask("Services of pay").await;
        assert_eq!(store.begun.load(Ordering::SeqCst), 2, "one read of each name is under way");
        store.permits.add_permits(10);
        assert_eq!((*first.await.unwrap().unwrap(), *other.await.unwrap().unwrap()), (1, 2));
        for asked in later {
            assert_eq!(*asked.await.unwrap().unwrap(), 3);
        }
        assert_eq!(store.begun.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_cancelled_caller_leaves_the_read_to_the_others() {
        let store = Store::new();
        let cancelled = store.ask("Services of shop").await;
        let waiting = store.ask("Services of shop").await;
        cancelled.abort();
        assert!(cancelled.await.is_err());
        store.permits.add_permits(2);
        assert_eq!(*waiting.await.unwrap().unwrap(), 2);
        drop(store.ask("Services of pay").await);
        assert_eq!(store.reads.queues().len(), 1, "the queues of ended reads are kept");
    }
}
