//! A report as a CDEvent: `testsuiterun.finished`, which whoever follows deliveries understands, with what a policy's `require`
//! needs in `customData.bellwether`: for which workload, on which images and model, and what came of it in our own words.
//!
//! The event has no prompt, no answer and no score of a case in it.

use bellwether_core::ids::{Workload, digest};
use bellwether_core::time::Timestamp;
use bellwether_gate::dataset::sha256;
use bellwether_gate::report::Report;
use serde_json::{Value, json};

use crate::events::cdevents::{TESTED, tested, wrap};
use crate::events::cloudevents::CloudEvent;

/// The longest reason, in bytes: attributes of events are not read beyond 1024.
const REASON: usize = 1000;

/// For whom a result is.
#[derive(Debug, Clone, Copy)]
pub struct To<'a> {
    /// For which workload.
    pub workload: &'a Workload,
    /// The images that were tested, where the subject's digest is not an image's.
    pub images: &'a [String],
    /// Where it was tested.
    pub environment: &'a str,
    /// Where all of it can be read.
    pub link: Option<&'a str>,
}

/// It is about nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the report says neither which image nor which model was tested; give the run --digest, or --subject MODEL@VERSION, or name an --image"
)]
pub struct AboutNothing;

/// The event that says what came of a run. The same report makes the same event (its id is derived from it), so that publishing
/// twice is telling once.
///
/// # Errors
/// If the report does not say what was tested.
pub fn event(report: &Report, source: &str, to: &To<'_>, now: Timestamp) -> Result<CloudEvent, AboutNothing> {
    let subject = &report.subject;
    let mut images = to.images.to_vec();
    if images.is_empty() && !subject.digest.is_empty() {
        // References are compared by their digests, whatever stands before.
        images.push(format!("{}@{}", subject.model, subject.digest));
    }
    // A model without a version is any of its versions: no request asks for that.
    let model = (!subject.version.is_empty()).then(|| format!("{}@{}", subject.model, subject.version));
    if images.is_empty() && model.is_none() {
        return Err(AboutNothing);
    }
    let sha256 = sha256(&report.to_json().unwrap_or_default());
    let gates: Vec<Value> =
        report.gates.iter().map(|gate| json!({ "name": gate.name, "verdict": gate.verdict })).collect();
    let content = tested(&report.suite, report.verdict, to.environment, Some(cut(&report.reason())));
    let mut on = json!({ "workload": to.workload, "images": images, "result": report.verdict });
    for (key, value) in [("model", model.as_deref()), ("link", to.link)] {
        if let Some(value) = value {
            on[key] = json!(value);
        }
    }
    let workload = to.workload.to_string();
    let id = digest(&[source, &sha256, &workload, &on.to_string()])[..32].to_owned();
    let mut event = wrap(TESTED, source, &id, now, &workload, content);
    event.data["customData"] = json!({
        "bellwether": on, "report": format!("sha256:{sha256}"), "finished": report.finished, "gates": gates,
    });
    event.data["customDataContentType"] = json!("application/json");
    event.partitionkey = Some(workload);
    Ok(event)
}

fn cut(reason: &str) -> &str {
    let end = (0..=REASON.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    &reason[..end]
}
