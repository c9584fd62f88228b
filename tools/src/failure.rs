//! The description of a failed HTTP exchange.

use std::error::Error;

/// Returns the error with all of its causes, of which the last one usually says the reason, and without its URL, which may hold
/// credentials.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Error::source(&error), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
