//! The person behind a request of a browser, and the checks of a form that a browser posts.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::http::answer::{HttpRefusal, PostAnswer, refused};
use crate::http::intake::too_fast;
use crate::http::senders::{Credential, Senders};
use crate::http::serve::Peer;
use crate::http::sessions::{Session, SessionCookie};
use crate::http::state::App;

/// The header by which a browser tells whether a request comes from a page of the same server.
const FETCH_SITE: &str = "sec-fetch-site";

impl App {
    /// Returns the check of senders if people can sign in to the console; `None` if they can't.
    pub(super) fn sign_ins(&self) -> Option<&Arc<Senders>> {
        self.shown.senders.as_ref().filter(|_| self.options.has_sign_in())
    }

    /// Returns the check of senders if people can act over HTTP; `None` if they can't.
    pub(super) fn actors(&self) -> Option<&Arc<Senders>> {
        self.shown.senders.as_ref().filter(|_| self.options.events)
    }

    /// Returns the cookie of this server's sessions. Where there is TLS, here or in the proxy, it is sent over TLS alone.
    pub(super) fn cookie(&self) -> SessionCookie {
        SessionCookie { is_secure: self.options.cert_file.is_some() || self.options.proxy_user_header.is_some() }
    }
}

/// The person behind a request, and the page that it asks for.
pub(in crate::http) struct Visit {
    /// The session; `None` for a person who is not signed in.
    pub(super) session: Option<Arc<Session>>,
    /// Whether people can sign in here.
    pub(super) has_sign_in: bool,
    /// Whether people who are signed in can act.
    pub(super) acts: bool,
    /// The address of the page with its query.
    pub(super) here: String,
}

impl FromRequestParts<App> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Visit, Infallible> {
        let sign_ins = app.sign_ins();
        let session = sign_ins.and_then(|senders| {
            let session = app.sessions.of(&parts.headers, app.cookie())?;
            is_still_proxied(senders, &session, &parts.headers).then_some(session)
        });
        let here = parts.uri.path_and_query().map_or("/", |here| here.as_str());
        let (has_sign_in, acts) = (sign_ins.is_some(), app.actors().is_some());
        Ok(Visit { session, has_sign_in, acts, here: local(here).to_owned() })
    }
}

impl Visit {
    /// Returns the credential of the session; `None` for a person who is not signed in.
    pub(in crate::http) fn credential(&self) -> Option<Credential> {
        self.session.as_ref().map(|session| session.credential.clone())
    }
}

/// Whether the proxy names the session's user also in this request. A session by a token needs no proxy.
fn is_still_proxied(actors: &Senders, session: &Session, headers: &HeaderMap) -> bool {
    match &session.credential {
        Credential::Token(_) => true,
        Credential::Proxied(user) => {
            let named = actors.proxy.as_ref().map(|proxy| proxy.user(headers));
            matches!(named, Some(Ok(Some(named))) if named == *user)
        }
    }
}

/// Returns an address on this server as it is, and `/` in place of any other text.
pub(super) fn local(address: &str) -> &str {
    let is_local = address.starts_with('/') && !address.starts_with("//") && !address.contains('\\');
    if is_local && address.bytes().all(|byte| byte.is_ascii_graphic()) { address } else { "/" }
}

/// Returns the answer that sends a browser on to a page of this server after a form.
pub(super) fn see(address: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(address) = HeaderValue::from_str(local(address)) {
        response.headers_mut().insert(header::LOCATION, address);
    }
    response
}

/// Returns the answer that sends a person to sign in, and then back to the page of this visit.
pub(super) fn sign_in_first(visit: &Visit) -> Response {
    let to: String = form_urlencoded::byte_serialize(visit.here.as_bytes()).collect();
    see(&format!("/sign-in?to={to}"))
}

/// Returns the answer to a posted form that is not looked at: its address posts too fast, or a page of another origin has posted it.
/// `None` for any other one.
pub(super) fn turned_away(app: &App, peer: Peer, headers: &HeaderMap) -> Option<PostAnswer> {
    if let Some(answer) = too_fast(app, peer) {
        return Some(answer);
    }
    if is_of_this_origin(headers) {
        return None;
    }
    refused(peer, HttpRefusal::WebPage);
    let message = "This form was posted by a page of another origin. Open the page on this server. If it is behind a proxy, the proxy \
                   has to leave the Host header as it is.";
    Some(PostAnswer::unsent(StatusCode::FORBIDDEN, message))
}

/// Whether the headers by which a browser names the origin of a request fit to this server. A program may send none of them.
fn is_of_this_origin(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_ascii_lowercase();
    let host = headers.get(header::HOST).map(text).unwrap_or_default();
    let mut origins = headers.get_all(header::ORIGIN).iter().map(text);
    let has_host = |origin: String| origin.split_once("://").is_some_and(|(_, of)| !host.is_empty() && of == host);
    let mut sites = headers.get_all(FETCH_SITE).iter().map(text);
    origins.all(has_host) && sites.all(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn a_form_of_another_origin_is_told_by_its_headers() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pairs =
                pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_of_this_origin(
                &pairs.chain([(header::HOST, HeaderValue::from_static("console.example:8080"))]).collect(),
            )
        };
        assert!(of(&[]));
        assert!(of(&[("origin", "https://console.example:8080"), ("sec-fetch-site", "same-origin")]));
        for foreign in [
            ("origin", "https://evil.example"),
            ("origin", "https://console.example"),
            ("origin", "https://console.example:8080.evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
        ] {
            assert!(!of(&[foreign]), "{foreign:?}");
        }
    }

    #[test]
    fn a_browser_is_sent_to_this_server_alone() {
        for (address, to) in [
            ("/rollouts/web-1?event=1", "/rollouts/web-1?event=1"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/a\r\nset-cookie: x", "/"),
            ("", "/"),
        ] {
            assert_eq!(local(address), to);
        }
    }
}
