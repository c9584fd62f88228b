//! A simulated outage of Prometheus.

/// The polls that Prometheus does not answer.
#[derive(Clone, Copy)]
pub struct Outage {
    /// The index of the first poll without an answer.
    pub from: usize,
    /// The number of polls without an answer.
    pub polls: usize,
}

impl Outage {
    /// Returns whether a poll is not answered.
    pub fn covers(self, poll: usize) -> bool {
        (self.from..self.from + self.polls).contains(&poll)
    }
}
