//! Makes the HTTP client of an endpoint: its secrets, headers, certificates and URL.

use std::path::PathBuf;

use bellwether_gate::suite::{Endpoint, EndpointTls, EnvText};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::Role;
use crate::secret::{self, SecretError};

/// The reason why an endpoint can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ClientSetupError {
    /// The URL is missing or is not an HTTP URL.
    #[error(
        "{0} has no URL that begins with http:// or https://; write url = \"http://…/v1\" (for the target also --target)"
    )]
    Url(&'static str),
    /// The API key, or a header or parameter from the environment, can't be read.
    #[error("the {what} of {role}: {source}")]
    Secret {
        /// Role of the endpoint, such as "the judge".
        role: &'static str,
        /// The text that is taken from the environment, such as "key".
        what: String,
        /// Reason why it can't be read.
        source: SecretError,
    },
    /// A header's name or value can't be sent.
    #[error(
        "the header {name:?} of {role} can't be sent; HTTP allows letters, digits and - in names, and one line of visible ASCII as value"
    )]
    Header {
        /// Role of the endpoint.
        role: &'static str,
        /// Name of the header.
        name: String,
    },
    /// A file with a certificate or a key can't be read.
    #[error("{role} can't use {}: {reason}", path.display())]
    Certificate {
        /// Role of the endpoint.
        role: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Reason, as the file system or the TLS library gives it.
        reason: String,
    },
    /// The HTTP client can't be built.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// Returns the HTTP client of an endpoint, and its base URL with the parameters that each request has.
pub(in crate::gate) fn connect(role: Role, endpoint: &Endpoint) -> Result<(reqwest::Client, String), ClientSetupError> {
    let mut url = Url::parse(&endpoint.url).map_err(|_| ClientSetupError::Url(role.name()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ClientSetupError::Url(role.name()));
    }
    for (name, text) in &endpoint.dialect.query {
        let value = resolve(role, &format!("query parameter {name}"), text)?;
        url.query_pairs_mut().append_pair(name, value.expose_secret());
    }
    let builder = crate::http::client()
        .default_headers(headers(role, endpoint)?)
        // A redirect could carry the key and the prompt to another server.
        .redirect(reqwest::redirect::Policy::none());
    let builder = with_certificates(builder, role, &endpoint.tls)?;
    let http = builder.build().map_err(|error| ClientSetupError::Client(error.without_url().to_string()))?;
    Ok((http, url.into()))
}

/// Returns `base` with `path` added to its path, before its parameters.
pub(in crate::gate) fn with_path(base: &str, path: &str) -> String {
    let (base, query) = base.split_once('?').map_or((base, String::new()), |(base, query)| (base, format!("?{query}")));
    format!("{}/{path}{query}", base.trim_end_matches('/'))
}

/// Returns the headers of each request. All are marked as sensitive, because many hold a key.
fn headers(role: Role, endpoint: &Endpoint) -> Result<HeaderMap, ClientSetupError> {
    let mut headers = HeaderMap::new();
    let unusable = |name: &str| ClientSetupError::Header { role: role.name(), name: name.to_owned() };
    let mut insert = |name: &str, text: &str| {
        let key = HeaderName::try_from(name).map_err(|_| unusable(name))?;
        let mut value = HeaderValue::try_from(text).map_err(|_| unusable(name))?;
        value.set_sensitive(true);
        headers.insert(key, value);
        Ok::<(), ClientSetupError>(())
    };
    if let Some(variable) = &endpoint.key_env {
        let key = secret::from_environment(variable).map_err(|source| ClientSetupError::Secret {
            role: role.name(),
            what: "key".to_owned(),
            source,
        })?;
        insert(AUTHORIZATION.as_str(), &format!("Bearer {}", key.expose_secret()))?;
    }
    for (name, text) in &endpoint.dialect.headers {
        insert(name, resolve(role, &format!("header {name}"), text)?.expose_secret())?;
    }
    Ok(headers)
}

