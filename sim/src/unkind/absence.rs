//! The parties that may be away, and the times until which they are.

use super::agenda::Ms;

/// A party that the daemon needs, or the daemon itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    /// The daemon is killed and started again.
    Daemon,
    /// The API server: no status, no write, and no controller goes on.
    Api,
    /// Kafka: the daemon runs and can commit nothing, so it decides nothing.
    Kafka,
    /// Prometheus: no counts.
    Prometheus,
}

/// The times until which parties are away.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Absences {
    daemon: Ms,
    api: Ms,
    kafka: Ms,
    prometheus: Ms,
}

impl Absences {
    /// Lets a party be away until a time.
    pub(super) fn begin(&mut self, party: Party, until: Ms) {
        match party {
            Party::Daemon => self.daemon = until,
            Party::Api => self.api = until,
            Party::Kafka => self.kafka = until,
            Party::Prometheus => self.prometheus = until,
        }
    }

    /// Returns whether a party is away.
    pub(super) fn is_away(&self, party: Party, now: Ms) -> bool {
        let until = match party {
            Party::Daemon => self.daemon,
            Party::Api => self.api,
            Party::Kafka => self.kafka,
            Party::Prometheus => self.prometheus,
        };
        now >= 0 && now < until
    }

    /// Returns whether the daemon can't decide.
    pub(super) fn is_undecided(&self, now: Ms) -> bool {
        self.is_away(Party::Daemon, now) || self.is_away(Party::Kafka, now)
    }
}
