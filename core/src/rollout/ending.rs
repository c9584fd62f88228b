//! The ways in which a rollout ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The ending of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The new version serves all of the traffic.
    Promoted,
    /// The old version serves, because the new one failed a check, did not run, or lost its A/B test.
    RolledBack,
    /// Nothing could be decided. The old version serves, or the new one if it was promoted before.
    GivenUp,
    /// The old version serves, because a person aborted the rollout.
    Aborted,
    /// A newer request replaced the rollout.
    Superseded,
    /// The request could not be carried out.
    Refused,
    /// The workload ran the requested images already.
    Unchanged,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Promoted => "promoted",
            Ending::RolledBack => "rolled back",
            Ending::GivenUp => "given up",
            Ending::Aborted => "aborted",
            Ending::Superseded => "superseded",
            Ending::Refused => "refused",
            Ending::Unchanged => "unchanged",
        })
    }
}
