//! The spans of the requests under way. It keeps the spans of the run's own traces alone, and a bounded number of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_gate::observation::ObservationKey;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::span::{RawSpan, TraceSpan};

/// Largest number of spans of one trace.
const MAX_SPANS: usize = 5_000;

/// Largest size of the spans of one trace in bytes.
const MAX_BYTES: usize = 4 << 20;

/// Largest number of spans of an ended trace that are remembered, to tell a late span from a repeated one.
const MAX_REMEMBERED: usize = 256;

/// The spans that have come so far.
#[derive(Debug, Default)]
pub(super) struct TraceStore {
    traces: Mutex<Traces>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Traces {
    open: BTreeMap<String, OpenTrace>,
    ended: BTreeMap<String, EndedTrace>,
    /// Requests whose trace went on with a call after it had been read.
    late: BTreeSet<ObservationKey>,
}

/// A trace whose request is under way.
#[derive(Debug)]
struct OpenTrace {
    /// Id of the request's own span, the parent of the agent's first one.
    request: String,
    spans: BTreeMap<String, TraceSpan>,
    bytes: usize,
    last: Instant,
    too_large: bool,
}

/// A trace that was read.
#[derive(Debug)]
struct EndedTrace {
    key: ObservationKey,
    spans: BTreeSet<String>,
}

impl OpenTrace {
    fn add(&mut self, span: TraceSpan) {
        if self.spans.contains_key(&span.id) {
            return;
        }
        self.last = Instant::now();
        self.bytes += span.size();
        if self.spans.len() >= MAX_SPANS || self.bytes > MAX_BYTES {
            self.too_large = true;
            return;
        }
        self.spans.insert(span.id.clone(), span);
    }

    /// Returns whether the agent's first span has come, which ends after all others of its process.
    fn has_first(&self) -> bool {
        self.spans.values().any(|span| span.parent == self.request || span.parent.is_empty())
    }

    /// Returns the reason why the trace is not whole after `wait`.
    fn lack(&self, wait: Duration) -> String {
        let wait = wait.as_secs_f64();
        if self.too_large {
            format!("the trace of a request has more than {MAX_SPANS} spans or {MAX_BYTES} bytes")
        } else if self.spans.is_empty() {
            format!("no trace came within {wait} s")
        } else {
            format!(
                "within {wait} s a trace came with {} spans and without its first one, whose parent is the request",
                self.spans.len()
            )
        }
    }
}

impl TraceStore {
    /// Locks the traces. A poisoned lock is harmless: no change leaves them half made.
    fn lock(&self) -> MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to keep the spans of a trace. `request` is the id of the request's own span.
    pub(super) fn begin(&self, trace: &str, request: String) {
        let open = OpenTrace { request, spans: BTreeMap::new(), bytes: 0, last: Instant::now(), too_large: false };
        self.lock().open.insert(trace.to_owned(), open);
    }

    /// Adds spans in any order; those of other traces, and those that have come before, are dropped.
    pub(super) fn add(&self, spans: Vec<RawSpan>) {
        let mut traces = self.lock();
        let traces = &mut *traces;
        for raw in spans {
            if let Some(open) = traces.open.get_mut(&raw.trace) {
                open.add(TraceSpan::read(raw));
            } else if let Some(ended) = traces.ended.get(&raw.trace) {
                let span = TraceSpan::read(raw);
                if span.is_call() && !ended.spans.contains(&span.id) {
                    traces.late.insert(ended.key.clone());
                }
            }
        }
        self.changed.notify_waiters();
    }

    /// Returns the spans of a trace that have come so far.
    pub(super) fn so_far(&self, trace: &str) -> Vec<TraceSpan> {
        self.lock().open.get(trace).map(|open| open.spans.values().cloned().collect()).unwrap_or_default()
    }

    /// Waits until a trace is whole, or until `until`: its first span has come, and no further one for `quiet`. Returns
    /// its spans.
    ///
    /// # Errors
    /// The reason why it is not whole; `wait` is the time that the reason names.
    pub(super) async fn whole(
        &self,
        trace: &str,
        quiet: Duration,
        until: Instant,
        wait: Duration,
    ) -> Result<Vec<TraceSpan>, String> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let next = {
                let traces = self.lock();
                let Some(open) = traces.open.get(trace) else { return Err("no trace was asked for".to_owned()) };
                let at = open.last + quiet;
                let has_first = open.has_first() && !open.too_large;
                if has_first && at <= Instant::now() {
                    return Ok(open.spans.values().cloned().collect());
                }
                if until <= Instant::now() {
                    return Err(open.lack(wait));
                }
                if has_first { at.min(until) } else { until }
            };
            // Both ends lead to another look.
            let _ = timeout_at(next, changed).await;
        }
    }

    /// Ends a trace. Its calls that come later are told by [`TraceStore::take_late`].
    pub(super) fn end(&self, trace: &str, key: &ObservationKey) {
        let mut traces = self.lock();
        if let Some(open) = traces.open.remove(trace) {
            let calls = open.spans.into_values().filter(TraceSpan::is_call).take(MAX_REMEMBERED);
            let ended = EndedTrace { key: key.clone(), spans: calls.map(|span| span.id).collect() };
            traces.ended.insert(trace.to_owned(), ended);
        }
    }

    /// Returns the requests to whose traces a call was added after they had been read, and forgets them.
    pub(super) fn take_late(&self) -> BTreeSet<ObservationKey> {
        std::mem::take(&mut self.lock().late)
    }
}
