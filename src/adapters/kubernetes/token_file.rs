//! The bearer token in the file of a kubeconfig's `tokenFile`, or of the pod's service account. kube sends the content of the file as
//! it is, with the line break that `echo` and editors append and that no header can hold; client-go leaves it out, and so does this.

use std::path::PathBuf;
use std::sync::Arc;

use http::Request;
use http::header::AUTHORIZATION;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::BoxError;
use tower::filter::FilterLayer;

use super::ConnectError;
use crate::secret::{self, SecretFile};

/// Makes a client that reads the token's file again when it changes. Makes no call.
///
/// # Errors
/// The credentials can't be used.
pub(super) fn client(mut config: Config) -> Result<Client, ConnectError> {
    let Some(path) = take_path(&mut config) else { return Client::try_from(config).map_err(ConnectError::Client) };
    let file = Arc::new(SecretFile::open(path).map_err(ConnectError::Token)?);
    let authorize = move |mut request: Request<Body>| -> Result<Request<Body>, BoxError> {
        request.headers_mut().insert(AUTHORIZATION, secret::bearer(&file.get()?)?);
        Ok(request)
    };
    let builder = ClientBuilder::try_from(config).map_err(ConnectError::Client)?;
    Ok(builder.with_layer(&FilterLayer::new(authorize)).build())
}

/// Takes the path of the token's file, if kube would use it: a provider, a password or an inline token has precedence.
fn take_path(config: &mut Config) -> Option<PathBuf> {
    let account = &mut config.auth_info;
    let has_password = account.username.is_some() && account.password.is_some();
    if account.auth_provider.is_some() || has_password || account.token.is_some() {
        return None;
    }
    let path = account.token_file.take()?;
    // It comes after the file.
    account.exec = None;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use kube::config::AuthInfo;

    use super::*;

    #[test]
    fn the_file_counts_unless_another_credential_precedes_it() {
        let taken = |account: AuthInfo| {
            let mut config = Config::new("https://api.example".parse().unwrap());
            config.auth_info = AuthInfo { token_file: Some("/run/token".to_owned()), ..account };
            take_path(&mut config)
        };
        assert_eq!(taken(AuthInfo::default()), Some(PathBuf::from("/run/token")));
        let inline = AuthInfo { token: Some("inline".to_owned().into()), ..AuthInfo::default() };
        assert_eq!(taken(inline), None);
    }
}
