//! Notifications: finished texts about a decision, and the sinks that they go to.
//!
//! The engine knows the sinks by name and by their subscription, and queues one notification for each sink that the
//! decision concerns. A sink that is unavailable therefore delays no other, and a restart repeats none that was sent.

use serde::{Deserialize, Serialize};

use crate::ids::{RolloutId, Weight};
use crate::time::{Span, Timestamp};

/// The fewest attempts at a notification before it is given up, so that an old one is tried after the daemon itself was away.
const FEWEST_ATTEMPTS: u32 = 4;
/// The longest time for which a sink may be away without losing a notification for people: a day, and the time to repair it.
const LONGEST_OUTAGE: Span = Span::from_secs(26 * 3600);

/// A place that notifications are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sink {
    /// The sink's name, unique within the daemon; a part of its effects' ids.
    pub name: String,
    /// The notifications that it receives.
    pub subscription: Subscription,
}

/// The notifications that a sink receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subscription {
    /// Those with a [`Note`]: nearly every decision, for logs and event streams.
    Decisions,
    /// Those with a [`Message`] for people: few for each rollout.
    Messages,
    /// The messages about holds, for which a person has to act.
    NeedsAPerson,
    /// The messages about the ends of rollouts.
    Final,
    /// The messages about all decisions that people may want to follow, for a place that shows them as one thread per rollout.
    Thread,
    /// Those that open or resolve an incident, for on-call tools.
    Incidents,
    /// The ends of rollouts, each with its [`RolloutTrace`], for a store of traces.
    Traces,
    /// The promotions and rollbacks, and those that open or resolve an incident, for other tools of a delivery pipeline.
    Changes,
}

impl Subscription {
    /// Returns whether it is one for a record of events, and not for people or tools that act: a policy's choice of sinks does not
    /// thin it out, and a notification that is lost is no harm.
    pub fn is_log(self) -> bool {
        match self {
            Subscription::Decisions | Subscription::Traces => true,
            Subscription::Messages
            | Subscription::NeedsAPerson
            | Subscription::Final
            | Subscription::Thread
            | Subscription::Incidents
            | Subscription::Changes => false,
        }
    }

    /// Returns whether it includes `notification`.
    pub fn includes(self, notification: &Notification) -> bool {
        let kind = notification.message.as_ref().map(|message| message.kind);
        match self {
            Subscription::Decisions => notification.note.is_some(),
            Subscription::Messages => {
                kind.is_some_and(|kind| !matches!(kind, MessageKind::RollingBack | MessageKind::Progress))
            }
            Subscription::NeedsAPerson => kind == Some(MessageKind::NeedsAPerson),
            Subscription::Final => kind == Some(MessageKind::Final),
            Subscription::Thread => kind.is_some(),
            Subscription::Incidents => notification.incident.is_some(),
            Subscription::Traces => notification.facts.ending.is_some(),
            Subscription::Changes => notification.incident.is_some() || notification.facts.change().is_some(),
        }
    }

    /// Returns whether a notification is given up after `attempts` failed attempts, at this age. One for people or on-call tools
    /// waits out a sink that is away for a day; one for a log is a courtesy.
    pub fn gives_up(self, attempts: u32, age: Span) -> bool {
        attempts >= FEWEST_ATTEMPTS && (self.is_log() || age >= LONGEST_OUTAGE)
    }

    /// Returns the most notifications of a workload that may wait for a sink. Those of people are few for each rollout, so all of a
    /// busy day have room.
    pub fn most_waiting(self) -> usize {
        if self.is_log() { 16 } else { 64 }
    }
}

/// The texts about one decision. A sink only formats them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notification {
    /// The incident key: the rollout, the same for all of its notifications.
    pub key: RolloutId,
    /// The decision's facts.
    #[serde(default)]
    pub facts: NotificationFacts,
    /// The change of the incident; `None` if it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentChange>,
    /// The decision in one line; `None` for a decision that is not worth one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
    /// The message to people or to on-call tools; `None` for a decision of which neither need know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// The course of the rollout that has ended, for [`Subscription::Traces`]; `None` for other sinks, in whose outbox it would wait
    /// as well, and for other decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Box<RolloutTrace>>,
}

