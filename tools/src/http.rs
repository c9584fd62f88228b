//! HTTP clients that use the proxies of the environment as the peers of this program do.

use reqwest::{NoProxy, Proxy};

/// The addresses of this machine, which no proxy could reach. kubectl and other programs in Go leave them out likewise; curl
/// does not.
const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1";

/// Makes a proxy from its URL.
type ProxyFor = fn(String) -> reqwest::Result<Proxy>;

/// The proxies by the variable that names them: the first one that is for a request's scheme is used.
const PROXIES: [(&str, ProxyFor); 3] =
    [("HTTP_PROXY", Proxy::http), ("HTTPS_PROXY", Proxy::https), ("ALL_PROXY", Proxy::all)];

/// Returns the builder of a client, with a TLS provider. Its proxies are those that the environment names in `HTTP_PROXY`,
/// `HTTPS_PROXY` and `ALL_PROXY`, but for the addresses of [`direct_addresses`].
pub fn client() -> reqwest::ClientBuilder {
    crate::tls::install();
    let direct = direct_addresses();
    let proxies = PROXIES.into_iter().filter_map(|(name, proxy)| proxy(variable(name)?).ok());
    proxies.fold(reqwest::Client::builder().no_proxy(), |builder, proxy| {
        builder.proxy(proxy.no_proxy(NoProxy::from_string(&direct)))
    })
}

/// Returns the hosts, domains and networks for which no proxy is used, separated by commas: those of `NO_PROXY` and the
/// addresses of this machine.
pub fn direct_addresses() -> String {
    let excepted = variable("NO_PROXY").unwrap_or_default();
    // A list may end in a comma, and an empty entry means nothing.
    let entries = THIS_MACHINE.split(',').chain(excepted.split(',').map(str::trim)).filter(|entry| !entry.is_empty());
    entries.collect::<Vec<_>>().join(",")
}

/// Returns the value of a variable in capital or, as curl has them, in small letters; `None` if it is not set or empty.
pub fn variable(name: &str) -> Option<String> {
    [name.to_owned(), name.to_lowercase()].iter().filter_map(|name| std::env::var(name).ok()).find(|it| !it.is_empty())
}
