//! Commands: the verbs by which a person, or a pipeline on their behalf, controls rollouts. Commands are events on the
//! deployments topic, so Kafka's ACLs decide who may send them, and the journal and the audit contain their authors and
//! reasons.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, RolloutId, Scope};
use crate::time::Timestamp;

/// A verb with its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Command {
    /// The workload that the verb applies to. A freeze and an unfreeze may also have a namespace or a cluster.
    pub scope: Scope,
    /// The verb, with its arguments.
    pub verb: Verb,
    /// The rollout that the command is meant for; it is refused if the workload has another one by now. `None` for the
    /// present rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// The author's reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The verb of a command, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Verb {
    /// Roll back without quarantining the new version.
    Abort,
    /// Advance the rollout although a check has not passed or an approval is missing.
    Promote {
        /// Whether the version is promoted at once, instead of advancing by one step.
        full: bool,
    },
    /// Hold the rollout in its phase; a regression still rolls it back.
    Pause,
    /// End a pause, or look again with fresh patience in any other hold.
    Resume,
    /// Request the last rollout's change again, and lift its quarantine.
    Retry,
    /// Give an approval, or waive a required suite.
    Approve {
        /// The name of the approval or suite; `None` for the one that the rollout waits for.
        approval: Option<String>,
    },
    /// Start no rollout, raise no weight and promote nothing in the scope. Rollbacks and guards continue.
    Freeze {
        /// The end of the freeze; `None` if it lasts until an unfreeze.
        until: Option<Timestamp>,
    },
    /// End a freeze.
    Unfreeze,
}

impl Verb {
    /// Returns the verb's name, as in `bellwether emit abort`.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Abort => "abort",
            Verb::Promote { .. } => "promote",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Retry => "retry",
            Verb::Approve { .. } => "approve",
            Verb::Freeze { .. } => "freeze",
            Verb::Unfreeze => "unfreeze",
        }
    }
}

/// The author of a command, with their reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Author {
    /// The source of the command's event.
    pub by: String,
    /// The author's reason; `None` if they gave none.
    pub why: Option<String>,
}

impl Author {
    /// Returns the author of `command`, which came with the event `event`.
    pub fn of(event: &EventId, command: &Command) -> Author {
        Author { by: event.source.clone(), why: command.reason.clone() }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{} ({why})", self.by),
            None => f.write_str(&self.by),
        }
    }
}

/// A freeze that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Freeze {
    /// The author of the freeze.
    pub author: Author,
    /// The start of the freeze.
    pub since: Timestamp,
    /// The end of the freeze; `None` if it lasts until an unfreeze.
    pub until: Option<Timestamp>,
}

impl Freeze {
    /// Returns whether the freeze is still in force at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
