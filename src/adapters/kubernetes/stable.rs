//! Writes on the stable's own object, which belongs to its user: new images, an old pod template, an Event.
//!
//! The changes are JSON Patches that are conditional on the object as it was read. The number of replicas belongs to
//! the user or an autoscaler and is never written.

use bellwether_core::ids::{Images, TemplateHash, Workload, digest};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::time::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::kind;
use super::marks::{self, EFFECT, EPOCH, MANAGER};
use super::patch::PatchDraft;
use super::server::Server;
use super::{failure, owners, template};
use crate::ports::{Epoch, PodTemplate};

/// The longest message of an Event, in bytes.
const MAX_NOTE: usize = 1024;

/// Returns the failure for a workload that does not exist.
pub fn gone(workload: &Workload) -> Failure {
    let Workload { namespace, kind, name, .. } = workload;
    failure::new(FailureKind::Gone, format!("{kind} {namespace}/{name} does not exist"))
}

/// Checks that the workload's object has this uid.
///
/// # Errors
/// [`FailureKind::Gone`] if another object has its name.
pub fn check_uid(workload: &Workload, metadata: &ObjectMeta, uid: &str) -> Result<(), Failure> {
    if metadata.uid.as_deref() == Some(uid) {
        return Ok(());
    }
    let Workload { namespace, kind, name, .. } = workload;
    Err(failure::new(FailureKind::Gone, format!("{kind} {namespace}/{name} was deleted and created again")))
}

/// Gives the stable the new images if its pod template is `from`. Writes nothing if it has them already.
///
/// # Errors
/// A read or the write failed, the template is another one, or a container does not exist.
pub async fn promote(
    server: &Server,
    effect: &Effect,
    epoch: Epoch,
    uid: &str,
    from: &TemplateHash,
    images: &Images,
) -> Result<(), Failure> {
    let stable = read(server, effect, epoch, uid).await?;
    let Some(draft) = promotion(&effect.workload, &stable, from, images)? else { return Ok(()) };
    write(server, effect, epoch, draft).await
}

/// Returns the patch of a promotion without Bellwether's annotations; `None` if the stable has the images already.
fn promotion(
    workload: &Workload,
    stable: &DynamicObject,
    from: &TemplateHash,
    images: &Images,
) -> Result<Option<PatchDraft>, Failure> {
    let kind = kind::provider(workload.kind);
    let path = kind.layout().template;
    let now = kind.template(stable).unwrap_or(&Value::Null);
    let unknown = template::unknown(now, images);
    if !unknown.is_empty() {
        return Err(failure::new(FailureKind::Refused, template::no_such_container(workload, &unknown)));
    }
    let changes = template::changes(now, images);
    if changes.is_empty() {
        return Ok(None);
    }
    if kind.template_hash(now) != *from {
        let writer = owners::last_writer(&stable.metadata, path).unwrap_or("another client");
        let Workload { namespace, kind, name, .. } = workload;
        let message = format!("{writer} has changed the pod template of {kind} {namespace}/{name} since the preflight");
        return Err(failure::new(FailureKind::Conflict, message));
    }
    let mut draft = PatchDraft::of(&stable.metadata);
    for (list, index, image) in changes {
        let index = index.to_string();
        let name = now.pointer(&format!("/spec/{list}/{index}/name")).cloned().unwrap_or_default();
        let at = |field| [path, &["spec", list, &index, field]].concat();
        draft.test(&at("name"), name);
        draft.replace(&at("image"), json!(image));
    }
    Ok(Some(draft))
}

/// Restores a whole pod template. Writes nothing if the stable has it already.
///
/// # Errors
/// A read or the write failed, or the stored template is missing or has another hash.
pub async fn restore(
    server: &Server,
    effect: &Effect,
    epoch: Epoch,
    uid: &str,
    hash: &TemplateHash,
    stored: Option<&PodTemplate>,
) -> Result<(), Failure> {
    let stable = read(server, effect, epoch, uid).await?;
    let Some(draft) = restoration(&effect.workload, &stable, hash, stored)? else { return Ok(()) };
    write(server, effect, epoch, draft).await
}

