//! The credentials that are sent to Prometheus. Those in files are read again when the file changes.

use std::error::Error;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use secrecy::ExposeSecret;

use super::options::{Options, PrometheusSetupError};
use crate::secret::SecretFile;

/// The content of the header `Authorization`.
pub enum Credentials {
    /// No header is sent.
    None,
    /// A bearer token from a file.
    Bearer(SecretFile),
    /// A user name, and a password from a file, for basic authentication.
    Basic(String, SecretFile),
    /// The header's value from the user name and password of the URL.
    Fixed(HeaderValue),
}

impl Credentials {
    /// Returns the credentials of the options or of the URL.
    ///
    /// # Errors
    /// There are several kinds of credentials, a user name without a password or the reverse, or a file does not exist.
    pub fn of(options: &Options, url: &Url, http: &Client) -> Result<Credentials, PrometheusSetupError> {
        let in_url = !url.username().is_empty() || url.password().is_some();
        match (&options.bearer_token_file, &options.username, &options.password_file) {
            (Some(_), None, None) | (None, Some(_), Some(_)) if in_url => Err(PrometheusSetupError::Options(
                "the url has credentials, and so have other options; use one of them",
            )),
            (Some(token), None, None) => Ok(Credentials::Bearer(SecretFile::open(token.clone())?)),
            (None, Some(name), Some(password)) => {
                Ok(Credentials::Basic(name.clone(), SecretFile::open(password.clone())?))
            }
            (None, None, None) if in_url => {
                // reqwest takes them out of the URL, decodes them and makes the header.
                let header = authorization(http.get(url.clone()));
                header
                    .map(Credentials::Fixed)
                    .ok_or(PrometheusSetupError::Options("the credentials in the url can't be sent in a header"))
            }
            (None, None, None) => Ok(Credentials::None),
            (None, ..) => Err(PrometheusSetupError::Options("username and password-file belong together")),
            (Some(_), ..) => {
                Err(PrometheusSetupError::Options("give a bearer-token-file, or username and password-file, not both"))
            }
        }
    }

    /// Returns the header's value. `None`: no header is sent.
    ///
    /// # Errors
    /// The file can't be read, or has characters that a header can't contain. The error does not contain the secret.
    pub fn header(&self, http: &Client) -> Result<Option<HeaderValue>, PrometheusSetupError> {
        // The request is never sent; reqwest makes the header of it.
        let unsent = || http.get("http://localhost");
        let (request, path) = match self {
            Credentials::None => return Ok(None),
            Credentials::Fixed(value) => return Ok(Some(value.clone())),
            Credentials::Bearer(file) => (unsent().bearer_auth(file.get()?.expose_secret()), file.path()),
            Credentials::Basic(name, file) => {
                (unsent().basic_auth(name, Some(file.get()?.expose_secret())), file.path())
            }
        };
        let unusable = || PrometheusSetupError::Content {
            path: path.to_owned(),
            reason: "the file has characters that a header can't contain".to_owned(),
        };
        authorization(request).map(Some).ok_or_else(unusable)
    }
}

/// Returns the `Authorization` header of a request, marked as sensitive.
fn authorization(request: RequestBuilder) -> Option<HeaderValue> {
    let mut value = request.build().ok()?.headers().get(AUTHORIZATION).cloned()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the messages of an error and of its causes, without any URL.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // The messages of reqwest contain the URL, which may contain a secret.
        let text = match error.downcast_ref::<reqwest::Error>() {
            Some(http) if http.is_timeout() => "no answer in time".to_owned(),
            Some(http) if http.is_connect() => "no connection".to_owned(),
            Some(http) if http.is_builder() => "the client can't be made".to_owned(),
            Some(_) => "the request failed".to_owned(),
            None => error.to_string(),
        };
        let is_wrapper = error.downcast_ref::<prometheus_http_query::Error>().is_some();
        if !is_wrapper && parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}
