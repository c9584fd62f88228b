//! The engine's inputs and the effects that it asks for: plain data that crosses the border of the core.
//!
//! An [`event::Event`] carries everything that can change an engine. An [`effect::Effect`] is one act on the outside
//! world; its outcome comes back as an event.

pub mod command;
pub mod status;
pub mod report;
pub mod event;
pub mod notification;
pub mod effect;
