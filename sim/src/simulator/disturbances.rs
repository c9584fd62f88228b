//! What happens to a daemon: random policies, requests, verbs, and other people's hands.

use bellwether_core::ids::{EventId, Scope, Weight, Workload, WorkloadKind};
use bellwether_core::input::command::{Command, Verb};
use bellwether_core::input::event::{Event, Request};
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use serde_json::json;

use super::{PARTITION, Simulator};
use crate::dice::Dice;
use crate::story::{images, policy};

pub const NAMES: [&str; 3] = ["api", "web", "worker"];
const TAGS: [&str; 9] = ["good", "err8", "err3", "slow", "late", "nopull", "neverready", "nevertaken", "good-too"];

pub fn workload(name: &str) -> Workload {
    Workload { cluster: "test".into(), namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() }
}

impl Simulator {
    pub fn mischief(&mut self) {
        if self.dice.below(300) == 0 {
            self.request();
        }
        if self.dice.below(150) == 0 {
            self.verb();
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

    /// A producer sends an event, and may send it again.
    fn produce(&mut self, event: Event) {
        if self.faults && self.dice.chance(30) {
            self.broker.append(PARTITION, event.clone());
        }
        if self.faults && self.dice.chance(10) {
            let again = Span::from_secs(self.dice.below(600)).after(self.now);
            self.late.push((again, event.clone()));
        }
        self.broker.append(PARTITION, event);
    }

    fn request(&mut self) {
        self.requests += 1;
        let name = *self.dice.pick(&NAMES);
        let tag = format!("v{}-{}", self.requests, self.dice.pick(&TAGS));
        let id = EventId { source: "ci".into(), id: self.requests.to_string() };
        let time = self.dice.chance(80).then_some(self.now);
        if self.dice.chance(10) {
            // Somebody else deploys, and says so.
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

    /// Somebody steps in, at any time and whether or not it makes sense.
    fn verb(&mut self) {
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
        let broad = matches!(verb, Verb::Freeze { .. } | Verb::Unfreeze) && self.dice.chance(50);
        let scope = if broad { "test/shop".parse().unwrap() } else { Scope::Workload(name) };
        self.command(scope, verb);
    }

    pub fn command(&mut self, scope: Scope, verb: Verb) {
        self.requests += 1;
        let id = EventId { source: "ann".into(), id: self.requests.to_string() };
        let command = Command { scope, verb, rollout: None, reason: None };
        self.produce(Event::Commanded { id, time: Some(self.now), command });
    }

    /// Somebody else's hand, on what is ours or on what we rest on.
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

pub fn random_policy(dice: &mut Dice) -> Policy {
    let mut weight = 0;
    let mut steps = Vec::new();
    for _ in 0..1 + dice.below(3) {
        weight += 5 + dice.below(25);
        let (min, pause) = (dice.below(300), if dice.chance(20) { dice.below(120) } else { 0 });
        steps.push(
            json!({ "weight": format!("{weight}%"), "min-time": format!("{min}s"), "pause": format!("{pause}s") }),
        );
    }
    let breaches = 1 + dice.below(3);
    let errors = if dice.chance(50) {
        json!({ "metric": "error-rate", "max": "5%" })
    } else {
        json!({ "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "2m", "every": "15s", "breaches": breaches })
    };
    let mut changes = json!({
        "step": steps,
        "traffic": dice.pick(&["gateway", "gateway", "replicas"]),
        "mode": if dice.chance(10) { "observe" } else { "enforce" },
        "ready-within": "2m",
        "promote-within": "3m",
        "drain": format!("{}s", dice.below(60)),
        "max-hold": format!("{}m", 1 + dice.below(30)),
        "patience": { "blind": "2m", "insufficient": "5m" },
        "check": [
            errors,
            { "metric": "response-time", "judge": "threshold", "max": "1s", "window": "1m", "every": "30s", "min-requests": 20 },
        ],
    });
    if dice.chance(20) {
        changes["strategy"] = "blue-green".into();
        changes["blue-green"] = json!({ "keep-stable": format!("{}s", dice.below(600)) });
        changes["traffic"] = "gateway".into();
        changes["step"] = json!([]);
    }
    if weight <= 50 && weight % 3 == 0 && changes["strategy"].is_null() {
        changes["fresh-baseline"] = true.into();
    }
    if dice.chance(25) {
        let patience = format!("{}m", 1 + dice.below(20));
        changes["approval"] =
            json!([{ "name": "qa", "before": dice.pick(&["traffic", "promotion"]), "patience": patience }]);
    }
    if dice.chance(15) {
        // The simulated world begins at 8:00, and this opens within two hours for most of a day.
        changes["window"] = json!({ "from": format!("09:{}", 10 + dice.below(50)), "to": "08:05" });
    }
    if dice.chance(20) {
        let then = ["give-up", "hold", "roll-back"];
        changes["patience"] = json!({
            "blind": "2m", "insufficient": "5m", "on-blind": dice.pick(&then), "on-insufficient": dice.pick(&then) });
    }
    if dice.chance(50) {
        changes["guard"] = json!({ "for": "3m", "check": [
            { "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "1m", "every": "15s" },
            { "metric": "availability", "judge": "threshold", "min": "50%", "window": "1m", "every": "15s", "breaches": 8 },
        ]});
    }
    policy(changes)
}
