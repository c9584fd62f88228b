//! Random disturbances: requests, commands, crashes and external changes.

use bellwether_core::ids::{EventId, Scope, Weight};
use bellwether_core::input::command::{Command, Verb};
use bellwether_core::input::event::{Event, Request};
use bellwether_core::time::Span;
use serde_json::json;

use super::workloads::{NAMES, workload};
use super::world::{PARTITION, Simulator};
use crate::story::images;

/// The tags of the requested versions, which determine their behaviour (see [`crate::story::images`]).
const TAGS: [&str; 9] = ["good", "err8", "err3", "slow", "late", "nopull", "neverready", "nevertaken", "good-too"];

impl Simulator {
    /// Causes random disturbances, for one second.
    pub(super) fn disturb(&mut self) {
        if self.dice.below(300) == 0 {
            self.random_request();
        }
        if self.dice.below(150) == 0 {
            self.random_command();
        }
        if self.dice.below(400) == 0 {
            self.meddle();
        }
        if self.dice.below(300) == 0 {
            self.crash();
        }
        if self.dice.below(300) == 0 {
            self.pause_and_take_over();
        }
        if self.dice.below(500) == 0 {
            self.rps = *self.dice.pick(&[0, 1, 20, 200]);
        }
        if self.dice.below(3000) == 0 {
            let name = *self.dice.pick(&NAMES);
            self.api.model.delete(&workload(name));
        }
    }

    /// Appends an event to the topic, and with faults may repeat it at once or later.
    fn produce(&mut self, event: Event) {
        if self.faults && self.dice.chance(30) {
            self.broker.append(PARTITION, event.clone());
        }
        if self.faults && self.dice.chance(10) {
            let again = Span::from_secs(self.dice.below(600)).after(self.now);
            self.repeated.push((again, event.clone()));
        }
        self.broker.append(PARTITION, event);
    }

    /// Requests a random version of a random workload, or deploys it without Bellwether.
    fn random_request(&mut self) {
        self.requests += 1;
        let name = *self.dice.pick(&NAMES);
        let tag = format!("v{}-{}", self.requests, self.dice.pick(&TAGS));
        let id = EventId { source: "ci".into(), id: self.requests.to_string() };
        let time = self.dice.chance(80).then_some(self.now);
        if self.dice.chance(10) {
            // Another party deploys, and reports it.
            self.interfered.insert(workload(name));
            self.api.model.set_images(&workload(name), images(&tag), self.now);
            return self.produce(Event::Deployed { id, time, workload: workload(name), artifact: None });
        }
        let mut wanted = images(&tag);
        if self.dice.chance(5) {
            wanted.insert("side".to_owned(), "registry.test/shop/side:v1".to_owned());
        }
        let request: Request = serde_json::from_value(json!({ "workload": workload(name), "images": wanted })).unwrap();
        self.produce(Event::Requested { id, time, request });
    }

    /// Sends a random command, which may be invalid in the current phase.
    fn random_command(&mut self) {
        let name = workload(self.dice.pick::<&str>(&NAMES));
        let until = self.dice.chance(50).then(|| Span::from_secs(self.dice.below(900)).after(self.now));
        let verb = match self.dice.below(10) {
            0 => Verb::Abort,
            1 => Verb::Promote { full: self.dice.chance(50) },
            2 => Verb::Pause,
            3 | 4 => Verb::Resume,
            5 => Verb::Retry,
            6 | 7 => Verb::Approve { approval: None },
            8 => Verb::Freeze { until },
            _ => Verb::Unfreeze,
        };
        let is_for_namespace = matches!(verb, Verb::Freeze { .. } | Verb::Unfreeze) && self.dice.chance(50);
        let scope = if is_for_namespace { "test/shop".parse().unwrap() } else { Scope::Workload(name) };
        self.command(scope, verb);
    }

    /// Sends a command.
    pub(super) fn command(&mut self, scope: Scope, verb: Verb) {
        self.requests += 1;
        let id = EventId { source: "ann".into(), id: self.requests.to_string() };
        let command = Command { scope, verb, rollout: None, reason: None };
        self.produce(Event::Commanded { id, time: Some(self.now), command });
    }

    /// Makes a random external change to the stable, the canary, the baseline or the route of a workload.
    fn meddle(&mut self) {
        let workload = workload(self.dice.pick::<&str>(&NAMES));
        let (now, model) = (self.now, &mut self.api.model);
        self.oracle.meddled.insert(workload.clone());
        match self.dice.below(7) {
            0 => {
                model.set_images(&workload, images("v1"), now);
                self.interfered.insert(workload);
            }
            1 => model.scale(&workload, 1 + self.dice.below(12) as u32, "kube-controller-manager", now),
            2 => model.scale(&workload, 1 + self.dice.below(12) as u32, "kubectl", now),
            3 => model.edit_canary(&workload, images("v0-hand"), now),
            4 if model.delete_baseline(&workload) => {}
            4 => model.delete_canary(&workload),
            5 => model.edit_route(&workload, None),
            _ => model.edit_route(&workload, Some(Weight::percent(self.dice.below(100) as u16))),
        }
    }
}
