//! Who may act: the rules by which an event is admitted before the engine is told of it.
//!
//! Without rules every producer of the events topic may send everything, and the topic's own access control decides alone. With
//! rules an event is admitted if one of them allows it. The identity of its sender (`events/identity.rs`) is appended to its source, where
//! decisions show it, and a source that claims an identity is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use bellwether_core::ids::{EventId, IDENTITY_MARKS, Scope, Workload};
use bellwether_core::input::event::Event;
use bellwether_core::policy::matches_glob;
use bellwether_core::time::{Span, Timestamp};
use bellwether_registry::VerifyingKey;
use serde::Deserialize;

use crate::events::cdevents::VERBS;
use crate::events::identity::{Identity, IdentityKeys, StampKey};
use crate::ports::EventRecord;

/// The verbs of events that are no commands: a request for a rollout, a suite report, and a deployment by another tool.
const EVENT_VERBS: [&str; 3] = ["request", "tested", "deployed"];
/// The time by which a clock may differ from this daemon's. An event is refused as old before it could be forgotten as seen. It is at
/// most half of the time for which events are remembered.
const CLOCK_TOLERANCE: Span = Span::from_secs(600);

/// The section `[access]` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The files with the public keys of producers (PEM, ECDSA on P-256), by name.
    pub keys: BTreeMap<String, PathBuf>,
    /// The rules. Without one everything is allowed.
    pub allow: Vec<Rule>,
}

/// A rule: the events that it allows. An empty list allows any value, except that `keys` and `users` together are the identities of
/// which an event needs one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Rule {
    /// The verbs.
    pub verbs: Vec<String>,
    /// The patterns of sources.
    pub sources: Vec<String>,
    /// The patterns of namespaces.
    pub namespaces: Vec<String>,
    /// The patterns of the workloads' names.
    pub workloads: Vec<String>,
    /// The names of keys.
    pub keys: Vec<String>,
    /// The patterns of users.
    pub users: Vec<String>,
}

impl Rule {
    fn allows(&self, verb: &str, source: &str, scope: &Scope, identity: &Identity) -> bool {
        (self.verbs.is_empty() || self.verbs.iter().any(|allowed| allowed == verb))
            && is_among(&self.sources, source)
            && self.covers(scope)
            && self.accepts(identity)
    }

    /// Whether the rule is for all of a scope. One with patterns is for no scope that is wider than they are.
    fn covers(&self, scope: &Scope) -> bool {
        let (namespace, name) = match scope {
            Scope::Cluster(_) => ("*", "*"),
            Scope::Namespace { namespace, .. } => (namespace.as_str(), "*"),
            Scope::Workload(Workload { namespace, name, .. }) => (namespace.as_str(), name.as_str()),
        };
        is_among(&self.namespaces, namespace) && is_among(&self.workloads, name)
    }

    fn accepts(&self, identity: &Identity) -> bool {
        let signed = identity.key.as_ref().is_some_and(|key| self.keys.contains(key));
        let posted =
            identity.user.as_ref().is_some_and(|user| self.users.iter().any(|users| matches_glob(users, user)));
        (self.keys.is_empty() && self.users.is_empty()) || signed || posted
    }
}

fn is_among(patterns: &[String], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| matches_glob(pattern, text))
}

impl Options {
    /// Returns the problems of the settings, each as the path below `access` and a message with the remedy.
    pub fn problems(&self) -> Vec<(Vec<String>, String)> {
        let known: Vec<&str> = EVENT_VERBS.into_iter().chain(VERBS).collect();
        let mut problems = Vec::new();
        for (index, rule) in self.allow.iter().enumerate() {
            let mut add =
                |key: &str, message| problems.push((vec!["allow".into(), index.to_string(), key.into()], message));
            for verb in rule.verbs.iter().filter(|verb| !known.contains(&verb.as_str())) {
                add("verbs", format!("there is no verb {verb:?}; the verbs are {}", known.join(", ")));
            }
            for key in rule.keys.iter().filter(|key| !self.keys.contains_key(*key)) {
                add("keys", format!("there is no key {key:?}; add its file to [access.keys]"));
            }
        }
        problems
    }
}

/// The reason why an event is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An identity that the event claims is not valid.
    #[error("the event's sender is not known: {0}")]
    Identity(&'static str),
    /// The source claims an identity.
    #[error("source {0:?} contains #key= or #user=, which only this daemon appends; leave it out")]
    ForgedSource(String),
    /// The event is so old that it may have been processed and forgotten.
    #[error(
        "the event is of {time}, longer ago than {age}, for which processed events are known again; send a new one"
    )]
    Old {
        /// The event's time.
        time: Timestamp,
        /// The longest age.
        age: Span,
    },
    /// The event has an identified sender, and says not when it was made.
    #[error(
        "the event has a signed or posted sender and no time, so that it could be repeated for ever; send it with `time`"
    )]
    Timeless,
    /// No rule allows the event.
    #[error("no rule of access.allow lets {sender} {verb} {scope}; an owner of the configuration can add one")]
    NotAllowed {
        /// The source, and the identity.
        sender: String,
        /// The verb.
        verb: &'static str,
        /// The scope of the event.
        scope: String,
    },
}

