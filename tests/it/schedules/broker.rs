//! A topic of events and its journal in memory, with the faults of a broker: slow and lost answers, fenced writers, and partitions
//! that are taken away.

use std::collections::{BTreeMap, BTreeSet};

use bellwether::ports::{Batch, Delivery, Epoch, Journal, JournalError, Journals, ReadingId};
use bellwether_core::ids::EffectId;

use super::*;

/// The delay before a partition is assigned again after a commit with an unknown outcome.
const RESTART_DELAY: Duration = Duration::from_millis(500);

/// The topic and the journal. Clones share them.
#[derive(Clone)]
pub(super) struct Broker {
    schedule: Arc<Schedule>,
    state: Arc<Mutex<State>>,
    /// The generation of the group in which this process is a member.
    generation: u64,
}

#[derive(Default)]
struct State {
    /// The group's generation, which rises with each member that joins.
    generation: u64,
    partitions: BTreeMap<Partition, Stored>,
    /// The channel of the daemon that is a member of the group.
    member: Option<mpsc::Sender<Wake>>,
    /// The values of all snapshots, of which one names each committed effect.
    snapshots: Vec<String>,
    /// The broken rules that a port has seen. A port can't panic over them, because the executor catches panics.
    broken: Vec<String>,
    /// The highest epoch that each workload's objects carry.
    epochs: BTreeMap<Workload, Epoch>,
}

#[derive(Default)]
struct Stored {
    records: Vec<EventRecord>,
    entries: BTreeMap<String, Vec<u8>>,
    decisions: Vec<Vec<u8>>,
    /// The offsets of the records that became dead letters.
    dead: Vec<i64>,
    /// The committed offset.
    next_offset: i64,
    /// The number of times that the journal was opened; a writer with a lower number is fenced.
    opened: u64,
    /// The reading of records that is not over.
    reading: u64,
}

impl Broker {
    pub(super) fn new(schedule: Arc<Schedule>) -> Broker {
        Broker { schedule, state: Arc::default(), generation: 0 }
    }

    fn with<T>(&self, partition: Partition, use_it: impl FnOnce(&mut Stored) -> T) -> T {
        use_it(self.state.lock().unwrap().partitions.entry(partition).or_default())
    }

    /// Appends a record to its partition.
    pub(super) fn send(&self, record: EventRecord) {
        self.with(record.partition, |stored| {
            let offset = stored.records.len() as i64;
            stored.records.push(EventRecord { offset, ..record });
        });
    }

    /// Makes a daemon the group's member, and assigns all partitions to it. Returns the broker for this member.
    pub(super) fn join(&self, wakes: mpsc::Sender<Wake>) -> Broker {
        let mut state = self.state.lock().unwrap();
        state.member = Some(wakes);
        state.generation += 1;
        let member = Broker { generation: state.generation, ..self.clone() };
        drop(state);
        (0..PARTITIONS).for_each(|partition| self.assign(partition, Duration::ZERO));
        member
    }

    /// Removes the member, and ends its readings.
    pub(super) fn leave(&self) {
        self.state.lock().unwrap().member = None;
        (0..PARTITIONS).for_each(|partition| self.revoke(partition));
    }

    /// Ends the reading of a partition's records.
    pub(super) fn revoke(&self, partition: Partition) {
        self.with(partition, |stored| stored.reading += 1);
    }

