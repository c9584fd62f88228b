//! The readers of the API and the console where `http.read = "token"`: the API server names a token's user, who needs the verb `get` on
//! `rollouts.bellwether.dev` in the whole cluster. Probes and scrapes have no token, so `/livez`, `/readyz`, `/metrics` and
//! `/version` ask for none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bellwether_core::ids::{Scope, digest};
use secrecy::ExposeSecret as _;

use super::answer::{HttpRefusal, PostAnswer, refused};
use super::console::{self, Visit};
use super::intake::too_fast;
use super::options::ReadAccess;
use super::senders::{Credential, bearer};
use super::serve::Peer;
use super::state::App;
use crate::clock::Stopwatch;

/// The verb that a reader needs.
const VERB: &str = "get";
/// The time for which a reader is admitted without a further question to the API server. A page asks for itself again every few seconds.
const ADMITTED_FOR: Duration = Duration::from_secs(10);
/// The most readers that are remembered.
const MOST_READERS: usize = 1000;

/// The readers that were admitted lately, by the digest of their credential. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Mutex<BTreeMap<String, Stopwatch>>>);

impl Readers {
    fn knows(&self, key: &str) -> bool {
        self.lock().get(key).is_some_and(|since| since.elapsed() < ADMITTED_FOR)
    }

    fn admitted(&self, key: String) {
        let mut readers = self.lock();
        readers.retain(|_, since| since.elapsed() < ADMITTED_FOR);
        if readers.len() < MOST_READERS {
            readers.insert(key, Stopwatch::start());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stopwatch>> {
        // Poisoning is harmless: each change leaves the map consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes the request of a reader on, and answers any other one. A browser without a session is sent to the sign-in.
pub(super) async fn check(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    visit: Visit,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if app.options.read == ReadAccess::Anonymous {
        return next.run(request).await;
    }
    let credential = bearer(&headers).or_else(|| visit.credential());
    match admit(&app, credential.as_ref(), peer).await {
        Ok(()) => next.run(request).await,
        Err(answer) if console::wants_page(&headers) => console::turned_back(&app, &visit, answer),
        Err(answer) => answer.into_response(),
    }
}

/// Checks that a credential is one of a reader.
///
/// # Errors
/// The answer to any other one.
async fn admit(app: &App, by: Option<&Credential>, peer: Peer) -> Result<(), PostAnswer> {
    let Some(by) = by else {
        let message = "reading needs a token that the cluster's API server knows, as `Authorization: Bearer TOKEN`";
        return Err(PostAnswer::unsent(StatusCode::UNAUTHORIZED, message));
    };
    let key = match by {
        Credential::Token(token) => digest(&["token", token.expose_secret()]),
        Credential::Proxied(name) => digest(&["user", name.as_str()]),
    };
    if app.readers.knows(&key) {
        return Ok(());
    }
    // `Options::problems` refuses to start without the check of tokens.
    let Some(senders) = &app.shown.senders else { return Err(PostAnswer::busy("tokens are not checked here")) };
    if let Some(answer) = too_fast(app, peer) {
        return Err(answer);
    }
    let user = senders.user(Some(by), peer).await?;
    if !senders.may(&user, VERB, &Scope::Cluster(senders.decoding.cluster.clone())).await? {
        refused(peer, HttpRefusal::Verb);
        let message =
            format!("{} has no right to {VERB} rollouts.bellwether.dev; a ClusterRole can give it", user.name);
        return Err(PostAnswer::unsent(StatusCode::FORBIDDEN, message));
    }
    app.readers.admitted(key);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_remembered_for_a_while_and_their_number_is_bounded() {
        let readers = Readers::default();
        readers.admitted("jane".to_owned());
        tokio::time::advance(ADMITTED_FOR - Duration::from_secs(1)).await;
        assert!(readers.knows("jane") && !readers.knows("ann"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!readers.knows("jane"), "a token that is withdrawn counts no longer");
        (0..=MOST_READERS).for_each(|n| readers.admitted(n.to_string()));
        assert_eq!(readers.lock().len(), MOST_READERS);
    }
}
