//! The client's configuration of a kubeconfig. kube's own takes the proxy of `HTTPS_PROXY` for every server and refuses a `NO_PROXY`
//! that it can't read as a whole, such as one that ends in a comma. Here, as in kubectl, the proxy of the environment is used for
//! those servers alone that `NO_PROXY` does not except and that are not on this machine.

use std::path::PathBuf;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{Cluster, Config, ExecAuthCluster, Kubeconfig, KubeconfigError, LoadDataError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Returns the configuration of a context of a kubeconfig; `None` is its current one.
///
/// # Errors
/// The kubeconfig can't be used.
pub(super) fn config(file: Kubeconfig, context: Option<String>) -> Result<Config, KubeconfigError> {
    let name = context.or(file.current_context).ok_or(KubeconfigError::CurrentContextNotSet)?;
    let context = file.contexts.into_iter().find(|it| it.name == name).and_then(|it| it.context);
    let context = context.ok_or(KubeconfigError::LoadContext(name))?;
    let cluster = file.clusters.into_iter().find(|it| it.name == context.cluster).and_then(|it| it.cluster);
    let cluster = cluster.ok_or(KubeconfigError::LoadClusterOfContext(context.cluster))?;
    // As with client-go, a missing user is an anonymous one.
    let user = file.auth_infos.into_iter().find(|it| Some(&it.name) == context.user.as_ref());
    let mut account = user.and_then(|it| it.auth_info).unwrap_or_default();
    if let Some(plugin) = account.exec.as_mut().filter(|plugin| plugin.provide_cluster_info) {
        plugin.cluster = Some(ExecAuthCluster::try_from(&cluster)?);
    }
    let server: Uri = cluster
        .server
        .clone()
        .ok_or(KubeconfigError::MissingClusterUrl)?
        .parse()
        .map_err(KubeconfigError::ParseClusterUrl)?;
    let mut config = Config::new(server);
    config.root_cert = authorities(&cluster)?;
    config.proxy_url = proxy(&cluster, &config.cluster_url)?;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = cluster.tls_server_name;
    config.auth_info = account;
    Ok(config)
}

/// Returns the certificates of the cluster's authority; `None` if it names none.
fn authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, KubeconfigError> {
    let Some(pem) = ExecAuthCluster::try_from(cluster)?.certificate_authority_data else { return Ok(None) };
    let unreadable = |error: rustls::pki_types::pem::Error| {
        let path = cluster.certificate_authority.as_deref().unwrap_or("certificate-authority-data");
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string());
        KubeconfigError::LoadCertificateAuthority(LoadDataError::ReadFile(source, PathBuf::from(path)))
    };
    let certificates = CertificateDer::pem_slice_iter(&pem).map(|read| read.map(|certificate| certificate.to_vec()));
    certificates.collect::<Result<Vec<_>, _>>().map(Some).map_err(unreadable)
}

/// Returns the proxy on the way to a server. One that the kubeconfig names is used for whichever server.
fn proxy(cluster: &Cluster, server: &Uri) -> Result<Option<Uri>, KubeconfigError> {
    let of_environment = || {
        let is_direct = is_direct(server, &bellwether_tools::http::direct_addresses());
        bellwether_tools::http::variable("HTTPS_PROXY").filter(|_| !is_direct)
    };
    let named = cluster.proxy_url.clone().filter(|url| !url.is_empty());
    let proxy = named.or_else(of_environment);
    proxy.map(|url| url.parse()).transpose().map_err(KubeconfigError::ParseProxyUrl)
}

/// Whether a server is one of `direct`: hosts, domains and networks, separated by commas.
fn is_direct(server: &Uri, direct: &str) -> bool {
    Matcher::builder().all("http://proxy.invalid").no(direct).build().intercept(server).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_directly_if_it_is_excepted() {
        let direct = "localhost,127.0.0.0/8,::1,.corp.example,10.0.0.0/8";
        let is_direct = |server: &str| is_direct(&server.parse().unwrap(), direct);
        for server in ["https://127.0.0.1:6443", "https://[::1]:6443", "https://localhost", "http://10.96.0.1:443"] {
            assert!(is_direct(server), "{server}");
        }
        assert!(is_direct("https://api.corp.example:6443"));
        assert!(!is_direct("https://api.example:6443"));
        assert!(!is_direct("https://192.0.2.1:6443"));
    }

    fn kubeconfig() -> Kubeconfig {
        serde_json::from_value(serde_json::json!({
            "current-context": "plain",
            "clusters": [
                { "name": "a", "cluster": { "server": "https://a.example" } },
                { "name": "b", "cluster": {
                    "server": "https://b.example", "proxy-url": "http://proxy.example:3128", "tls-server-name": "api",
                    "insecure-skip-tls-verify": true,
                } },
            ],
            "users": [{ "name": "u", "user": { "token": "inline" } }],
            "contexts": [
                { "name": "plain", "context": { "cluster": "a", "user": "unknown" } },
                { "name": "proxied", "context": { "cluster": "b", "user": "u" } },
                { "name": "lost", "context": { "cluster": "c", "user": "u" } },
            ],
        }))
        .unwrap()
    }

    #[test]
    fn the_chosen_context_counts_with_its_proxy_and_its_user() {
        let plain = config(kubeconfig(), None).unwrap();
        assert_eq!(plain.cluster_url, "https://a.example");
        assert!(plain.auth_info.token.is_none() && plain.root_cert.is_none() && !plain.accept_invalid_certs);
        let proxied = config(kubeconfig(), Some("proxied".to_owned())).unwrap();
        assert_eq!(proxied.proxy_url, Some("http://proxy.example:3128".parse().unwrap()));
        assert_eq!(proxied.tls_server_name.as_deref(), Some("api"));
        assert!(proxied.auth_info.token.is_some() && proxied.accept_invalid_certs);
        for (context, expected) in [("lost", "cluster of context: c"), ("unknown", "current context: unknown")] {
            let error = config(kubeconfig(), Some(context.to_owned())).err().unwrap().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn an_authority_is_read_from_its_file_and_a_damaged_one_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let cluster = Cluster { certificate_authority: Some(path.clone()), ..Cluster::default() };
        // Two certificates of three and four bytes; their content is not looked at here.
        std::fs::write(
            file.path(),
            "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n\
            -----BEGIN CERTIFICATE-----\nAAECAw==\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert_eq!(authorities(&cluster).unwrap(), Some(vec![vec![0, 1, 2], vec![0, 1, 2, 3]]));
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nAAEC\n").unwrap();
        assert!(authorities(&cluster).unwrap_err().to_string().contains(&path));
    }
}
