//! Attested gate reports: an in-toto statement whose predicate is the report, in a signed DSSE envelope.
//!
//! The subjects of the statement are what the report names by digest: the model's files, the images, the prompt and the
//! tools. So a report can't be moved to another version, and other tools that read attestations find it by an image's
//! digest.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::dsse::{STATEMENT, SignedEnvelope};
use crate::signing_key::SigningKey;
use crate::verifying_key::VerifyingKey;

/// The type of a statement.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The type of the predicate: a gate report.
const PREDICATE: &str = "https://bellwether.dev/gate-report/v1";

/// An in-toto statement about a gate report.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Value>,
    predicate_type: String,
    predicate: Value,
}

/// The fields of a report that the subjects are made of.
#[derive(Deserialize)]
struct Report {
    subject: Subject,
}

#[derive(Deserialize)]
struct Subject {
    model: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    tools: String,
}

/// Returns an envelope in which `key` attests a report, as JSON.
///
/// # Errors
/// The bytes are no gate report, or the report names nothing by digest. The text has the remedy.
pub fn attest(report: &[u8], key: &SigningKey) -> Result<String, String> {
    let predicate: Value = serde_json::from_slice(report).map_err(|error| format!("it is no gate report: {error}"))?;
    let subject = subjects(&predicate)?;
    let statement = json!({
        "_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE, "predicate": predicate,
    });
    let envelope = SignedEnvelope::signed(STATEMENT, statement.to_string().as_bytes(), key)?;
    serde_json::to_string_pretty(&envelope).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Returns whether bytes have the form of an envelope, whether it is signed or not.
pub fn is_envelope(bytes: &[u8]) -> bool {
    serde_json::from_slice::<SignedEnvelope>(bytes).is_ok()
}

/// Returns the report in an envelope, as JSON. With `key` only if it has signed the envelope.
///
/// # Errors
/// The bytes are no envelope with a gate report, or the key has not signed it. The text has the reason.
pub fn attested_report(envelope: &[u8], key: Option<&VerifyingKey>) -> Result<Vec<u8>, String> {
    let envelope: SignedEnvelope =
        serde_json::from_slice(envelope).map_err(|error| format!("it is no DSSE envelope: {error}"))?;
    let payload = key.map_or_else(|| envelope.payload(STATEMENT), |key| envelope.verified(STATEMENT, key))?;
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|error| format!("it holds no in-toto statement: {error}"))?;
    if (statement.statement_type.as_str(), statement.predicate_type.as_str()) != (STATEMENT_TYPE, PREDICATE) {
        return Err(format!("it attests {:?}, and no {PREDICATE:?}", statement.predicate_type));
    }
    if subjects(&statement.predicate)? != statement.subject {
        return Err("its subjects are not those of its report".to_owned());
    }
    Ok(statement.predicate.to_string().into_bytes())
}

/// Returns the subjects of a report: each named part that has a digest.
fn subjects(report: &Value) -> Result<Vec<Value>, String> {
    let Report { subject: Subject { model, digest, images, prompt, tools } } =
        Report::deserialize(report).map_err(|error| format!("it is no gate report: {error}"))?;
    let images = images.iter().filter_map(|image| image.split_once('@'));
    let parts = [(model.as_str(), digest.as_str()), ("prompt", &prompt), ("tools", &tools)];
    let subjects: Vec<Value> = images
        .chain(parts)
        .filter_map(|(name, digest)| Some((name, digest.strip_prefix("sha256:")?)))
        .map(|(name, hex)| json!({ "name": name, "digest": { "sha256": hex } }))
        .collect();
    if subjects.is_empty() {
        return Err(
            "the report names nothing by digest; give the run --digest, or an --image with its digest".to_owned()
        );
    }
    Ok(subjects)
}
