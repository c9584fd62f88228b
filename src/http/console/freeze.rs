//! The freezes on the page of all rollouts, and the form that begins or ends one. It becomes the event that `bellwether emit freeze`
//! or `emit unfreeze` would send.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Form};
use bellwether_core::engine::view::{FreezeView, StatusView};
use bellwether_core::ids::{Scope, sender_name};
use bellwether_core::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::rollout::answer_to;
use super::sending::{
    LONGEST_REASON, ReasonForm, SOURCE, SentRow, check_event_id, deliver, new_event_id, no_form, read_form,
};
use super::text::{Place, When};
use super::visit::{Visit, see};
use super::{Frame, render};
use crate::events::cdevents::{VERB, VERB_VERSION, wrap};
use crate::http::answer::PostAnswer;
use crate::http::serve::Peer;
use crate::http::state::App;
use crate::ports::EventRecord;
use crate::show::verb::shell_word;

/// The most freezes that are listed.
const MOST_LISTED: usize = 20;
/// The most scopes that the form proposes.
const MOST_PROPOSED: usize = 200;
/// The longest scope, in bytes: each part of it is the name of an object of Kubernetes.
const LONGEST_SCOPE: usize = 1024;

/// The freezes in force, and the answer to one that was sent from here.
#[derive(Debug)]
pub(super) struct FreezesPart {
    pub(super) rows: Vec<FreezeRow>,
    /// The number of those that are not listed.
    pub(super) more: usize,
    pub(super) sent: Option<SentRow>,
}

/// A freeze in force.
#[derive(Debug)]
pub(super) struct FreezeRow {
    pub(super) scope: String,
    pub(super) by: String,
    pub(super) source: String,
    pub(super) why: String,
    pub(super) since: Option<When>,
    pub(super) until: Option<When>,
    /// The address of the form that ends it.
    pub(super) link: String,
}

impl FreezesPart {
    /// Returns the freezes of a view at `now`. `event` is the id of an event that was sent from here.
    pub(super) fn of(view: &StatusView, event: Option<&str>, now: Timestamp) -> FreezesPart {
        let frozen = view.frozen(now);
        FreezesPart {
            more: frozen.len().saturating_sub(MOST_LISTED),
            rows: frozen.into_iter().take(MOST_LISTED).map(|freeze| FreezeRow::of(freeze, now)).collect(),
            sent: event.and_then(|event| SentRow::of(event, answer_to(view, event))),
        }
    }
}

impl FreezeRow {
    fn of(freeze: FreezeView, now: Timestamp) -> FreezeRow {
        let FreezeView { scope, by, why, since, until } = freeze;
        let link = FreezeQuery { verb: FreezeVerb::Unfreeze, scope: scope.clone() }.link();
        let when = |at: Timestamp| When::seen(at, now);
        FreezeRow {
            by: sender_name(&by).to_owned(),
            source: by,
            why: why.unwrap_or_else(|| "no reason was given".to_owned()),
            since: since.map(when),
            until: until.map(when),
            scope,
            link,
        }
    }
}

/// The verb of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FreezeVerb {
    #[default]
    Freeze,
    Unfreeze,
}

impl FreezeVerb {
    fn name(self) -> &'static str {
        match self {
            FreezeVerb::Freeze => "freeze",
            FreezeVerb::Unfreeze => "unfreeze",
        }
    }

    fn label(self) -> &'static str {
        match self {
            FreezeVerb::Freeze => "Freeze",
            FreezeVerb::Unfreeze => "Unfreeze",
        }
    }
}

/// The query of the form's page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FreezeQuery {
    verb: FreezeVerb,
    scope: String,
}

impl FreezeQuery {
    /// Returns the address of the page.
    fn link(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("verb", self.verb.name()).append_pair("scope", &self.scope);
        format!("/freeze?{}", query.finish())
    }
}

/// The form.
#[derive(Deserialize)]
pub(super) struct FreezeForm {
    #[serde(default)]
    verb: FreezeVerb,
    #[serde(default)]
    scope: String,
    /// The end in UTC, as a browser's field for a date and a time of day has it; empty for none.
    #[serde(default)]
    until: String,
    /// The id of the event, so that a form that is sent twice is one event.
    #[serde(default)]
    event: String,
    #[serde(flatten)]
    base: ReasonForm,
}

#[derive(Template)]
#[template(path = "freeze.html")]
struct FreezePage {
    frame: Frame,
    verb: FreezeVerb,
    scope: String,
    /// The scopes that are proposed: the cluster, and the namespaces and workloads of known rollouts.
    proposed: Vec<String>,
    until: String,
    reason: String,
    event: String,
    longest: usize,
    longest_scope: usize,
    /// The address of this page, to come back to after the sign-in.
    link: String,
    /// The same in a terminal.
    command: String,
    /// The problem of the last attempt.
    message: Option<String>,
}

