//! What an error of the API server means for the next attempt.
//!
//! The status code alone does not say: 403 is a missing verb, an exhausted quota, an admission that said no, or a
//! namespace on its way out; 422 is an object that is wrong, or a `test` of a patch that found another value.

use bellwether_core::input::event::{Failure, FailureKind};
use kube::core::Status;

/// All that the API server says of a JSON Patch that does not fit the object, a failed `test` above all.
const PATCH_DID_NOT_APPLY: &str = "the server rejected our request due to an error in our request";

/// The failure that this error is.
pub fn of(operation: &str, error: &kube::Error) -> Failure {
    if let kube::Error::Api(status) = error {
        return of_status(operation, status);
    }
    // Our own mistake in a request stays one; connections, TLS, tokens and unreadable answers may be otherwise next time.
    let ours = matches!(error, kube::Error::BuildRequest(_) | kube::Error::HttpError(_));
    let kind = if ours { FailureKind::Refused } else { FailureKind::Unavailable };
    // The cause says it all; kube's own word for it is "ServiceError".
    let words = if let kube::Error::Service(cause) = error { with_sources(&**cause) } else { with_sources(error) };
    new(kind, format!("{operation}: {words}"))
}

/// The failure that this answer is.
pub fn of_status(operation: &str, status: &Status) -> Failure {
    let message = if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
    let terminating = status
        .details
        .as_ref()
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
    let kind = match status.code {
        403 if terminating => FailureKind::Gone,
        // RBAC's own words: `User "…" cannot patch resource "deployments" in API group "apps" in the namespace "shop"`.
        403 if message.contains(" cannot ") && message.contains(" resource ") => FailureKind::Forbidden,
        401 => FailureKind::Unavailable,
        404 | 410 => FailureKind::Gone,
        409 => FailureKind::Conflict,
        422 if message.contains(PATCH_DID_NOT_APPLY) => {
            return new(FailureKind::Conflict, format!("{operation}: the object had changed meanwhile"));
        }
        408 | 429 | 500.. => FailureKind::Unavailable,
        _ => FailureKind::Refused,
    };
    new(kind, format!("{operation}: {message}"))
}

/// A failure in our own words.
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
