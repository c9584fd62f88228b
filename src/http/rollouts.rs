//! The rollouts and the answers to events, as JSON. Any replica answers for all partitions: for those of other processes as their
//! journals were last read, with the age of that knowledge. `openapi.json` describes them for programs.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bellwether_core::engine::view::{AnswerView, RolloutView, StatusView, is_workload};
use bellwether_core::input::report::SuiteReport;
use bellwether_core::time::Span;
use serde::{Deserialize, Serialize};

use super::answer::{ApiQuery, busy, problem};
use super::state::App;
use crate::show::ViewAges;

/// The header with the age of an answer in seconds; 0 if it is the present state.
pub const VIEW_AGE: HeaderName = HeaderName::from_static("bellwether-view-age");
/// The header that names the partitions which the answer leaves out, or whose view is old; absent if there are none.
pub const VIEW_PROBLEM: HeaderName = HeaderName::from_static("bellwether-view-problem");

/// The query of `/api/v1/rollouts`: a filter. An absent field lets all rollouts through.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutFilter {
    namespace: Option<String>,
    /// The workload's name, `namespace/name`, or its full key.
    workload: Option<String>,
    /// The state in one word, as [`RolloutView::state`] returns it.
    state: Option<String>,
    /// The rollout's id.
    id: Option<String>,
    /// The most rollouts of the answer; all of them if absent.
    limit: Option<NonZeroUsize>,
    /// The id after which the answer begins.
    after: Option<String>,
}

impl RolloutFilter {
    fn includes(&self, rollout: &RolloutView) -> bool {
        let short = rollout.short_workload();
        let namespace = short.split_once('/').map_or("", |(namespace, _)| namespace);
        self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && self.state.as_ref().is_none_or(|wanted| wanted == rollout.state())
            && self.after.as_ref().is_none_or(|after| rollout.id > *after)
            && self.workload.as_ref().is_none_or(|wanted| is_workload(&rollout.workload, wanted))
    }
}

/// The query of `/api/v1/answers`: a filter. An absent field lets all answers through.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerFilter {
    /// The event's id.
    id: Option<String>,
    /// The event's source.
    source: Option<String>,
    /// The id of the rollout that the event requests.
    rollout: Option<String>,
}

impl AnswerFilter {
    fn includes(&self, answer: &AnswerView) -> bool {
        self.id.as_ref().is_none_or(|wanted| *wanted == answer.id)
            && self.source.as_ref().is_none_or(|wanted| *wanted == answer.source)
            && self.rollout.as_ref().is_none_or(|wanted| Some(wanted) == answer.rollout.as_ref())
    }
}

/// The query of `/api/v1/reports`: a filter. An absent field lets all reports through.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportFilter {
    /// The workload's name, `namespace/name`, or its full key.
    workload: Option<String>,
    /// The suite's name.
    suite: Option<String>,
}

/// A suite report, with the workload that it is about.
#[derive(Debug, Serialize)]
struct WorkloadReport<'a> {
    workload: &'a str,
    #[serde(flatten)]
    report: &'a SuiteReport,
}

/// Handles `GET /api/v1/rollouts`, in the order of the ids. If there are more than `limit`, the header `link` leads to the next ones.
pub(super) async fn list(State(app): State<App>, uri: Uri, ApiQuery(filter): ApiQuery<RolloutFilter>) -> Response {
    let ages = &app.shown.ages;
    let mut found: Vec<Arc<RolloutView>> = match &filter.id {
        Some(id) => {
            of_id(&app.shown.view.borrow(), ages, id).filter(|rollout| filter.includes(rollout)).into_iter().collect()
        }
        None => chosen(&app.shown.view.borrow(), ages, |rollout| filter.includes(rollout)),
    };
    found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let limit = filter.limit.map_or(usize::MAX, NonZeroUsize::get);
    let next = found.get(limit).and(found.get(limit - 1)).and_then(|last| next_page(&uri, &last.id));
    found.truncate(limit);
    let mut response = with_age(ages, ages.oldest(), Json(found));
    response.headers_mut().extend(next.map(|link| (header::LINK, link)));
    response
}

/// Returns the value of `link` for the page of a list that begins after the rollout `last`.
fn next_page(uri: &Uri, last: &str) -> Option<HeaderValue> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let before = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.extend_pairs(before.filter(|(key, _)| key != "after")).append_pair("after", last);
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())).ok()
}

