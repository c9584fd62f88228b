//! The errors of the API server as [`Failure`]s, whose kind says whether another attempt can succeed.
//!
//! The status code alone is ambiguous: 403 is a missing verb, an exhausted quota, a refusal by an admission webhook, or
//! a namespace that is being deleted; 422 is an invalid object, or a `test` of a patch that found another value.

use bellwether_core::input::event::{Failure, FailureKind};
use kube::core::Status;

use super::access::missing_rule;

/// The API server's whole message for a JSON Patch that does not fit the object, mostly because of a failed `test`.
const PATCH_DID_NOT_APPLY: &str = "the server rejected our request due to an error in our request";

/// Returns the failure for an error of the client. `operation` begins the message, as in `reading Service shop/web`.
pub fn of(operation: &str, error: &kube::Error) -> Failure {
    if let kube::Error::Api(status) = error {
        return of_status(operation, status);
    }
    // An invalid request stays invalid; connections, TLS, tokens and unreadable answers may recover.
    let is_permanent = matches!(error, kube::Error::BuildRequest(_) | kube::Error::HttpError(_));
    let kind = if is_permanent { FailureKind::Refused } else { FailureKind::Unavailable };
    // kube's own text for these is "ServiceError", which adds nothing to the cause.
    let text = if let kube::Error::Service(cause) = error { with_sources(&**cause) } else { with_sources(error) };
    new(kind, format!("{operation}: {text}"))
}

/// Returns the failure for an answer of the API server. `operation` begins the message.
pub fn of_status(operation: &str, status: &Status) -> Failure {
    let message = if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
    let terminating = status
        .details
        .as_ref()
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
    let kind = match status.code {
        403 if terminating => FailureKind::Gone,
        403 if message.contains(" cannot ") && message.contains(" resource ") => {
            let remedy = remedy(&message).map(|remedy| format!("; {remedy}")).unwrap_or_default();
            return new(FailureKind::Forbidden, format!("{operation}: {message}{remedy}"));
        }
        401 => FailureKind::Unavailable,
        404 | 410 => FailureKind::Gone,
        409 => FailureKind::Conflict,
        422 if message.contains(PATCH_DID_NOT_APPLY) => {
            return new(FailureKind::Conflict, format!("{operation}: the object has changed since it was read"));
        }
        408 | 429 | 500.. => FailureKind::Unavailable,
        _ => FailureKind::Refused,
    };
    new(kind, format!("{operation}: {message}"))
}

/// Returns the rule that RBAC's message asks for, as in `User "…" cannot patch resource "deployments" in API group "apps" in the
/// namespace "shop"`. `None` if the message has another form.
fn remedy(message: &str) -> Option<String> {
    let (verb, rest) = message.split_once("\" cannot ")?.1.split_once(" resource \"")?;
    let (resource, rest) = rest.split_once("\" in API group \"")?;
    let (group, place) = rest.split_once('"')?;
    let namespace = place.split_once(" in the namespace \"").and_then(|(_, rest)| rest.split_once('"'));
    Some(missing_rule(&[verb], group, resource, namespace.map(|(namespace, _)| namespace)))
}

/// Returns a failure with this message.
pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
