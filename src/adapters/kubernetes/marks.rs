//! The labels and annotations that Bellwether writes on objects, by which it and its successors recognise them, and the
//! fencing by the epoch among them.

use std::collections::BTreeMap;

use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Failure, FailureKind};
use bellwether_core::input::status::Release;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::ports::Epoch;

/// The field manager of Bellwether's writes.
pub const MANAGER: &str = "bellwether";
/// The prefix of all labels and annotations of Bellwether.
pub const PREFIX: &str = "bellwether.dev/";
/// Annotation: the id of the last effect that changed the object.
pub const EFFECT: &str = "bellwether.dev/effect";
/// Annotation: the epoch of the process that performed the effect.
pub const EPOCH: &str = "bellwether.dev/epoch";
/// Annotation: the rollout that the object belongs to.
pub const ROLLOUT: &str = "bellwether.dev/rollout";
/// Annotation of a canary's workload object: the label whose value differs on the canary's pods. It stays the same for
/// the canary's life, because a selector is immutable.
pub const CHANGED_LABEL: &str = "bellwether.dev/changed-label";
/// Annotation of a canary's workload object: the [`Release`] by a person, as JSON.
pub const RELEASED: &str = "bellwether.dev/released";
/// Annotation of a route: the weights before the canary joined it, by workload.
pub const ORIGINAL_WEIGHTS: &str = "bellwether.dev/original-weights";
/// Label of the pods, the objects and the selector of a canary or a fresh baseline.
pub const TRACK: &str = "bellwether.dev/track";
/// The value of [`TRACK`] for a canary.
pub const CANARY: &str = "canary";
/// The value of [`TRACK`] for a fresh baseline.
pub const BASELINE: &str = "baseline";
/// Kubernetes' label for the creator of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Returns whether Bellwether created the object.
pub fn is_ours(metadata: &ObjectMeta) -> bool {
    label(metadata, MANAGED_BY) == Some(MANAGER)
}

/// Returns the value of a label; `None` if the object doesn't have it.
pub fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Returns the value of an annotation; `None` if the object doesn't have it.
pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Returns the annotations of an object that `effect` creates.
pub fn annotations(effect: &Effect, epoch: Epoch) -> BTreeMap<String, String> {
    [(EFFECT, effect.id.to_string()), (EPOCH, epoch.0.to_string()), (ROLLOUT, effect.rollout.to_string())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Returns the order of a person that gave all traffic to the stable; `None` if the canary with this metadata has none.
pub fn release(metadata: &ObjectMeta) -> Option<Release> {
    serde_json::from_str(annotation(metadata, RELEASED)?).ok()
}

/// Checks that no person has released the rollout of `effect`, whose canary has this metadata.
///
/// # Errors
/// [`FailureKind::Conflict`] if a person has. The rollout ends when its daemon sees the order.
pub fn check_not_released(metadata: &ObjectMeta, effect: &Effect) -> Result<(), Failure> {
    let Some(release) = release(metadata).filter(|release| release.rollout == effect.rollout) else { return Ok(()) };
    let message = format!("all traffic was given to the stable by {}", release.author);
    Err(Failure { kind: FailureKind::Conflict, message })
}

/// Returns whether the pods of the canary with this metadata have a Service of their own. Otherwise the stable's selects
/// them, and their number is the canary's share.
pub fn has_own_service(metadata: &ObjectMeta) -> bool {
    annotation(metadata, CHANGED_LABEL).is_some()
}

/// Checks that an object was not written in an epoch higher than `ours`.
///
/// # Errors
/// [`FailureKind::Fenced`] if it was.
pub fn fence(metadata: &ObjectMeta, ours: Epoch) -> Result<(), Failure> {
    let stored = annotation(metadata, EPOCH).and_then(|text| text.parse().ok());
    fence_epoch(stored, ours, metadata.name.as_deref().unwrap_or_default())
}

/// Checks that the epoch `stored` is not higher than `ours`. `object` names the object in the message.
///
/// # Errors
/// [`FailureKind::Fenced`] if it is.
pub fn fence_epoch(stored: Option<u64>, Epoch(ours): Epoch, object: &str) -> Result<(), Failure> {
    let Some(stored) = stored.filter(|stored| *stored > ours) else { return Ok(()) };
    let remedy = if stored - ours > Epoch::PLAUSIBLE {
        format!(
            "that is more than {} above; remove the annotation {EPOCH} if Bellwether has not written it, otherwise run `bellwether journal adopt --up-to {stored}`",
            Epoch::PLAUSIBLE
        )
    } else {
        "if its journal is new, run `bellwether journal adopt`".to_owned()
    };
    let message = format!("{object} was written in epoch {stored}, and this process acts in epoch {ours}; {remedy}");
    Err(Failure { kind: FailureKind::Fenced, message })
}

#[cfg(test)]
mod tests;