/// Handles `GET /api/v1/rollouts/ID`. While a partition is not read yet, a rollout that is not found may be one of its.
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> Response {
    let ages = &app.shown.ages;
    // Taken before the view, which can only be newer then.
    let unread = ages.unread();
    let found = of_id(&app.shown.view.borrow(), ages, &id);
    match (found, unread) {
        (Some(rollout), _) => with_age(ages, rollout.age, Json(rollout)),
        (None, Some(unread)) => {
            let message = format!("there is no rollout by that id so far, and {unread}; ask again in a second");
            with_age(ages, ages.oldest(), busy(&message))
        }
        (None, None) => {
            let message = "there is no rollout by that id; GET /api/v1/rollouts lists them";
            with_age(ages, ages.oldest(), problem(StatusCode::NOT_FOUND, message))
        }
    }
}

/// Handles `GET /api/v1/answers`.
pub(super) async fn answers(State(app): State<App>, ApiQuery(filter): ApiQuery<AnswerFilter>) -> Response {
    let found: Vec<AnswerView> = {
        let view = app.shown.view.borrow();
        view.answers.values().filter(|answer| filter.includes(answer)).cloned().collect()
    };
    with_age(&app.shown.ages, app.shown.ages.oldest(), Json(found))
}

/// Handles `GET /api/v1/reports`.
pub(super) async fn reports(State(app): State<App>, ApiQuery(filter): ApiQuery<ReportFilter>) -> Response {
    let answer = {
        let view = app.shown.view.borrow();
        let of = |key: &String| filter.workload.as_ref().is_none_or(|wanted| is_workload(key, wanted));
        let found = view
            .reports
            .iter()
            .filter(|(workload, _)| of(workload))
            .flat_map(|(workload, reports)| reports.iter().map(move |report| WorkloadReport { workload, report }));
        let is_of_suite =
            |found: &WorkloadReport<'_>| filter.suite.as_ref().is_none_or(|suite| *suite == found.report.suite);
        Json(found.filter(is_of_suite).collect::<Vec<_>>()).into_response()
    };
    with_age(&app.shown.ages, app.shown.ages.oldest(), answer)
}

/// Handles `GET /api/v1/freezes`: those in force.
pub(super) async fn freezes(State(app): State<App>) -> Response {
    let found = app.shown.view.borrow().frozen(app.shown.clock.now());
    with_age(&app.shown.ages, app.shown.ages.oldest(), Json(found))
}

/// Returns the rollouts for which `is_wanted` is true: this process's own, and those of others with their age.
pub(super) fn chosen(
    view: &StatusView,
    ages: &ViewAges,
    is_wanted: impl Fn(&RolloutView) -> bool,
) -> Vec<Arc<RolloutView>> {
    let own = view.rollouts.values().filter(|rollout| is_wanted(rollout)).map(Arc::clone);
    let others = view.followed.values();
    let others = others.filter(|rollout| is_wanted(rollout) && !view.rollouts.contains_key(&rollout.id));
    own.chain(others.map(|rollout| aged(rollout, ages))).collect()
}

/// Returns the rollout with the id: this process's own, or that of another one with its age; `None` if there is none.
pub(super) fn of_id(view: &StatusView, ages: &ViewAges, id: &str) -> Option<Arc<RolloutView>> {
    let own = view.rollouts.get(id).map(Arc::clone);
    own.or_else(|| view.followed.get(id).map(|rollout| aged(rollout, ages)))
}

/// Returns the rollout of another process with the age of its view.
fn aged(rollout: &RolloutView, ages: &ViewAges) -> Arc<RolloutView> {
    Arc::new(RolloutView { age: ages.of(&rollout.workload), ..rollout.clone() })
}

/// Returns an answer with the headers that tell its age, which is `age` or else 0, and the problems of the views.
pub(super) fn with_age(ages: &ViewAges, age: Option<Span>, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let seconds = age.unwrap_or_default().to_std().as_secs_f64();
    let mut add = |name: HeaderName, value: String| {
        // The texts are ASCII without control characters.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    };
    add(VIEW_AGE, format!("{seconds:.1}"));
    if let Some(problem) = ages.problem() {
        add(VIEW_PROBLEM, problem);
    }
    response
}
