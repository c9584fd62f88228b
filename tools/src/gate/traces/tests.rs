//! Traces of agents against the readers, and runs against agents that export them well, badly and not at all.

mod agent;
mod exports;
mod runs;
