//! The agenda: the things that will happen, by their time.

use std::collections::BTreeMap;

use bellwether_core::ids::Weight;
use bellwether_core::input::effect::Effect;

use super::disturbance::Disturbance;

/// A time of the world in milliseconds. The request comes at 0; the world begins before it.
pub(super) type Ms = i64;

/// A second in milliseconds.
pub(super) const SECOND: Ms = 1000;
/// A minute in milliseconds.
pub(super) const MINUTE: Ms = 60 * SECOND;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// The pods of one phase are scraped.
    Scrape(u32),
    /// The newest scrapes are read.
    Read,
    /// The block that ends at the reading of this time reaches the daemon.
    Block(Ms),
    /// The watch of the API server speaks, if there is something new.
    Watch,
    /// The engine asked to be woken.
    Wake,
    /// An effect reaches its executor.
    Land(Box<Effect>),
    /// A pod goes on, unless it has changed since: its turn then is another.
    Pod {
        /// The pod's number.
        id: u32,
        /// The pod's turn when this was planned.
        turn: u32,
    },
    /// The controllers look at their Deployments.
    Reconcile,
    /// The gateway's data plane takes a weight over.
    Program(Weight),
    /// The rates of requests change.
    Flow,
    /// A disturbance begins.
    Disturb(Disturbance),
    /// A disturbance ends.
    Calm(Disturbance),
    /// The rollout is requested.
    Request,
}

/// The things that will happen, in order. Of two at the same time, the one that was planned first happens first.
#[derive(Default)]
pub(super) struct Agenda {
    planned: BTreeMap<(Ms, u64), Happening>,
    number: u64,
}

impl Agenda {
    /// Plans a thing.
    pub(super) fn plan(&mut self, at: Ms, happening: Happening) {
        self.number += 1;
        self.planned.insert((at, self.number), happening);
    }

    /// Removes and returns the next thing with its time.
    pub(super) fn next(&mut self) -> Option<(Ms, Happening)> {
        self.planned.pop_first().map(|((at, _), happening)| (at, happening))
    }
}
