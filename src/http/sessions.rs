//! The sessions of people who are signed in to the console. They are kept in the memory of one process, and end with it.
//!
//! A browser has a random id in a cookie. The credential stays here, and is checked anew for each verb, so that a session never gives a
//! right that its token has not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue, header};
use bellwether_core::ids::digest;
use bellwether_core::time::Span;
use ring::rand::SecureRandom as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::senders::Credential;
use crate::clock::Stopwatch;

/// The most sessions at a time. The oldest gives way to a further one.
pub(super) const MOST_SESSIONS: usize = 1000;
/// The most sessions of one user. The user's oldest gives way to a further one.
pub(super) const MOST_OF_A_USER: usize = 8;
/// The length of a session: a working day.
pub(super) const LENGTH: Span = Span::from_secs(8 * 3600);

/// A person who is signed in. It can't be printed.
pub(super) struct Session {
    /// The user's name, as the API server or the proxy tells it.
    pub(super) user: String,
    /// The proof of the identity, for each verb.
    pub(super) credential: Credential,
    /// The text that each form of the session carries. Pages of others don't know it.
    form_token: SecretString,
    started: Stopwatch,
}

impl Session {
    /// Returns the token for a form of this session.
    pub(super) fn form_token(&self) -> &str {
        self.form_token.expose_secret()
    }

    /// Whether a form with this token is one of this session. Digests are compared, so that the time tells nothing.
    pub(super) fn has_made(&self, token: &str) -> bool {
        digest(&[token]) == digest(&[self.form_token()])
    }

    fn has_ended(&self) -> bool {
        self.started.elapsed() >= LENGTH.to_std()
    }
}

/// All sessions, by the digest of the cookie's id. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<BTreeMap<String, Arc<Session>>>>);

impl Sessions {
    /// Begins a session, and returns the id for its cookie. `None` if the operating system gives no random numbers.
    pub(super) fn begin(&self, user: String, credential: Credential) -> Option<SecretString> {
        let (id, form_token) = (SecretString::from(random_hex()?), SecretString::from(random_hex()?));
        self.change(|sessions| {
            sessions.retain(|_, session| !session.has_ended());
            make_room(sessions, MOST_OF_A_USER, |session| session.user == user);
            make_room(sessions, MOST_SESSIONS, |_| true);
            let session = Session { user, credential, form_token, started: Stopwatch::start() };
            sessions.insert(key(&id), Arc::new(session));
        });
        Some(id)
    }

    /// Returns the session of a request's cookie; `None` if there is none, or if it has ended.
    pub(super) fn of(&self, headers: &HeaderMap, cookie: SessionCookie) -> Option<Arc<Session>> {
        let key = key(&cookie.read(headers)?);
        self.change(|sessions| {
            let session = sessions.get(&key).cloned()?;
            if session.has_ended() {
                sessions.remove(&key);
                return None;
            }
            Some(session)
        })
    }

    /// Ends the session of a request's cookie.
    pub(super) fn end(&self, headers: &HeaderMap, cookie: SessionCookie) {
        if let Some(id) = cookie.read(headers) {
            self.change(|sessions| sessions.remove(&key(&id)));
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Session>>) -> T) -> T {
        // Poisoning is harmless: each change leaves the map consistent.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Removes the oldest of some sessions, until there is room for one more among `most`.
fn make_room(sessions: &mut BTreeMap<String, Arc<Session>>, most: usize, is_one: impl Fn(&Session) -> bool) {
    let mut ages: Vec<_> = sessions.iter().filter(|(_, session)| is_one(session)).collect();
    ages.sort_by_key(|(_, session)| session.started.elapsed());
    let oldest: Vec<String> = ages.into_iter().skip(most - 1).map(|(key, _)| key.clone()).collect();
    oldest.iter().for_each(|key| drop(sessions.remove(key)));
}

fn key(id: &SecretString) -> String {
    digest(&[id.expose_secret()])
}

/// Returns 256 random bits as hexadecimal digits; `None` if the operating system gives none.
pub(super) fn random_hex() -> Option<String> {
    let mut bytes = [0; 32];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The cookie of a session: sent back to this server alone, never with a request of another site, and read by no script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionCookie {
    /// Whether the browser sends it over TLS alone.
    pub(super) is_secure: bool,
}

impl SessionCookie {
    /// Returns its name. A browser takes the prefix `__Host-` only for a cookie that no other host can have set.
    fn name(self) -> &'static str {
        if self.is_secure { "__Host-bellwether" } else { "bellwether" }
    }

    fn read(self, headers: &HeaderMap) -> Option<SecretString> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find_map(|(name, value)| (name == self.name()).then(|| SecretString::from(value)))
    }

    /// Returns the value of `Set-Cookie` that gives the cookie this id; `None` for the id ends it.
    pub(super) fn set(self, id: Option<&SecretString>) -> Option<HeaderValue> {
        let (name, secure) = (self.name(), if self.is_secure { "; Secure" } else { "" });
        let (id, seconds) = id.map_or(("", 0), |id| (id.expose_secret(), LENGTH.as_millis() / 1000));
        let text = format!("{name}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(sessions: &Sessions, user: &str) -> HeaderMap {
        let credential = Credential::Token(SecretString::from("of-jane"));
        let id = sessions.begin(user.to_owned(), credential).unwrap();
        let cookie = format!("other=1; bellwether={}", id.expose_secret());
        [(header::COOKIE, HeaderValue::from_str(&cookie).unwrap())].into_iter().collect()
    }

    const PLAIN: SessionCookie = SessionCookie { is_secure: false };

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_after_its_length() {
        let sessions = Sessions::default();
        let cookie = begin(&sessions, "jane");
        tokio::time::advance(LENGTH.to_std() - std::time::Duration::from_secs(1)).await;
        assert_eq!(sessions.of(&cookie, PLAIN).unwrap().user, "jane");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(sessions.of(&cookie, PLAIN).is_none());
        assert!(sessions.change(|sessions| sessions.is_empty()), "its token is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_session_gives_way_to_a_further_one() {
        let sessions = Sessions::default();
        let mut cookies = Vec::new();
        let other = begin(&sessions, "ann");
        for _ in 0..=MOST_OF_A_USER {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            cookies.push(begin(&sessions, "jane"));
        }
        let lives = |cookie: &HeaderMap| sessions.of(cookie, PLAIN).is_some();
        assert_eq!((lives(&cookies[0]), lives(&cookies[1]), lives(&other)), (false, true, true));
        for user in 0..MOST_SESSIONS - MOST_OF_A_USER {
            begin(&sessions, &format!("user-{user}"));
        }
        assert_eq!((lives(&other), lives(&cookies[1])), (false, true), "the oldest of all");
        assert_eq!(sessions.change(|sessions| sessions.len()), MOST_SESSIONS);
    }

    #[test]
    fn a_cookie_is_read_by_its_own_server_alone() {
        let id = SecretString::from("1f");
        let set = |is_secure, id| SessionCookie { is_secure }.set(id).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            set(true, Some(&id)),
            "__Host-bellwether=1f; Path=/; HttpOnly; SameSite=Strict; Max-Age=28800; Secure"
        );
        assert_eq!(set(false, None), "bellwether=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    }
}
