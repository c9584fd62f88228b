//! The stories that are told on the plane. A new one is a function and a line in the list of its file.

mod plane;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::plane::story::Story;

/// A test: what it is called, and what happens.
pub struct Told {
    pub name: &'static str,
    pub tell: Box<dyn FnOnce(&Runtime, &Story) -> Result<()> + Send>,
}

pub fn all() -> Vec<Told> {
    [plane::stories()].into_iter().flatten().collect()
}

pub fn told(name: &'static str, tell: impl AsyncFnOnce(&Story) -> Result<()> + Send + 'static) -> Told {
    Told { name, tell: Box::new(move |runtime, story| runtime.block_on(tell(story))) }
}
