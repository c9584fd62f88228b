//! The form of a verb, and its way to the daemon: a posted form becomes the event that `bellwether emit` would send, and goes the way of
//! each posted event. The rules of rollouts are the engine's alone: a verb that has become impossible is sent, and its refusal shown.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Form};
use bellwether_core::engine::view::{AnswerView, OfferView, RolloutView};
use bellwether_core::ids::Workload;
use serde::Deserialize;
use serde_json::json;

use super::headline::Headline;
use super::verbs::{VerbWords, rollout_link};
use super::visit::{Visit, see, turned_away};
use super::{Frame, no_page, not_found, render};
use crate::events::cdevents::{VERB, VERB_VERSION, wrap};
use crate::events::cloudevents::CloudEvent;
use crate::http::answer::{HttpRefusal, PostAnswer, refused};
use crate::http::intake::post;
use crate::http::rollouts::of_id;
use crate::http::senders::Credential;
use crate::http::serve::Peer;
use crate::http::sessions::random_hex;
use crate::http::state::App;
use crate::ports::EventRecord;

/// The source of the events of this page. The daemon adds the user.
pub(super) const SOURCE: &str = "/bellwether-console";
/// The length of the id of an event, in hexadecimal digits.
const EVENT_ID_LENGTH: usize = 32;
/// The longest reason, in characters.
const LONGEST_REASON: usize = 1000;

/// The query of the page with a verb's form.
#[derive(Debug, Deserialize)]
pub(super) struct VerbQuery {
    verb: String,
    #[serde(default)]
    full: bool,
    approval: Option<String>,
}

/// A verb's form.
#[derive(Deserialize)]
pub(super) struct VerbForm {
    verb: String,
    #[serde(default)]
    full: bool,
    approval: Option<String>,
    /// The token of the session's forms.
    #[serde(default)]
    form: String,
    /// The id of the event, so that a form that is sent twice is one event.
    #[serde(default)]
    event: String,
    #[serde(default)]
    reason: String,
}

impl VerbForm {
    /// Returns an empty form for a verb, with the id of its event.
    fn empty(VerbQuery { verb, full, approval }: VerbQuery, event: String) -> VerbForm {
        VerbForm { verb, full, approval, form: String::new(), event, reason: String::new() }
    }

    /// Returns the verb as the rollout offers it, with the conditions that it skips; `None` if the rollout does not admit it now.
    fn offered<'a>(&self, rollout: &'a RolloutView) -> Option<&'a OfferView> {
        let wanted = (&self.verb, self.full, &self.approval);
        rollout.verbs.iter().find(|offer| (&offer.verb, offer.full, &offer.approval) == wanted)
    }

    /// Returns the words of the verb; `None` if it is no verb for a rollout.
    fn words(&self, rollout: &RolloutView) -> Option<VerbWords> {
        let (verb, full, approval) = (self.verb.clone(), self.full, self.approval.clone());
        let other = OfferView { verb, full, approval, skips: Vec::new() };
        VerbWords::of(self.offered(rollout).unwrap_or(&other), rollout)
    }
}

#[derive(Template)]
#[template(path = "verb.html")]
struct VerbPage {
    frame: Frame,
    head: Headline,
    back: String,
    /// The verb; its skipped conditions are those of now, if the rollout admits it now.
    words: VerbWords,
    is_offered: bool,
    /// The problem of the last attempt.
    message: Option<String>,
    reason: String,
    longest: usize,
    event: String,
}

impl VerbPage {
    fn answer(app: &App, visit: &Visit, rollout: &RolloutView, form: VerbForm, failed: Option<PostAnswer>) -> Response {
        let is_offered = form.offered(rollout).is_some();
        let Some(words) = form.words(rollout) else { return no_page(app, visit) };
        let status = match &failed {
            Some(failed) => failed.status,
            None if is_offered => StatusCode::OK,
            None => StatusCode::CONFLICT,
        };
        let page = VerbPage {
            frame: frame(app, visit),
            head: Headline::of(rollout),
            back: rollout_link(&rollout.id),
            words,
            is_offered,
            message: failed.map(|failed| failed.message),
            reason: form.reason,
            longest: LONGEST_REASON,
            event: form.event,
        };
        render(status, &page)
    }
}

