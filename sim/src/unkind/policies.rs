//! The policies of the rows.

use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use serde_json::{Value, json};

use super::defect::Defect;
use super::row::Row;
use crate::story::policy;

/// Returns the policy of a row, with a planted defect if one is given: the defaults, two steps, and a guard.
pub(super) fn policy_of(row: Row, defect: Option<Defect>) -> Policy {
    let checks = || checks(if defect == Some(Defect::LimitAlone) { 1e3 } else { 1.25 });
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
    let policy = policy(changes);
    match defect {
        Some(Defect::StaleVerdict) => Policy { block_age: Span::from_secs(86_400), ..policy },
        _ => policy,
    }
}

fn checks(margin: f64) -> Value {
    json!([
        { "metric": "error-rate", "max": "1%", "margin": margin },
        { "metric": "response-time", "max": "500ms", "margin": margin },
    ])
}
