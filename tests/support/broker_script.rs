//! One script, two brokers: the simulator's model and a real one must answer alike and hold the same after every step.
//!
//! What the simulator shows is worth as much as its model of the broker. So a seed gives a script of what owners, zombies
//! and the dying do, the script is played to both, and whatever differs is said with the seed and the step: either the
//! model is wrong, or the product's use of Kafka is.
//!
//! A step names a producer by the number of its opening. A producer that has been refused, or has not heard of a commit, is
//! not used again: the product drops it too.

use std::collections::BTreeMap;

use bellwether::ports;

use bellwether_sim::broker::TransactionBatch as Batch;
use bellwether_sim::broker::{Broker, CommitAnswer as Answer, Fate, Fenced, Producer, Topics};
use bellwether_sim::dice::Dice;

/// Keys of the journal: few, so that they are often written again.
const KEYS: [&str; 4] = ["w/snap", "w/block/0", "w/block/1", "epoch"];

/// How a producer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the product's journal, in a process that owns the partition by the group's word.
    Member,
    /// By the product's journal, in a process that is no member, and so may commit no offsets.
    Stranger,
    /// By the client library alone, so that it can stop where the product never stops.
    Raw,
}

#[derive(Debug, Clone)]
pub enum Op {
    /// Somebody sends an event.
    Append { partition: usize, event: String },
    /// A producer opens, and what it would begin with is read unless it is a raw one.
    Open { partition: usize, way: Way },
    /// A transaction from its beginning to its end; unless it is heard, the producer gets no answer.
    Commit { producer: usize, batch: ports::Batch, heard: bool },
    /// The same, but it is aborted.
    Abort { producer: usize, batch: ports::Batch },
    /// A transaction that is begun, written and left.
    Leave { producer: usize, batch: ports::Batch },
    /// What was left is ended after all, maybe long after somebody else has taken over.
    End { producer: usize, commit: bool },
    /// A process goes without a word.
    Die { producer: usize },
}

/// What whoever does a step gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Done,
    Answered(Answer),
    Restored(BTreeMap<String, String>),
}

/// What everybody can read of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    pub entries: BTreeMap<String, String>,
    pub decisions: Vec<String>,
    pub offset: usize,
    /// The events that are not consumed.
    pub ahead: Vec<String>,
    /// Whether a transaction is open on it.
    pub open: bool,
}

/// A broker that a script is played to.
pub trait World {
    async fn act(&mut self, op: &Op) -> Seen;

    /// How a partition stands; `None`: it can't be read while it is in use. Unless a transaction is `open` on it, the end of the
    /// last one is waited for.
    async fn look(&mut self, partition: usize, open: bool) -> Option<Sight>;
}

// ---- the script ----

pub struct Script {
    pub seed: u64,
    pub partitions: usize,
    pub ops: Vec<Op>,
    /// The ways of the producers, by number.
    pub ways: Vec<Way>,
}

impl Script {
    /// So many steps, and then a new owner on each partition.
    pub fn new(seed: u64, partitions: usize, steps: usize, ways: &[Way]) -> Script {
        let events = vec![0; partitions];
        let mut author = Author { seed, dice: Dice(seed), may: ways, events, producers: Vec::new(), words: 0 };
        let mut ops: Vec<Op> = (0..steps).map(|_| author.op()).collect();
        ops.extend((0..partitions).map(|partition| author.open(partition, ways[0])));
        Script { seed, partitions, ops, ways: author.producers.iter().map(|producer| producer.way).collect() }
    }
}

/// What the author of a script remembers of it.
struct Author<'a> {
    seed: u64,
    dice: Dice,
    may: &'a [Way],
    events: Vec<u64>,
    producers: Vec<Character>,
    words: u32,
}

#[derive(Clone, Copy)]
struct Character {
    partition: usize,
    way: Way,
    open: bool,
    spent: bool,
}

