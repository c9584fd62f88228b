//! The console: pages for people, rendered here, that work without scripts. Their templates are in `templates/`.
//!
//! A page reads the views in place and copies only the parts that it shows. The one script, `/live.js`, asks for the page again when
//! [`live`] tells of a change. All pages only read.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use bellwether_core::time::Timestamp;

use self::fleet::{FleetPage, FleetQuery, Wanted};
use self::health::HealthPage;
use self::rollout::{RolloutFacts, RolloutPage};
use self::text::When;
use super::answer::problem;
use super::rollouts::with_age;
use super::state::App;
use crate::show::ViewAges;

mod chart;
mod fleet;
mod headline;
mod health;
pub(super) mod live;
mod rollout;
mod standing;
mod text;

/// Returns the routes of the console.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(fleet))
        .route("/rollouts/{id}", get(rollout))
        .route("/health", get(health))
        .route("/live", get(live::stream))
        .route("/style.css", get(async || asset("text/css; charset=utf-8", include_str!("console/style.css"))))
        .route("/live.js", get(async || asset("text/javascript; charset=utf-8", include_str!("console/live.js"))))
        .route("/icon.svg", get(async || asset("image/svg+xml", include_str!("console/icon.svg"))))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// The parts around each page.
struct Frame {
    /// The page in the list of pages that is open: `rollouts` or `health`.
    section: &'static str,
    /// The address of the stream that tells of changes.
    live: String,
    /// The problem of the views; `None` if they are complete.
    problem: Option<String>,
    /// The time at which the page was rendered.
    now: When,
    version: &'static str,
}

impl Frame {
    fn new(section: &'static str, live: String, ages: &ViewAges, now: Timestamp) -> Frame {
        let now = When::seen(now, now);
        Frame { section, live, problem: ages.problem(), now, version: env!("CARGO_PKG_VERSION") }
    }
}

/// The page in place of one that does not exist.
#[derive(Template)]
#[template(path = "missing.html")]
struct MissingPage {
    frame: Frame,
    message: String,
}

fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page can't be rendered");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the page can't be rendered; the log has the error")
        }
    }
}

async fn fleet(State(app): State<App>, Query(query): Query<FleetQuery>) -> Response {
    let (ages, now) = (&app.shown.ages, app.shown.clock.now());
    let wanted = Wanted::of(query);
    // No view is published while this one is borrowed, so it is borrowed for the selection alone.
    let selection = fleet::select(&app.shown.view.borrow(), ages, &wanted, now);
    let frame = Frame::new("rollouts", "/live".to_owned(), ages, now);
    with_age(ages, ages.oldest(), render(StatusCode::OK, &FleetPage::new(frame, wanted, selection)))
}

async fn rollout(State(app): State<App>, Path(id): Path<String>) -> Response {
    let (ages, now) = (&app.shown.ages, app.shown.clock.now());
    // Taken before the view, which can only be newer then.
    let unread = ages.unread();
    let facts = RolloutFacts::of(&app.shown.view.borrow(), ages, &id);
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("rollout", &id).finish();
    let frame = Frame::new("rollouts", format!("/live?{query}"), ages, now);
    let Some(facts) = facts else {
        let (status, message) = match unread {
            Some(unread) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("There is no rollout {id} so far, and {unread}."))
            }
            None => (StatusCode::NOT_FOUND, format!("There is no rollout {id}, or it was forgotten.")),
        };
        return with_age(ages, ages.oldest(), render(status, &MissingPage { frame, message }));
    };
    let age = facts.age();
    let page = RolloutPage::new(frame, facts, app.shown.courses.of(&id), now);
    with_age(ages, age, render(StatusCode::OK, &page))
}

async fn health(State(app): State<App>) -> Response {
    let (shown, now) = (&app.shown, app.shown.clock.now());
    let silent = shown.heartbeat.borrow().elapsed();
    let silent = (silent > app.options.heartbeat.to_std()).then_some(silent.as_secs());
    let frame = Frame::new("health", "/live?health=true".to_owned(), &shown.ages, now);
    let (conditions, config) = (shown.conditions.borrow().clone(), shown.config.borrow().clone());
    let age = shown.ages.oldest().map(|age| age.to_string());
    let page = HealthPage::new(frame, conditions, silent, &shown.view.borrow(), age, config, now);
    render(StatusCode::OK, &page)
}

/// Returns the answer to a request that no route takes: a page for a browser, and JSON for a program.
pub(super) async fn missing(State(app): State<App>, request: axum::extract::Request) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/html") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let frame = Frame::new("", String::new(), &app.shown.ages, app.shown.clock.now());
    render(StatusCode::NOT_FOUND, &MissingPage { frame, message: "There is no such page.".to_owned() })
}

#[cfg(test)]
pub(in crate::http) mod tests;
