//! Writes on the stable Deployment, which belongs to somebody else: new images, an old template back, an Event.
//!
//! They are JSON Patches that hold only for the object as it was read. `spec.replicas` belongs
//! to whoever scales the workload and is never written.

use bellwether_core::ids::{Images, TemplateHash, Workload, digest};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::time::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::marks::{self, EFFECT, EPOCH, MANAGER};
use super::patch::PatchDraft;
use super::server::Server;
use super::{failure, owners, template};
use crate::ports::{Epoch, PodTemplate};

/// The API server takes no longer message.
const MAX_NOTE: usize = 1024;

/// There is no such Deployment.
pub fn gone(workload: &Workload) -> Failure {
    failure::new(FailureKind::Gone, format!("Deployment {}/{} does not exist", workload.namespace, workload.name))
}

/// Whether this is the Deployment that was meant.
///
/// # Errors
/// [`FailureKind::Gone`]: another one has its name.
pub fn same(workload: &Workload, metadata: &ObjectMeta, uid: &str) -> Result<(), Failure> {
    if metadata.uid.as_deref() == Some(uid) {
        return Ok(());
    }
    let message = format!("Deployment {}/{} was deleted and made anew", workload.namespace, workload.name);
    Err(failure::new(FailureKind::Gone, message))
}

/// Gives the stable the new images, if its template is `from`. One that has them already is left alone.
///
/// # Errors
/// A read or the write failed; the template is another one; a container is not there.
pub async fn promote(
    server: &Server,
    effect: &Effect,
    epoch: Epoch,
    uid: &str,
    from: &TemplateHash,
    images: &Images,
) -> Result<(), Failure> {
    let there = read(server, effect, epoch, uid).await?;
    let Some(draft) = promotion(&effect.workload, &there, from, images)? else { return Ok(()) };
    write(server, effect, epoch, draft).await
}

/// The patch of a promotion, without our marks; `None`: the images are there already.
fn promotion(
    workload: &Workload,
    there: &DynamicObject,
    from: &TemplateHash,
    images: &Images,
) -> Result<Option<PatchDraft>, Failure> {
    let now = there.data.pointer("/spec/template").unwrap_or(&Value::Null);
    let unknown = template::unknown(now, images);
    if !unknown.is_empty() {
        return Err(failure::new(FailureKind::Refused, template::no_such_container(workload, &unknown)));
    }
    let changes = template::changes(now, images);
    if changes.is_empty() {
        return Ok(None);
    }
    if template::hash(now) != *from {
        let who = owners::last_writer(&there.metadata, &["f:spec", "f:template"]).unwrap_or("somebody");
        let message = format!(
            "{who} has changed the pod template of Deployment {}/{} meanwhile",
            workload.namespace, workload.name
        );
        return Err(failure::new(FailureKind::Conflict, message));
    }
    let mut draft = PatchDraft::of(&there.metadata);
    for (list, index, image) in changes {
        let index = index.to_string();
        let name = now.pointer(&format!("/spec/{list}/{index}/name")).cloned().unwrap_or_default();
        let at = |field| -> [&str; 6] { ["spec", "template", "spec", list, &index, field] };
        draft.test(&at("name"), name);
        draft.replace(&at("image"), json!(image));
    }
    Ok(Some(draft))
}

/// Puts a whole template back. One that is there already is left alone.
///
/// # Errors
/// A read or the write failed; the stored template is missing or not the one that its name says.
pub async fn restore(
    server: &Server,
    effect: &Effect,
    epoch: Epoch,
    uid: &str,
    hash: &TemplateHash,
    stored: Option<&PodTemplate>,
) -> Result<(), Failure> {
    let there = read(server, effect, epoch, uid).await?;
    let Some(draft) = restoration(&there, hash, stored)? else { return Ok(()) };
    write(server, effect, epoch, draft).await
}

fn restoration(
    there: &DynamicObject,
    hash: &TemplateHash,
    stored: Option<&PodTemplate>,
) -> Result<Option<PatchDraft>, Failure> {
    let now = there.data.pointer("/spec/template").unwrap_or(&Value::Null);
    if template::hash(now) == *hash {
        return Ok(None);
    }
    let stored: Option<Value> = stored.and_then(|stored| serde_json::from_str(stored.expose()).ok());
    let Some(stored) = stored.filter(|stored| template::hash(stored) == *hash) else {
        let message = format!("the journal does not hold pod template {hash}, so it can't be put back");
        return Err(failure::new(FailureKind::Refused, message));
    };
    let mut draft = PatchDraft::of(&there.metadata);
    draft.replace(&["spec", "template"], stored);
    Ok(Some(draft))
}

async fn read(server: &Server, effect: &Effect, epoch: Epoch, uid: &str) -> Result<DynamicObject, Failure> {
    let workload = &effect.workload;
    let there = server.deployment(&workload.namespace, &workload.name).await?.ok_or_else(|| gone(workload))?;
    same(workload, &there.metadata, uid)?;
    marks::fence(&there.metadata, epoch)?;
    Ok(there)
}

async fn write(server: &Server, effect: &Effect, epoch: Epoch, mut draft: PatchDraft) -> Result<(), Failure> {
    draft.annotate(EFFECT, effect.id.to_string());
    draft.annotate(EPOCH, epoch.0.to_string());
    let Some(patch) = draft.finish() else { return Ok(()) };
    let Workload { namespace, name, .. } = &effect.workload;
    server.patch(server.deployments(namespace), "Deployment", name, patch).await
}

/// What a Kubernetes Event says.
#[derive(Debug)]
pub struct Note<'a> {
    /// `Warning` instead of `Normal`.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: &'a str,
    /// One sentence.
    pub note: &'a str,
    /// When it is written.
    pub at: Timestamp,
}

/// Puts a Kubernetes Event on the Deployment. Its name is the effect's, so that a second attempt finds the first.
///
/// # Errors
/// A read or the write failed.
pub async fn note(server: &Server, effect: &Effect, note: &Note<'_>) -> Result<(), Failure> {
    let workload = &effect.workload;
    let there = server.deployment(&workload.namespace, &workload.name).await?.ok_or_else(|| gone(workload))?;
    let event = event(effect, there.metadata.uid, note);
    server.create(server.of::<Event>(&workload.namespace), "an Event", &event).await
}

fn event(effect: &Effect, uid: Option<String>, note: &Note<'_>) -> Event {
    let &Note { warning, reason, note, at } = note;
    let Workload { namespace, name, .. } = &effect.workload;
    let id = &digest(&[&effect.id.0])[..16];
    Event {
        metadata: ObjectMeta {
            // A Deployment's name may be as long as an Event's; the id is what counts.
            name: Some(format!("{}.{id}", name.get(..200).unwrap_or(name))),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
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

fn shortened(note: &str) -> &str {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

#[cfg(test)]
mod tests;
