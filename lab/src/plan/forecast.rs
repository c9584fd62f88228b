//! The types of a plan.

use serde::{Deserialize, Serialize};

use super::looks::SimulatedSteps;
use super::traffic::CheckTraffic;
use bellwether_core::ids::Weight;
use bellwether_core::time::Span;

/// The plan of a policy: the faults that each check can find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolloutForecast {
    /// The policy's name.
    pub policy: String,
    /// The sum of the steps' minimum times and pauses.
    pub takes: Span,
    /// The plans of the checks, one per name.
    pub checks: Vec<CheckPlan>,
}

/// The plan of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckPlan {
    /// The check's name, unique within its step.
    pub check: String,
    /// The current traffic of the check; `None` if it is unknown.
    pub present: Option<CheckTraffic>,
    /// Whether the current version is above the check's limit.
    pub broken_now: bool,
    /// The faults found at each step, from that step's counts alone.
    pub steps: Vec<StepPlan>,
    /// The faults found in the whole rollout.
    pub rollout: RolloutPlan,
}

/// The faults that one check can find at one step, from that step's counts alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepPlan {
    /// The step's number, from 1.
    pub step: usize,
    /// The canary's share of the traffic.
    pub weight: Weight,
    /// The step's minimum time.
    pub lasts: Span,
    /// The faults, each with its detection.
    pub faults: Vec<(Fault, Detection)>,
}

/// The faults that one check can find from the first step to the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum RolloutPlan {
    /// The plan for the sequential judge, which keeps its evidence from step to step.
    Evidence {
        /// The faults, each with the share of its rollouts that are rolled back before the end, from 0 to 1, and the
        /// median time to the rollback; the median is `None` if fewer than half are rolled back.
        faults: Vec<(Fault, f64, Option<Span>)>,
        /// The proof that the last step requires; `None` if it requires none.
        proof: Option<ProofPlan>,
    },
    /// The plan for a judge of windows, which starts anew at each step.
    Looks {
        /// The share of rollouts of a version like the current one that are rolled back, from 0 to 1.
        healthy: f64,
        /// The faults, each with the share of its rollouts that are rolled back, from 0 to 1.
        faults: Vec<(Fault, f64)>,
    },
    /// No plan is possible. The value is the reason, as one sentence.
    #[serde(rename = "unsaid")]
    Unknown(String),
}

/// A hypothetical canary that is worse than the current version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// The canary's share of bad requests, from 0 to 1.
    pub share: f64,
    /// The multiple of the current share of bad requests; `None` for twice the limit.
    pub times: Option<f64>,
}

/// The detection of a fault at a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "kebab-case")]
pub enum Detection {
    /// The policy allows the fault: it is within the limit, and within the margin or the floor.
    Allowed,
    /// The fault is found within the step's minimum time.
    Within {
        /// The median time from the step's start.
        after: Span,
    },
    /// The fault is found later than the step's minimum time.
    Later {
        /// The median time from the step's start; `None` if it is more than a day.
        after: Option<Span>,
        /// The smallest usual weight with which the fault is found in time; `None` if there is none up to 50 %.
        weight: Option<Weight>,
    },
    /// The fault is found in a share of the simulated steps, by a judge of windows.
    Looks(SimulatedSteps),
}

/// The time to a proof that a version like the current one is not worse than the policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProofPlan {
    /// The median time from the first step's start; `None` if it is more than a day.
    pub after: Option<Span>,
    /// Whether the median is within the steps' minimum times.
    pub within: bool,
    /// The smallest usual weight of the last step with which it would be; `None` if there is none up to 50 %, or if
    /// none is needed.
    pub weight: Option<Weight>,
}
