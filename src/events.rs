//! From a record's bytes to an event that the engine understands, in three steps that know nothing of each other's
//! formats: CloudEvents (the envelope of the transport), CDEvents (what delivery tools say to each other, and our own
//! request in the same clothes), and the mapping from their words to a workload.
//!
//! Nothing here does I/O or asks for the time, so every oddity of a producer can be a row in a test. Whatever arrives
//! is hostile until read: sizes are bounded before parsing, and no input can do more than be refused by name.

pub mod cloudevents;
pub mod cdevents;
pub mod mapping;
pub mod decode;