impl FreezePage {
    fn answer(app: &App, visit: &Visit, form: FreezeForm, failed: Option<PostAnswer>) -> Response {
        let status = failed.as_ref().map_or(StatusCode::OK, |failed| failed.status);
        let FreezeForm { verb, scope, until, event, base } = form;
        let scopes = proposed(app);
        let named = if scope.is_empty() { scopes.first().map_or("CLUSTER", String::as_str) } else { &scope };
        let page = FreezePage {
            frame: Frame::new("rollouts", String::new(), &app.shown.ages, app.shown.clock.now(), visit),
            command: format!("bellwether emit {} --scope {} --reason …", verb.name(), shell_word(named)),
            link: FreezeQuery { verb, scope: scope.clone() }.link(),
            proposed: scopes,
            longest: LONGEST_REASON,
            longest_scope: LONGEST_SCOPE,
            message: failed.map(|failed| failed.message),
            reason: base.reason,
            verb,
            scope,
            until,
            event,
        };
        render(status, &page)
    }
}

/// Returns the cluster, and then the namespaces and the workloads of the rollouts that are shown.
fn proposed(app: &App) -> Vec<String> {
    let view = app.shown.view.borrow();
    let (mut namespaces, mut workloads) = (BTreeSet::new(), BTreeSet::new());
    for rollout in view.rollouts.values().chain(view.followed.values()) {
        let Place { cluster, namespace, .. } = Place::of(&rollout.workload);
        if !namespace.is_empty() {
            namespaces.insert(format!("{cluster}/{namespace}"));
            workloads.insert(rollout.workload.clone());
        }
    }
    let cluster = app.actors().map(|senders| senders.decoding.cluster.clone());
    cluster.into_iter().chain(namespaces).chain(workloads).take(MOST_PROPOSED).collect()
}

/// Handles `GET /freeze`. A person who is not signed in is sent to sign in first.
pub(super) async fn page(State(app): State<App>, Query(query): Query<FreezeQuery>, visit: Visit) -> Response {
    if let Some(answer) = no_form(&app, &visit) {
        return answer;
    }
    let FreezeQuery { verb, scope } = query;
    let (event, base) = (new_event_id(), ReasonForm::default());
    FreezePage::answer(&app, &visit, FreezeForm { verb, scope, until: String::new(), event, base }, None)
}

/// Handles `POST /freeze`: sends the verb, and then shows all rollouts with the answer. A form that is not sent is shown again.
pub(super) async fn send(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<FreezeForm>, FormRejection>,
) -> Response {
    let form = match read_form(&app, peer, &visit, form) {
        Ok(form) => form,
        Err(answer) => return *answer,
    };
    let record = |reason: &str| check_event_id(&form.event).and_then(|()| record_of(&app, &form, reason));
    let (visit, answer) = deliver(&app, peer, visit, &headers, &form.base, record).await;
    if answer.is_sent {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("event", &form.event).finish();
        return see(&format!("/?{query}"));
    }
    FreezePage::answer(&app, &visit, form, Some(answer))
}

/// Returns the event of a form as the record of a posted event.
///
/// # Errors
/// The scope is no scope, or the end no time.
fn record_of(app: &App, form: &FreezeForm, reason: &str) -> Result<EventRecord, PostAnswer> {
    let unsent = |message: String| PostAnswer::unsent(StatusCode::UNPROCESSABLE_ENTITY, message);
    let scope: Scope = form.scope.trim().parse().map_err(|error| unsent(format!("{error}.")))?;
    let mut content = json!({ "scope": scope, "reason": reason });
    if form.verb == FreezeVerb::Freeze && !form.until.trim().is_empty() {
        content["until"] = json!(end_of(form.until.trim()).map_err(unsent)?);
    }
    let (ty, scope) = (format!("{VERB}{}{VERB_VERSION}", form.verb.name()), scope.to_string());
    Ok(wrap(&ty, SOURCE, &form.event, app.shown.clock.now(), &scope, content).to_record(&scope))
}

/// Returns the instant that a field for a date and a time of day has, in UTC.
fn end_of(text: &str) -> Result<Timestamp, String> {
    let with_seconds = [format!("{text}Z"), format!("{text}:00Z"), text.to_owned()];
    let end = with_seconds.iter().find_map(|text| text.parse().ok());
    end.ok_or_else(|| format!("{text:?} is no time; write it in UTC, as in 2026-01-31T12:00."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_in_utc_as_browsers_and_people_write_it() {
        let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for text in ["2026-01-31T12:00", "2026-01-31T12:00:00", "2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00"] {
            assert_eq!(end_of(text), Ok(noon), "{text}");
        }
        for text in ["noon", "2026-01-31", "12:00"] {
            assert!(end_of(text).unwrap_err().contains("is no time"), "{text}");
        }
    }
}
