//! The proxy in front of the console that signs people in, as by OpenID Connect, and tells their names in a header.
//!
//! Any client can send such a header, so it counts only beside a secret that the proxy alone knows. Addresses prove less: those of
//! pods change, and a port-forward comes from loopback, as a sidecar does.

use axum::http::{HeaderMap, HeaderName};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

/// The header with the proxy's secret.
const SECRET: HeaderName = HeaderName::from_static("bellwether-proxy-secret");
/// The shortest secret of a proxy, in bytes.
pub const SHORTEST_PROXY_SECRET: usize = 32;
/// The longest name of a user, in bytes.
const LONGEST_NAME: usize = 256;
/// The beginning of the names that the API server gives to its own users and to service accounts.
const RESERVED: &str = "system:";

/// The name of a proxy's header, and the means to recognise the proxy. It can't be printed.
pub struct SignInProxy {
    header: HeaderName,
    /// A random key. The secret itself is not kept, and the comparison of two tags tells nothing by its time.
    key: hmac::Key,
    tag: hmac::Tag,
}

impl SignInProxy {
    /// Returns the check of a proxy that names users in `header`. `None` if the secret is shorter than
    /// [`SHORTEST_PROXY_SECRET`], or the operating system gives no random numbers.
    pub fn new(header: HeaderName, secret: &SecretString) -> Option<SignInProxy> {
        let secret = secret.expose_secret().as_bytes();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).ok()?;
        let tag = hmac::sign(&key, secret);
        (secret.len() >= SHORTEST_PROXY_SECRET).then_some(SignInProxy { header, key, tag })
    }

    /// Returns the user whom the proxy names in a request; `None` if the request names none.
    ///
    /// # Errors
    /// The request names a user and does not come from the proxy, or the name can't be used: the reason.
    pub(super) fn user(&self, headers: &HeaderMap) -> Result<Option<String>, &'static str> {
        let mut names = headers.get_all(&self.header).iter();
        let Some(name) = names.next() else { return Ok(None) };
        let mut secrets = headers.get_all(&SECRET).iter();
        let is_proxy = secrets.next().is_some_and(|secret| {
            hmac::verify(&self.key, secret.as_bytes(), self.tag.as_ref()).is_ok() && secrets.next().is_none()
        });
        if !is_proxy {
            return Err("the request names a user and has not the proxy's secret (http.proxy-secret-file)");
        }
        if names.next().is_some() {
            return Err("the request names two users; the proxy has to remove the header of its clients");
        }
        match std::str::from_utf8(name.as_bytes()) {
            Ok(name) if name.starts_with(RESERVED) => {
                Err("the proxy names a user whose name begins with system:, which the API server keeps for its own")
            }
            Ok(name) if is_name(name) => Ok(Some(name.to_owned())),
            Ok(_) | Err(_) => Err("the proxy names a user by a text that is empty, too long or not plain"),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && name.trim() == name && !name.chars().any(char::is_control)
}
