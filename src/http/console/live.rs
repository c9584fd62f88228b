//! The stream that tells a page in a browser that it has changed. The page then asks for itself again, so that there is one way to
//! render it. A stream ends after a while, and the browser opens the next one by itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use bellwether_core::engine::view::{AnswerView, RolloutView};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::rollout::answer_to;
use crate::clock::Stopwatch;
use crate::http::answer::busy;
use crate::http::state::{App, Conditions};
use crate::show::course::Course;

/// The most streams at a time, a part of the server's connections. Pages without one ask again at intervals.
pub(in crate::http) const MOST_STREAMS: usize = 128;
/// The interval at which a stream looks for a change.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time after which a page is told to ask again although nothing has changed: its times of day have become older.
const REFRESH: Duration = Duration::from_secs(30);
/// The length of a stream.
const LENGTH: Duration = Duration::from_secs(600);

/// The query of `/live`: the page that is watched. Without one, that is the page of all rollouts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LiveQuery {
    /// The id of the rollout whose page is watched.
    rollout: Option<String>,
    /// The id of the event whose answer that page shows.
    event: Option<String>,
    /// Whether the page of the health is watched.
    health: bool,
}

/// The part of the state that a page shows.
#[derive(PartialEq)]
enum Seen {
    Nothing,
    Fleet,
    Rollout(Option<Arc<RolloutView>>, Option<Arc<Course>>, Option<AnswerView>),
    Health(Conditions),
}

struct Watched {
    app: App,
    query: LiveQuery,
    seen: Seen,
    told: Stopwatch,
    started: Stopwatch,
    _place: OwnedSemaphorePermit,
}

impl Watched {
    /// Returns the next event, once there is one; `None` at the end of the stream.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Watched)> {
        while self.started.elapsed() < LENGTH {
            let is_new = self.look();
            if is_new || self.told.elapsed() >= REFRESH {
                self.told = Stopwatch::start();
                // A browser drops an event without data.
                return Some((Ok(Event::default().event("changed").data("page")), self));
            }
            tokio::time::sleep(INTERVAL).await;
        }
        None
    }

    /// Returns whether the page has changed since the last look.
    fn look(&mut self) -> bool {
        let shown = &mut self.app.shown;
        let has_changed = shown.view.has_changed().unwrap_or(false) || self.seen == Seen::Nothing;
        let now = match (&self.query.rollout, self.query.health) {
            (_, true) => Seen::Health(shown.conditions.borrow().clone()),
            (_, false) if !has_changed => return false,
            (Some(id), false) => {
                let view = shown.view.borrow_and_update();
                let rollout = view.rollouts.get(id).or_else(|| view.followed.get(id));
                let answer = self.query.event.as_ref().and_then(|event| answer_to(&view, event)).cloned();
                Seen::Rollout(rollout.cloned(), shown.courses.of(id), answer)
            }
            (None, false) => {
                shown.view.mark_unchanged();
                self.seen = Seen::Fleet;
                return true;
            }
        };
        let is_new = now != self.seen;
        self.seen = now;
        is_new
    }
}

/// Handles `GET /live`. The first event comes at once: the page may have changed since it was rendered.
pub(super) async fn stream(State(app): State<App>, Query(query): Query<LiveQuery>) -> Response {
    let Ok(place) = Arc::clone(&app.streams).try_acquire_owned() else {
        return busy("as many pages are live as can be; this one asks again at intervals");
    };
    let stop = app.stop.clone();
    let (told, started) = (Stopwatch::start(), Stopwatch::start());
    let watched = Watched { app, query, seen: Seen::Nothing, told, started, _place: place };
    let events = stream::unfold(watched, Watched::next).take_until(stop.cancelled_owned());
    Sse::new(events).into_response()
}
