//! The gateway: the weights as they are written, as its status tells them, and as its data plane follows.

use bellwether_core::ids::Weight;
use bellwether_core::input::status::{Acceptance, RouteStatus};

use super::agenda::{MINUTE, Ms, SECOND};

/// The time that a data plane takes to follow a written weight.
const PROGRAMMING: Ms = 2 * SECOND;

/// The behaviour of the gateway's status and data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Both follow within seconds.
    Good,
    /// The status comes this much later.
    Late(Ms),
    /// The status is true for one minute of three.
    Partial,
    /// The status stays as it was at the join.
    Frozen,
    /// There is no status.
    Silent,
    /// The status is true at once, and the data plane follows this much later; `None`: it never gives the canary any.
    Lying(Option<Ms>),
}

/// The route between the stable and the canary.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    /// The behaviour of its status and data plane.
    pub manners: Manners,
    /// The canary's written weight; `None` if the route does not name the canary.
    pub written: Option<Weight>,
    /// The time of the last write.
    pub at: Ms,
    /// The number of writes since the canary joined the route.
    pub writes: u32,
    /// The canary's share of the routed requests, as the data plane sends them.
    pub share: f64,
}

impl Gateway {
    /// Returns a gateway whose route does not name the canary.
    pub(super) fn new(manners: Manners) -> Gateway {
        Gateway { manners, written: None, at: 0, writes: 0, share: 0.0 }
    }

    /// Writes the canary's weight, or takes the canary out of the route. Returns the delay after which the data plane
    /// follows; `None` if it never does.
    pub(super) fn write(&mut self, weight: Option<Weight>, now: Ms) -> Option<Ms> {
        self.writes = if self.written.is_none() { 0 } else { self.writes + 1 };
        self.written = weight;
        self.at = now;
        let never = self.manners == Manners::Lying(None) && weight.is_some_and(|weight| weight > Weight::ZERO);
        (!never).then(|| self.programming())
    }

    /// Returns the time that the data plane takes to follow a write, if it ever does.
    pub(super) fn programming(&self) -> Ms {
        match self.manners {
            Manners::Lying(Some(delay)) => delay,
            Manners::Good
            | Manners::Late(_)
            | Manners::Partial
            | Manners::Frozen
            | Manners::Silent
            | Manners::Lying(None) => PROGRAMMING,
        }
    }

    /// Returns the times after a write at which the status may change.
    pub(super) fn status_delays(&self) -> [Ms; 2] {
        match self.manners {
            Manners::Late(delay) => [SECOND, delay + SECOND],
            Manners::Good | Manners::Partial | Manners::Frozen | Manners::Silent | Manners::Lying(_) => {
                [SECOND, PROGRAMMING + SECOND]
            }
        }
    }

    /// Returns the canary's place in the route as the status tells it.
    pub(super) fn status(&self, now: Ms) -> Option<RouteStatus> {
        let weight = self.written?;
        let age = now - self.at;
        let accepted = match self.manners {
            Manners::Good | Manners::Lying(_) => age >= PROGRAMMING,
            Manners::Late(delay) => age >= delay,
            Manners::Partial => age >= PROGRAMMING && now.rem_euclid(3 * MINUTE) < MINUTE,
            Manners::Frozen => self.writes == 0 && age >= PROGRAMMING,
            Manners::Silent => false,
        };
        let accepted = if accepted { Acceptance::Accepted } else { Acceptance::Unknown };
        Some(RouteStatus { weight, accepted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_what_its_manners_let_it() {
        let rows = [
            (Manners::Good, [true, true]),
            (Manners::Late(5 * MINUTE), [false, true]),
            (Manners::Frozen, [false, false]),
            (Manners::Silent, [false, false]),
            (Manners::Lying(None), [true, true]),
        ];
        for (manners, expected) in rows {
            let mut gateway = Gateway::new(manners);
            gateway.write(Some(Weight::ZERO), 0);
            let follows = gateway.write(Some(Weight::percent(10)), MINUTE);
            let accepted =
                [2 * MINUTE, 7 * MINUTE].map(|now| gateway.status(now).is_some_and(|route| route.is_accepted()));
            assert_eq!(accepted, expected, "{manners:?}");
            assert_eq!(follows.is_none(), manners == Manners::Lying(None), "{manners:?}");
        }
    }
}
