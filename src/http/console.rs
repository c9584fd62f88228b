//! The console: pages for people, rendered here, that work without scripts. Their templates are in `templates/`.
//!
//! A page reads the views in place and copies only the parts that it shows. The one script, `/live.js`, asks for the page again when
//! [`live`] tells of a change. Pages only read, but for the forms of people who are [signed in](sign_in): they [act](act) on a rollout.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use bellwether_core::time::Timestamp;
use serde::Deserialize;

use self::fleet::{FleetPage, FleetQuery, Wanted};
use self::freeze::FreezesPart;
use self::gates::GatesPage;
use self::health::HealthPage;
use self::history::HistoryPage;
use self::models::ModelsPage;
use self::policies::PoliciesPage;
use self::rollout::{RolloutFacts, RolloutPage};
use self::text::When;
use super::answer::{PostAnswer, problem};
use super::rollouts::{chosen, with_age};
use super::state::App;
use crate::show::ViewAges;

mod text;
mod headline;
mod chart;
mod visit;
mod verbs;
mod sign_in;
mod sending;
mod act;
mod freeze;
mod fleet;
mod rollout;
mod history;
mod policies;
mod gates;
mod models;
mod dead_letters;
mod health;
pub(super) mod live;

pub(super) use self::visit::Visit;

/// The largest body of a posted form, in bytes: that of a token with many groups in it.
const FORM_LIMIT: usize = 64 << 10;

/// Returns the routes of the pages with rollouts.
pub(super) fn pages() -> Router<App> {
    Router::new()
        .route("/", get(fleet))
        .route("/rollouts/{id}", get(rollout))
        .route("/workloads/{*workload}", get(history))
        .route("/rollouts/{id}/act", get(act::page).post(act::send).layer(DefaultBodyLimit::max(FORM_LIMIT)))
        .route("/freeze", get(freeze::page).post(freeze::send).layer(DefaultBodyLimit::max(FORM_LIMIT)))
        .route("/policies", get(policies))
        .route("/gates", get(gates))
        .route("/models", get(models))
        .route("/dead-letters", get(dead_letters::list))
        .route(
            "/dead-letters/{id}",
            get(dead_letters::page).post(dead_letters::send).layer(DefaultBodyLimit::max(FORM_LIMIT)),
        )
        .route("/health", get(health))
        .route("/live", get(live::stream))
}

/// Returns the routes of the sign-in, and of the files that pages refer to.
pub(super) fn entrance() -> Router<App> {
    Router::new()
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in).layer(DefaultBodyLimit::max(FORM_LIMIT)))
        .route("/sign-out", post(sign_in::sign_out).layer(DefaultBodyLimit::max(FORM_LIMIT)))
        .merge(files())
}

/// Returns the routes of the files that pages refer to.
pub(super) fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/style.css", get(async || asset("text/css; charset=utf-8", include_str!("console/style.css"))))
        .route("/live.js", get(async || asset("text/javascript; charset=utf-8", include_str!("console/live.js"))))
        .route("/icon.svg", get(async || asset("image/svg+xml", include_str!("console/icon.svg"))))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// The parts around each page.
struct Frame {
    /// The page in the list of pages that is open: `rollouts`, `policies`, `gates`, `models`, `dead-letters` or
    /// `health`.
    section: &'static str,
    /// The address of the stream that tells of changes.
    live: String,
    /// The problem of the views; `None` if they are complete.
    problem: Option<String>,
    /// The time at which the page was rendered.
    now: When,
    version: &'static str,
    /// Whether people can sign in here.
    has_sign_in: bool,
    /// Whether people who are signed in can act.
    acts: bool,
    /// The address of the page, to come back to it.
    here: String,
    /// The person who is signed in; `None` if none is.
    user: Option<FrameUser>,
}

/// The person who is signed in. It can't be printed.
struct FrameUser {
    name: String,
    /// The token for the forms of the session.
    form_token: String,
}

impl Frame {
    fn new(section: &'static str, live: String, ages: &ViewAges, now: Timestamp, visit: &Visit) -> Frame {
        let now = When::seen(now, now);
        let user = visit
            .session
            .as_ref()
            .map(|session| FrameUser { name: session.user.clone(), form_token: session.form_token().to_owned() });
        let Visit { has_sign_in, acts, ref here, .. } = *visit;
        let (here, version, problem) = (here.clone(), env!("CARGO_PKG_VERSION"), ages.problem());
        Frame { section, live, problem, now, version, has_sign_in, acts, here, user }
    }

    fn form_token(&self) -> &str {
        self.user.as_ref().map_or("", |user| &user.form_token)
    }
}

/// The page in place of one that does not exist.
#[derive(Template)]
#[template(path = "missing.html")]
struct MissingPage {
    frame: Frame,
    message: String,
}

/// Returns a page as an answer with the status.
pub(super) fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page can't be rendered");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the page can't be rendered; the log has the error")
        }
    }
}

async fn fleet(State(app): State<App>, Query(query): Query<FleetQuery>, visit: Visit) -> Response {
    let (ages, now) = (&app.shown.ages, app.shown.clock.now());
    let event = query.event.clone();
    let wanted = Wanted::of(query);
    // No view is published while this one is borrowed, so it is borrowed for the selection alone.
    let (selection, freezes) = {
        let view = app.shown.view.borrow();
        (fleet::select(&view, ages, &wanted, now), FreezesPart::of(&view, event.as_deref(), now))
    };
    let frame = Frame::new("rollouts", "/live".to_owned(), ages, now, &visit);
    with_age(ages, ages.oldest(), render(StatusCode::OK, &FleetPage::new(frame, wanted, selection, freezes)))
}

/// The query of a rollout's page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RolloutQuery {
    /// The id of an event that was sent from here, whose answer is shown.
    event: Option<String>,
}

