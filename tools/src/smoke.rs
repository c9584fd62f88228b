//! A smoke test: a few named requests, each with the properties that its answer must have.
//!
//! A service that was deployed a moment ago may not be up yet, which is not a failure: a refused connection and the
//! status 502, 503 or 504 are retried until a deadline that all requests share. Every other answer is the service's own
//! and is judged once; retrying until an answer passes would test nothing.

pub mod answer;
pub mod ask;
pub mod junit;
pub mod plan;

pub use answer::{CheckedRequest, SmokeAnswer};
pub use ask::{SmokeSetupError, ask_all};
pub use plan::{Expectation, SmokePlan, SmokeRequest, read};
