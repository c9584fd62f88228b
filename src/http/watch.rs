//! The stream of one rollout for programs: its view at once, and again after each change, until it has ended.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bellwether_core::engine::view::RolloutView;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::busy;
use super::rollouts::{of_id, one};
use super::state::App;
use crate::clock::Stopwatch;

/// The most streams at a time, a part of the server's connections.
pub(super) const MOST_WATCHES: usize = 128;
/// The interval at which a stream looks for a change.
const INTERVAL: Duration = Duration::from_secs(1);
/// The length of a stream.
const LENGTH: Duration = Duration::from_secs(600);

struct WatchedRollout {
    app: App,
    id: String,
    /// The view that was sent last, without its age.
    sent: Option<RolloutView>,
    started: Stopwatch,
    _place: OwnedSemaphorePermit,
}

impl WatchedRollout {
    /// Returns the next event, once there is one; `None` at the end of the stream.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, WatchedRollout)> {
        while self.started.elapsed() < LENGTH && !self.app.stop.is_cancelled() {
            if self.sent.as_ref().is_some_and(|sent| sent.ended.is_some()) {
                return None;
            }
            let found = of_id(&self.app.shown.view.borrow(), &self.app.shown.ages, &self.id);
            if let Some(found) = found.map(Arc::unwrap_or_clone) {
                let view = RolloutView { age: None, ..found.clone() };
                if self.sent.as_ref() != Some(&view) {
                    self.sent = Some(view);
                    // A view can always be written as JSON.
                    let event = Event::default().event("rollout").json_data(&found).unwrap_or_default();
                    return Some((Ok(event), self));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.app.stop.cancelled() => return None,
            }
        }
        None
    }
}

/// Handles `GET /api/v1/rollouts/ID/watch`. A rollout that is not known is answered as by `GET /api/v1/rollouts/ID`.
pub(super) async fn watch(State(app): State<App>, Path(id): Path<String>) -> Response {
    let is_known = of_id(&app.shown.view.borrow(), &app.shown.ages, &id).is_some();
    if !is_known {
        return one(State(app), Path(id)).await;
    }
    let Ok(place) = Arc::clone(&app.watches).try_acquire_owned() else {
        return busy("as many rollouts are watched as may be at a time; ask for the rollout instead");
    };
    let first = WatchedRollout { app, id, sent: None, started: Stopwatch::start(), _place: place };
    Sse::new(stream::unfold(first, WatchedRollout::next)).keep_alive(KeepAlive::default()).into_response()
}
