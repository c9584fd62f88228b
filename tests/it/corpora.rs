//! The committed corpora of the fuzz targets, and mutations of them. Any bytes from outside must end in a result.
//!
//! `BELLWETHER_FUZZ=1000000 cargo test --release --test it corpora::` makes that many mutations for each target, and
//! `BELLWETHER_SEED` gives other ones; `BELLWETHER_TARGET=events` takes one target alone. `fuzz/` has the same functions for cargo-fuzz.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;

use bellwether::config::{self, Sources};
use bellwether::events::decode::{DecodeOptions, Decoded, decode};
use bellwether::events::mapping::Mapping;
use bellwether::ledger::Ledger;
use bellwether::ports::{Batch, Epoch};
use bellwether_core::dice::Random;
use bellwether_core::engine::Engine;
use bellwether_core::input::event::Event;
use bellwether_core::time::{Span, Timestamp};

use self::functions::{Function, TARGETS, record_of};

#[path = "../../fuzz/functions.rs"]
mod functions;

/// The mutations for each target if none are ordered.
const MUTATIONS: u64 = 100;
/// The longest mutation, in bytes.
const LONGEST: usize = 64 << 10;

/// Texts that mean something to a reader of JSON, TOML, XML, headers or PromQL.
const WORDS: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "-0.0",
    "18446744073709551616",
    "9223372036854775807",
    "NaN",
    "+Inf",
    "\"\"",
    "[]",
    "{}",
    "[[",
    "{{",
    "}}",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{202e}",
    "\n",
    "\r\n",
    "\0",
    ",",
    ":",
    "\"",
    "'",
    "<!--",
    "&amp;",
    "]]>",
    "/",
    "..",
    "%00",
    "%",
    "2099-12-31T23:59:59Z",
    "-9999-01-01T00:00:00Z",
    "0s",
    "99999999999h",
    "1e9%",
];

/// Returns the files of a target's corpus in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files: BTreeMap<String, Vec<u8>> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.into_iter().collect()
}

/// Returns a target's corpus; to that of journals it adds the journal of a rollout, in the format of this version.
fn all_of(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = corpus(target);
    if target == "journal" {
        files.push(("the journal of a rollout".to_owned(), journal_of_a_rollout()));
    }
    files
}

/// Returns the entries of a journal after the request of a rollout and a freeze, as the target reads them.
fn journal_of_a_rollout() -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config/policy.toml");
    let policies = config::load(&Sources { files: vec![file], ..Sources::default() }).unwrap().policies;
    let blank = Engine::new("prod".to_owned(), policies, Span::from_secs(3600));
    let (mut ledger, _) = Ledger::restore(&BTreeMap::new(), blank).unwrap();
    let mut batch = Batch::default();
    Ledger::raise_epoch(Epoch(7), "prod", &mut batch).unwrap();
    let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    let mut events: Vec<Event> = Vec::new();
    for (_, bytes) in corpus("events") {
        let options = DecodeOptions::new("prod", Mapping::default());
        if let Decoded::Event { event, .. } = decode(&record_of(&bytes), &options, now) {
            events.push(*event);
        }
    }
    assert!(events.len() >= 2, "the corpus of events has a request and a freeze: {events:?}");
    for event in events {
        ledger.step(event, now, &mut batch).unwrap();
    }
    let mut text = Vec::new();
    for (key, value) in batch.puts {
        text.extend([key.as_bytes(), b" ", &value.unwrap_or_default(), b"\n"].concat());
    }
    assert!(text.windows(6).any(|part| part == b"/snap "), "{}", String::from_utf8_lossy(&text));
    text
}

/// Calls the function, and fails with the bytes if it panics.
fn run(target: &str, function: Function, origin: &str, bytes: &[u8]) {
    if catch_unwind(|| function(bytes)).is_err() {
        panic!("target {target}, {origin}, fails at these bytes: {:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn every_target_reads_its_corpus() {
    for (name, function) in TARGETS {
        let corpus = all_of(name);
        assert!(corpus.len() >= 3, "target {name} has {} files", corpus.len());
        for (file, bytes) in corpus {
            run(name, *function, &file, &bytes);
        }
    }
}

#[test]
fn every_target_reads_mutations_of_its_corpus() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let (mutations, seed) = (number("BELLWETHER_FUZZ").unwrap_or(MUTATIONS), number("BELLWETHER_SEED").unwrap_or(0));
    let one = std::env::var("BELLWETHER_TARGET").ok();
    let is_wanted = |name: &str| one.as_ref().is_none_or(|one| one == name);
    let wanted = TARGETS.iter().enumerate().filter(|(_, (name, _))| is_wanted(name));
    assert!(wanted.clone().count() > 0, "BELLWETHER_TARGET names no target");
    for (index, (name, function)) in wanted {
        let corpus: Vec<Vec<u8>> = all_of(name).into_iter().map(|(_, bytes)| bytes).collect();
        for n in 0..mutations {
            let mut random = Random::new(seed ^ (n << 8) ^ index as u64);
            let bytes = mutation(&mut random, &corpus);
            run(name, *function, &format!("seed {seed}, mutation {n}"), &bytes);
        }
    }
}

/// Returns a file of the corpus with one to eight changes.
fn mutation(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below((bytes.len() - at).min(64) + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => drop(bytes.splice(at..end, WORDS[random.below(WORDS.len())].bytes())),
            4 => bytes.truncate(at),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = from + random.below((other.len() - from).min(256) + 1);
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
