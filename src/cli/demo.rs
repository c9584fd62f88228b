//! `bellwether demo`: the real engine, daemon, journal and HTTP server, with a simulated cluster and a fast clock.
//!
//! The demo installs nothing and removes its files at the end. It requests six versions through events, as a user would.
//! Five rollouts follow the article's policy, `config/policies/article.toml`; the sixth follows the usual one,
//! `config/policies/canary.toml`. The output is the same as an operator's, sixty times as fast.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bellwether_core::engine::Engine;
use bellwether_core::ids::{Images, Workload, WorkloadKind};
use bellwether_core::input::event::Request;
use bellwether_core::policy::Policy;
use bellwether_core::rollout::decision::{Decision, DecisionKind};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::rollout::reason::change;
use bellwether_core::time::{Span, Timestamp};
use clap::Args;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Common, print, table, tell};
use crate::clock::{Clock, FastClock, Stopwatch};
use crate::config::{self, Sources};
use crate::daemon::{self, Grid, Parts};
use crate::events::cdevents::{REQUESTED, wrap};
use crate::events::decode::DecodeOptions;
use crate::events::mapping::Mapping;
use crate::exit;
use crate::health::Health;
use crate::http;
use crate::journal::embedded::{Embedded, EmbeddedIntake};
use crate::perform::Executor;
use crate::ports::DeadLetters;
use crate::shard::Shared;
use crate::show::StatusBoard;
use crate::world::MemoryWorld;

/// The speed of the demo's clock: its seconds per second of real time.
const FACTOR: u32 = 60;
/// The time, on the demo's clock, after which a story without a result has failed.
const PATIENCE: Span = Span::from_secs(55 * FACTOR as u64);

/// The arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep serving the console after the stories have ended, until Ctrl-C.
    #[arg(long)]
    stay: bool,
}

/// The result of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ended(Ending),
    Held,
}

/// One rollout of the demo.
struct Story {
    /// The workload's name.
    name: &'static str,
    /// The image tag that runs at first.
    from: &'static str,
    /// The image tag that is requested; its words select the simulated faults.
    tag: &'static str,
    /// The name of the policy; `None` for the article's.
    policy: Option<&'static str>,
    /// The workload's traffic, in requests per second.
    rps: u64,
    /// The story in one sentence.
    summary: &'static str,
    /// The result that the story must have.
    expected: Outcome,
}

const STORIES: [Story; 6] = [
    Story {
        name: "checkout",
        from: "1.0.0",
        tag: "1.8.0",
        policy: None,
        rps: 120,
        summary: "a good version is promoted",
        expected: Outcome::Ended(Ending::Promoted),
    },
    Story {
        name: "search",
        from: "1.0.0",
        tag: "2.1.0-err8",
        policy: None,
        rps: 200,
        summary: "a version with errors is rolled back",
        expected: Outcome::Ended(Ending::RolledBack),
    },
    Story {
        name: "recs",
        from: "1.0.0",
        tag: "3.0.0-slow",
        policy: None,
        rps: 80,
        summary: "a slow version is rolled back",
        expected: Outcome::Ended(Ending::RolledBack),
    },
    Story {
        name: "billing",
        from: "1.0.0",
        tag: "0.9.0",
        policy: None,
        rps: 0,
        summary: "a version without traffic is held",
        expected: Outcome::Held,
    },
    Story {
        name: "cart",
        from: "1.0.0",
        tag: "5.2.0-late",
        policy: None,
        rps: 150,
        summary: "a version that turns bad after its promotion is rolled back by the guard",
        expected: Outcome::Ended(Ending::RolledBack),
    },
    Story {
        name: "payments",
        from: "4.0.0-err0.2",
        tag: "4.1.0-err0.8",
        policy: Some("canary"),
        rps: 400,
        summary: "a version within its limit but worse than the stable is rolled back by the comparison",
        expected: Outcome::Ended(Ending::RolledBack),
    },
];

