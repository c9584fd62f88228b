//! Decoding: from the bytes of a record to an event of the engine.
//!
//! It has three steps that are independent of each other's formats: CloudEvents (the envelope of the transport), CDEvents
//! (the vocabulary of delivery tools, and the envelope of our own requests), and the mapping from a CDEvent's service and
//! environment to a workload.
//!
//! Nothing here does I/O or reads a clock, so any odd event of a producer can be a row in a test. Records are untrusted:
//! sizes are bounded before parsing, and a record that can't be used is refused with the reason.

pub mod cloudevents;
pub mod identity;
pub mod cdevents;
pub mod mapping;
pub mod options;
pub mod decode;

pub use options::Options;
