//! The senders of posted events: their tokens and rights, and the rate of each address.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use secrecy::SecretString;
use serde_json::json;

use super::answer::{HttpRefusal, busy, problem, refused};
use super::serve::Peer;
use crate::access::verb_of;
use crate::clock::Clock;
use crate::events::decode::{DecodeOptions, Decoded, decode};
use crate::ports::{EventRecord, Reviews, User};

/// The most addresses whose rate is remembered.
const MOST_ADDRESSES: usize = 10_000;

/// The check of posted events by the tokens of their senders.
pub struct Senders {
    /// The users and their rights.
    pub reviews: Arc<dyn Reviews>,
    /// The options of decoding, for the verb and the scope of an event.
    pub decoding: Arc<DecodeOptions>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Senders {
    /// Returns the record with the stamp of its sender.
    ///
    /// # Errors
    /// The answer to a sender who may not send it, or whose event can't be decoded.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        record: EventRecord,
        peer: Peer,
    ) -> Result<EventRecord, Box<Response>> {
        let user = self.user(headers, peer).await?;
        let access = &self.decoding.access;
        let (verb, scope) = match decode(&access.open(&record).0, &self.decoding, self.clock.now()) {
            Decoded::Event { event, scope } => (verb_of(&event).unwrap_or_default(), scope),
            Decoded::Ignored(reason) => {
                let answer = axum::Json(json!({ "ignored": reason.to_string() }));
                return Err(Box::new((StatusCode::ACCEPTED, answer).into_response()));
            }
            Decoded::Dead(error) => {
                return Err(Box::new(problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())));
            }
        };
        match self.reviews.may(&user, verb, &scope).await {
            Ok(true) => {}
            Ok(false) => {
                refused(peer, HttpRefusal::Verb);
                let name = &user.name;
                let message =
                    format!("{name} has no right to {verb} rollouts.bellwether.dev in {scope}; a role can give it");
                return Err(Box::new(problem(StatusCode::FORBIDDEN, &message)));
            }
            Err(failure) => return Err(Box::new(unknown(&failure.message))),
        }
        let stamped = access.stamp(record, &user.name, &peer.0.to_string());
        stamped.ok_or_else(|| Box::new(busy("the daemon has no key for stamps; set http.stamp-key-file")))
    }

    async fn user(&self, headers: &HeaderMap, peer: Peer) -> Result<User, Box<Response>> {
        let user = match bearer(headers) {
            Some(token) => self.reviews.user(&token).await.map_err(|failure| Box::new(unknown(&failure.message)))?,
            None => None,
        };
        user.ok_or_else(|| {
            refused(peer, HttpRefusal::Token);
            let message = "send a token that the cluster's API server knows, as `Authorization: Bearer TOKEN`";
            let mut answer = problem(StatusCode::UNAUTHORIZED, message);
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            Box::new(answer)
        })
    }
}

/// Returns the answer while the API server can't be asked.
fn unknown(problem: &str) -> Response {
    tracing::warn!(%problem, "the sender of a posted event could not be checked");
    busy("the API server can't be asked for the token's user and rights; send the event again")
}

/// Returns the token of the header `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| SecretString::from(token))
}

/// The rate of posted events of each address.
#[derive(Clone)]
pub(super) struct Rates(Arc<DefaultKeyedRateLimiter<IpAddr>>);

impl Rates {
    pub(super) fn new(per_second: NonZeroU32) -> Rates {
        Rates(Arc::new(RateLimiter::keyed(Quota::per_second(per_second))))
    }

    /// Whether a further event of this address is within its rate.
    pub(super) fn allow(&self, peer: Peer) -> bool {
        if self.0.len() >= MOST_ADDRESSES {
            self.0.retain_recent();
        }
        self.0.len() < MOST_ADDRESSES && self.0.check_key(&peer.0).is_ok()
    }
}
