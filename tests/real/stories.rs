//! The stories that run on the plane. A new one is a function and a line in the list of its file.

mod access;
mod away;
mod baseline;
mod browser;
mod chaos;
mod cohort;
mod counting;
mod embedded;
mod evidence;
mod exposition;
mod input;
mod kills;
mod manifests;
mod middle;
mod newcomer;
mod outage;
mod people;
mod plane;
mod pod;
mod poison;
mod replicas;
mod rollout;
mod stages;
mod unkind;
mod unkind_many;
mod unkind_pods;
mod unkind_traffic;

use std::time::Duration;

use anyhow::{Context, Result};
use bellwether_testkit::plane::Sandbox;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// The image of a good version.
const V2: &str = "registry.test/shop/web:v2";
/// Deadline for one step of a story.
const SOON: Duration = Duration::from_secs(60);
/// Deadline for a whole rollout.
const LONG: Duration = Duration::from_secs(180);

/// The time after which a story has hung.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

type Body = dyn FnOnce(&Runtime, &Sandbox) -> Result<()> + Send;

/// A story with its name.
pub struct Story {
    /// `file::event_and_result`.
    pub name: &'static str,
    /// Whether no other story may run at the same time, because it stops a part of the plane that all of them need.
    pub exclusive: bool,
    /// The test itself.
    pub body: Box<Body>,
}

/// Returns all stories. The long ones come first, so that none of them runs alone at the end; the exclusive ones come last.
pub fn all() -> Vec<Story> {
    let mut all: Vec<Story> = [
        chaos::stories(),
        manifests::stories(),
        middle::stories(),
        newcomer::stories(),
        kills::stories(),
        away::stories(),
        replicas::stories(),
        people::stories(),
        embedded::stories(),
        access::stories(),
        browser::stories(),
        rollout::stories(),
        evidence::stories(),
        counting::stories(),
        input::stories(),
        poison::stories(),
        plane::stories(),
        pod::stories(),
        stages::stories(),
        cohort::stories(),
        baseline::stories(),
        unkind::stories(),
        unkind_pods::stories(),
        unkind_traffic::stories(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if std::env::var_os("BELLWETHER_SOAK").is_some() {
        all.extend(chaos::soaks());
        all.extend(away::soaks());
        all.extend(outage::soaks());
        all.extend(unkind_many::soaks());
        all.extend(unkind_traffic::soaks());
    }
    all.sort_by_key(|story| story.exclusive);
    all
}

/// Returns a story that runs beside others.
pub fn story(name: &'static str, body: impl AsyncFnOnce(&Sandbox) -> Result<()> + Send + 'static) -> Story {
    story_within(name, DEADLINE, body)
}

/// Returns a story that runs beside others and has another deadline.
pub fn story_within(
    name: &'static str,
    deadline: Duration,
    body: impl AsyncFnOnce(&Sandbox) -> Result<()> + Send + 'static,
) -> Story {
    let body = move |runtime: &Runtime, sandbox: &Sandbox| {
        let ended = runtime.block_on(async { timeout(deadline, body(sandbox)).await });
        ended.with_context(|| format!("the story did not end within {deadline:?}"))?
    };
    Story { name, exclusive: false, body: Box::new(body) }
}

/// Returns a story that runs alone.
pub fn exclusive_story(name: &'static str, body: impl AsyncFnOnce(&Sandbox) -> Result<()> + Send + 'static) -> Story {
    Story { exclusive: true, ..story(name, body) }
}
