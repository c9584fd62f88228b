//! The notification sink that puts Kubernetes Events on workloads, where `kubectl describe` shows them.

use async_trait::async_trait;
use bellwether_core::ids::{Workload, digest};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::input::notification::{Note, Notification, Sink, Subscription};
use bellwether_core::time::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use super::marks::MANAGER;
use super::stable::gone;
use super::{Kubernetes, kind};
use crate::ports::{NotificationError, NotificationSink};

/// The longest message of an Event, in bytes.
const MAX_MESSAGE: usize = 1024;

/// The Events of a cluster's workloads.
pub struct KubernetesEvents(pub(super) Kubernetes);

#[async_trait]
impl NotificationSink for KubernetesEvents {
    fn sink(&self) -> Sink {
        Sink { name: "kubernetes-events".to_owned(), subscription: Subscription::Decisions }
    }

    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        _: Option<&str>,
    ) -> Result<Option<String>, NotificationError> {
        let Some(note) = &notification.note else { return Ok(None) };
        self.create(effect, note).await.map(|()| None).map_err(|failure| match failure.kind {
            FailureKind::Unavailable | FailureKind::Conflict => {
                NotificationError::Later { after: None, message: failure.message }
            }
            FailureKind::Fenced | FailureKind::Gone | FailureKind::Refused | FailureKind::Forbidden => {
                NotificationError::Refused(failure.message)
            }
        })
    }
}

impl KubernetesEvents {
    /// Creates the Event. Its name is derived from the effect, so a second attempt finds the first.
    async fn create(&self, effect: &Effect, note: &Note) -> Result<(), Failure> {
        let Kubernetes { server, clock, cache, .. } = &self.0;
        let workload = &effect.workload;
        self.0.check_cluster(workload)?;
        // Nothing rests on the uid, so the watches' is good enough.
        let uid = match cache.with(|objects| objects.uid(workload)) {
            Some(uid) => Some(uid),
            None => server.workload_object(workload, &workload.name).await?.ok_or_else(|| gone(workload))?.metadata.uid,
        };
        let event = event(effect, uid, note, clock.now());
        let created = server.create(&server.of::<Event>(&workload.namespace), "an Event", &json!(event)).await;
        created.or_else(|failure| if failure.kind == FailureKind::Conflict { Ok(()) } else { Err(failure) })
    }
}

fn event(effect: &Effect, uid: Option<String>, note: &Note, at: Timestamp) -> Event {
    let Note { warning, reason, text } = note;
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
        type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.clone()),
        message: Some(shortened(text).to_owned()),
        source: Some(EventSource { component: Some(MANAGER.to_owned()), host: None }),
        reporting_component: Some(MANAGER.to_owned()),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        count: Some(1),
        ..Event::default()
    }
}

/// Cuts a message to the longest one of an Event, between two characters.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
