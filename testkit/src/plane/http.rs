//! The HTTP client of the test code.

use std::time::Duration;

use anyhow::Result;

/// Returns a client that uses no proxy and gives up after 10 seconds.
///
/// # Errors
/// The client can't be built.
pub fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?)
}