fn resolve(role: Role, what: &str, text: &EnvText) -> Result<SecretString, ClientSetupError> {
    match text {
        EnvText::Plain(text) => Ok(SecretString::from(text.as_str())),
        EnvText::Environment { env } => secret::from_environment(env).map_err(|source| ClientSetupError::Secret {
            role: role.name(),
            what: what.to_owned(),
            source,
        }),
    }
}

fn with_certificates(
    mut builder: reqwest::ClientBuilder,
    role: Role,
    tls: &EndpointTls,
) -> Result<reqwest::ClientBuilder, ClientSetupError> {
    let unusable = |path: &str, reason: String| ClientSetupError::Certificate {
        role: role.name(),
        path: PathBuf::from(path),
        reason,
    };
    let read = |path: &str| std::fs::read(path).map_err(|error| unusable(path, error.to_string()));
    if let Some(path) = &tls.ca_file {
        let certificates =
            reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|error| unusable(path, error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable(path, "the file has no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((certificate, key)) = tls.cert_file.as_ref().zip(tls.key_file.as_ref()) {
        let pem = [read(key)?, b"\n".to_vec(), read(certificate)?].concat();
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| unusable(certificate, error.to_string()))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use bellwether_gate::suite::Dialect;

    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            url: "https://a/v1".to_owned(),
            model: "m".to_owned(),
            key_env: None,
            price: None,
            dialect: Dialect::default(),
            tls: EndpointTls::default(),
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_used_is_named_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("empty.pem").to_string_lossy().into_owned();
        std::fs::write(&file, "no certificate").unwrap();
        let absent = directory.path().join("absent.pem").to_string_lossy().into_owned();
        let with_ca = |path: &str| {
            let tls = EndpointTls { ca_file: Some(path.to_owned()), ..EndpointTls::default() };
            Endpoint { tls, ..endpoint() }
        };
        let with_header = |name: &str, text: EnvText| {
            let headers = [(name.to_owned(), text)].into();
            Endpoint { dialect: Dialect { headers, ..Dialect::default() }, ..endpoint() }
        };
        let unset = EnvText::Environment { env: "BELLWETHER_TEST_UNSET".to_owned() };
        let client =
            EndpointTls { cert_file: Some(file.clone()), key_file: Some(file.clone()), ..EndpointTls::default() };
        let rows = [
            (Endpoint { url: "ftp://a".to_owned(), ..endpoint() }, "the judge has no URL"),
            (with_ca(&absent), "absent.pem: No such file"),
            (with_ca(&file), "empty.pem: the file has no certificate"),
            (Endpoint { tls: client, ..endpoint() }, "the judge can't use"),
            (
                with_header("x-team", unset),
                "the header x-team of the judge: the environment variable BELLWETHER_TEST_UNSET",
            ),
            (with_header("x team", EnvText::Plain("a".to_owned())), "the header \"x team\" of the judge can't be sent"),
            (
                with_header("x-team", EnvText::Plain("a\nb".to_owned())),
                "the header \"x-team\" of the judge can't be sent",
            ),
        ];
        for (endpoint, says) in rows {
            let error = connect(Role::Judge, &endpoint).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let query = [("api-version".to_owned(), EnvText::Plain("2024 10".to_owned()))].into();
        let azure = Endpoint { dialect: Dialect { query, ..Dialect::default() }, ..endpoint() };
        let (_, url) = connect(Role::Judge, &azure).unwrap();
        assert_eq!(with_path(&url, "embeddings"), "https://a/v1/embeddings?api-version=2024+10");
    }

    #[test]
    fn a_path_is_added_before_the_parameters() {
        assert_eq!(with_path("http://a/v1", "embeddings"), "http://a/v1/embeddings");
        assert_eq!(
            with_path("http://a/d?api-version=1", "chat/completions"),
            "http://a/d/chat/completions?api-version=1"
        );
    }
}
