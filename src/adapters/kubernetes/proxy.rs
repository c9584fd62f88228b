//! The proxy on the way to the API server. The client of kube takes that of `HTTPS_PROXY` for every server; here, as in
//! kubectl, it is used for those alone that `NO_PROXY` does not except and that are not on this machine.

use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Returns the configuration of a context of a kubeconfig; `None` is its current one.
///
/// # Errors
/// The kubeconfig can't be used.
pub(super) async fn config(file: Kubeconfig, context: Option<String>) -> Result<Config, KubeconfigError> {
    let names_proxy = names_proxy(&file, context.as_deref());
    let chosen = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(file, &chosen).await?;
    if !names_proxy && is_direct(&config.cluster_url, &bellwether_tools::http::direct_addresses()) {
        config.proxy_url = None;
    }
    Ok(config)
}

/// Whether the kubeconfig names the proxy of the context's cluster. That one is used for whichever server.
fn names_proxy(file: &Kubeconfig, context: Option<&str>) -> bool {
    let named = context.or(file.current_context.as_deref());
    let context = file.contexts.iter().find(|it| Some(it.name.as_str()) == named).and_then(|it| it.context.as_ref());
    let cluster = context.and_then(|context| file.clusters.iter().find(|it| it.name == context.cluster));
    let proxy = cluster.and_then(|it| it.cluster.as_ref()).and_then(|cluster| cluster.proxy_url.as_ref());
    proxy.is_some_and(|url| !url.is_empty())
}

/// Whether a server is one of `direct`: hosts, domains and networks, separated by commas.
fn is_direct(server: &hyper::Uri, direct: &str) -> bool {
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

    #[test]
    fn the_proxy_of_the_chosen_context_counts() {
        let file: Kubeconfig = serde_json::from_value(serde_json::json!({
            "current-context": "plain",
            "clusters": [
                { "name": "a", "cluster": { "server": "https://a.example" } },
                { "name": "b", "cluster": { "server": "https://b.example", "proxy-url": "http://proxy.example:3128" } },
            ],
            "contexts": [
                { "name": "plain", "context": { "cluster": "a", "user": "u" } },
                { "name": "proxied", "context": { "cluster": "b", "user": "u" } },
            ],
        }))
        .unwrap();
        assert!(!names_proxy(&file, None));
        assert!(names_proxy(&file, Some("proxied")));
        assert!(!names_proxy(&file, Some("unknown")));
    }
}
