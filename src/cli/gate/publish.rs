//! A gate's report as a CDEvent of type `testsuiterun.finished`, which other delivery tools understand. Its
//! `customData.bellwether` has the fields that a policy's `require` needs: the workload, the images, the model and the
//! result.
//!
//! The event holds no prompt, no answer and no score of a case.

use bellwether_core::ids::{Workload, digest};
use bellwether_core::time::Timestamp;
use bellwether_gate::dataset::sha256;
use bellwether_gate::report::GateReport;
use serde_json::{Value, json};

use crate::events::cdevents::{TESTED, tested, wrap};
use crate::events::cloudevents::CloudEvent;

/// Longest reason, in bytes. The reader of an event takes texts of up to 1024 bytes.
const MAX_REASON: usize = 1000;

/// The subject of a published result, apart from the report.
#[derive(Debug, Clone, Copy)]
pub struct PublishTarget<'a> {
    /// Workload that the result is for.
    pub workload: &'a Workload,
    /// Images that were tested, if the report names none.
    pub images: &'a [String],
    /// Environment of the test, such as `ci`.
    pub environment: &'a str,
    /// Address of the full report, if there is one.
    pub link: Option<&'a str>,
}

/// The reason why a report can't be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpublishable {
    /// The report names neither an image nor a version of a model.
    #[error(
        "the report says neither which image nor which model was tested; give the run --image, or --subject MODEL@VERSION"
    )]
    Unidentified,
    /// The report is about other images than those that the command line names.
    #[error("the report is about {}, and can't be published for {}; run the suite on the image", .tested.join(", "), .named.join(", "))]
    OtherImages {
        /// Images of the report.
        tested: Vec<String>,
        /// Images of the command line.
        named: Vec<String>,
    },
}

/// Returns the event of a report. Its id is derived from the report and the subject, so that publishing twice gives one
/// event.
///
/// # Errors
/// [`Unpublishable`] if neither the report nor `about` names an image or a version of a model, or if they name other images.
pub fn event(
    report: &GateReport,
    source: &str,
    about: &PublishTarget<'_>,
    now: Timestamp,
) -> Result<CloudEvent, Unpublishable> {
    let subject = &report.subject;
    let (mut images, named) = (subject.images.clone(), about.images.to_vec());
    if !images.is_empty() && !named.is_empty() && images != named {
        return Err(Unpublishable::OtherImages { tested: images, named });
    }
    if images.is_empty() {
        images = named;
    }
    if images.is_empty() && !subject.digest.is_empty() {
        // Images are compared by their digests, so the name before the digest is free.
        images.push(format!("{}@{}", subject.model, subject.digest));
    }
    // A requirement names a version, so a model without one would never match.
    let model = (!subject.version.is_empty()).then(|| format!("{}@{}", subject.model, subject.version));
    if images.is_empty() && model.is_none() {
        return Err(Unpublishable::Unidentified);
    }
    let sha256 = sha256(report.to_json().unwrap_or_default());
    let gates: Vec<Value> =
        report.gates.iter().map(|gate| json!({ "name": gate.name, "verdict": gate.verdict })).collect();
    let content = tested(&report.suite, report.verdict, about.environment, Some(shortened(&report.reason())));
    let mut result = json!({
        "workload": about.workload, "images": images, "result": report.verdict, "finished": report.finished,
    });
    let parts = [
        ("model", model.as_deref()),
        ("link", about.link),
        ("prompt", Some(subject.prompt.as_str())),
        ("tools", Some(subject.tools.as_str())),
        ("pin", Some(report.pin.as_str())),
    ];
    for (key, value) in parts.into_iter().filter(|(_, value)| value.is_some_and(|text| !text.is_empty())) {
        if let Some(value) = value {
            result[key] = json!(value);
        }
    }
    let workload = about.workload.to_string();
    let id = digest(&[source, &sha256, &workload, &result.to_string()])[..32].to_owned();
    let mut event = wrap(TESTED, source, &id, now, &workload, content);
    event.data["customData"] = json!({
        "bellwether": result, "report": format!("sha256:{sha256}"), "finished": report.finished, "gates": gates,
    });
    event.data["customDataContentType"] = json!("application/json");
    event.partitionkey = Some(workload);
    Ok(event)
}

/// Returns the beginning of the reason, at most [`MAX_REASON`] bytes.
fn shortened(reason: &str) -> &str {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    &reason[..end]
}
