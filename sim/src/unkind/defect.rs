//! Defects of the daemon that are planted on purpose, to test that the bars find them.

use super::bars::Bar;
use super::row::Row;

/// A defect of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// No block tells of an outage of Prometheus, and an old one counts as recent, so a verdict from before the outage passes.
    StaleVerdict,
    /// The watches say that they are complete while the API server is away, so deadlines run on an old status.
    StaleStatus,
    /// A pod that waits for a node is told as one that can't be created, which is the version's fault.
    EnvironmentBlamed,
    /// The canary's pods are told as ready and available whether they are or not.
    AvailabilityIgnored,
    /// The comparison with the stable allows everything, so the limit alone decides.
    LimitAlone,
    /// A canary without requests is told as one without a reading, so a share that is too small is never found.
    LargeSharesAlone,
}

impl Defect {
    /// All defects.
    pub const ALL: [Defect; 6] = [
        Defect::StaleVerdict,
        Defect::StaleStatus,
        Defect::EnvironmentBlamed,
        Defect::AvailabilityIgnored,
        Defect::LimitAlone,
        Defect::LargeSharesAlone,
    ];

    /// Returns the row and the kind of version in which the defect shows, and the bar that it breaks.
    pub fn shows(self) -> (Row, bool, Bar) {
        match self {
            Defect::StaleVerdict => (Row::PrometheusAway, true, Bar::Stale),
            Defect::StaleStatus => (Row::ApiAway, true, Bar::Blamed),
            Defect::EnvironmentBlamed => (Row::NodeWait, true, Bar::Blamed),
            Defect::AvailabilityIgnored => (Row::Kind, false, Bar::Unready),
            Defect::LimitAlone => (Row::Kind, false, Bar::BadPromoted),
            Defect::LargeSharesAlone => (Row::Kind, false, Bar::Unanswered),
        }
    }
}
