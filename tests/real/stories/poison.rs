//! A topic full of records that can't be carried out: each of them is answered, and the good ones between them start rollouts.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::specs::{REQUEST_SOURCE, STRUCTURED, request};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, bench, wait};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{LONG, Story, V2, story};

const POISON: usize = 10_000;
const GOOD: usize = 100;
/// One record in so many of its kind has the size of [`HUGE`].
const RARE: usize = 20;
/// The bytes of a huge value, near the largest that brokers accept by default.
const HUGE: usize = 990_000;
/// The largest memory of a daemon in MiB: the limit of the shipped manifests.
const MEMORY: f64 = 512.0;

pub fn stories() -> Vec<Story> {
    vec![story("poison::ten_thousand_bad_records_are_answered_and_the_good_ones_roll_out", ten_thousand)]
}

/// A record that no daemon can carry out.
struct Poison {
    key: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    value: Option<Vec<u8>>,
    /// Whether the daemon ignores and counts it, in place of a dead letter.
    is_ignored: bool,
}

impl Poison {
    /// Returns a record with this value in structured mode, which becomes a dead letter.
    fn structured(value: Vec<u8>) -> Poison {
        let (name, content_type) = STRUCTURED;
        let headers = vec![(name.to_owned(), content_type.as_bytes().to_vec())];
        Poison { key: Some(b"any".to_vec()), headers, value: Some(value), is_ignored: false }
    }

    /// Returns an event in binary mode of another type, which is not for this daemon.
    fn of_type(ty: &str) -> Poison {
        let headers = [("ce_specversion", "1.0"), ("ce_type", ty), ("ce_source", "/other"), ("ce_id", "1")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
        Poison { key: None, headers, value: Some(vec![0, 1, 2]), is_ignored: true }
    }
}

/// Returns the record with the number `n`: the kinds take turns.
fn poison(sandbox: &Sandbox, n: usize) -> Poison {
    let web = sandbox.workload("web");
    let of = |content: &Value| request(&format!("bad/{n}"), content, Timestamp::now());
    let is_rare = n % (10 * RARE) < 10;
    match n % 10 {
        0 => Poison::structured(b"{ not json".to_vec()),
        1 => {
            let mut whole = of(&json!({ "workload": web, "image": V2 }));
            whole.truncate(whole.len() / 2);
            Poison::structured(whole)
        }
        2 => {
            let reason = "x".repeat(if is_rare { HUGE } else { 40_000 });
            Poison::structured(of(&json!({ "workload": web, "image": V2, "reason": reason })))
        }
        3 => Poison::structured(of(&json!({ "workload": 7, "images": ["web"] }))),
        4 => Poison { value: None, headers: Vec::new(), is_ignored: true, ..Poison::structured(Vec::new()) },
        5 => Poison::of_type("com.example.invoice.issued"),
        6 => {
            let mut bad = Poison::structured(b"null".to_vec());
            let bytes = if is_rare { 100_000 } else { 1_000 };
            bad.headers.extend((0..9).map(|header| (format!("x-{header}"), vec![b'h'; bytes])));
            bad
        }
        7 => Poison { key: Some(vec![0xff; 20]), ..Poison::structured(vec![0xc3, 0x28, 0xff]) },
        8 => Poison::of_type("dev.cdeventsx.bellwether-rollout.exploded.0.1.0"),
        _ => Poison::structured([b"[".repeat(50_000), b"]".repeat(50_000)].concat()),
    }
}

async fn ten_thousand(sandbox: &Sandbox) -> Result<()> {
    // The records wait when the daemon starts: it then reads them as fast as it can.
    let mut fixture = Fixture::prepare(sandbox, FixtureOptions::default()).await?;
    sandbox.create_topic("events", FixtureOptions::default().partitions, &[]).await?;
    let good = send(sandbox).await?;
    let load = sandbox.load(50.0)?;
    fixture.run().await?;
    let (pid, started) = (fixture.daemon.pid()?, Instant::now());

    let expected = (0..POISON).filter(|n| !poison(sandbox, *n).is_ignored).count();
    wait::until("an answer to each bad record", LONG, async || {
        let found = ignored(&fixture).await?;
        ensure!(found == (POISON - expected) as f64, "{found} are ignored");
        Ok(())
    })
    .await?;
    let letters = wait::until("the dead letters", LONG, async || {
        let letters = sandbox.records("events.dlq").await?;
        ensure!(letters.len() >= expected, "{} of {expected}", letters.len());
        Ok(letters)
    })
    .await?;
    println!("they are answered after {:?}, with {:.0} MiB at most", started.elapsed(), peak(pid)?);
    let places: BTreeSet<_> = letters
        .iter()
        .map(|letter| (&letter.headers["dlq-original-partition"], &letter.headers["dlq-original-offset"]))
        .collect();
    ensure!(
        letters.len() == expected && places.len() == expected,
        "{} letters, {} places",
        letters.len(),
        places.len()
    );
    ensure!(letters.iter().all(|letter| !letter.headers["dlq-error"].is_empty()), "a letter says no problem");

    // The workload exists for one of them. The rollouts of the others are refused.
    fixture.ended_as(&fixture.rollout_of_event(REQUEST_SOURCE, "web/good"), "promoted", LONG).await?;
    let decided: BTreeSet<String> = fixture
        .distinct_decisions()
        .await?
        .iter()
        .map(|decision| decision["rollout"].as_str().unwrap_or_default().to_owned())
        .collect();
    ensure!(decided == good, "{} rollouts", decided.len());
    load.stop().await?;
    ensure!(fixture.daemon.pid()? == pid && peak(pid)? < MEMORY, "{} MiB", peak(pid)?);
    fixture.replays().await
}

/// Writes all records, the good ones at even distances. Returns the ids of the rollouts of the good ones.
async fn send(sandbox: &Sandbox) -> Result<BTreeSet<String>> {
    let (kafka, topic) = (&sandbox.plane.kafka, sandbox.topic("events"));
    let sent = stream::iter(0..POISON).map(async |n| {
        let Poison { key, headers, value, .. } = poison(sandbox, n);
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        kafka.produce_bytes(&topic, key.as_deref(), &headers, value.as_deref()).await?;
        if n % (POISON / GOOD) > 0 {
            return anyhow::Ok(None);
        }
        let name = if n == 0 { "web".to_owned() } else { format!("missing-{n}") };
        sandbox.request_rollout_as(&format!("{name}/good"), &name, V2).await.map(Some)
    });
    let ids: Vec<_> = sent.buffered(64).try_collect().await?;
    Ok(ids.into_iter().flatten().map(|id| id.0).collect())
}

/// Returns the number of records that the daemon has ignored.
async fn ignored(fixture: &Fixture<'_>) -> Result<f64> {
    let (_, text) = fixture.daemon.get("/metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(r#"bellwether_events_total{result="ignored"} "#));
    line.map_or(Ok(0.0), |value| value.trim().parse().context("the value of a metric"))
}

/// Returns the daemon's peak of memory in MiB.
fn peak(pid: u32) -> Result<f64> {
    bench::memory_mib(pid, "VmHWM")
}