    /// Assigns a partition to the present member after a delay.
    pub(super) fn assign(&self, partition: Partition, delay: Duration) {
        let Some(member) = self.state.lock().unwrap().member.clone() else { return };
        let broker = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // The daemon may have ended. A reading that has begun ends.
            if let Ok(room) = member.reserve().await {
                broker.revoke(partition);
                room.send(Wake::Assigned(partition));
            }
        });
    }

    /// Delivers the records of a partition from the committed offset on, until another reading begins. A process that is no
    /// member of the group any more gets none. A journal whose partition was assigned again while it was restored still gets them:
    /// they come to the daemon before those of the next reading.
    fn deliver(&self, partition: Partition) -> ReadingId {
        let state = self.state.lock().unwrap();
        let is_member = state.generation == self.generation;
        let Some(member) = state.member.clone().filter(|_| is_member) else { return ReadingId::default() };
        drop(state);
        let broker = self.clone();
        let (number, mut next) = self.with(partition, |stored| {
            stored.reading += 1;
            (stored.reading, stored.next_offset)
        });
        tokio::spawn(async move {
            // The reading, or the daemon, may end while a record waits for room.
            while let Ok(room) = member.reserve().await {
                let found = broker.with(partition, |stored| {
                    (stored.reading == number).then(|| stored.records.get(next as usize).cloned())
                });
                match found {
                    None => return,
                    Some(None) => {
                        drop(room);
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Some(Some(record)) => {
                        next += 1;
                        room.send(Wake::Record(Delivery { reading: ReadingId(number), ..record.into() }));
                    }
                }
            }
        });
        ReadingId(number)
    }

    /// Returns the ending of a rollout; `None` if it has not ended.
    pub(super) fn ending(&self, rollout: &RolloutId) -> Option<Ending> {
        let name = rollout.to_string();
        let state = self.state.lock().unwrap();
        let records = state.partitions.values().flat_map(|stored| &stored.decisions);
        let records = records.filter(|record| String::from_utf8_lossy(record).contains(&name));
        let records = records.filter_map(|record| AuditRecord::read(record).unwrap());
        let decisions = records.flat_map(|record| record.decisions);
        decisions.filter(|decision| decision.rollout == *rollout).find_map(|decision| decision.ending)
    }

    /// Returns all decisions in short.
    pub(super) fn history(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let records = state.partitions.values().flat_map(|stored| &stored.decisions);
        let records = records.filter_map(|record| AuditRecord::read(record).unwrap());
        let decisions = records.flat_map(|record| record.decisions);
        decisions
            .map(|decision| {
                format!(
                    "{} {} {} → {}: {}",
                    decision.at,
                    decision.rollout,
                    decision.kind.name(),
                    decision.to,
                    decision.why
                )
            })
            .collect()
    }

    /// Returns whether an effect was committed.
    pub(super) fn has_committed(&self, effect: &EffectId) -> bool {
        let name = format!("{:?}", effect.to_string());
        self.state.lock().unwrap().snapshots.iter().rev().any(|snapshot| snapshot.contains(&name))
    }

    /// Notes a broken rule, which fails the schedule.
    pub(super) fn broken(&self, rule: String) {
        self.state.lock().unwrap().broken.push(rule);
    }

    /// Notes the epoch of a write. Returns whether a higher one is on the workload's objects.
    pub(super) fn fences(&self, workload: &Workload, epoch: Epoch) -> bool {
        let mut state = self.state.lock().unwrap();
        let highest = state.epochs.entry(workload.clone()).or_insert(epoch);
        *highest = epoch.max(*highest);
        *highest > epoch
    }

    /// Checks the journal at the end of a schedule: each decision is there once and in order, a replay gives the same, and no
    /// event was left out.
    pub(super) fn check(&self) {
        let state = self.state.lock().unwrap();
        assert_eq!(state.broken, Vec::<String>::new());
        for stored in state.partitions.values() {
            assert_eq!(stored.next_offset, stored.records.len() as i64, "an event was not consumed");
            let mut numbers: BTreeMap<RolloutId, Vec<u32>> = BTreeMap::new();
            for decision in replayed(&stored.decisions) {
                numbers.entry(decision.rollout).or_default().push(decision.n);
            }
            for (rollout, numbers) in numbers {
                assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<u32>>(), "the decisions of {rollout}");
            }
            let seen = stored.entries.keys().filter(|key| key.starts_with("seen/")).count();
            let events = stored.records.iter().filter(|record| !is_poison(record));
            let ids: BTreeSet<&[u8]> = events.filter_map(|record| record.value.as_deref()).collect();
            assert_eq!(seen, ids.len(), "each event is known once");
            let poison: Vec<i64> =
                stored.records.iter().filter(|record| is_poison(record)).map(|record| record.offset).collect();
            assert_eq!(stored.dead, poison, "each record that is no event is a dead letter once, in its order");
        }
    }
}

/// An open journal.
struct Handle {
    broker: Broker,
    partition: Partition,
    /// The value of [`Stored::opened`] when it was opened.
    number: u64,
    reading: ReadingId,
}

#[async_trait]
impl Journals for Broker {
    fn partitions(&self) -> i32 {
        PARTITIONS
    }

    async fn open(&self, partition: Partition) -> Result<Box<dyn Journal>, JournalError> {
        self.schedule.delay(200, 20).await;
        if self.schedule.happens(100) {
            self.assign(partition, RESTART_DELAY);
            return Err(JournalError::Unknown("no broker answers".to_owned()));
        }
        let mut state = self.state.lock().unwrap();
        if state.generation != self.generation {
            return Err(JournalError::Fenced("this process is no member of the group any more".to_owned()));
        }
        let stored = state.partitions.entry(partition).or_default();
        stored.opened += 1;
        let number = stored.opened;
        drop(state);
        Ok(Box::new(Handle { broker: self.clone(), partition, number, reading: ReadingId::default() }))
    }

    fn assign_again(&self, partition: Partition, delay: Duration) {
        self.revoke(partition);
        self.assign(partition, delay);
    }
}

impl Handle {
    /// Returns the error of a commit with an unknown outcome, after which the partition is assigned again.
    fn unknown(&self) -> JournalError {
        self.broker.revoke(self.partition);
        self.broker.assign(self.partition, RESTART_DELAY);
        JournalError::Unknown("the answer is lost".to_owned())
    }
}

#[async_trait]
impl Journal for Handle {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        self.broker.schedule.delay(200, 40).await;
        let entries = self.broker.with(self.partition, |stored| stored.entries.clone());
        self.reading = self.broker.deliver(self.partition);
        Ok(entries)
    }

    fn reading(&self) -> ReadingId {
        self.reading
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        let schedule = Arc::clone(&self.broker.schedule);
        schedule.delay(50, 20).await;
        if schedule.happens(10) {
            return Err(self.unknown());
        }
        let mut state = self.broker.state.lock().unwrap();
        let snapshots =
            batch.puts.iter().filter(|(key, _)| key.ends_with("/snap")).filter_map(|(_, value)| value.clone());
        let snapshots: Vec<String> = snapshots.map(|value| String::from_utf8(value).unwrap()).collect();
        let stored = state.partitions.entry(self.partition).or_default();
        if stored.opened != self.number {
            return Err(JournalError::Fenced("the journal was opened again".to_owned()));
        }
        assert!(batch.rekeyed.is_empty(), "{:?}", batch.rekeyed);
        stored.dead.extend(batch.dead.iter().map(|(record, _)| record.offset));
        for (key, value) in batch.puts {
            match value {
                Some(value) => stored.entries.insert(key, value),
                None => stored.entries.remove(&key),
            };
        }
        stored.decisions.extend(batch.decisions.into_iter().map(|(_, record)| record));
        stored.next_offset = batch.next_offset.unwrap_or(stored.next_offset);
        state.snapshots.extend(snapshots);
        drop(state);
        if schedule.happens(10) {
            return Err(self.unknown());
        }
        Ok(())
    }
}
