//! Moving a pointer: a request is turned into the next move of the pointer's line, and tried again when another writer was
//! faster.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::line::{Action, Line, MoveEvidence, PointerMove};
use crate::name::{ModelName, Version};
use crate::random::random_id;
use crate::registry::Registry;
use crate::store::Created;
use crate::{keys, seal};

/// Number of effects that each move remembers, so that a repeated effect is recognized.
const REMEMBERED_EFFECTS: usize = 64;

/// Maximum number of attempts at a move. An attempt fails only if another writer succeeded, so this bounds the number of
/// writers ahead of this one.
const MAX_ATTEMPTS: u32 = 200;

/// The author, reason, time and preconditions of a move.
#[derive(Debug, Clone)]
pub struct MoveContext {
    /// Name of the person or program that makes the move.
    pub by: String,
    /// Reason for the move; may be empty.
    pub why: String,
    /// Time of the move.
    pub at: Timestamp,
    /// Id by which a repetition of the same request is recognized. The request is carried out once, and each repetition
    /// returns the move that it made then. A pointer remembers its last 64 ids.
    pub effect: Option<String>,
    /// Expected number of the pointer's last move; 0: the pointer was never set. If the pointer has another number, the
    /// request is refused. It protects a caller that decided on an old reading from undoing a later move.
    pub expected: Option<u64>,
}

/// The result of a request to move a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveOutcome {
    /// Whether this call created the move. It is false if the pointer was there already, or if the same effect made the
    /// move before.
    pub created: bool,
    /// The move that was created, or the earlier one that already satisfies the request.
    pub entry: PointerMove,
}

/// A request to move a pointer.
pub(crate) enum MoveRequest {
    /// To a registered version.
    To { action: Action, version: Version, checksum: Digest, reports: Vec<MoveEvidence> },
    /// Back to a version where the pointer has been, or to the previous one if `to` is `None`.
    Back { name: ModelName, to: Option<Version> },
    /// To no version.
    Clear,
}

impl MoveRequest {
    /// Returns the requested action, and the version if the request names one.
    fn action_and_version(&self) -> (Action, Option<&Version>) {
        match self {
            MoveRequest::To { action, version, .. } => (*action, Some(version)),
            MoveRequest::Back { to, .. } => (Action::Restore, to.as_ref()),
            MoveRequest::Clear => (Action::Remove, None),
        }
    }
}

/// The fields of the next move that follow from the request and the pointer's position.
struct Target {
    action: Action,
    version: Option<Version>,
    checksum: Option<Digest>,
    before: Option<Version>,
    reports: Vec<MoveEvidence>,
}

impl Registry {
    /// Moves the pointer. The target is computed anew after each attempt at which another writer was faster.
    pub(crate) async fn advance(
        &self,
        line: &Line,
        request: &MoveRequest,
        context: &MoveContext,
    ) -> Result<MoveOutcome> {
        for _ in 0..MAX_ATTEMPTS {
            let last = self.last_move(line).await?;
            let (action, version) = request.action_and_version();
            if let Some(done) = self.repeated_effect(line, last.as_ref(), context, action, version).await? {
                return Ok(done);
            }
            let found = last.as_ref().map_or(0, |last| last.number);
            if let Some(expected) = context.expected.filter(|expected| *expected != found) {
                return Err(RegistryError::Moved { pointer: line.title.clone(), expected, found });
            }
            let target = self.target(line, request, last.as_ref()).await?;
            if let Some(last) = &last
                && context.effect.is_none()
                && last.version == target.version
            {
                return Ok(MoveOutcome { created: false, entry: last.clone() });
            }
            if let Some(entry) = self.create_move(line, last.as_ref(), target, context).await? {
                return Ok(MoveOutcome { created: true, entry });
            }
        }
        Err(RegistryError::Contended { pointer: line.title.clone(), attempts: MAX_ATTEMPTS })
    }