/// Runs the demo and returns the exit code: [`exit::OK`] if every story had its expected result, else [`exit::ERROR`].
///
/// # Errors
/// The demo can't be set up, an event is not accepted, or the daemon fails.
pub async fn run(args: DemoArgs, _: &Common) -> anyhow::Result<u8> {
    let clock: Arc<dyn Clock> = Arc::new(FastClock::new(FACTOR));
    let folder = tempfile_folder()?;
    let result = play(&args, clock, &folder).await;
    // A failure is harmless: the folder is in the system's temporary folder.
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn tempfile_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("bellwether-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("can't create the folder {}", folder.display()))?;
    Ok(folder)
}

async fn play(args: &DemoArgs, clock: Arc<dyn Clock>, folder: &Path) -> anyhow::Result<u8> {
    let journal = Embedded::open(folder.join("journal.redb"))?;
    let world = MemoryWorld::new(Arc::clone(&clock));
    for story in &STORIES {
        world.deploy(&workload(story.name), images(story.name, story.from), 4, story.rps);
    }
    let shows = StatusBoard::default();
    let mut decisions = shows.decisions();
    let (wakes, inbox) = mpsc::channel(1024);
    let stop = CancellationToken::new();
    let (heartbeat, beat) = watch::channel(Stopwatch::start());
    let policies = policies(folder)?;
    let parts = parts(&clock, policies.clone(), &journal, &world, &shows, inbox, heartbeat, &stop);
    let (posted, queue) = mpsc::channel(16);
    let dead_letters = Arc::new(journal.clone());
    introduce(serve(&shows, &clock, policies, dead_letters, beat, posted, &stop).await);
    let daemon = tokio::spawn(daemon::run(parts));
    let intake = Arc::new(journal.intake(wakes.clone()).await);
    tokio::spawn(Arc::clone(&intake).serve(queue));
    tokio::spawn(world.clone().watch(wakes, Arc::clone(&clock)));
    for story in &STORIES {
        ask(&intake, story, clock.now()).await?;
    }
    let results = follow(&mut decisions, clock.as_ref()).await;
    let code = summarize(&results);
    if args.stay {
        tell("Ctrl-C ends the demo.\n");
        tokio::signal::ctrl_c().await.context("Ctrl-C can't be waited for")?;
    }
    stop.cancel();
    daemon.await.context("the daemon panicked")??;
    Ok(code)
}

/// Writes the article's policy and the usual one to `folder` and loads them as configuration files.
fn policies(folder: &Path) -> anyhow::Result<Vec<Policy>> {
    let mut policies = Vec::new();
    for (name, text) in [
        ("article.toml", include_str!("../../config/policies/article.toml")),
        ("canary.toml", include_str!("../../config/policies/canary.toml")),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
        let sources = Sources { files: vec![file], ..Sources::default() };
        let config = config::load(&sources).map_err(|report| anyhow::anyhow!("{report}"))?;
        policies.extend(config.policies);
    }
    Ok(policies)
}

#[expect(clippy::too_many_arguments, reason = "every part of a daemon, with one caller")]
fn parts(
    clock: &Arc<dyn Clock>,
    policies: Vec<Policy>,
    journal: &Embedded,
    world: &MemoryWorld,
    shows: &StatusBoard,
    wakes: mpsc::Receiver<crate::ports::Wake>,
    heartbeat: watch::Sender<Stopwatch>,
    stop: &CancellationToken,
) -> Parts {
    let port = || Arc::new(world.clone());
    let executor = Executor::new(port(), port(), port(), vec![port()]);
    let engine = Engine::new("demo".to_owned(), policies, Span::from_secs(86_400)).with_sinks(executor.sinks());
    Parts {
        shared: Shared {
            clock: Arc::clone(clock),
            executor,
            journals: Arc::new(journal.clone()),
            decoding: Arc::new(DecodeOptions::new("demo", Mapping::default())),
            board: shows.clone(),
            health: Health::default(),
            blank: engine,
        },
        wakes,
        counts: Box::new(world.clone()),
        grid: Grid { interval: Span::from_secs(15), lag: Span::ZERO },
        statuses: Arc::new(world.clone()),
        policies: watch::channel(Vec::new()).1,
        heartbeat,
        stop: stop.clone(),
    }
}

fn workload(name: &str) -> Workload {
    Workload { cluster: "demo".into(), namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() }
}

fn images(name: &str, tag: &str) -> Images {
    Images::from_iter([("app".to_owned(), format!("registry.example/shop/{name}:{tag}"))])
}

/// Serves the console on loopback, on port 8080 or any free one, and returns its address. `None` if no port can be
/// bound; the demo then runs without a console.
async fn serve(
    shows: &StatusBoard,
    clock: &Arc<dyn Clock>,
    policies: Vec<Policy>,
    dead_letters: Arc<dyn DeadLetters>,
    heartbeat: watch::Receiver<Stopwatch>,
    intake: mpsc::Sender<crate::ports::Delivery>,
    stop: &CancellationToken,
) -> Option<SocketAddr> {
    let options_for = |port| http::Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        events: true,
        ..http::Options::default()
    };
    let (options, listener) = match http::bind(&options_for(8080)).await {
        Ok(listener) => (options_for(8080), listener),
        Err(_) => (options_for(0), http::bind(&options_for(0)).await.ok()?),
    };
    let address = listener.local_addr().ok()?;
    let metrics = crate::metrics::install().ok()?;
    let (_, conditions) = watch::channel(Vec::new());
    let shown = http::Shown {
        cluster: "demo".into(),
        view: shows.watch(),
        ages: shows.ages(),
        courses: shows.courses(),
        clock: Arc::clone(clock),
        config: watch::channel(None).1,
        policies: watch::channel(policies).1,
        models: None,
        dead_letters: Some(dead_letters),
        arms: None,
        conditions,
        heartbeat,
        metrics,
        intake,
        senders: None,
    };
    let stop = stop.clone();
    tokio::spawn(async move { http::serve(listener, &options, shown, stop).await });
    Some(address)
}

