//! The senders of posted events: their tokens and rights, and the rate of each address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use bellwether_core::ids::{EventId, Scope};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use secrecy::SecretString;

use super::answer::{HttpRefusal, PostAnswer, refused};
use super::proxy::SignInProxy;
use super::serve::Peer;
use crate::access::verb_of;
use crate::clock::Clock;
use crate::events::decode::{DecodeOptions, Decoded, decode};
use crate::ports::{EventRecord, Reviews, User};

/// The most addresses whose rate is remembered.
const MOST_ADDRESSES: usize = 10_000;

/// The proof of a sender's identity. It can't be printed.
#[derive(Clone)]
pub(super) enum Credential {
    /// A bearer token, whose user the API server names.
    Token(SecretString),
    /// The user whom the proxy in front of the console has signed in.
    Proxied(String),
}

/// An event that has not been sent.
pub(super) struct Foreseen {
    /// The verb, which is the right that its sender needs.
    pub(super) verb: &'static str,
    /// The workloads that it is about.
    pub(super) scope: Scope,
    /// Its id, with its sender; `None` if it has none.
    pub(super) id: Option<EventId>,
}

/// The check of the senders of posted events.
pub struct Senders {
    /// The users and their rights.
    pub reviews: Arc<dyn Reviews>,
    /// The options of decoding, for the verb and the scope of an event.
    pub decoding: Arc<DecodeOptions>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The proxy that signs people in to the console; `None` if there is none.
    pub proxy: Option<SignInProxy>,
}

impl Senders {
    /// Returns the record with the stamp of its sender.
    ///
    /// # Errors
    /// The answer to a sender who may not send it, or whose event can't be decoded.
    pub(super) async fn admit(
        &self,
        by: Option<&Credential>,
        record: EventRecord,
        peer: Peer,
    ) -> Result<EventRecord, PostAnswer> {
        let user = self.user(by, peer).await?;
        let access = &self.decoding.access;
        let (verb, scope) = match decode(&access.open(&record).0, &self.decoding, self.clock.now()) {
            Decoded::Event { event, scope } => (verb_of(&event).unwrap_or_default(), scope),
            Decoded::Ignored(reason) => return Err(PostAnswer::ignored(reason.to_string())),
            Decoded::Dead(error) => {
                return Err(PostAnswer::unsent(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()));
            }
        };
        if !self.may(&user, verb, &scope).await? {
            refused(peer, HttpRefusal::Verb);
            let name = &user.name;
            let message =
                format!("{name} has no right to {verb} rollouts.bellwether.dev in {scope}; a role can give it");
            return Err(PostAnswer::unsent(StatusCode::FORBIDDEN, message));
        }
        let stamped = access.stamp(record, &user.name, &peer.0.to_string());
        stamped.ok_or_else(|| PostAnswer::busy("the daemon has no key for stamps; set http.stamp-key-file"))
    }

    /// Returns the event that a record would be if this user posted it now. Rights are not asked for, and the engine has not seen it.
    ///
    /// # Errors
    /// The reason why it would not get to the engine.
    pub(super) fn foresee(&self, record: EventRecord, user: &str) -> Result<Foreseen, String> {
        let (access, now) = (&self.decoding.access, self.clock.now());
        let stamped = access.stamp(record, user, "").ok_or("the daemon has no key for stamps")?;
        let (opened, identity) = access.open(&stamped);
        match decode(&opened, &self.decoding, now) {
            Decoded::Event { mut event, scope } => {
                access.admit(&mut event, &scope, &identity, now).map_err(|refusal| refusal.to_string())?;
                let (verb, id) = (verb_of(&event).unwrap_or_default(), event.id().cloned());
                Ok(Foreseen { verb, scope, id })
            }
            Decoded::Ignored(reason) => Err(reason.to_string()),
            Decoded::Dead(error) => Err(error.to_string()),
        }
    }

    /// Returns whether a user may do `verb` to the rollouts of `scope`.
    ///
    /// # Errors
    /// The answer while the API server can't be asked.
    pub(super) async fn may(&self, user: &User, verb: &str, scope: &Scope) -> Result<bool, PostAnswer> {
        self.reviews.may(user, verb, scope).await.map_err(|failure| unknown(&failure.message))
    }

    /// Returns the user of a credential. A token is reviewed each time, so that one that is withdrawn counts no longer.
    ///
    /// # Errors
    /// The answer to a sender without a valid credential.
    pub(super) async fn user(&self, by: Option<&Credential>, peer: Peer) -> Result<User, PostAnswer> {
        let user = match by {
            Some(Credential::Token(token)) => {
                self.reviews.user(token).await.map_err(|failure| unknown(&failure.message))?
            }
            Some(Credential::Proxied(name)) => {
                Some(User { name: name.clone(), uid: None, groups: Vec::new(), extra: BTreeMap::new() })
            }
            None => None,
        };
        user.ok_or_else(|| {
            refused(peer, HttpRefusal::Token);
            let message = "send a token that the cluster's API server knows, as `Authorization: Bearer TOKEN`";
            PostAnswer::unsent(StatusCode::UNAUTHORIZED, message)
        })
    }
}

/// Returns the answer while the API server can't be asked.
fn unknown(problem: &str) -> PostAnswer {
    tracing::warn!(%problem, "the sender of a request could not be checked");
    PostAnswer::busy("the API server can't be asked for the token's user and rights; send the request again")
}

/// Returns the token of the header `Authorization`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Credential> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_bearer = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    is_bearer.then(|| Credential::Token(SecretString::from(token)))
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
