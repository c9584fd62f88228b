//! The stories that are told on the plane. A new one is a function and a line in the list of its file.

mod away;
mod input;
mod kills;
mod middle;
mod people;
mod plane;
mod rollout;
mod scene;

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
    pub tell: Box<Tell>,
}

pub fn all() -> Vec<Told> {
    [
        plane::stories(),
        rollout::stories(),
        input::stories(),
        away::stories(),
        people::stories(),
        kills::stories(),
        middle::stories(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn told(name: &'static str, tell: impl AsyncFnOnce(&Story) -> Result<()> + Send + 'static) -> Told {
    let tell = move |runtime: &Runtime, story: &Story| {
        let ended = runtime.block_on(async { timeout(LONGEST, tell(story)).await });
        ended.with_context(|| format!("the story is not over after {LONGEST:?}"))?
    };
    Told { name, tell: Box::new(tell) }
}
