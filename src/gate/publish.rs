//! A report as a CDEvent: `testsuiterun.finished`, which whoever follows deliveries understands, with what a policy needs in
//! its `customData`.
//!
//! The vocabulary's outcomes are success, failure, cancel and error. Only `pass` is a success; what is inconclusive is an error
//! there, because a reader that knows nothing of us must not take it for passed, and `customData.verdict` has the word itself.
//! The event has no prompt, no answer and no score of a case in it.

use bellwether_core::ids::{Scope, digest};
use bellwether_core::time::Timestamp;
use bellwether_gate::report::Report;
use bellwether_gate::rule::Verdict;
use serde_json::json;

use crate::events::cdevents::{TESTED, wrap};
use crate::events::cloudevents::CloudEvent;

/// The longest reason: it is shown to people, in one line.
const REASON: usize = 1000;

/// The event that says what came of a run.
///
/// The same report makes the same event: its id is derived from it, so that publishing twice is telling once.
pub fn event(report: &Report, source: &str, environment: &str, scope: Option<&Scope>, now: Timestamp) -> CloudEvent {
    let outcome = match report.verdict {
        Verdict::Pass => "success",
        Verdict::Fail => "failure",
        Verdict::Inconclusive | Verdict::Error | Verdict::Skipped => "error",
    };
    let text = report.to_json().unwrap_or_default();
    let sha256 = bellwether_gate::dataset::sha256(&text);
    let gates: Vec<_> = report.gates.iter().map(|gate| json!({ "name": gate.name, "verdict": gate.verdict })).collect();
    let content = json!({
        "environment": { "id": environment },
        "testSuite": { "id": report.suite, "name": report.suite },
        "outcome": outcome,
        "reason": report.reason().chars().take(REASON).collect::<String>(),
    });
    let mut custom = json!({
        "suite": report.suite,
        "verdict": report.verdict,
        "subject": report.subject,
        "finished": report.finished,
        "report": format!("sha256:{sha256}"),
        "gates": gates,
    });
    if let Some(scope) = scope {
        custom["scope"] = json!(scope);
    }
    let subject = format!("gate/{}", report.suite);
    let id = digest(&[source, &sha256, &scope.map(ToString::to_string).unwrap_or_default()])[..32].to_owned();
    let mut event = wrap(TESTED, source, &id, now, &subject, content);
    event.data["customData"] = custom;
    event.data["customDataContentType"] = json!("application/json");
    event.partitionkey = Some(scope.map_or_else(|| report.subject.digest.clone(), ToString::to_string));
    event
}