    /// Returns the outcome of an effect that was carried out before, even if other moves followed; `None` if it was not.
    ///
    /// # Errors
    /// The effect made a different move then, its move is damaged, or the store fails.
    pub(crate) async fn repeated_effect(
        &self,
        line: &Line,
        last: Option<&PointerMove>,
        context: &MoveContext,
        action: Action,
        version: Option<&Version>,
    ) -> Result<Option<MoveOutcome>> {
        let (Some(effect), Some(last)) = (&context.effect, last) else { return Ok(None) };
        let Some(number) = last.effects.get(effect) else { return Ok(None) };
        let entry = self.read_move(line, *number).await?;
        // A restoration without a version matches any version: its own move changed the version to go back to.
        if action == entry.action && version.is_none_or(|version| entry.version.as_ref() == Some(version)) {
            return Ok(Some(MoveOutcome { created: false, entry }));
        }
        Err(RegistryError::Effect {
            effect: effect.clone(),
            pointer: line.title.clone(),
            was: description(entry.action, entry.version.as_ref()),
            asked: description(action, version),
        })
    }

    /// Computes the target of a request from the pointer's position.
    async fn target(&self, line: &Line, request: &MoveRequest, last: Option<&PointerMove>) -> Result<Target> {
        let from = last.and_then(|last| last.version.clone());
        Ok(match request {
            MoveRequest::To { action, version, checksum, reports } => {
                // A version that is promoted again must not become its own predecessor.
                let same = from.as_ref() == Some(version);
                let before = if same { last.and_then(|last| last.before.clone()) } else { from };
                let (version, checksum) = (Some(version.clone()), Some(*checksum));
                Target { action: *action, version, checksum, before, reports: reports.clone() }
            }
            MoveRequest::Back { name, to } => self.target_back(line, name, to.as_ref(), last).await?,
            MoveRequest::Clear => {
                Target { action: Action::Remove, version: None, checksum: None, before: from, reports: Vec::new() }
            }
        })
    }

    async fn target_back(
        &self,
        line: &Line,
        name: &ModelName,
        to: Option<&Version>,
        last: Option<&PointerMove>,
    ) -> Result<Target> {
        let to = to.or_else(|| last.and_then(|last| last.before.as_ref())).ok_or_else(|| RegistryError::Absent {
            thing: format!("version before {}", line.title),
            hint: " to go back to; promote one".to_owned(),
        })?;
        let history = self.moves(line).await?;
        // The predecessor is that of the earlier move, so that two restorations go back twice and not to and fro.
        let earlier = history.iter().find(|earlier| earlier.version.as_ref() == Some(to));
        let earlier = earlier.ok_or_else(|| RegistryError::Absent {
            thing: format!("move of {} to {to}", line.title),
            hint: ": it was never current there; promote it".to_owned(),
        })?;
        let manifest = self.manifest(name, to).await?;
        // A yanked version may be what the instances run: the pointer says so, and `get` refuses it.
        self.check_given_out(name, to, true).await?;
        let (version, checksum) = (Some(to.clone()), Some(manifest.checksum));
        Ok(Target { action: Action::Restore, version, checksum, before: earlier.before.clone(), reports: Vec::new() })
    }

    /// Creates the move after `last`; `None` if another writer created it first.
    async fn create_move(
        &self,
        line: &Line,
        last: Option<&PointerMove>,
        target: Target,
        context: &MoveContext,
    ) -> Result<Option<PointerMove>> {
        let number = last.map_or(0, |last| last.number) + 1;
        let mut effects = last.map(|last| last.effects.clone()).unwrap_or_default();
        if let Some(effect) = &context.effect {
            effects.insert(effect.clone(), number);
        }
        while effects.len() > REMEMBERED_EFFECTS {
            let oldest = effects.iter().min_by_key(|(_, number)| **number).map(|(effect, _)| effect.clone());
            effects.remove(&oldest.unwrap_or_default());
        }
        let Target { action, version, checksum, before, reports } = target;
        let MoveContext { by, why, at, .. } = context.clone();
        let attempt = random_id()?;
        let entry = PointerMove { number, action, version, checksum, before, by, why, at, reports, attempt, effects };
        let created = self.store.create(&keys::pointer_move(&line.prefix, number), seal::write(&entry)?).await?;
        // `Taken` may be this call's own move, if the answer was lost and the store's client tried again.
        let own = created == Created::Yes || self.read_move(line, number).await?.attempt == entry.attempt;
        Ok(own.then_some(entry))
    }
}

/// Describes a move for an error.
fn description(action: Action, version: Option<&Version>) -> String {
    let version = version.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    match action {
        Action::Promote | Action::Set | Action::Yank => version,
        Action::Restore => format!("back to {version}"),
        Action::Remove => "nothing".to_owned(),
    }
}
