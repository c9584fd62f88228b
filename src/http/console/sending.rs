//! The part of each form that sends an event: its checks, and its way to the daemon. The rules of rollouts are the engine's alone: an
//! event that has become impossible is sent, and its refusal shown.

use axum::extract::Form;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bellwether_core::engine::view::AnswerView;
use serde::Deserialize;

use super::visit::{Visit, sign_in_first, turned_away};
use super::{no_page, page_of};
use crate::http::answer::{HttpRefusal, PostAnswer, refused};
use crate::http::intake::post;
use crate::http::senders::Credential;
use crate::http::serve::Peer;
use crate::http::sessions::random_hex;
use crate::http::state::App;
use crate::ports::EventRecord;

/// The source of the events of these pages. The daemon adds the user.
pub(super) const SOURCE: &str = "/bellwether-console";
/// The length of the id of an event, in hexadecimal digits.
const EVENT_ID_LENGTH: usize = 32;
/// The longest reason, in characters.
pub(super) const LONGEST_REASON: usize = 1000;

/// The fields of each form that sends an event.
#[derive(Default, Deserialize)]
pub(super) struct ReasonForm {
    /// The token of the session's forms.
    #[serde(default)]
    form: String,
    #[serde(default)]
    pub(super) reason: String,
}

/// Returns the answer in place of a form: there is none where people can't act, and a person who is not signed in is sent to sign in
/// first. `None`: the form is shown.
pub(super) fn no_form(app: &App, visit: &Visit) -> Option<Response> {
    if !visit.acts {
        return Some(no_page(app, visit));
    }
    visit.session.is_none().then(|| sign_in_first(visit))
}

/// Returns a posted form.
///
/// # Errors
/// The answer where people can't act, or to a form that can't be read.
pub(super) fn read_form<T>(
    app: &App,
    peer: Peer,
    visit: &Visit,
    form: Result<Form<T>, FormRejection>,
) -> Result<T, Box<Response>> {
    if !visit.acts {
        return Err(no_page(app, visit).into());
    }
    form.map(|Form(form)| form).map_err(|rejection| {
        refused(peer, HttpRefusal::Body);
        page_of(app, visit, rejection.status(), rejection.body_text()).into()
    })
}

/// Sends the event of a form, which `record` makes with the reason. Returns the visit as it is afterwards, and the answer.
pub(super) async fn deliver(
    app: &App,
    peer: Peer,
    visit: Visit,
    headers: &HeaderMap,
    form: &ReasonForm,
    record: impl FnOnce(&str) -> Result<EventRecord, PostAnswer>,
) -> (Visit, PostAnswer) {
    let event =
        checked(app, peer, &visit, headers, form).and_then(|(credential, reason)| Ok((credential, record(&reason)?)));
    let answer = match event {
        Ok((credential, record)) => {
            // Before the server's own deadline, so that the form is shown again, with the same event.
            let unknown = "It is not known whether the event was accepted. Send it again: it is the same event then.";
            let posted = tokio::time::timeout(app.patience(), post(app, peer, record, Some(credential)));
            posted.await.unwrap_or_else(|_| PostAnswer::busy(unknown))
        }
        Err(answer) => answer,
    };
    if answer.status == StatusCode::UNAUTHORIZED && visit.session.is_some() {
        // The token has expired or was withdrawn, so the session is worth nothing any more.
        app.sessions.end(headers, app.cookie());
        let message = "Your token is not valid any more. Nothing was sent.";
        return (Visit { session: None, ..visit }, PostAnswer::unsent(answer.status, message));
    }
    (visit, answer)
}

/// Returns the credential of the person who has posted a form, and the reason in it.
///
/// # Errors
/// The answer to a form that is not sent.
fn checked<'a>(
    app: &App,
    peer: Peer,
    visit: &'a Visit,
    headers: &HeaderMap,
    form: &ReasonForm,
) -> Result<(&'a Credential, String), PostAnswer> {
    if let Some(answer) = turned_away(app, peer, headers) {
        return Err(answer);
    }
    let Some(session) = &visit.session else {
        refused(peer, HttpRefusal::Token);
        let message = "You are not signed in, or your session is over. Nothing was sent.";
        return Err(PostAnswer::unsent(StatusCode::UNAUTHORIZED, message));
    };
    if !session.has_made(&form.form) {
        refused(peer, HttpRefusal::WebPage);
        let message = "This form is of another session. Nothing was sent; look at it and send it again.";
        return Err(PostAnswer::unsent(StatusCode::FORBIDDEN, message));
    }
    let reason = plain(&form.reason);
    match reason.chars().count() {
        0 => {
            Err(PostAnswer::unsent(StatusCode::UNPROCESSABLE_ENTITY, "A reason is missing. Write why, for the others."))
        }
        length if length > LONGEST_REASON => {
            let message = format!("The reason has {length} characters; write at most {LONGEST_REASON}.");
            Err(PostAnswer::unsent(StatusCode::UNPROCESSABLE_ENTITY, message))
        }
        _ => Ok((&session.credential, reason)),
    }
}

/// Returns a text in one line, without control characters.
fn plain(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the id for the event of a new form; empty if the operating system gives no random numbers.
pub(super) fn new_event_id() -> String {
    random_hex().unwrap_or_default().chars().take(EVENT_ID_LENGTH).collect()
}

/// Checks the id of the event in a form. It is made with the form, so that a form that is sent twice is one event.
///
/// # Errors
/// The answer to a form without one.
pub(super) fn check_event_id(text: &str) -> Result<(), PostAnswer> {
    let missing =
        || PostAnswer::unsent(StatusCode::BAD_REQUEST, "The form has no id of its event; open the page again.");
    if is_event_id(text) { Ok(()) } else { Err(missing()) }
}

/// Whether a text is the id of an event of these pages.
pub(super) fn is_event_id(text: &str) -> bool {
    text.len() == EVENT_ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The answer to an event that was sent from here.
#[derive(Debug)]
pub(super) struct SentRow {
    pub(super) event: String,
    /// The CSS class.
    pub(super) class: &'static str,
    pub(super) result: &'static str,
    pub(super) reason: String,
}

impl SentRow {
    /// Returns the answer to the event with this id; `None` if it is not the id of an event of these pages.
    pub(super) fn of(event: &str, answer: Option<&AnswerView>) -> Option<SentRow> {
        is_event_id(event).then(|| SentRow::new(event, answer))
    }

    /// Returns the answer to the event with this id.
    pub(super) fn new(event: &str, answer: Option<&AnswerView>) -> SentRow {
        let (class, result, reason) = match answer {
            None => ("queued", "Sent", "The answer is not here yet; this page will show it.".to_owned()),
            Some(answer) => {
                let (class, result) = match answer.result.as_str() {
                    AnswerView::TAKEN => ("promoted", "Done"),
                    AnswerView::WAITING => ("queued", "Waiting"),
                    AnswerView::REFUSED => ("rolled-back", "Refused"),
                    _ => ("stopped", "Without effect"),
                };
                (class, result, answer.reason.clone())
            }
        };
        SentRow { event: event.to_owned(), class, result, reason }
    }
}