impl Refusal {
    /// Returns the reason as the value of a label.
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::Identity(_) => "identity",
            Refusal::ForgedSource(_) => "forged-source",
            Refusal::Old { .. } => "old",
            Refusal::Timeless => "timeless",
            Refusal::NotAllowed { .. } => "not-allowed",
        }
    }
}

/// The rules of a daemon with the keys of identities.
#[derive(Debug, Default)]
pub struct Access {
    keys: IdentityKeys,
    rules: Vec<Rule>,
    /// The age from which an event is refused; `None` is no limit.
    max_age: Option<Span>,
}

impl Access {
    /// Reads the keys of `options`. `remembered` is the time for which processed events are known again, and `stamp` the key of
    /// posted events.
    ///
    /// # Errors
    /// A key can't be read.
    pub fn new(
        options: &Options,
        stamp: Option<StampKey>,
        remembered: Span,
    ) -> Result<Access, bellwether_registry::RegistryError> {
        let read = |(name, path): (&String, &PathBuf)| VerifyingKey::read(path).map(|key| (name.clone(), key));
        let signers: BTreeMap<String, VerifyingKey> = options.keys.iter().map(read).collect::<Result<_, _>>()?;
        let remembered = remembered.as_millis();
        let max_age = Span::from_millis(remembered - CLOCK_TOLERANCE.as_millis().min(remembered / 2));
        Ok(Access { keys: IdentityKeys { signers, stamp }, rules: options.allow.clone(), max_age: Some(max_age) })
    }

    /// Takes the event out of its envelope, if it has one, and verifies the identity of the record's sender.
    pub fn open<'a>(&self, record: &'a EventRecord) -> (Cow<'a, EventRecord>, Identity) {
        self.keys.open(record)
    }

    /// Returns the record with a stamp of the user who has posted it; `None` without a key of stamps.
    pub fn stamp(&self, record: EventRecord, user: &str, from: &str) -> Option<EventRecord> {
        Some(self.keys.stamp.as_ref()?.stamp(record, user, from))
    }

    /// Admits an event that a record of this sender holds, and appends the identity to its source. In a refused event a claimed identity
    /// is written with `%23` in place of `#`.
    ///
    /// # Errors
    /// The event is refused.
    pub fn admit(&self, event: &mut Event, scope: &Scope, identity: &Identity, now: Timestamp) -> Result<(), Refusal> {
        let Some(verb) = verb_of(event) else { return Ok(()) };
        let Some((id, time)) = head_of(event) else { return Ok(()) };
        let claimed = id.source.clone();
        let is_forged = IDENTITY_MARKS.iter().any(|mark| claimed.contains(mark));
        if is_forged {
            // The audit must not take it for an identity.
            id.source = claimed.replace('#', "%23");
        }
        if let Some(problem) = identity.problem {
            return Err(Refusal::Identity(problem));
        }
        if is_forged {
            return Err(Refusal::ForgedSource(claimed));
        }
        let is_known = identity.key.is_some() || identity.user.is_some();
        let declared = claimed;
        if let Some(name) = &identity.user {
            id.source.push_str(&format!("#user={name}"));
        } else if let Some(name) = &identity.key {
            id.source.push_str(&format!("#key={name}"));
        }
        match (time, self.max_age) {
            (Time::At(time), Some(age)) if Span::between(time, now) >= age => return Err(Refusal::Old { time, age }),
            (Time::Missing, Some(_)) if is_known => return Err(Refusal::Timeless),
            _ => {}
        }
        if self.rules.is_empty() || self.rules.iter().any(|rule| rule.allows(verb, &declared, scope, identity)) {
            return Ok(());
        }
        Err(Refusal::NotAllowed { sender: id.source.clone(), verb, scope: scope.to_string() })
    }
}

/// The time of an event by its producer's clock.
enum Time {
    At(Timestamp),
    Missing,
    /// The age of the report decides, and the policy bounds it.
    OfReport,
}

/// Returns the verb of an event from outside, as in a rule; `None` for the daemon's own.
pub fn verb_of(event: &Event) -> Option<&'static str> {
    match event {
        Event::Requested { .. } => Some("request"),
        Event::Deployed { .. } => Some("deployed"),
        Event::Commanded { command, .. } => Some(command.verb.name()),
        Event::Tested { .. } => Some("tested"),
        Event::Observed { .. }
        | Event::Measured { .. }
        | Event::Performed { .. }
        | Event::Uncovered { .. }
        | Event::Tick => None,
    }
}

/// Returns the id and the time of an event from outside; `None` for the daemon's own.
fn head_of(event: &mut Event) -> Option<(&mut EventId, Time)> {
    let of = |time: &Option<Timestamp>| time.map_or(Time::Missing, Time::At);
    match event {
        Event::Requested { id, time, .. } | Event::Deployed { id, time, .. } | Event::Commanded { id, time, .. } => {
            Some((id, of(time)))
        }
        Event::Tested { id, .. } => Some((id, Time::OfReport)),
        Event::Observed { .. }
        | Event::Measured { .. }
        | Event::Performed { .. }
        | Event::Uncovered { .. }
        | Event::Tick => None,
    }
}

#[cfg(test)]
mod tests;