/// Returns the patch of a restoration without Bellwether's annotations; `None` if the stable has the template already.
fn restoration(
    workload: &Workload,
    stable: &DynamicObject,
    hash: &TemplateHash,
    stored: Option<&PodTemplate>,
) -> Result<Option<PatchDraft>, Failure> {
    let kind = kind::provider(workload.kind);
    let now = kind.template(stable).unwrap_or(&Value::Null);
    if kind.template_hash(now) == *hash {
        return Ok(None);
    }
    let stored: Option<Value> = stored.and_then(|stored| serde_json::from_str(stored.expose()).ok());
    let Some(stored) = stored.filter(|stored| kind.template_hash(stored) == *hash) else {
        let message = format!("the journal does not hold pod template {hash}, so it can't be restored");
        return Err(failure::new(FailureKind::Refused, message));
    };
    let mut draft = PatchDraft::of(&stable.metadata);
    draft.replace(kind.layout().template, stored);
    Ok(Some(draft))
}

async fn read(server: &Server, effect: &Effect, epoch: Epoch, uid: &str) -> Result<DynamicObject, Failure> {
    let workload = &effect.workload;
    let stable = server.workload_object(workload, &workload.name).await?.ok_or_else(|| gone(workload))?;
    check_uid(workload, &stable.metadata, uid)?;
    marks::fence(&stable.metadata, epoch)?;
    Ok(stable)
}

async fn write(server: &Server, effect: &Effect, epoch: Epoch, mut draft: PatchDraft) -> Result<(), Failure> {
    draft.annotate(EFFECT, effect.id.to_string());
    draft.annotate(EPOCH, epoch.0.to_string());
    let Some(patch) = draft.finish() else { return Ok(()) };
    let workload = &effect.workload;
    let kind = kind::provider(workload.kind).api_kind().kind;
    server.patch(server.workloads(workload), kind, &workload.name, patch).await
}

/// The content of a Kubernetes Event.
#[derive(Debug)]
pub struct Note<'a> {
    /// Whether its type is `Warning` instead of `Normal`.
    pub warning: bool,
    /// The reason, one word in CamelCase.
    pub reason: &'a str,
    /// The message, one sentence.
    pub note: &'a str,
    /// The time at which it is written.
    pub at: Timestamp,
}

/// Creates a Kubernetes Event about the workload. Its name is derived from the effect, so a second attempt finds the
/// first.
///
/// # Errors
/// A read or the write failed.
pub async fn note(server: &Server, effect: &Effect, note: &Note<'_>) -> Result<(), Failure> {
    let workload = &effect.workload;
    let stable = server.workload_object(workload, &workload.name).await?.ok_or_else(|| gone(workload))?;
    let event = event(effect, stable.metadata.uid, note);
    server.create(server.of::<Event>(&workload.namespace), "an Event", &event).await
}

fn event(effect: &Effect, uid: Option<String>, note: &Note<'_>) -> Event {
    let &Note { warning, reason, note, at } = note;
    let Workload { namespace, kind, name, .. } = &effect.workload;
    let api_kind = kind::provider(*kind).api_kind();
    let id = &digest(&[&effect.id.0])[..16];
    Event {
        metadata: ObjectMeta {
            // A workload's name may be as long as an Event's, so it is cut; the id makes the name unique.
            name: Some(format!("{}.{id}", name.get(..200).unwrap_or(name))),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(api_kind.api_version()),
            kind: Some(api_kind.kind.to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid,
            ..ObjectReference::default()
        },
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(shortened(note).to_owned()),
        source: Some(EventSource { component: Some(MANAGER.to_owned()), host: None }),
        reporting_component: Some(MANAGER.to_owned()),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        count: Some(1),
        ..Event::default()
    }
}

/// Cuts a message to the longest one of an Event, between two characters.
fn shortened(note: &str) -> &str {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

#[cfg(test)]
mod tests;
