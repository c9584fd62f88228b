//! The error for a value that is not of the expected kind: a name, a version, a checksum or a path.

/// A value that can't be parsed as the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {kind}: {reason}")]
pub struct InvalidValue {
    /// The expected kind, as in `model name`.
    pub kind: &'static str,
    /// The rejected value.
    pub value: String,
    /// The rule that the value breaks, and the correct form.
    pub reason: String,
}

impl InvalidValue {
    /// Creates the error for `value`.
    pub fn new(kind: &'static str, value: impl Into<String>, reason: impl Into<String>) -> InvalidValue {
        InvalidValue { kind, value: value.into(), reason: reason.into() }
    }
}
