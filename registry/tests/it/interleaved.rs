//! Registering and collecting at the same time, in every order of their operations on the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_registry::{Registry, RegistryError, source};
use futures::FutureExt;
use object_store::memory::InMemory;
use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};

use crate::stepped::Stepped;
use crate::suite::{at, draft, register, write_model};

const HOUR: Duration = Duration::from_secs(3600);

/// A time at which everything that these tests write is old.
fn far_future() -> jiff::Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

/// An event of one of the actors, who are numbered.
enum Event {
    /// The actor wants to begin an operation, and waits for the answer.
    Arrived(usize, oneshot::Sender<()>),
    Finished,
}

/// Runs actors on stores whose operations begin in the order of `choose`, which gets the number of waiting actors and
/// returns the position of the next one. An operation has ended when the next one begins.
async fn run(actors: usize, mut events: mpsc::UnboundedReceiver<Event>, choose: &mut dyn FnMut(usize) -> usize) {
    let mut waiting: BTreeMap<usize, oneshot::Sender<()>> = BTreeMap::new();
    let mut finished = 0;
    while finished < actors {
        while waiting.len() + finished < actors {
            match events.recv().await.unwrap() {
                Event::Arrived(actor, go) => drop(waiting.insert(actor, go)),
                Event::Finished => finished += 1,
            }
        }
        if !waiting.is_empty() {
            let at = choose(waiting.len());
            let actor = *waiting.keys().nth(at).unwrap();
            waiting.remove(&actor).unwrap().send(()).unwrap();
        }
    }
}

/// A race between actors in one order of their operations.
pub struct Race<'a> {
    actors: std::cell::Cell<usize>,
    events: mpsc::UnboundedSender<Event>,
    received: std::cell::Cell<Option<mpsc::UnboundedReceiver<Event>>>,
    choose: std::cell::Cell<Option<&'a mut dyn FnMut(usize) -> usize>>,
}

impl<'a> Race<'a> {
    fn new(choose: &'a mut dyn FnMut(usize) -> usize) -> Race<'a> {
        let (events, received) = mpsc::unbounded_channel();
        let (received, choose) = (std::cell::Cell::new(Some(received)), std::cell::Cell::new(Some(choose)));
        Race { actors: std::cell::Cell::new(0), events, received, choose }
    }

    /// Returns a registry for the next actor, whose operations wait for their turn.
    pub fn registry(&self, inner: &Arc<InMemory>) -> Registry {
        let (actor, events) = (self.actors.get(), self.events.clone());
        self.actors.set(actor + 1);
        let gate = move |_, key: &str| {
            // The root object is created at the first write, and has no part in the race.
            let events = (key != "registry.json").then(|| events.clone());
            async move {
                let (go, gone) = oneshot::channel();
                if events.is_some_and(|events| events.send(Event::Arrived(actor, go)).is_ok()) {
                    drop(gone.await);
                }
            }
            .boxed()
        };
        Registry::on(Arc::new(Stepped::new(inner.clone(), Arc::new(gate))), 100)
    }

    /// Starts an actor.
    pub fn spawn<T: Send + 'static>(
        &self,
        act: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let ended = self.events.clone();
        tokio::spawn(async move {
            let result = act.await;
            drop(ended.send(Event::Finished));
            result
        })
    }

    /// Runs the actors to their ends.
    pub async fn run(&self) {
        let (received, choose) = (self.received.take().unwrap(), self.choose.take().unwrap());
        run(self.actors.get(), received, choose).await;
    }
}

/// Runs a race once in each order of its operations, and returns the number of orders.
pub async fn every_order(mut race: impl AsyncFnMut(&Race)) -> usize {
    // The choices of a run and their numbers of alternatives; the last choice that has a further one is changed next.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    let mut orders = 0;
    loop {
        let mut step = 0;
        let mut choose = |alternatives: usize| {
            if step == choices.len() {
                choices.push((0, alternatives));
            }
            step += 1;
            choices[step - 1].0
        };
        race(&Race::new(&mut choose)).await;
        orders += 1;
        while choices.last().is_some_and(|(choice, alternatives)| choice + 1 == *alternatives) {
            choices.pop();
        }
        match choices.last_mut() {
            Some((choice, _)) => *choice += 1,
            None => return orders,
        }
    }
}

/// Runs a race of two actors with one change from one to the other and back at each of their operations, and 100 times in
/// an order by a fixed sequence of pseudo-random numbers. Returns the number of orders.
pub async fn some_orders(mut race: impl AsyncFnMut(&Race)) -> usize {
    /// More operations than an actor has.
    const OPERATIONS: usize = 40;
    for (first, at) in (0..2).flat_map(|first| (0..OPERATIONS).map(move |at| (first, at))) {
        let mut step = 0;
        let mut choose = |alternatives: usize| {
            step += 1;
            // The second actor goes on until it ends.
            let chosen = if step <= at { first } else { 1 - first };
            chosen.min(alternatives - 1)
        };
        race(&Race::new(&mut choose)).await;
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..100 {
        let mut choose = |alternatives: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as usize % alternatives
        };
        race(&Race::new(&mut choose)).await;
    }
    2 * OPERATIONS + 100
}

/// Registers a version of two files while `collectors` collect with a clock far ahead, and checks the result.
async fn collected(race: &Race<'_>, collectors: usize, paths: &[std::path::PathBuf]) -> bool {
    let inner = Arc::new(InMemory::new());
    let plain = Registry::on(inner.clone(), 100);
    let files = source::files(paths).unwrap();
    let registrar = race.registry(&inner);
    let registered = race.spawn(async move { registrar.register(draft("raced", "1.0.0"), files, at(0)).await });
    let mut tasks = Vec::new();
    for _ in 0..collectors {
        let collector = race.registry(&inner);
        tasks.push(race.spawn(async move { drop(collector.collect(HOUR, true, far_future()).await.unwrap()) }));
    }
    race.run().await;
    for task in tasks {
        task.await.unwrap();
    }
    let registered = registered.await.unwrap();
    for _ in 0..2 {
        plain.collect(HOUR, true, far_future()).await.unwrap();
    }
    let version = "1.0.0".parse().unwrap();
    match &registered {
        Ok(manifest) => {
            let read = plain.manifest(&manifest.name, &version).await.unwrap();
            let bad = plain.verify(&read).await.unwrap();
            assert!(bad.is_empty(), "a registered version has lost files: {bad:?}");
        }
        Err(RegistryError::Collected { name, .. }) => {
            assert!(plain.versions(name).await.unwrap().is_empty());
            let manifest = register(&plain, draft("raced", "1.0.0"), paths).await.unwrap();
            plain.collect(HOUR, true, far_future()).await.unwrap();
            assert!(plain.verify(&manifest).await.unwrap().is_empty());
        }
        Err(error) => panic!("{error}"),
    }
    registered.is_ok()
}

#[tokio::test]
async fn a_collection_at_any_step_of_a_registration_breaks_no_version() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("a", 10), ("b", 20)]);
    let mut registered = 0;
    let orders = every_order(async |race: &Race| registered += usize::from(collected(race, 1, &paths).await)).await;
    assert!(orders > 100 && registered > 50 && registered < orders, "{registered} of {orders} registered");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn several_collectors_break_no_version(order in proptest::collection::vec(0..3_usize, 80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let paths = write_model(directory.path(), &[("a", 10), ("b", 20)]);
            let mut order = order.into_iter();
            collected(&Race::new(&mut |alternatives| order.next().unwrap_or(0) % alternatives), 2, &paths).await;
        });
    }
}
