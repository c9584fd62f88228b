//! The stories that are told on the plane. A new one is a function and a line in the list of its file.

mod away;
mod baseline;
mod cohort;
mod counting;
mod evidence;
mod exposition;
mod input;
mod kills;
mod middle;
mod people;
mod plane;
mod rollout;
mod scene;
mod stages;

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::plane::story::Story;

/// A story that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(15 * 60);

type Tell = dyn FnOnce(&Runtime, &Story) -> Result<()> + Send;

/// A test: what it is called, and what happens.
pub struct Told {
    pub name: &'static str,
    /// Nobody else's story is told meanwhile: it takes away what all of them need.
    pub alone: bool,
    pub tell: Box<Tell>,
}

/// The long ones first, so that nobody waits for them in the end, and then those that are told alone.
pub fn all() -> Vec<Told> {
    let mut all: Vec<Told> = [
        middle::stories(),
        kills::stories(),
        away::stories(),
        people::stories(),
        rollout::stories(),
        evidence::stories(),
        counting::stories(),
        input::stories(),
        plane::stories(),
        stages::stories(),
        cohort::stories(),
        baseline::stories(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if std::env::var_os("BELLWETHER_SOAK").is_some() {
        all.extend(away::soaks());
    }
    all.sort_by_key(|told| told.alone);
    all
}

pub fn told(name: &'static str, tell: impl AsyncFnOnce(&Story) -> Result<()> + Send + 'static) -> Told {
    let tell = move |runtime: &Runtime, story: &Story| {
        let ended = runtime.block_on(async { timeout(LONGEST, tell(story)).await });
        ended.with_context(|| format!("the story is not over after {LONGEST:?}"))?
    };
    Told { name, alone: false, tell: Box::new(tell) }
}

pub fn told_alone(name: &'static str, tell: impl AsyncFnOnce(&Story) -> Result<()> + Send + 'static) -> Told {
    Told { alone: true, ..told(name, tell) }
}