impl Author<'_> {
    fn op(&mut self) -> Op {
        let partition = self.dice.below(self.events.len() as u64) as usize;
        let raw = self.may.contains(&Way::Raw);
        match self.dice.below(if raw { 100 } else { 65 }) {
            0..10 => {
                self.events[partition] += 1;
                Op::Append { partition, event: self.word() }
            }
            10..30 => self.any_open(partition),
            30..65 => self.commit(partition),
            65..74 => self.abort(partition),
            74..82 => self.leave(partition),
            _ => self.end(partition),
        }
    }

    fn any_open(&mut self, partition: usize) -> Op {
        let way = *self.dice.pick(self.may);
        self.open(partition, way)
    }

    fn open(&mut self, partition: usize, way: Way) -> Op {
        self.producers.push(Character { partition, way, open: false, spent: false });
        Op::Open { partition, way }
    }

    fn commit(&mut self, partition: usize) -> Op {
        let Some(producer) = self.idle(partition, false) else { return self.any_open(partition) };
        let batch = if self.dice.chance(5) { ports::Batch::default() } else { self.batch(producer) };
        let heard = self.dice.chance(85);
        // A transaction of nothing asks nobody.
        let refused = self.is_fenced(producer) && !batch.is_empty();
        self.producers[producer].spent = refused || !heard;
        Op::Commit { producer, batch, heard }
    }

    fn abort(&mut self, partition: usize) -> Op {
        let Some(producer) = self.idle(partition, true) else { return self.open(partition, Way::Raw) };
        let batch = self.batch(producer);
        self.producers[producer].spent = self.is_fenced(producer);
        Op::Abort { producer, batch }
    }

    fn leave(&mut self, partition: usize) -> Op {
        let Some(producer) = self.idle(partition, true) else { return self.open(partition, Way::Raw) };
        let batch = self.batch(producer);
        self.producers[producer].spent = self.is_fenced(producer);
        self.producers[producer].open = !self.is_fenced(producer);
        Op::Leave { producer, batch }
    }

    /// On whichever partition.
    fn end(&mut self, partition: usize) -> Op {
        let left = |(_, it): &(usize, &Character)| it.open && !it.spent;
        let left: Vec<usize> = self.producers.iter().enumerate().filter(left).map(|(number, _)| number).collect();
        if left.is_empty() {
            return self.leave(partition);
        }
        let producer = *self.dice.pick(&left);
        let dies = self.dice.chance(15);
        self.producers[producer].open = false;
        self.producers[producer].spent = dies || self.is_fenced(producer);
        if dies { Op::Die { producer } } else { Op::End { producer, commit: self.dice.chance(50) } }
    }

    /// A producer with nothing open: mostly the newest one, else any, so a zombie perhaps.
    fn idle(&mut self, partition: usize, raw: bool) -> Option<usize> {
        let fits = |(_, it): &(usize, &Character)| {
            it.partition == partition && !it.open && !it.spent && (!raw || it.way == Way::Raw)
        };
        let found: Vec<usize> = self.producers.iter().enumerate().filter(fits).map(|(number, _)| number).collect();
        match found.last() {
            Some(newest) if self.dice.chance(60) => Some(*newest),
            Some(_) => Some(*self.dice.pick(&found)),
            None => None,
        }
    }

    fn is_fenced(&self, producer: usize) -> bool {
        let partition = self.producers[producer].partition;
        self.producers[producer + 1..].iter().any(|later| later.partition == partition)
    }

    /// One entry at least, and whatever else.
    fn batch(&mut self, producer: usize) -> ports::Batch {
        let Character { partition, way, .. } = self.producers[producer];
        let puts = (0..1 + self.dice.below(3)).map(|_| {
            let value = self.dice.chance(75).then(|| self.word().into_bytes());
            ((*self.dice.pick(&KEYS)).to_owned(), value)
        });
        let puts = puts.collect();
        let decisions = (0..self.dice.below(3)).map(|_| (format!("seed-{partition}"), self.word().into_bytes()));
        let decisions = decisions.collect();
        let offset = self.dice.below(self.events[partition] + 1) as i64;
        let next_offset = (way != Way::Stranger && self.dice.chance(60)).then_some(offset);
        ports::Batch { next_offset, puts, decisions, ..ports::Batch::default() }
    }

    /// Each is written once, so that it is known where it comes from.
    fn word(&mut self) -> String {
        self.words += 1;
        format!("{}.{}", self.seed, self.words)
    }
}

// ---- the model ----

/// The simulator's broker, with words on it.
pub struct Model {
    broker: Broker<Words>,
    producers: Vec<Producer>,
}

#[derive(Default)]
struct Words {
    entries: BTreeMap<String, String>,
    decisions: Vec<String>,
}

impl Topics for Words {
    type Event = String;
    type Writes = ports::Batch;

    fn write(&mut self, writes: &ports::Batch) {
        for (key, value) in &writes.puts {
            match value {
                Some(value) => self.entries.insert(key.clone(), text(value)),
                None => self.entries.remove(key),
            };
        }
        self.decisions.extend(writes.decisions.iter().map(|(_, json)| text(json)));
    }

    fn is_empty(writes: &ports::Batch) -> bool {
        writes.is_empty()
    }
}

impl Model {
    pub fn new(partitions: usize) -> Model {
        Model { broker: Broker::new(partitions), producers: Vec::new() }
    }

    pub fn sight(&self, partition: usize) -> Sight {
        let at = self.broker.at(partition);
        Sight {
            entries: at.topics.entries.clone(),
            decisions: at.topics.decisions.clone(),
            offset: at.offset,
            ahead: at.events[at.offset..].to_vec(),
            open: at.open.is_some(),
        }
    }

    fn commit(&mut self, producer: usize, batch: &ports::Batch, fate: Fate) -> Seen {
        Seen::Answered(self.broker.commit(self.producers[producer], writes(batch), fate).0)
    }
}

