//! What a person, or a pipeline in their name, tells a rollout: the verbs. They are events like any other, so that
//! Kafka's ACLs say who may send them, and the journal and the audit have them with who and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, RolloutId, Scope};
use crate::time::Timestamp;

/// A verb, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Command {
    /// The workload; for a freeze and its end also a namespace or a cluster.
    pub scope: Scope,
    /// What to do.
    pub verb: Verb,
    /// Refuse if another rollout than this one is meant by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Verb {
    /// Back to the old version, without a word against the new one.
    Abort,
    /// On, although a check has not passed or an approval is missing: one step, or to the end.
    Promote {
        /// To the end.
        full: bool,
    },
    /// Stay here; a regression still rolls back.
    Pause,
    /// End a pause; or, after any other hold, look again with fresh patience.
    Resume,
    /// Ask once more for what the last rollout was to bring, and lift its quarantine.
    Retry,
    /// Give an approval, or waive a required suite.
    Approve {
        /// The name of the approval or of the suite; `None`: the one that the rollout waits for.
        approval: Option<String>,
    },
    /// Nothing starts, no weight rises and nothing is promoted. Rollbacks may, and the guard goes on.
    Freeze {
        /// It ends by itself then.
        until: Option<Timestamp>,
    },
    /// End a freeze.
    Unfreeze,
}

impl Verb {
    /// Its name, as it is typed.
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

/// Who told, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Author {
    /// Who: the event's source.
    pub by: String,
    /// In their words.
    pub why: Option<String>,
}

impl Author {
    /// The order that `event` carries.
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
    /// Who froze it, and why.
    pub author: Author,
    /// Since when.
    pub since: Timestamp,
    /// It ends by itself then; `None`: when somebody ends it.
    pub until: Option<Timestamp>,
}

impl Freeze {
    /// Whether it is still in force.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
