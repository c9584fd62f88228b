//! A smoke test: a few named requests, and what each has to be answered with.
//!
//! What was deployed a moment ago may not be there yet, and that is no fault: a refused connection and a gateway's 502,
//! 503 or 504 are asked again until a deadline that all the requests share. Any other answer is the service's own word, and
//! is judged as it is, once: a smoke test that asks until it likes the answer tests nothing.

pub mod answer;
pub mod ask;
pub mod junit;
pub mod plan;

pub use answer::{Answer, Checked};
pub use ask::ask_all;
pub use plan::{Plan, read};