fn introduce(page: Option<SocketAddr>) {
    let introduced = |address| {
        format!(
            "Console  http://{address}/\n\
             Act      in another shell, by the commands that it offers, after `export BELLWETHER_URL=http://{address}`\n"
        )
    };
    let page = page.map(introduced).unwrap_or_default();
    print(&format!(
        "A demo: the real engine, daemon and journal with a simulated cluster, {FACTOR} times as fast. Nothing is installed.\n\
         Policy: config/policies/article.toml (10 % for 15 min; errors ≤ 5 %, p95 ≤ 5 s; then a guard for 5 min);\n\
         payments: config/policies/canary.toml (5, 25, 50 %; errors ≤ 1 %, and not worse than the stable, at α = 1 %)\n{page}\n",
    ));
}

async fn ask(intake: &EmbeddedIntake, story: &Story, now: Timestamp) -> anyhow::Result<()> {
    let workload = workload(story.name);
    let key = workload.to_string();
    let request = Request {
        images: images(story.name, story.tag),
        workload,
        image: None,
        expected_current: None,
        policy: story.policy.map(str::to_owned),
        model: None,
        prompt: None,
        tools: None,
        traceparent: None,
        reason: Some(story.summary.to_owned()),
    };
    let event = wrap(REQUESTED, "/demo", story.name, now, &key, serde_json::to_value(&request)?);
    let receipt = intake.submit(event.to_record(&key)).await?;
    ensure!(matches!(receipt, crate::ports::Receipt::Decided(_)), "the event for {key} was not accepted: {receipt:?}");
    Ok(())
}

/// Prints decisions as they are made until every story has a result or [`PATIENCE`] is over. Returns the result of each
/// story by its name, with the reason.
async fn follow(
    decisions: &mut broadcast::Receiver<Decision>,
    clock: &dyn Clock,
) -> BTreeMap<String, (Outcome, String)> {
    let mut results = BTreeMap::new();
    let mut reasons = BTreeMap::new();
    let colours = table::colours();
    let end = PATIENCE.after(clock.now());
    while results.len() < STORIES.len() {
        let decision = tokio::select! {
            decision = decisions.recv() => match decision {
                Ok(decision) => decision,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => break,
            },
            () = clock.sleep_until(end) => break,
        };
        print(&line(&decision, colours));
        let name = decision.workload.name.clone();
        // Keep the reason of the decisive step; later decisions only confirm it.
        if matches!(decision.kind, DecisionKind::RollBack | DecisionKind::Hold) || decision.from == Phase::Guarding {
            reasons.entry(name.clone()).or_insert_with(|| decision.why.clone());
        }
        let outcome = match (decision.ending, decision.kind) {
            (Some(ending), _) => Outcome::Ended(ending),
            (None, DecisionKind::Hold) => Outcome::Held,
            (None, _) => continue,
        };
        let reason = reasons.get(&name).cloned().unwrap_or(decision.why);
        results.insert(name, (outcome, reason));
    }
    results
}

fn line(decision: &Decision, colours: bool) -> String {
    let time = decision.at.to_string();
    let time = time.get(11..19).unwrap_or(&time);
    let state = match decision.kind {
        DecisionKind::RollBack => "regressed",
        DecisionKind::Hold | DecisionKind::Withdraw | DecisionKind::GiveUp | DecisionKind::Abort => "held",
        DecisionKind::Promote | DecisionKind::Finish => "pass",
        DecisionKind::Start
        | DecisionKind::Advance
        | DecisionKind::Resume
        | DecisionKind::Supersede
        | DecisionKind::Refuse
        | DecisionKind::Proceed
        | DecisionKind::Approve
        | DecisionKind::Warn
        | DecisionKind::Retry => "",
    };
    let kind = table::paint(state, &format!("{:<9}", decision.kind.name()), colours);
    format!("{time}  {:<9} {kind}  {:<10} {}\n", decision.workload.name, decision.to.to_string(), decision.why)
}

fn summarize(results: &BTreeMap<String, (Outcome, String)>) -> u8 {
    let mut text = String::from("\n");
    let mut all_as_expected = true;
    for story in &STORIES {
        let (from, to) = (images(story.name, story.from), images(story.name, story.tag));
        let (as_expected, outcome, why) = match results.get(story.name) {
            Some((outcome, why)) => (*outcome == story.expected, outcome_text(*outcome), why.as_str()),
            None => (false, "unfinished".to_owned(), "no result in time"),
        };
        all_as_expected &= as_expected;
        let mark = if as_expected { "✔" } else { "✖" };
        text += &format!("{mark} {:<9} {:<27} {outcome:<12} {}\n", story.name, change(&from, &to), story.summary);
        text += &format!("            {why}\n");
    }
    print(&text);
    if all_as_expected { exit::OK } else { exit::ERROR }
}

fn outcome_text(outcome: Outcome) -> String {
    match outcome {
        Outcome::Ended(ending) => ending.to_string(),
        Outcome::Held => "held".to_owned(),
    }
}
