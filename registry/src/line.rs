//! A pointer as the line of its moves. Move 1, 2, 3 … are objects of their own, each created once; the highest is where the
//! pointer stands, and the others are how it came there. Two who move at the same time want to create the same number:
//! one does, and the other looks again. So no store has to know how to replace an object, and no move is ever lost.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;
use crate::name::{ModelName, Suite, Version};
use crate::register::random;
use crate::store::Created;
use crate::{Registry, Result, keys, seal};

/// So many effects back a repeated one is known again.
const REMEMBERED: usize = 64;

/// Somebody succeeds each time, so this is how many others may be ahead.
const ATTEMPTS: u32 = 200;
/// How long it is waited for a move that is there and can't be read yet.
const LATE: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// A pointer.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) place: Path,
    /// For people.
    pub(crate) title: String,
}

/// What a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Forward, past the gates.
    Promote,
    /// Back to where it has been.
    Restore,
    /// An alias, to wherever its owner likes.
    Set,
    /// To nowhere.
    Remove,
}

/// A report by which a gate was passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Of which suite.
    pub suite: Suite,
    /// The report's digest.
    pub report: Digest,
}

/// One move of a pointer, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Move {
    /// Which one: they are counted from 1.
    pub number: u64,
    /// What it was.
    pub action: Action,
    /// Where the pointer stands since then.
    pub version: Option<Version>,
    /// The digest of that version's files.
    pub checksum: Option<Digest>,
    /// Where a restoration goes that names no version.
    pub before: Option<Version>,
    /// Who did it: what they said, not what was proven.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// The reports by which the gates were passed.
    pub reports: Vec<Evidence>,
    /// Which attempt this is, so that whoever made it knows it again.
    pub attempt: String,
    /// The effects that moved the pointer lately, and by which move each.
    pub effects: BTreeMap<String, u64>,
}

/// What came of asking for a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Whether this call did it. If not, the pointer was there already, or this effect had its turn before.
    pub now: bool,
    /// The move.
    pub to: Move,
}

/// Who does something, and what makes it repeatable.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// An id by which the same act is known again: it is done once, and each repetition says what came of it. The last 64
    /// of a pointer are known.
    pub effect: Option<String>,
    /// The number of the move at which the pointer must stand (0: it was never set). Whoever acts on what he saw some time
    /// ago gives it, so that he does not undo what happened since.
    pub expected: Option<u64>,
}

/// Where a pointer is to go.
pub(crate) enum Aim {
    /// To a version that is registered.
    To { action: Action, version: Version, checksum: Digest, reports: Vec<Evidence> },
    /// To where it has been: there, or where it stood before.
    Back { name: ModelName, to: Option<Version> },
    /// To nothing.
    Nowhere,
}

impl Aim {
    /// The action, and the version if it names one.
    fn says(&self) -> (Action, Option<&Version>) {
        match self {
            Aim::To { action, version, .. } => (*action, Some(version)),
            Aim::Back { to, .. } => (Action::Restore, to.as_ref()),
            Aim::Nowhere => (Action::Remove, None),
        }
    }
}

/// An aim, once it is known where the pointer stands.
pub(crate) struct Target {
    pub(crate) action: Action,
    pub(crate) version: Option<Version>,
    pub(crate) checksum: Option<Digest>,
    pub(crate) before: Option<Version>,
    pub(crate) reports: Vec<Evidence>,
}

impl Registry {
    /// Where the pointer stands; `None`: it was never set.
    pub(crate) async fn stands(&self, line: &Line) -> Result<Option<Move>> {
        match self.numbers(line).await?.into_iter().max() {
            None => Ok(None),
            Some(number) => self.step(line, number).await.map(Some),
        }
    }

    async fn numbers(&self, line: &Line) -> Result<Vec<u64>> {
        let objects = self.store.list(&line.place).await?;
        Ok(objects.iter().filter_map(|object| keys::number_of(&object.location)).collect())
    }

    async fn step(&self, line: &Line, number: u64) -> Result<Move> {
        let key = keys::step(&line.place, number);
        let bytes = self.written(&key).await?;
        let moved: Move = seal::read(&key, &bytes)?;
        if moved.number != number {
            return Err(Error::damaged(&key, format!("it is move {}", moved.number)));
        }
        Ok(moved)
    }