/// Handles `GET /rollouts/ID/act`: the form of one verb. A person who is not signed in is sent to sign in first.
pub(super) async fn page(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<VerbQuery>,
    visit: Visit,
) -> Response {
    if !visit.acts {
        return no_page(&app, &visit);
    }
    if visit.session.is_none() {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("to", &visit.here).finish();
        return see(&format!("/sign-in?{query}"));
    }
    let unread = app.shown.ages.unread();
    let Some(rollout) = rollout(&app, &id) else {
        return not_found(&app.shown.ages, frame(&app, &visit), &format!("rollout {id}"), unread);
    };
    let event: String = random_hex().unwrap_or_default().chars().take(EVENT_ID_LENGTH).collect();
    VerbPage::answer(&app, &visit, &rollout, VerbForm::empty(query, event), None)
}

/// Handles `POST /rollouts/ID/act`: sends the verb, and then shows the rollout with the answer. A form that is not sent is shown again.
pub(super) async fn send(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<VerbForm>, FormRejection>,
) -> Response {
    if !visit.acts {
        return no_page(&app, &visit);
    }
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => {
            refused(peer, HttpRefusal::Body);
            return super::page_of(&app, &visit, rejection.status(), rejection.body_text());
        }
    };
    let unread = app.shown.ages.unread();
    let Some(rollout) = rollout(&app, &id) else {
        return not_found(&app.shown.ages, frame(&app, &visit), &format!("rollout {id}"), unread);
    };
    if form.words(&rollout).is_none() {
        return no_page(&app, &visit);
    }
    let answer = match checked(&app, peer, &visit, &headers, &form) {
        Ok((credential, reason)) => {
            let record = record_of(&app, &rollout, &form, &reason);
            // Before the server's own deadline, so that the form is shown again, with the id of its event.
            let within = app.options.timeout.to_std().mul_f64(0.9);
            let unknown = "It is not known whether the verb was accepted. Send it again: it is the same event then.";
            let posted = tokio::time::timeout(within, post(&app, peer, record, Some(credential)));
            posted.await.unwrap_or_else(|_| PostAnswer::busy(unknown))
        }
        Err(answer) => answer,
    };
    if answer.is_sent {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("event", &form.event).finish();
        return see(&format!("{}?{query}", rollout_link(&rollout.id)));
    }
    if answer.status == StatusCode::UNAUTHORIZED && visit.session.is_some() {
        // The token has expired or was withdrawn, so the session is worth nothing any more.
        app.sessions.end(&headers, app.cookie());
        let message = "Your token is not valid any more. Nothing was sent.";
        let (visit, answer) = (Visit { session: None, ..visit }, PostAnswer::unsent(answer.status, message));
        return VerbPage::answer(&app, &visit, &rollout, form, Some(answer));
    }
    VerbPage::answer(&app, &visit, &rollout, form, Some(answer))
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
    form: &VerbForm,
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
    if !is_event_id(&form.event) {
        return Err(PostAnswer::unsent(
            StatusCode::BAD_REQUEST,
            "The form has no id of its event; open the page again.",
        ));
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

fn frame(app: &App, visit: &Visit) -> Frame {
    Frame::new("rollouts", String::new(), &app.shown.ages, app.shown.clock.now(), visit)
}

/// Returns the event of a form as the record of a posted event.
fn record_of(app: &App, rollout: &RolloutView, form: &VerbForm, reason: &str) -> EventRecord {
    let VerbForm { verb, full, approval, .. } = form;
    let workload: Option<Workload> = rollout.workload.parse().ok();
    let mut content = json!({ "workload": workload, "rollout": rollout.id, "reason": reason });
    if *full {
        content["full"] = json!(true);
    }
    if let Some(approval) = approval {
        content["approval"] = json!(approval);
    }
    let ty = format!("{VERB}{verb}{VERB_VERSION}");
    let event: CloudEvent = wrap(&ty, SOURCE, &form.event, app.shown.clock.now(), &rollout.workload, content);
    event.to_record(&rollout.workload)
}

fn rollout(app: &App, id: &str) -> Option<Arc<RolloutView>> {
    of_id(&app.shown.view.borrow(), &app.shown.ages, id)
}

/// Whether a text is the id of an event of this page.
pub(super) fn is_event_id(text: &str) -> bool {
    text.len() == EVENT_ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The answer to a verb that was sent from here.
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
        is_event_id(event).then(|| SentRow { event: event.to_owned(), class, result, reason })
    }
}