impl World for Model {
    async fn act(&mut self, op: &Op) -> Seen {
        let done = |done: Result<(), Fenced>| done.map_or(Seen::Answered(Answer::Fenced), |()| Seen::Done);
        match op {
            Op::Append { partition, event } => {
                self.broker.append(*partition, event.clone());
                Seen::Done
            }
            Op::Open { partition, way } => {
                self.producers.push(self.broker.init(*partition));
                let entries = || self.broker.at(*partition).topics.entries.clone();
                if *way == Way::Raw { Seen::Done } else { Seen::Restored(entries()) }
            }
            Op::Commit { producer, batch, heard: true } => self.commit(*producer, batch, Fate::Written),
            Op::Commit { producer, batch, heard: false } => self.commit(*producer, batch, Fate::WrittenUnheard),
            Op::Abort { producer, batch } => self.commit(*producer, batch, Fate::Lost),
            Op::Leave { producer, batch } => done(self.broker.produce(self.producers[*producer], writes(batch))),
            Op::End { producer, commit } => done(self.broker.end(self.producers[*producer], *commit).map(drop)),
            Op::Die { producer } => {
                assert!(*producer < self.producers.len(), "whoever dies has opened");
                Seen::Done
            }
        }
    }

    async fn look(&mut self, partition: usize, _open: bool) -> Option<Sight> {
        Some(self.sight(partition))
    }
}

fn writes(batch: &ports::Batch) -> Batch<ports::Batch> {
    let next_offset = batch.next_offset.map(|offset| usize::try_from(offset).unwrap());
    Batch { next_offset, writes: ports::Batch { next_offset: None, ..batch.clone() } }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

// ---- the comparison ----

/// A script that was played to its end without a difference: the model as it stands, and how often what was seen.
pub struct Agreed {
    pub model: Model,
    pub seen: BTreeMap<String, usize>,
}

/// Plays a script to the model and to `world`. The first difference is the error.
pub async fn play(script: &Script, world: &mut impl World) -> Result<Agreed, String> {
    let mut model = Model::new(script.partitions);
    let mut seen = BTreeMap::new();
    for (step, op) in script.ops.iter().enumerate() {
        let (ours, theirs) = (model.act(op).await, world.act(op).await);
        same(script, step, "what is answered", &ours, &theirs)?;
        *seen.entry(kind(op, &ours)).or_insert(0) += 1;
        for partition in 0..script.partitions {
            let ours = model.sight(partition);
            if let Some(theirs) = world.look(partition, ours.open).await {
                same(script, step, &format!("partition {partition}"), &ours, &theirs)?;
            }
        }
    }
    Ok(Agreed { model, seen })
}

/// What was done and how it ended, in words.
fn kind(op: &Op, seen: &Seen) -> String {
    let done = match op {
        Op::Append { .. } => "append",
        Op::Open { way, .. } => return format!("open as {way:?}"),
        Op::Commit { batch, .. } if batch.is_empty() => "commit of nothing",
        Op::Commit { heard: true, .. } => "commit",
        Op::Commit { heard: false, .. } => "unheard commit",
        Op::Abort { .. } => "abort",
        Op::Leave { .. } => "left open",
        Op::End { commit: true, .. } => "late commit",
        Op::End { commit: false, .. } => "late abort",
        Op::Die { .. } => "death",
    };
    let fenced = *seen == Seen::Answered(Answer::Fenced);
    format!("{done}{}", if fenced { ", fenced" } else { "" })
}

/// A step, with its words as words.
fn told(op: &Op) -> String {
    let (Op::Commit { producer, batch, .. } | Op::Abort { producer, batch } | Op::Leave { producer, batch }) = op
    else {
        return format!("{op:?}");
    };
    let how = kind(op, &Seen::Done);
    let put = |(key, value): &(String, Option<Vec<u8>>)| format!("{key}={}", value.as_deref().map_or("-".into(), text));
    let puts: Vec<String> = batch.puts.iter().map(put).collect();
    let decisions: Vec<String> = batch.decisions.iter().map(|(_, json)| text(json)).collect();
    let offset = batch.next_offset.map(|offset| format!(", offset {offset}")).unwrap_or_default();
    format!("{how} by {producer}: {}; decided [{}]{offset}", puts.join(" "), decisions.join(" "))
}

fn same<T: PartialEq + std::fmt::Debug>(
    script: &Script,
    step: usize,
    what: &str,
    model: &T,
    world: &T,
) -> Result<(), String> {
    if model == world {
        return Ok(());
    }
    let steps: Vec<String> =
        script.ops[..=step].iter().enumerate().map(|(n, op)| format!("  {n}: {}", told(op))).collect();
    let Script { seed, ways, .. } = script;
    Err(format!(
        "seed {seed}, step {step}: {what} differs\nmodel: {model:?}\nworld: {world:?}\nproducers: {ways:?}\n{}",
        steps.join("\n")
    ))
}