    /// What is at a key that is known to be taken. Nobody removes a move; but a store that is written to may list it, or say
    /// that it is taken, a moment before it can be read.
    async fn written(&self, key: &Path) -> Result<Bytes> {
        for wait in LATE {
            if let Some(bytes) = self.store.read(key).await? {
                return Ok(bytes);
            }
            tokio::time::sleep(wait).await;
        }
        self.store.read(key).await?.ok_or_else(|| Error::damaged(key, "it is not there any more"))
    }

    /// All moves, the newest first.
    pub(crate) async fn steps(&self, line: &Line) -> Result<Vec<Move>> {
        let mut numbers = self.numbers(line).await?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        stream::iter(numbers).map(|number| self.step(line, number)).buffered(16).try_collect().await
    }

    /// Moves the pointer. Where that leads is asked anew each time that somebody else was faster.
    pub(crate) async fn advance(&self, line: &Line, aim: &Aim, mark: &Mark) -> Result<Moved> {
        for _ in 0..ATTEMPTS {
            let stands = self.stands(line).await?;
            let (action, version) = aim.says();
            if let Some(done) = self.turn(line, stands.as_ref(), mark, action, version).await? {
                return Ok(done);
            }
            let found = stands.as_ref().map_or(0, |stands| stands.number);
            if let Some(expected) = mark.expected.filter(|expected| *expected != found) {
                return Err(Error::Moved { line: line.title.clone(), expected, found });
            }
            let target = self.target(line, aim, stands.as_ref()).await?;
            if let Some(stands) = &stands
                && mark.effect.is_none()
                && stands.version == target.version
            {
                return Ok(Moved { now: false, to: stands.clone() });
            }
            if let Some(to) = self.attempt(line, stands.as_ref(), target, mark).await? {
                return Ok(Moved { now: true, to });
            }
        }
        Err(Error::Contended { line: line.title.clone(), attempts: ATTEMPTS })
    }

    /// What came of an effect that has had its turn, whatever happened since; `None`: it has not. It has to ask for the same.
    pub(crate) async fn turn(
        &self,
        line: &Line,
        stands: Option<&Move>,
        mark: &Mark,
        action: Action,
        version: Option<&Version>,
    ) -> Result<Option<Moved>> {
        let (Some(effect), Some(stands)) = (&mark.effect, stands) else { return Ok(None) };
        let Some(number) = stands.effects.get(effect) else { return Ok(None) };
        let to = self.step(line, *number).await?;
        // A way back that names no version leads elsewhere by now, by its own doing.
        if action == to.action && version.is_none_or(|version| to.version.as_ref() == Some(version)) {
            return Ok(Some(Moved { now: false, to }));
        }
        Err(Error::Effect {
            effect: effect.clone(),
            line: line.title.clone(),
            was: shown(to.action, to.version.as_ref()),
            asked: shown(action, version),
        })
    }

    /// Creates the next move; `None`: somebody else has.
    async fn attempt(&self, line: &Line, stands: Option<&Move>, target: Target, mark: &Mark) -> Result<Option<Move>> {
        let number = stands.map_or(0, |stands| stands.number) + 1;
        let mut effects = stands.map(|stands| stands.effects.clone()).unwrap_or_default();
        if let Some(effect) = &mark.effect {
            effects.insert(effect.clone(), number);
        }
        while effects.len() > REMEMBERED {
            let oldest = effects.iter().min_by_key(|(_, number)| **number).map(|(effect, _)| effect.clone());
            effects.remove(&oldest.unwrap_or_default());
        }
        let Target { action, version, checksum, before, reports } = target;
        let Mark { by, why, at, .. } = mark.clone();
        let attempt = random()?;
        let to = Move { number, action, version, checksum, before, by, why, at, reports, attempt, effects };
        let created = self.store.create(&keys::step(&line.place, number), seal::write(&to)?).await?;
        // Created, and only the answer was lost, so that the store's client has asked twice?
        let ours = created == Created::Yes || self.step(line, number).await?.attempt == to.attempt;
        Ok(ours.then_some(to))
    }
}

fn shown(action: Action, version: Option<&Version>) -> String {
    let version = version.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    match action {
        Action::Promote | Action::Set => version,
        Action::Restore => format!("back to {version}"),
        Action::Remove => "nothing".to_owned(),
    }
}
