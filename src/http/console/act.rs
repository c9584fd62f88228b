//! The form of a verb: a posted form becomes the event that `bellwether emit` would send, and goes the way of each posted event.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Form};
use bellwether_core::engine::view::{OfferView, RolloutView};
use bellwether_core::ids::Workload;
use serde::Deserialize;
use serde_json::json;

use super::headline::Headline;
use super::sending::{LONGEST_REASON, ReasonForm, SOURCE, check_event_id, deliver, new_event_id, no_form, read_form};
use super::verbs::{VerbWords, rollout_link};
use super::visit::{Visit, see};
use super::{Frame, no_page, not_found, render};
use crate::events::cdevents::{VERB, VERB_VERSION, wrap};
use crate::events::cloudevents::CloudEvent;
use crate::http::answer::PostAnswer;
use crate::http::rollouts::of_id;
use crate::http::serve::Peer;
use crate::http::state::App;
use crate::ports::EventRecord;

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
    /// The id of the event, so that a form that is sent twice is one event.
    #[serde(default)]
    event: String,
    #[serde(flatten)]
    base: ReasonForm,
}

impl VerbForm {
    /// Returns an empty form for a verb, with the id of its event.
    fn empty(VerbQuery { verb, full, approval }: VerbQuery, event: String) -> VerbForm {
        VerbForm { verb, full, approval, event, base: ReasonForm::default() }
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
            reason: form.base.reason,
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
    if let Some(answer) = no_form(&app, &visit) {
        return answer;
    }
    let unread = app.shown.ages.unread();
    let Some(rollout) = rollout(&app, &id) else {
        return not_found(&app.shown.ages, frame(&app, &visit), &format!("rollout {id}"), unread);
    };
    VerbPage::answer(&app, &visit, &rollout, VerbForm::empty(query, new_event_id()), None)
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
    let form = match read_form(&app, peer, &visit, form) {
        Ok(form) => form,
        Err(answer) => return *answer,
    };
    let unread = app.shown.ages.unread();
    let Some(rollout) = rollout(&app, &id) else {
        return not_found(&app.shown.ages, frame(&app, &visit), &format!("rollout {id}"), unread);
    };
    if form.words(&rollout).is_none() {
        return no_page(&app, &visit);
    }
    let record = |reason: &str| check_event_id(&form.event).map(|()| record_of(&app, &rollout, &form, reason));
    let (visit, answer) = deliver(&app, peer, visit, &headers, &form.base, record).await;
    if answer.is_sent {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("event", &form.event).finish();
        return see(&format!("{}?{query}", rollout_link(&rollout.id)));
    }
    VerbPage::answer(&app, &visit, &rollout, form, Some(answer))
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
