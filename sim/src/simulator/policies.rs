//! Random policies.

use bellwether_core::policy::Policy;
use serde_json::json;

use crate::dice::Dice;
use crate::story::policy;

/// Returns a random valid policy.
pub(super) fn random_policy(dice: &mut Dice) -> Policy {
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
        // The simulation starts at 8:00. This window opens within two hours and stays open for most of a day.
        changes["window"] = json!({ "from": format!("09:{}", 10 + dice.below(50)), "to": "08:05" });
    }
    if dice.chance(20) {
        let actions = ["give-up", "hold", "roll-back"];
        changes["patience"] = json!({
            "blind": "2m", "insufficient": "5m", "on-blind": dice.pick(&actions), "on-insufficient": dice.pick(&actions) });
    }
    if dice.chance(50) {
        changes["guard"] = json!({ "for": "3m", "check": [
            { "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "1m", "every": "15s" },
            { "metric": "availability", "judge": "threshold", "min": "50%", "window": "1m", "every": "15s", "breaches": 8 },
        ]});
    }
    policy(changes)
}
