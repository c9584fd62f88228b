//! The notification sinks of simulated daemons: for logs, for people and for on-call tools.

use bellwether_core::input::notification::{Sink, Subscription};

/// Returns all sinks.
pub fn sinks() -> Vec<Sink> {
    vec![events(), people(), on_call()]
}

/// Returns the sink that stands for Kubernetes Events.
pub fn events() -> Sink {
    Sink { name: "events".to_owned(), subscription: Subscription::Decisions }
}

/// Returns the sink that stands for a channel of a team.
pub fn people() -> Sink {
    Sink { name: "people".to_owned(), subscription: Subscription::Messages }
}

/// Returns the sink that stands for an on-call tool.
pub fn on_call() -> Sink {
    Sink { name: "on-call".to_owned(), subscription: Subscription::Incidents }
}
