//! A model of Kafka's transactions: partitions of events with committed offsets, and transactions over offsets and
//! data.
//!
//! A transaction is written completely or not at all; the producer may not receive the answer. `init` gives its caller
//! the next epoch of a partition. It aborts the transaction that an older producer has left open, and no older producer
//! can write or end a transaction afterwards.
//!
//! The broker can lose the markers of a transaction: it is ended, and its data stay unreadable until a later producer
//! repairs the partition. See `src/adapters/kafka/hanging.rs` of the daemon.
//!
//! The type of the data is the user's ([`Topics`]): the simulator writes states of engines, a script writes texts. The
//! same scripts run on a real Kafka (`testkit/src/broker_script.rs`), and both must give the same answers, which
//! shows that the model agrees with Kafka.

/// The data that transactions write to a partition, in addition to the offset.
pub trait Topics: Default {
    /// The type of the events that are consumed.
    type Event;
    /// The type of one transaction's data.
    type Writes;

    /// Applies the data of a committed transaction.
    fn write(&mut self, writes: &Self::Writes);

    /// Returns whether a transaction's data is empty.
    fn is_empty(writes: &Self::Writes) -> bool;
}

/// The contents of one transaction.
#[derive(Default)]
pub struct TransactionBatch<W> {
    /// The index of the next event to consume; `None` leaves the committed offset unchanged.
    pub next_offset: Option<usize>,
    /// The data to write.
    pub writes: W,
}

/// A producer of one partition. Only the producer with the latest epoch of its partition may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The index of the producer's partition.
    pub partition: usize,
    epoch: u64,
}

/// The simulated result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The transaction is committed, and the producer receives the answer.
    Written,
    /// The transaction is committed, but the producer receives no answer.
    WrittenUnheard,
    /// The transaction is aborted, and the producer receives no answer.
    Lost,
    /// The transaction is committed, the markers of its data are lost, and the producer receives no answer.
    WrittenUnmarked,
}

/// The producer's knowledge of the result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitAnswer {
    /// The transaction is committed.
    Written,
    /// There was no answer: the transaction may or may not be committed.
    Unknown,
    /// The producer is fenced, and the transaction is not committed.
    Fenced,
}

/// The refusal of an operation because a newer producer owns the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced;

/// The state of one partition.
pub struct PartitionLog<T: Topics> {
    /// All events, in the order in which they were appended.
    pub events: Vec<T::Event>,
    /// The committed offset: the index of the first event that is not consumed.
    pub offset: usize,
    /// The committed data.
    pub topics: T,
    /// The open transaction, which readers don't see; `None` if there is none.
    pub open: Option<TransactionBatch<T::Writes>>,
    /// The data of a transaction that has ended and whose markers are lost; `None` if there is none.
    pub hanging: Option<T::Writes>,
    epoch: u64,
}

/// A broker with a fixed number of partitions.
pub struct Broker<T: Topics> {
    partitions: Vec<PartitionLog<T>>,
}

impl<T: Topics> Broker<T> {
    /// Makes a broker with empty partitions.
    pub fn new(partitions: usize) -> Self {
        let empty = |_| PartitionLog {
            events: Vec::new(),
            offset: 0,
            topics: T::default(),
            open: None,
            hanging: None,
            epoch: 0,
        };
        Self { partitions: (0..partitions).map(empty).collect() }
    }

    /// Returns the state of a partition, which must exist.
    pub fn at(&self, partition: usize) -> &PartitionLog<T> {
        &self.partitions[partition]
    }

    /// Appends an event outside of any transaction; it is visible at once.
    pub fn append(&mut self, partition: usize, event: T::Event) {
        self.partitions[partition].events.push(event);
    }

    /// Returns a producer with the next epoch of a partition. Fences older producers and aborts the open transaction. A
    /// hanging one is not ended: the broker does not know of it.
    pub fn init(&mut self, partition: usize) -> Producer {
        let at = &mut self.partitions[partition];
        at.epoch += 1;
        at.open = None;
        Producer { partition, epoch: at.epoch }
    }

