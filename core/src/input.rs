//! The engine's inputs, and the effects that it asks for, as plain data.
//!
//! An [`event::Event`] is the only thing that can change an engine. An [`effect::Effect`] is one act on the outside
//! world; its outcome returns as an event.

pub mod command;
pub mod sight;
pub mod status;
pub mod report;
pub mod event;
pub mod text;
pub mod notification;
pub mod effect;
