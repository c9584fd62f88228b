//! Who we are to Prometheus. Tokens are rotated by replacing a file, so the file is read again whenever it has changed.

use std::error::Error;
use std::path::PathBuf;
use std::time::SystemTime;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::{Options, PrometheusSetupError};

/// What to send as `Authorization`.
pub enum Credentials {
    /// Nothing.
    None,
    /// A bearer token.
    Bearer(SecretFile),
    /// A name and a password from a file.
    Basic(String, SecretFile),
    /// What the URL's user name and password make.
    Fixed(HeaderValue),
}

/// A secret in a file, and the file's age when it was read.
pub struct SecretFile {
    path: PathBuf,
    read: Mutex<Option<(SystemTime, SecretString)>>,
}

impl SecretFile {
    /// The file must be readable now: a wrong path is an error at the start, and not at the first query.
    fn open(path: PathBuf) -> Result<SecretFile, PrometheusSetupError> {
        std::fs::metadata(&path).map_err(|source| PrometheusSetupError::File { path: path.clone(), source })?;
        Ok(SecretFile { path, read: Mutex::new(None) })
    }

    async fn get(&self) -> Result<SecretString, PrometheusSetupError> {
        let failed = |source| PrometheusSetupError::File { path: self.path.clone(), source };
        let mut read = self.read.lock().await;
        let changed = tokio::fs::metadata(&self.path).await.and_then(|data| data.modified()).map_err(failed)?;
        if let Some((as_of, secret)) = &*read
            && *as_of == changed
        {
            return Ok(secret.clone());
        }
        let text = tokio::fs::read_to_string(&self.path).await.map_err(failed)?;
        let secret = SecretString::from(text.trim().to_owned());
        *read = Some((changed, secret.clone()));
        Ok(secret)
    }
}

impl Credentials {
    /// What `options` say, or else the URL.
    ///
    /// # Errors
    /// Two ways at once, half a way, or a file that is not there.
    pub fn of(options: &Options, url: &Url, http: &Client) -> Result<Credentials, PrometheusSetupError> {
        let in_url = !url.username().is_empty() || url.password().is_some();
        match (&options.bearer_token_file, &options.username, &options.password_file) {
            (Some(_), None, None) | (None, Some(_), Some(_)) if in_url => {
                Err(PrometheusSetupError::Options("there are credentials in the url, and others beside it"))
            }
            (Some(token), None, None) => Ok(Credentials::Bearer(SecretFile::open(token.clone())?)),
            (None, Some(name), Some(password)) => {
                Ok(Credentials::Basic(name.clone(), SecretFile::open(password.clone())?))
            }
            (None, None, None) if in_url => {
                // reqwest takes them out of a URL and makes the header, escapes and all.
                let header = authorization(http.get(url.clone()));
                header
                    .map(Credentials::Fixed)
                    .ok_or(PrometheusSetupError::Options("the credentials in the url can't be sent"))
            }
            (None, None, None) => Ok(Credentials::None),
            (None, ..) => Err(PrometheusSetupError::Options("username and password-file belong together")),
            (Some(_), ..) => {
                Err(PrometheusSetupError::Options("give a bearer-token-file, or username and password-file, not both"))
            }
        }
    }

    /// The header's value, if one is to be sent.
    ///
    /// # Errors
    /// The file can't be read, or holds what can't be sent. Without what it holds.
    pub async fn header(&self, http: &Client) -> Result<Option<HeaderValue>, PrometheusSetupError> {
        // The request is never sent: it is how reqwest makes this header.
        let blank = || http.get("http://localhost");
        let (request, path) = match self {
            Credentials::None => return Ok(None),
            Credentials::Fixed(value) => return Ok(Some(value.clone())),
            Credentials::Bearer(file) => (blank().bearer_auth(file.get().await?.expose_secret()), &file.path),
            Credentials::Basic(name, file) => {
                (blank().basic_auth(name, Some(file.get().await?.expose_secret())), &file.path)
            }
        };
        let unfit = || PrometheusSetupError::Content {
            path: path.clone(),
            reason: "it holds what no header may have".to_owned(),
        };
        authorization(request).map(Some).ok_or_else(unfit)
    }
}

fn authorization(request: RequestBuilder) -> Option<HeaderValue> {
    let mut value = request.build().ok()?.headers().get(AUTHORIZATION).cloned()?;
    value.set_sensitive(true);
    Some(value)
}

/// An error with what lies below it, without any URL.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // reqwest prints the URL, and with it whatever somebody wrote into it.
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
