//! A broker of plain values: partitions of events with their committed offsets, and transactions over those offsets and
//! whatever else is written.
//!
//! A transaction is written whole or not at all; whoever asked for it may not hear which. `init` gives its caller the next
//! producer epoch of a partition, after which no older producer can write or end anything, and ends what an older one has
//! left open.
//!
//! What is written is the user's own ([`Topics`]): the simulator writes states of engines, a script writes words. Scripts
//! are played to a real Kafka too (`testkit/src/broker_script.rs`), and both must give the same answers: so what the
//! simulator believes of Kafka is what Kafka does.

/// What is written to a partition beside offsets.
pub trait Topics: Default {
    /// What producers of events send.
    type Event;
    /// What one transaction writes.
    type Writes;

    fn write(&mut self, writes: &Self::Writes);

    /// Whether that is nothing at all.
    fn nothing(writes: &Self::Writes) -> bool;
}

/// All that one transaction writes.
#[derive(Default)]
pub struct Batch<W> {
    pub next_offset: Option<usize>,
    pub writes: W,
}

/// A producer: the one with the latest epoch of its partition may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    pub partition: usize,
    epoch: u64,
}

/// What the broker does with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is written, and the producer hears so.
    Written,
    /// It is written, and the producer hears nothing.
    WrittenUnheard,
    /// It is aborted; the producer hears nothing.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Written,
    Unknown,
    Fenced,
}

/// Somebody else has the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced;

pub struct Partition<T: Topics> {
    pub events: Vec<T::Event>,
    /// The first event that is not consumed yet.
    pub offset: usize,
    /// What is committed.
    pub topics: T,
    /// What is written and neither committed nor aborted: nobody reads it.
    pub open: Option<Batch<T::Writes>>,
    epoch: u64,
}

pub struct Broker<T: Topics> {
    partitions: Vec<Partition<T>>,
}

impl<T: Topics> Broker<T> {
    pub fn new(partitions: usize) -> Self {
        let empty = |_| Partition { events: Vec::new(), offset: 0, topics: T::default(), open: None, epoch: 0 };
        Self { partitions: (0..partitions).map(empty).collect() }
    }

    pub fn at(&self, partition: usize) -> &Partition<T> {
        &self.partitions[partition]
    }

    /// An event from outside, which is there at once.
    pub fn append(&mut self, partition: usize, event: T::Event) {
        self.partitions[partition].events.push(event);
    }

    /// A producer with the next epoch.
    pub fn init(&mut self, partition: usize) -> Producer {
        let at = &mut self.partitions[partition];
        at.epoch += 1;
        at.open = None;
        Producer { partition, epoch: at.epoch }
    }

    /// Writes all of `batch`, or nothing; it comes back if it is written.
    pub fn commit(
        &mut self,
        producer: Producer,
        batch: Batch<T::Writes>,
        fate: Fate,
    ) -> (Answer, Option<Batch<T::Writes>>) {
        // The client sends no request for a transaction with nothing in it, so nobody hears that it is fenced either.
        if batch.next_offset.is_none() && T::nothing(&batch.writes) {
            return (if fate == Fate::Written { Answer::Written } else { Answer::Unknown }, None);
        }
        let ended = self.produce(producer, batch).and_then(|()| self.end(producer, fate != Fate::Lost));
        match (ended, fate) {
            (Err(Fenced), _) => (Answer::Fenced, None),
            (Ok(written), Fate::Written) => (Answer::Written, written),
            (Ok(written), Fate::WrittenUnheard | Fate::Lost) => (Answer::Unknown, written),
        }
    }

    /// Begins a transaction and leaves it open.
    pub fn produce(&mut self, producer: Producer, batch: Batch<T::Writes>) -> Result<(), Fenced> {
        let at = self.current(producer)?;
        assert!(at.open.is_none(), "a producer has one transaction at a time");
        at.open = Some(batch);
        Ok(())
    }

    /// Commits what is open, or aborts it; it comes back if it is written.
    pub fn end(&mut self, producer: Producer, commit: bool) -> Result<Option<Batch<T::Writes>>, Fenced> {
        let at = self.current(producer)?;
        let Some(batch) = at.open.take().filter(|_| commit) else { return Ok(None) };
        at.offset = batch.next_offset.unwrap_or(at.offset);
        at.topics.write(&batch.writes);
        Ok(Some(batch))
    }

    fn current(&mut self, producer: Producer) -> Result<&mut Partition<T>, Fenced> {
        let at = &mut self.partitions[producer.partition];
        if producer.epoch == at.epoch { Ok(at) } else { Err(Fenced) }
    }
}
