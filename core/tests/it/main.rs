//! Everything that the core promises, by its public face. One binary, so that it links once.

mod lifecycle;
mod sim;
mod story;
mod transitions;
