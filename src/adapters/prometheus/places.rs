//! The places for queries in flight. Queries that judge traffic take every free place before queries that prepare a
//! rollout: a version with traffic must not wait for its verdict behind versions without any.

use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};

/// The purpose of a query, which decides its place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Judging versions that have traffic.
    Judging,
    /// Preparing rollouts whose versions have no traffic, by trial queries and by the past.
    Preparing,
}

/// The places for queries in flight.
pub(super) struct Places {
    free: Semaphore,
    /// The number of judging queries that wait for a place.
    judging: watch::Sender<usize>,
    /// Held by the one preparing query that may ask for the next place.
    turn: Mutex<()>,
}

/// A judging query that waits; dropping it, also by cancellation, ends the wait.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn begin(judging: &'a watch::Sender<usize>) -> Waiting<'a> {
        judging.send_modify(|waiting| *waiting += 1);
        Waiting(judging)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl Places {
    /// Returns `places` free places.
    pub(super) fn new(places: usize) -> Places {
        Places { free: Semaphore::new(places), judging: watch::Sender::new(0), turn: Mutex::new(()) }
    }

    /// Waits for a place. `None` can't occur: the places are never closed.
    pub(super) async fn take(&self, purpose: Purpose) -> Option<SemaphorePermit<'_>> {
        if purpose == Purpose::Judging {
            let _waiting = Waiting::begin(&self.judging);
            return self.free.acquire().await.ok();
        }
        let _turn = self.turn.lock().await;
        let mut judging = self.judging.subscribe();
        loop {
            judging.wait_for(|waiting| *waiting == 0).await.ok()?;
            let place = self.free.acquire().await.ok()?;
            if *self.judging.borrow() == 0 {
                return Some(place);
            }
            // A judging query has come while this one waited: it gets the place.
            drop(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Takes the places in the order in which they are granted, one at a time, while `queries` wait.
    async fn granted(queries: &[Purpose]) -> Vec<Purpose> {
        let places = Arc::new(Places::new(1));
        let first = places.take(Purpose::Preparing).await;
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for purpose in queries.iter().copied() {
            let (places, order) = (Arc::clone(&places), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _place = places.take(purpose).await;
                order.lock().unwrap().push(purpose);
                tokio::task::yield_now().await;
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        order.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn a_judging_query_overtakes_every_preparing_one_that_waits() {
        let (judging, preparing) = (Purpose::Judging, Purpose::Preparing);
        let waiting = [preparing, preparing, preparing, judging, preparing, judging];
        assert_eq!(granted(&waiting).await, [judging, judging, preparing, preparing, preparing, preparing]);
    }

    #[tokio::test]
    async fn a_cancelled_judging_query_holds_up_no_preparing_one() {
        let places = Arc::new(Places::new(1));
        let first = places.take(Purpose::Judging).await;
        let cancelled = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(Purpose::Judging).await.is_some() }
        });
        tokio::task::yield_now().await;
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        drop(first);
        assert!(places.take(Purpose::Preparing).await.is_some());
    }
}
