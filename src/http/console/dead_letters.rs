//! The pages of the dead letters: a list of the newest, and each alone with the form that sends its record again. The record then is
//! a posted event like any other: its id, its time and the rights of its new sender count.

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Form};
use bellwether_core::time::Timestamp;
use serde::Deserialize;

use super::sending::{LONGEST_REASON, ReasonForm, SentRow, deliver, read_form};
use super::text::When;
use super::visit::{Visit, see};
use super::{Frame, no_page, page_of, render};
use crate::http::answer::PostAnswer;
use crate::http::dead_letters::{LetterView, OriginView};
use crate::http::serve::Peer;
use crate::http::state::App;
use crate::ports::{DeadLetter, DeadLetterList, EventRecord, LISTED_BYTES, LetterId};

/// The most bytes of a key, and of a value, on the page of one letter.
const MOST_SHOWN: usize = 16 << 10;
/// The header of a record that was sent again, with the person's reason.
const REPLAY_REASON: &str = "bellwether-replay-reason";

/// A letter as a page shows it.
struct LetterRow {
    view: LetterView,
    at: Option<When>,
}

impl LetterRow {
    fn of(letter: &DeadLetter, most: usize, now: Timestamp) -> LetterRow {
        LetterRow { view: LetterView::of(letter, most), at: letter.at.map(|at| When::seen(at, now)) }
    }

    /// Returns the place where the record was read, such as `bellwether.events[3], offset 17`.
    fn origin(&self) -> String {
        match &self.view.origin {
            Some(OriginView { topic: Some(topic), partition, offset }) => {
                format!("{topic}[{partition}], offset {offset}")
            }
            Some(OriginView { topic: None, offset, .. }) => format!("event {offset} over HTTP"),
            None => "an unknown place".to_owned(),
        }
    }

    fn problem(&self) -> &str {
        if self.view.problem.is_empty() { "It names no problem." } else { &self.view.problem }
    }
}

#[derive(Template)]
#[template(path = "dead-letters.html")]
struct LettersPage {
    frame: Frame,
    /// The reason why there is nothing to show; `None` if the letters could be read.
    failure: Option<String>,
    problem: Option<String>,
    may_have_more: bool,
    rows: Vec<LetterRow>,
}

/// The result that a record would have if it were sent again.
enum Outlook {
    /// It would get to the engine, as this verb for this scope.
    Admitted { verb: &'static str, scope: String },
    /// It would not.
    Refused(String),
}

#[derive(Template)]
#[template(path = "dead-letter.html")]
struct LetterPage {
    frame: Frame,
    row: LetterRow,
    /// The problem of the last attempt.
    message: Option<String>,
    /// The answer to the event that the person has sent; `None` if there is none.
    sent: Option<SentRow>,
    /// The prospect for the person who is signed in; `None` if none is.
    outlook: Option<Outlook>,
    /// Whether the person has just sent it. The page is live then, and has no form.
    is_sent: bool,
    reason: String,
    longest: usize,
}

/// The query of the page of one letter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LetterQuery {
    /// Whether the person has just sent it.
    sent: bool,
}

/// Handles `GET /dead-letters`.
pub(super) async fn list(State(app): State<App>, visit: Visit) -> Response {
    let (list, failure) = match app.letters.newest(app.patience()).await {
        Ok(list) => (list, None),
        Err(failure) => (DeadLetterList::default(), Some(failure)),
    };
    let (status, now) =
        (if failure.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, app.shown.clock.now());
    let rows = list.letters.iter().map(|letter| LetterRow::of(letter, LISTED_BYTES, now)).collect();
    let DeadLetterList { may_have_more, problem, .. } = list;
    render(
        status,
        &LettersPage { frame: frame(&app, &visit, "/live?health=true"), failure, problem, may_have_more, rows },
    )
}

/// Handles `GET /dead-letters/ID`.
pub(super) async fn page(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<LetterQuery>,
    visit: Visit,
) -> Response {
    match letter_of(&app, &visit, &id).await {
        Ok(letter) => LetterPage::answer(&app, &visit, &letter, query.sent, String::new(), None),
        Err(answer) => answer,
    }
}

