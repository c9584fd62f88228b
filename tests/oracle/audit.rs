//! The API server's audit log: the writes that the daemons made.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

/// An accepted write of a daemon, with the object as it was afterwards.
#[derive(Debug, Clone)]
pub struct AuditedWrite {
    /// The time at which the API server got the request.
    pub at: Timestamp,
    /// Resource and name of the object, such as `deployments/web`.
    pub object: String,
    /// The uid of the object, which a later object of the same name does not have.
    pub uid: String,
    /// The version of the object after the write. A write that changed nothing has the version of the one before.
    pub version: u64,
    /// The marks on the object.
    pub marks: Vec<WriteMark>,
    /// The spec after the write.
    pub spec: Value,
}

/// The mark of the last effect of one workload on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteMark {
    /// Name of the workload.
    pub workload: String,
    /// The effect's id, `ROLLOUT.N`.
    pub effect: String,
    /// The epoch of the writer.
    pub epoch: u64,
}

impl WriteMark {
    /// Returns the rollout of the effect.
    pub fn rollout(&self) -> &str {
        self.effect.rsplit_once('.').map_or(&self.effect, |(rollout, _)| rollout)
    }
}

/// Returns the accepted writes of `user` in `namespace`, in the order of the log. Writes without an object in the answer, such as a
/// deletion, and Kubernetes Events are left out.
///
/// # Errors
/// A complete line is not JSON, or a write has no version or time.
pub fn writes(log: &str, user: &str, namespace: &str) -> Result<Vec<AuditedWrite>> {
    // The last line may be incomplete.
    let complete = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
    let mut writes = Vec::new();
    for line in complete.lines() {
        // The log has the writes of all stories, and most are of others.
        if !line.contains(namespace) || !line.contains(user) {
            continue;
        }
        let entry: Value = serde_json::from_str(line).context("a line of the audit log")?;
        let ours = entry["user"]["username"] == user && entry["objectRef"]["namespace"] == namespace;
        let written = ["create", "update", "patch"].iter().any(|verb| entry["verb"] == *verb);
        let accepted = entry["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
        if ours && written && accepted && entry["objectRef"]["resource"] != "events" {
            writes.extend(write(&entry).with_context(|| format!("an entry of the audit log: {entry}"))?);
        }
    }
    Ok(writes)
}

fn write(entry: &Value) -> Result<Option<AuditedWrite>> {
    let (stored, reference) = (&entry["responseObject"], &entry["objectRef"]);
    let metadata = &stored["metadata"];
    let Some(version) = metadata["resourceVersion"].as_str() else { return Ok(None) };
    let resource = reference["resource"].as_str().context("resource")?;
    let name = metadata["name"].as_str().context("name")?;
    let at = entry["requestReceivedTimestamp"].as_str().context("requestReceivedTimestamp")?;
    Ok(Some(AuditedWrite {
        at: at.parse()?,
        object: format!("{resource}/{name}"),
        uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
        version: version.parse()?,
        marks: marks(&metadata["annotations"], name)?,
        spec: stored["spec"].clone(),
    }))
}

/// Returns the marks in the annotations of the object `name`. A route has one for each workload, other objects one.
fn marks(annotations: &Value, name: &str) -> Result<Vec<WriteMark>> {
    let mut marks = Vec::new();
    if let Some(effect) = annotations["bellwether.dev/effect"].as_str() {
        let epoch = annotations["bellwether.dev/epoch"].as_str().context("an effect without an epoch")?;
        let workload = name.strip_suffix("-canary").unwrap_or(name).to_owned();
        marks.push(WriteMark { workload, effect: effect.to_owned(), epoch: epoch.parse()? });
    }
    if let Some(records) = annotations["bellwether.dev/original-weights"].as_str() {
        let records: Value = serde_json::from_str(records)?;
        for (workload, record) in records.as_object().context("records")? {
            let effect = record["effect"].as_str().context("a record without an effect")?.to_owned();
            let epoch = record["epoch"].as_u64().context("a record without an epoch")?;
            marks.push(WriteMark { workload: workload.clone(), effect, epoch });
        }
    }
    Ok(marks)
}
