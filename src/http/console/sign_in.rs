//! The pages on which people sign in and out.

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Form};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

use super::visit::{Visit, local, see, turned_away};
use super::{Frame, no_sign_in, render};
use crate::http::answer::{HttpRefusal, PostAnswer, refused};
use crate::http::senders::{Credential, Senders};
use crate::http::serve::Peer;
use crate::http::state::App;

/// The query of `/sign-in`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SignInQuery {
    /// The address of the page to come back to.
    to: String,
}

/// The form of `/sign-in`. It can't be printed.
#[derive(Deserialize)]
pub(super) struct SignInForm {
    /// The bearer token; empty for a user whom the proxy names.
    #[serde(default, deserialize_with = "secret")]
    token: SecretString,
    #[serde(default)]
    to: String,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}

/// The form of `/sign-out`.
#[derive(Deserialize)]
pub(super) struct SignOutForm {
    /// The token of the session's forms.
    form: String,
}

#[derive(Template)]
#[template(path = "sign-in.html")]
struct SignInPage {
    frame: Frame,
    to: String,
    /// The problem of the last attempt.
    message: Option<String>,
    /// The user whom the proxy names.
    proxied: Option<String>,
}

impl SignInPage {
    fn answer(app: &App, visit: &Visit, to: &str, proxied: Option<String>, failed: Option<PostAnswer>) -> Response {
        let frame = Frame::new("", String::new(), &app.shown.ages, app.shown.clock.now(), visit);
        let status = failed.as_ref().map_or(StatusCode::OK, |failed| failed.status);
        let page =
            SignInPage { frame, to: local(to).to_owned(), message: failed.map(|failed| failed.message), proxied };
        render(status, &page)
    }
}

/// Handles `GET /sign-in`.
pub(super) async fn page(
    State(app): State<App>,
    Query(query): Query<SignInQuery>,
    visit: Visit,
    headers: HeaderMap,
) -> Response {
    match app.sign_ins() {
        Some(actors) => {
            SignInPage::answer(&app, &visit, &query.to, proxied(actors, &headers).unwrap_or_default(), None)
        }
        None => no_sign_in(&app, &visit),
    }
}

/// Handles `POST /sign-in`: begins a session for a valid token, or for the user whom the proxy names.
pub(super) async fn sign_in(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<SignInForm>, FormRejection>,
) -> Response {
    let Some(actors) = app.sign_ins() else { return no_sign_in(&app, &visit) };
    let named = proxied(actors, &headers).unwrap_or_default();
    let again = |to: &str, failed| SignInPage::answer(&app, &visit, to, named.clone(), Some(failed));
    if let Some(answer) = turned_away(&app, peer, &headers) {
        return again("", answer);
    }
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => {
            refused(peer, HttpRefusal::Body);
            return again("", PostAnswer::unsent(rejection.status(), rejection.body_text()));
        }
    };
    let begun = begin(&app, actors, peer, &headers, form.token).await;
    let id = match begun {
        Ok(id) => id,
        Err(failed) => return again(&form.to, failed),
    };
    app.sessions.end(&headers, app.cookie());
    let mut response = see(&form.to);
    if let Some(cookie) = app.cookie().set(Some(&id)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Begins a session, and returns the id for its cookie.
///
/// # Errors
/// The answer to a person who is not known.
async fn begin(
    app: &App,
    actors: &Senders,
    peer: Peer,
    headers: &HeaderMap,
    token: SecretString,
) -> Result<SecretString, PostAnswer> {
    let token = SecretString::from(token.expose_secret().trim());
    let (credential, by) = match token.expose_secret().is_empty() {
        false => (Credential::Token(token), "token"),
        true => match proxied(actors, headers) {
            Ok(Some(name)) => (Credential::Proxied(name), "proxy"),
            Ok(None) => return Err(PostAnswer::unsent(StatusCode::BAD_REQUEST, "Paste a token.")),
            Err(reason) => {
                refused(peer, HttpRefusal::Proxy);
                return Err(PostAnswer::unsent(StatusCode::FORBIDDEN, reason));
            }
        },
    };
    let user = actors.user(Some(&credential), peer).await.map_err(|answer| match answer.status {
        StatusCode::UNAUTHORIZED => {
            let message = "The cluster's API server does not know this token, or it has expired. Make a new one.";
            PostAnswer::unsent(StatusCode::UNAUTHORIZED, message)
        }
        _ => answer,
    })?;
    tracing::info!(target: "bellwether::audit", user = user.name, by, peer = %peer.0, "signed in to the console");
    let id = app.sessions.begin(user.name, credential);
    id.ok_or_else(|| PostAnswer::busy("The operating system gives no random numbers; try again."))
}

/// Returns the user whom the proxy names in a request; `None` if there is no proxy, or if it names none.
///
/// # Errors
/// The request names a user as the proxy does, and it can't be believed: the reason.
fn proxied(actors: &Senders, headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    actors.proxy.as_ref().map_or(Ok(None), |proxy| proxy.user(headers))
}

/// Handles `POST /sign-out`: ends the session.
pub(super) async fn sign_out(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<SignOutForm>, FormRejection>,
) -> Response {
    let Some(session) = &visit.session else { return see("/") };
    let is_ours = form.is_ok_and(|form| session.has_made(&form.form));
    if let Some(answer) = turned_away(&app, peer, &headers) {
        return SignInPage::answer(&app, &visit, "", None, Some(answer));
    }
    if !is_ours {
        refused(peer, HttpRefusal::WebPage);
        let answer = PostAnswer::unsent(StatusCode::FORBIDDEN, "This form is of another session. Sign out again.");
        return SignInPage::answer(&app, &visit, "", None, Some(answer));
    }
    app.sessions.end(&headers, app.cookie());
    let mut response = see("/");
    if let Some(cookie) = app.cookie().set(None) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