/// Handles `POST /dead-letters/ID`: sends the record again, and then shows the letter with the answer.
pub(super) async fn send(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<ReasonForm>, FormRejection>,
) -> Response {
    let form = match read_form(&app, peer, &visit, form) {
        Ok(form) => form,
        Err(answer) => return *answer,
    };
    let letter = match letter_of(&app, &visit, &id).await {
        Ok(letter) => letter,
        Err(answer) => return answer,
    };
    let user = visit.session.as_ref().map(|session| session.user.clone()).unwrap_or_default();
    let record = |reason: &str| {
        let again = replayed(&app, &letter, &user).map_err(|problem| {
            PostAnswer::unsent(StatusCode::UNPROCESSABLE_ENTITY, format!("It would be refused again: {problem}"))
        })?;
        tracing::info!(target: "bellwether::audit", by = user, letter = %letter.id, reason, "dead letter is sent again");
        let with_reason = [(REPLAY_REASON.to_owned(), reason.as_bytes().to_vec())];
        Ok(EventRecord { headers: again.headers.into_iter().chain(with_reason).collect(), ..again })
    };
    let (visit, answer) = deliver(&app, peer, visit, &headers, &form, record).await;
    if answer.is_sent {
        return see(&format!("/dead-letters/{}?sent=true", letter.id));
    }
    LetterPage::answer(&app, &visit, &letter, false, form.reason, Some(answer))
}

impl LetterPage {
    fn answer(
        app: &App,
        visit: &Visit,
        letter: &DeadLetter,
        is_sent: bool,
        reason: String,
        failed: Option<PostAnswer>,
    ) -> Response {
        let user = visit.session.as_ref().filter(|_| visit.acts).map(|session| session.user.as_str());
        let foreseen = user.map(|user| outlook(app, letter, user, is_sent));
        let (outlook, sent) = foreseen.map_or((None, None), |(outlook, sent)| (Some(outlook), sent));
        let status = failed.as_ref().map_or(StatusCode::OK, |failed| failed.status);
        let page = LetterPage {
            frame: frame(app, visit, if is_sent { "/live" } else { "" }),
            row: LetterRow::of(letter, MOST_SHOWN, app.shown.clock.now()),
            message: failed.map(|failed| failed.message),
            sent,
            outlook,
            is_sent,
            reason,
            longest: LONGEST_REASON,
        };
        render(status, &page)
    }

    fn has_form(&self) -> bool {
        matches!(self.outlook, Some(Outlook::Admitted { .. })) && !self.is_sent
    }
}

/// Returns the prospect of a letter that this person sends again, and the answer if the person has sent it before.
fn outlook(app: &App, letter: &DeadLetter, user: &str, is_sent: bool) -> (Outlook, Option<SentRow>) {
    let Some(senders) = app.actors() else {
        return (Outlook::Refused("events are not taken over HTTP".to_owned()), None);
    };
    let record = record_of(letter);
    match record.and_then(|record| senders.foresee(record, user)) {
        Ok(foreseen) => {
            let answer = foreseen.id.as_ref().and_then(|id| {
                let answer = app.shown.view.borrow().answers.get(&id.digest()).cloned();
                (is_sent || answer.is_some()).then(|| SentRow::new(&id.id, answer.as_ref()))
            });
            (Outlook::Admitted { verb: foreseen.verb, scope: foreseen.scope.to_string() }, answer)
        }
        Err(problem) => (Outlook::Refused(problem), None),
    }
}

/// Returns the record of a letter that this person may send again.
///
/// # Errors
/// The reason why it would be refused.
fn replayed(app: &App, letter: &DeadLetter, user: &str) -> Result<EventRecord, String> {
    let senders = app.actors().ok_or("events are not taken over HTTP")?;
    let record = record_of(letter)?;
    senders.foresee(record.clone(), user)?;
    Ok(record)
}

/// Returns the record of a letter as one that is posted: with its value, and with the headers of the event alone.
///
/// # Errors
/// The letter has not all of the value.
fn record_of(letter: &DeadLetter) -> Result<EventRecord, String> {
    let record = letter.record().ok_or("a part of its value was not kept; its sender has to send the event again")?;
    let is_of_event = |name: &str| {
        let name = name.to_ascii_lowercase();
        name == "content-type" || name.starts_with("ce_")
    };
    let headers = record.headers.into_iter().filter(|(name, _)| is_of_event(name)).collect();
    Ok(EventRecord { value: record.value, headers, ..EventRecord::default() })
}

/// Returns the letter with an id.
///
/// # Errors
/// The answer to a request for one that is not there, or can't be read.
async fn letter_of(app: &App, visit: &Visit, id: &str) -> Result<DeadLetter, Response> {
    let id: LetterId = id.parse().map_err(|_| no_page(app, visit))?;
    let gone =
        || page_of(app, visit, StatusCode::NOT_FOUND, format!("There is no dead letter {id}, or it was removed."));
    match app.letters.letter(id, app.patience()).await {
        Ok(letter) => letter.ok_or_else(gone),
        Err(problem) => {
            let message = format!("The dead letter can't be read: {problem}.");
            Err(page_of(app, visit, StatusCode::SERVICE_UNAVAILABLE, message))
        }
    }
}

fn frame(app: &App, visit: &Visit, live: &str) -> Frame {
    Frame::new("dead-letters", live.to_owned(), &app.shown.ages, app.shown.clock.now(), visit)
}
