//! The suite: the gates, the endpoints that are queried, and the error rates of the verdicts.
//!
//! [`raw::RawSuite`] is the form of the TOML file. [`Suite::parse`] checks it and returns a [`Suite`], or a
//! [`SuiteError`] with *all* of its problems, each with the key that it is about. A suite never contains an API key,
//! only the name of the environment variable that holds it.

pub mod values;
pub mod endpoint;
pub mod traces;
pub mod raw;
mod checked;
mod check;

pub use checked::{
    Classifier, Comparison, Gate, GateLimit, JudgeModel, Part, RequestSettings, RunLimits, Suite, SuiteError,
};
pub use endpoint::{Dialect, Endpoint, EndpointTls, EnvText, Thinking, TokenLimitKey};
pub use traces::{Langfuse, TraceSource, Traces};
pub use values::{
    CallSource, ClassifierApi, ConfidenceFrom, EndpointApi, GateMode, OnInconclusive, Price, RuleKind, Sampling, Scorer,
};
