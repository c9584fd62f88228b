//! Plans: the faults that a policy can find with the current traffic, and the time until it finds them.
//!
//! The traffic determines the power of a policy's checks. At ten requests per second, a weight of 5 % and an error rate
//! of 0.05 %, the canary has about one error per hour. No judge finds the double of that in five minutes, and a plan
//! says so before the rollout. The policy's own judges ([`CheckRun`](bellwether_core::judge::run::CheckRun)) are run on
//! simulated blocks of the current traffic, so a plan has no formula that could differ from the judges. The seeds are
//! fixed, so the same question gets the same answer.
//!
//! A plan assumes that the traffic stays as it is, and that a fault exists from the first request on. Times refer to
//! the counted traffic; the decision follows after the lag of the metrics.
//!
//! Read the modules in the order of their declarations.

mod traffic;
mod looks;
mod forecast;
mod evidence;
mod planner;
mod display;

pub use forecast::{CheckPlan, Detection, Fault, ProofPlan, RolloutForecast, RolloutPlan, StepPlan};
pub use looks::SimulatedSteps;
pub use traffic::{BadTraffic, CheckTraffic, Clusters};
