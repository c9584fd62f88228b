//! Failed outcomes of the model.

use bellwether_core::input::event::{Failure, FailureKind, Outcome};

/// Returns the outcome of a failed effect.
pub(super) fn failed(kind: FailureKind, message: String) -> Outcome {
    Outcome::Failed(Failure { kind, message })
}