    /// Performs a whole transaction with a given fate. Returns the producer's answer, and the batch if it was
    /// committed.
    pub fn commit(
        &mut self,
        producer: Producer,
        batch: TransactionBatch<T::Writes>,
        fate: Fate,
    ) -> (CommitAnswer, Option<TransactionBatch<T::Writes>>) {
        // The client sends no request for an empty transaction, so a fenced producer does not notice it either.
        if batch.next_offset.is_none() && T::is_empty(&batch.writes) {
            return (if fate == Fate::Written { CommitAnswer::Written } else { CommitAnswer::Unknown }, None);
        }
        if self.produce(producer, batch).is_err() {
            return (CommitAnswer::Fenced, None);
        }
        if fate == Fate::WrittenUnmarked {
            let ended = self.end_without_markers(producer, true);
            return (if ended.is_err() { CommitAnswer::Fenced } else { CommitAnswer::Unknown }, None);
        }
        match (self.end(producer, fate != Fate::Lost), fate) {
            (Err(Fenced), _) => (CommitAnswer::Fenced, None),
            (Ok(written), Fate::Written) => (CommitAnswer::Written, written),
            (Ok(written), Fate::WrittenUnheard | Fate::Lost | Fate::WrittenUnmarked) => {
                (CommitAnswer::Unknown, written)
            }
        }
    }

    /// Begins a transaction, writes `batch` and leaves the transaction open. The producer must have no other open one.
    ///
    /// # Errors
    /// [`Fenced`] if the partition has a newer producer.
    pub fn produce(&mut self, producer: Producer, batch: TransactionBatch<T::Writes>) -> Result<(), Fenced> {
        let at = self.current(producer)?;
        assert!(at.open.is_none(), "the producer has an open transaction; end it first");
        at.open = Some(batch);
        Ok(())
    }

    /// Commits or aborts the open transaction. Returns its batch if it was committed, and `None` if it was aborted or
    /// there is no open transaction.
    ///
    /// # Errors
    /// [`Fenced`] if the partition has a newer producer.
    pub fn end(&mut self, producer: Producer, commit: bool) -> Result<Option<TransactionBatch<T::Writes>>, Fenced> {
        let at = self.current(producer)?;
        assert!(at.hanging.is_none(), "a transaction hangs, which the marker of this one would end; repair it first");
        let Some(batch) = at.open.take().filter(|_| commit) else { return Ok(None) };
        at.offset = batch.next_offset.unwrap_or(at.offset);
        at.topics.write(&batch.writes);
        Ok(Some(batch))
    }

    /// Commits or aborts the open transaction, and loses the markers of its data. The offset has its marker.
    ///
    /// # Errors
    /// [`Fenced`] if the partition has a newer producer.
    pub fn end_without_markers(&mut self, producer: Producer, commit: bool) -> Result<(), Fenced> {
        let at = self.current(producer)?;
        assert!(at.hanging.is_none(), "a second transaction hangs; repair the first");
        let Some(batch) = at.open.take() else { return Ok(()) };
        if commit {
            at.offset = batch.next_offset.unwrap_or(at.offset);
        }
        at.hanging = Some(batch.writes);
        Ok(())
    }

    /// Commits the hanging data, as a daemon does that opens the partition and does not know the decision. Returns the data;
    /// `None` if there are none.
    ///
    /// # Errors
    /// [`Fenced`] if the partition has a newer producer.
    pub fn repair(&mut self, producer: Producer) -> Result<Option<T::Writes>, Fenced> {
        let at = self.current(producer)?;
        let Some(writes) = at.hanging.take() else { return Ok(None) };
        at.topics.write(&writes);
        Ok(Some(writes))
    }

    /// Returns the producer's partition, unless the producer is fenced.
    fn current(&mut self, producer: Producer) -> Result<&mut PartitionLog<T>, Fenced> {
        let at = &mut self.partitions[producer.partition];
        if producer.epoch == at.epoch { Ok(at) } else { Err(Fenced) }
    }
}
