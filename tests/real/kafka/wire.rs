//! A transactional producer on the wire protocol of Kafka, without a client library. It can write to a partition that it has
//! not added to its transaction. The coordinator then ends the transaction without writing markers there, which is the state
//! that a coordinator leaves when it loses a partition from its metadata.
//!
//! The numbers are those of <https://kafka.apache.org/protocol>: the key and version of each request, in their oldest form.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PRODUCE: (i16, i16) = (0, 3);
const INIT_PRODUCER_ID: (i16, i16) = (22, 0);
const ADD_PARTITIONS: (i16, i16) = (24, 0);
const ADD_OFFSETS: (i16, i16) = (25, 0);
const END: (i16, i16) = (26, 0);
const COMMIT_OFFSET: (i16, i16) = (28, 0);

/// Error codes after which a request is repeated: the coordinator is being loaded or has moved, or the previous transaction
/// is being ended.
const RETRIED: [i16; 4] = [14, 15, 16, 51];

/// The header with the name of the transaction that wrote a record. The daemon relies on it.
const NAME_HEADER: &str = "bellwether-txn";

/// A producer that has taken a transactional id over.
pub struct WireProducer {
    stream: TcpStream,
    requests: i32,
    id: String,
    /// The producer's id and epoch.
    producer: (i64, i16),
    /// Next sequence number by topic and partition.
    sequences: HashMap<(String, i32), i32>,
}

impl WireProducer {
    /// Fences the producer with the transactional id, which a client library must have used before.
    pub fn take_over(broker: &str, id: &str) -> WireProducer {
        let stream = TcpStream::connect(broker).unwrap();
        let mut wire =
            WireProducer { stream, requests: 0, id: id.to_owned(), producer: (0, 0), sequences: HashMap::new() };
        let body = [text(id), 60_000_i32.to_be_bytes().to_vec()].concat();
        // throttle, error, producer id, epoch
        let answer = wire.repeated(INIT_PRODUCER_ID, &body, 4);
        wire.producer = (i64::from_be_bytes(at(&answer, 6)), i16::from_be_bytes(at(&answer, 14)));
        wire
    }

    /// Adds a partition to the transaction: its markers will be written.
    pub fn add(&mut self, topic: &str, partition: i32) {
        let body =
            [self.identity(), array([[text(topic), array([partition.to_be_bytes().to_vec()])].concat()])].concat();
        // throttle, topics: name, partitions: partition, error
        self.repeated(ADD_PARTITIONS, &body, 4 + 4 + 2 + topic.len() + 4 + 4);
    }

    /// Writes a record to a partition, whether or not it was added. `name` is the transaction's name.
    pub fn write(&mut self, topic: &str, partition: i32, name: Option<&str>, key: &str, value: Option<&[u8]>) {
        let sequence = self.sequences.entry((topic.to_owned(), partition)).or_insert(0);
        let batch = record_batch(self.producer, *sequence, name, key, value);
        *sequence += 1;
        let acks_and_timeout = [(-1_i16).to_be_bytes().to_vec(), 10_000_i32.to_be_bytes().to_vec()].concat();
        let of_partition = [partition.to_be_bytes().to_vec(), length(batch.len()), batch].concat();
        let topics = array([[text(topic), array([of_partition])].concat()]);
        let answer = self.call(PRODUCE, &[text(&self.id), acks_and_timeout, topics].concat());
        // topics: name, partitions: partition, error
        let error = i16::from_be_bytes(at(&answer, 4 + 2 + topic.len() + 4 + 4));
        assert_eq!(error, 0, "writing to {topic}[{partition}]");
    }