/// The course of an ended rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolloutTrace {
    /// The trace that it continues, as W3C's `traceparent`; `None` if the request has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The start of the rollout.
    pub started: Timestamp,
    /// The phases that decisions began, in their order; each lasts until the next one.
    pub phases: Vec<TracedPhase>,
    /// The reason of the end, in one sentence.
    pub why: String,
}

/// A phase of a rollout, as a decision began it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TracedPhase {
    /// The phase's name, such as `stepping`.
    pub phase: String,
    /// The step, from 1; `None` for a guard of another tool's deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The time of the decision.
    pub since: Timestamp,
    /// The kind of the decision, such as `advance` or `hold`.
    pub decision: String,
    /// The reason of the decision, in one sentence.
    pub why: String,
    /// The source of the event that asked for it; `None` if no person or tool did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The facts of a decision, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NotificationFacts {
    /// The time of the decision.
    pub at: Timestamp,
    /// The kind of the decision, such as `hold` or `roll-back`.
    pub decision: String,
    /// The ending of the rollout, such as `promoted` or `rolled-back`; `None` unless this decision ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// The canary's weight that is asked for from now on.
    pub weight: Weight,
    /// The name of the policy.
    pub policy: String,
    /// The image that serves from now on if the decision ends the rollout, and else the one that is tried, of the first container
    /// that the rollout changes; `None` if it changes none or only observes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A change of the version that serves a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionChange {
    /// The new version was promoted.
    Promoted,
    /// The version before serves again.
    RolledBack,
}

impl NotificationFacts {
    /// Returns the change of the version with which the decision ends the rollout, and the image that serves after it; `None` if it
    /// ends it otherwise, or not.
    pub fn change(&self) -> Option<(VersionChange, &str)> {
        let change = match self.ending.as_deref()? {
            "promoted" => VersionChange::Promoted,
            "rolled-back" => VersionChange::RolledBack,
            _ => return None,
        };
        Some((change, self.image.as_deref()?))
    }
}

/// A change of an incident. An incident is open while a rollout waits for people or is rolled back, and ends with the rollout
/// at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentChange {
    /// The incident opens; it may be open already.
    Open,
    /// The incident is over.
    Resolve,
}

/// A decision in one line, as a Kubernetes Event shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// Whether the Event's type is `Warning` instead of `Normal`.
    pub warning: bool,
    /// The Event's reason, one CamelCase word.
    pub reason: String,
    /// The Event's text, one sentence of at most 1 kB.
    pub text: String,
}

/// A message to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The occasion, which decides the sinks that receive the message.
    #[serde(default)]
    pub kind: MessageKind,
    /// The mood, which a sink shows as its colour.
    pub mood: Mood,
    /// The title, one line that is clear by itself, as a phone may show nothing else.
    pub title: String,
    /// The reason, in one sentence.
    pub why: String,
    /// The current state and the next event, in one sentence.
    pub now: String,
    /// The command to run next; `None` if there is nothing to do.
    pub command: Option<String>,
    /// The footer: the rollout and the policy.
    pub footer: String,
}

/// The occasion of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// The rollout is held and asks a person.
    NeedsAPerson,
    /// A check has warned, or the canary lost its traffic. The rollout goes on.
    #[default]
    Warning,
    /// The rollback has begun. On-call tools and threads alone receive it, because people get the message about its end.
    RollingBack,
    /// The rollout has gone on, or has ended without news. Threads alone receive it.
    Progress,
    /// The rollout has ended.
    Final,
}

/// The mood of a message, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    /// The news is good, such as a promotion.
    Good,
    /// A person has to act, such as on a hold.
    Asking,
    /// The news is bad, such as a rollback.
    Bad,
    /// The evidence is missing, as in a hold of a blind check.
    Blind,
    /// The rollout goes on, and nothing is known yet.
    Underway,
}