async fn rollout(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<RolloutQuery>,
    visit: Visit,
) -> Response {
    let (ages, now) = (&app.shown.ages, app.shown.clock.now());
    // Taken before the view, which can only be newer then.
    let unread = ages.unread();
    let event = query.event.as_deref();
    let facts = RolloutFacts::of(&app.shown.view.borrow(), ages, &id, event);
    let mut live = form_urlencoded::Serializer::new(String::new());
    live.append_pair("rollout", &id).extend_pairs(event.map(|event| ("event", event)));
    let frame = Frame::new("rollouts", format!("/live?{}", live.finish()), ages, now, &visit);
    let Some(facts) = facts else { return not_found(ages, frame, &format!("rollout {id}"), unread) };
    let age = facts.age();
    let page = RolloutPage::new(frame, facts, app.shown.courses.of(&id), now);
    with_age(ages, age, render(StatusCode::OK, &page))
}

async fn history(State(app): State<App>, Path(workload): Path<String>, visit: Visit) -> Response {
    let (ages, now) = (&app.shown.ages, app.shown.clock.now());
    // Taken before the view, which can only be newer then.
    let unread = ages.unread();
    let rollouts = chosen(&app.shown.view.borrow(), ages, |rollout| rollout.workload == workload);
    let frame = Frame::new("rollouts", "/live".to_owned(), ages, now, &visit);
    if rollouts.is_empty() {
        return not_found(ages, frame, &format!("rollout of {workload}"), unread);
    }
    let age = rollouts.iter().filter_map(|rollout| rollout.age).max();
    with_age(ages, age, render(StatusCode::OK, &HistoryPage::new(frame, workload, rollouts, now)))
}

async fn policies(State(app): State<App>, visit: Visit) -> Response {
    let frame = Frame::new("policies", "/live?health=true".to_owned(), &app.shown.ages, app.shown.clock.now(), &visit);
    let page = PoliciesPage::new(frame, &app.shown.policies.borrow());
    render(StatusCode::OK, &page)
}

async fn gates(State(app): State<App>, visit: Visit) -> Response {
    let (shown, now) = (&app.shown, app.shown.clock.now());
    let frame = Frame::new("gates", "/live".to_owned(), &shown.ages, now, &visit);
    let page = GatesPage::new(frame, &shown.policies.borrow(), &shown.view.borrow(), now);
    with_age(&shown.ages, shown.ages.oldest(), render(StatusCode::OK, &page))
}

async fn models(State(app): State<App>, visit: Visit) -> Response {
    let list = match &app.shown.models {
        Some(models) => models.list().await,
        None => Err("this daemon has no registry".to_owned()),
    };
    let now = app.shown.clock.now();
    let frame = Frame::new("models", "/live?health=true".to_owned(), &app.shown.ages, now, &visit);
    render(StatusCode::OK, &ModelsPage::new(frame, list, now))
}

async fn health(State(app): State<App>, visit: Visit) -> Response {
    let (shown, now) = (&app.shown, app.shown.clock.now());
    let silent = shown.heartbeat.borrow().elapsed();
    let silent = (silent > app.options.heartbeat.to_std()).then_some(silent.as_secs());
    let frame = Frame::new("health", "/live?health=true".to_owned(), &shown.ages, now, &visit);
    let (conditions, config) = (shown.conditions.borrow().clone(), shown.config.borrow().clone());
    let age = shown.ages.oldest().map(|age| age.to_string());
    let page = HealthPage::new(frame, conditions, silent, &shown.view.borrow(), age, config, now);
    render(StatusCode::OK, &page)
}

/// Returns the answer to a request for a rollout, as `what` names it, that is not known. `unread` names the partitions that were not
/// read before.
fn not_found(ages: &ViewAges, frame: Frame, what: &str, unread: Option<String>) -> Response {
    let (status, message) = match unread {
        Some(unread) => (StatusCode::SERVICE_UNAVAILABLE, format!("There is no {what} so far, and {unread}.")),
        None => (StatusCode::NOT_FOUND, format!("There is no {what}, or it was forgotten.")),
    };
    with_age(ages, ages.oldest(), render(status, &MissingPage { frame, message }))
}

/// Returns the answer to a request for a page that does not exist.
fn no_page(app: &App, visit: &Visit) -> Response {
    page_of(app, visit, StatusCode::NOT_FOUND, "There is no such page.".to_owned())
}

/// Returns the answer to a request for the sign-in of a daemon that has none.
fn no_sign_in(app: &App, visit: &Visit) -> Response {
    let message = "This daemon signs people in only with http.authenticate, and http.events or http.read = \"token\", in its configuration.";
    page_of(app, visit, StatusCode::NOT_FOUND, message.to_owned())
}

/// Returns a page with nothing but a message.
fn page_of(app: &App, visit: &Visit, status: StatusCode, message: String) -> Response {
    let frame = Frame::new("", String::new(), &app.shown.ages, app.shown.clock.now(), visit);
    render(status, &MissingPage { frame, message })
}

/// Returns the answer to a browser whose person may not read: the sign-in if it is not known who they are, and else the reason.
pub(super) fn turned_back(app: &App, visit: &Visit, answer: PostAnswer) -> Response {
    if answer.status == StatusCode::UNAUTHORIZED {
        return visit::sign_in_first(visit);
    }
    page_of(app, visit, answer.status, answer.message)
}

/// Whether a request comes from a browser that wants a page.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

/// Returns the answer to a request that no route takes: a page for a browser, and JSON for a program.
pub(super) async fn missing(State(app): State<App>, visit: Visit, request: axum::extract::Request) -> Response {
    if !wants_page(request.headers()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    no_page(&app, &visit)
}

#[cfg(test)]
pub(in crate::http) mod tests;
