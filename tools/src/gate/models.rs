//! The models that an endpoint names at `/models`.

use std::time::Duration;

use bellwether_gate::suite::{Dialect, Endpoint, EndpointTls};
use serde_json::Value;

use super::client::{ClientSetupError, Role, connect, with_path};
use crate::failure::describe;

/// Time within which the list must have come.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Largest number of models that are returned.
const MAX_MODELS: usize = 50;

/// Largest size of the list, in bytes.
const MAX_LIST: usize = 1 << 20;

/// The reason why the models of an endpoint are not known.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The endpoint can't be used as it is configured.
    #[error(transparent)]
    Setup(#[from] ClientSetupError),
    /// The request failed.
    #[error("{url} can't be asked: {problem}; check the URL, or name the model with --model")]
    Unreachable {
        /// URL of the list.
        url: String,
        /// Description of the failure.
        problem: String,
    },
    /// The endpoint asks for a key, or refuses it.
    #[error("{url} answers {status}: it needs an API key; name the environment variable that holds it with --key-env")]
    Key {
        /// URL of the list.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The response is not a list of models.
    #[error(
        "{url} answers {status} without a list of models; does the URL end with /v1? Or name the model with --model"
    )]
    NoList {
        /// URL of the list.
        url: String,
        /// HTTP status.
        status: u16,
    },
}

/// Asks the endpoint at `url`, which ends before `/models`, once for its models. `key_env` is the name of the environment
/// variable that holds its key. Returns at most 50 names in the order of the endpoint.
///
/// # Errors
/// [`ModelsError`] if the endpoint can't be asked or does not answer with a list.
pub async fn models(url: &str, key_env: Option<&str>) -> Result<Vec<String>, ModelsError> {
    let endpoint = Endpoint {
        url: url.to_owned(),
        model: String::new(),
        key_env: key_env.map(str::to_owned),
        price: None,
        dialect: Dialect::default(),
        tls: EndpointTls::default(),
    };
    let (http, base) = connect(Role::Target, &endpoint)?;
    let url = with_path(&base, "models");
    let request = http.get(&url).timeout(TIMEOUT);
    let unreachable = |error: reqwest::Error| ModelsError::Unreachable { url: url.clone(), problem: describe(error) };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    if matches!(status, 401 | 403) {
        return Err(ModelsError::Key { url, status });
    }
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_LIST {
            return Err(ModelsError::NoList { url, status });
        }
    }
    names(&body).filter(|_| status == 200).ok_or(ModelsError::NoList { url, status })
}

/// Returns the names of a list of models; `None` if the text is no such list.
fn names(body: &[u8]) -> Option<Vec<String>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let models = list.get("data").and_then(Value::as_array)?;
    Some(models.iter().filter_map(|model| model.get("id")?.as_str()).take(MAX_MODELS).map(str::to_owned).collect())
}
