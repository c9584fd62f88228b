//! The policies of the rows.

use bellwether_core::policy::Policy;
use serde_json::{Value, json};

use super::row::Row;
use crate::story::policy;

/// Returns the policy of a row: the defaults, two steps, and a guard.
pub(super) fn policy_of(row: Row) -> Policy {
    let mut changes = json!({
        "step": [{ "weight": "10%", "min-time": "5m" }, { "weight": "50%", "min-time": "5m" }],
        "check": checks(),
        "guard": { "for": "10m", "check": checks() },
    });
    if row == Row::SlowStart {
        changes["ready-within"] = "15m".into();
    } else if row == Row::LargePromotion {
        changes["ready-within"] = "8m".into();
    } else if row == Row::Availability {
        let available = json!({ "metric": "availability", "min": "90%", "window": "1m", "every": "15s" });
        changes["guard"]["check"].as_array_mut().into_iter().for_each(|checks| checks.push(available.clone()));
    } else if row == Row::ScaleToZero {
        changes["strategy"] = "blue-green".into();
        changes["blue-green"] = json!({ "keep-stable": "10m" });
        changes["step"] = json!([]);
    }
    policy(changes)
}

fn checks() -> Value {
    json!([{ "metric": "error-rate", "max": "1%" }, { "metric": "response-time", "max": "500ms" }])
}