    /// Adds an offset of a group to the transaction. Without `added` its marker will be lost.
    pub fn commit_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        metadata: &str,
        added: bool,
    ) {
        let (producer, epoch) = self.producer;
        let producer = [producer.to_be_bytes().to_vec(), epoch.to_be_bytes().to_vec()].concat();
        if added {
            let body = [text(&self.id), producer.clone(), text(group)].concat();
            self.repeated(ADD_OFFSETS, &body, 4);
        }
        let of_partition = [partition.to_be_bytes().to_vec(), offset.to_be_bytes().to_vec(), text(metadata)].concat();
        let topics = array([[text(topic), array([of_partition])].concat()]);
        let body = [text(&self.id), text(group), producer, topics].concat();
        // throttle, topics: name, partitions: partition, error
        self.repeated(COMMIT_OFFSET, &body, 4 + 4 + 2 + topic.len() + 4 + 4);
    }

    /// Ends the transaction. At least one partition or offset must have been added.
    pub fn end(&mut self, commit: bool) {
        let body = [self.identity(), vec![u8::from(commit)]].concat();
        self.repeated(END, &body, 4);
    }

    fn identity(&self) -> Vec<u8> {
        let (producer, epoch) = self.producer;
        [text(&self.id), producer.to_be_bytes().to_vec(), epoch.to_be_bytes().to_vec()].concat()
    }

    /// Sends a request, and repeats it until its error, at this place in the answer, is none. Returns the answer.
    fn repeated(&mut self, request: (i16, i16), body: &[u8], error_at: usize) -> Vec<u8> {
        let started = Instant::now();
        loop {
            let answer = self.call(request, body);
            let error = i16::from_be_bytes(at(&answer, error_at));
            if error == 0 {
                return answer;
            }
            let waits = RETRIED.contains(&error) && started.elapsed() < super::PATIENCE;
            assert!(waits, "request {request:?}: error {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn call(&mut self, (key, version): (i16, i16), body: &[u8]) -> Vec<u8> {
        self.requests += 1;
        let head = [key.to_be_bytes().to_vec(), version.to_be_bytes().to_vec(), self.requests.to_be_bytes().to_vec()];
        let message = [head.concat(), text("wire"), body.to_vec()].concat();
        self.stream.write_all(&[length(message.len()), message].concat()).unwrap();
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        self.stream.read_exact(&mut answer).unwrap();
        // The correlation id is left out.
        answer.split_off(4)
    }
}

fn at<const N: usize>(answer: &[u8], place: usize) -> [u8; N] {
    answer[place..place + N].try_into().unwrap()
}

fn length(bytes: usize) -> Vec<u8> {
    i32::try_from(bytes).unwrap().to_be_bytes().to_vec()
}

fn text(text: &str) -> Vec<u8> {
    [i16::try_from(text.len()).unwrap().to_be_bytes().as_slice(), text.as_bytes()].concat()
}

fn array<const N: usize>(elements: [Vec<u8>; N]) -> Vec<u8> {
    [length(N), elements.concat()].concat()
}

/// Returns a batch with one record (format 2, transactional).
fn record_batch(
    (producer, epoch): (i64, i16),
    sequence: i32,
    name: Option<&str>,
    key: &str,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let bytes = |bytes: &[u8]| [varint(i64::try_from(bytes.len()).unwrap()), bytes.to_vec()].concat();
    let headers: Vec<u8> = name
        .map(|name| [varint(1), bytes(NAME_HEADER.as_bytes()), bytes(name.as_bytes())].concat())
        .unwrap_or_else(|| varint(0));
    let value = value.map_or_else(|| varint(-1), bytes);
    // attributes, time and offset within the batch
    let record = [vec![0], varint(0), varint(0), bytes(key.as_bytes()), value, headers].concat();
    let record = [varint(i64::try_from(record.len()).unwrap()), record].concat();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let now = i64::try_from(now).unwrap().to_be_bytes();
    let transactional = 0x10_i16.to_be_bytes();
    let counted = [
        transactional.as_slice(),
        &0_i32.to_be_bytes(),
        &now,
        &now,
        &producer.to_be_bytes(),
        &epoch.to_be_bytes(),
        &sequence.to_be_bytes(),
        &1_i32.to_be_bytes(),
        &record,
    ]
    .concat();
    let head = [0_i64.to_be_bytes().to_vec(), length(counted.len() + 9), (-1_i32).to_be_bytes().to_vec(), vec![2]];
    [head.concat(), crc32c(&counted).to_be_bytes().to_vec(), counted].concat()
}

fn varint(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 127 {
        bytes.push((rest & 127) as u8 | 128);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
