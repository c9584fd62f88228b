//! What Bellwether writes on objects so that it, or its successor, knows them again. Every name is here once.

use std::collections::BTreeMap;

use bellwether_core::input::effect::Effect;
use bellwether_core::input::event::{Failure, FailureKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::ports::Epoch;

/// Who writes, in `managedFields`.
pub const MANAGER: &str = "bellwether";
/// All labels and annotations that are ours begin so.
pub const PREFIX: &str = "bellwether.dev/";
/// The id of the last effect that changed the object.
pub const EFFECT: &str = "bellwether.dev/effect";
/// The epoch of whoever performed it.
pub const EPOCH: &str = "bellwether.dev/epoch";
/// The rollout that the object belongs to.
pub const ROLLOUT: &str = "bellwether.dev/rollout";
/// On a canary Deployment: the label whose value its pods have changed. It must stay the same for the canary's life,
/// because a selector can't be changed.
pub const CHANGED_LABEL: &str = "bellwether.dev/changed-label";
/// On an HTTPRoute: the weights that its rules had before we came, by workload.
pub const ORIGINAL_WEIGHTS: &str = "bellwether.dev/original-weights";
/// On the canary's pods and in its selector.
pub const TRACK: &str = "bellwether.dev/track";
/// The value of [`TRACK`] on what is the canary's …
pub const CANARY: &str = "canary";
/// … and on what is the fresh baseline's.
pub const BASELINE: &str = "baseline";
/// Kubernetes' own label for who made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Kubernetes' label on the pods of one ReplicaSet.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Whether we made the object.
pub fn is_ours(metadata: &ObjectMeta) -> bool {
    label(metadata, MANAGED_BY) == Some(MANAGER)
}

/// The value of one label.
pub fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// The value of one annotation.
pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The annotations that go onto an object that `effect` makes.
pub fn annotations(effect: &Effect, epoch: Epoch) -> BTreeMap<String, String> {
    [(EFFECT, effect.id.to_string()), (EPOCH, epoch.0.to_string()), (ROLLOUT, effect.rollout.to_string())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Lets `ours` write where `metadata` says that somebody wrote before.
///
/// # Errors
/// [`FailureKind::Fenced`] if that somebody came after us.
pub fn fence(metadata: &ObjectMeta, ours: Epoch) -> Result<(), Failure> {
    let stored = annotation(metadata, EPOCH).and_then(|text| text.parse().ok());
    fence_epoch(stored, ours, metadata.name.as_deref().unwrap_or_default())
}

/// The same for an epoch that is written elsewhere; `object` is for the message.
///
/// # Errors
/// [`FailureKind::Fenced`] if `stored` is higher.
pub fn fence_epoch(stored: Option<u64>, Epoch(ours): Epoch, object: &str) -> Result<(), Failure> {
    match stored {
        Some(stored) if stored > ours => Err(Failure {
            kind: FailureKind::Fenced,
            message: format!("{object} was written in epoch {stored}, and this process acts in epoch {ours}"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
