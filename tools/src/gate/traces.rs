//! The calls of agents that call their tools inside, from traces.
//!
//! Each attempt at a request has a trace of the run's own making, whose id it carries in the header `traceparent` (W3C
//! Trace Context). An agent that continues it exports its spans under this id, so that they belong to one case without a
//! doubt. A trace is read when its first span has come, which ends after all others of its process, and no further span
//! for a while. A trace that is not whole in time is a missing answer: calls that were not seen are never told as calls
//! that were not made.
//!
//! - [`span`] reads calls from spans, and [`otlp`] spans from exports. They do no I/O.
//! - `store` keeps the spans of the requests under way; `receiver`, `files` and `langfuse` bring them.
//! - [`inspect`] has recorded tasks instead.

mod files;
pub mod inspect;
mod langfuse;
pub mod otlp;
mod receiver;
pub mod span;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_core::ids::digest;
use bellwether_gate::observation::{GateArm, ObservationKey};
use bellwether_gate::score::tools::Call;
use bellwether_gate::suite::{TraceSource, Traces};
use tokio::time::Instant;

use crate::secret::SecretError;
use files::FollowedFiles;
use inspect::{InspectError, InspectLog};
use langfuse::LangfuseClient;
use receiver::Receiver;
use span::{TracedCalls, calls};
use store::TraceStore;

/// Pause between two queries for one trace.
const POLL: Duration = Duration::from_secs(1);

/// The reason why traces can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The receiver's address can't be used.
    #[error("can't receive traces on {address}: {source}; write another address as `traces.listen`")]
    Listen {
        /// Address of the suite.
        address: SocketAddr,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A key of Langfuse can't be read.
    #[error("the key of Langfuse: {0}")]
    Key(SecretError),
    /// The URL of Langfuse is no HTTP URL.
    #[error("traces.langfuse.url is {0:?} and must begin with http:// or https://")]
    Url(String),
    /// The HTTP client can't be built.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// The eval log can't be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

/// The traces of a run.
pub struct RunTraces {
    settings: Traces,
    /// A text that no other run has, from which the ids are made.
    nonce: String,
    store: Arc<TraceStore>,
    place: Place,
}

/// The open source of traces.
enum Place {
    Receiver(Receiver),
    Files {
        /// Ends the following when it is dropped.
        _followed: FollowedFiles,
    },
    Langfuse(Box<LangfuseClient>),
    Inspect(InspectLog),
}

/// The traces of one request, one for each attempt.
pub struct RequestTraces<'a> {
    of: &'a RunTraces,
    key: &'a ObservationKey,
    turn: usize,
    /// Ids of the traces so far.
    ids: Mutex<Vec<String>>,
}

impl RunTraces {
    /// Opens the source of traces. `nonce` makes the ids of the run, and must differ from those of other runs: the files
    /// and projects that it reads hold the traces of those as well.
    ///
    /// # Errors
    /// [`TraceError`] if the source can't be used as it is configured.
    pub async fn open(settings: &Traces, nonce: String) -> Result<RunTraces, TraceError> {
        let store = Arc::new(TraceStore::default());
        let place = match &settings.source {
            TraceSource::Listen(address) => Place::Receiver(
                Receiver::open(*address, store.clone())
                    .await
                    .map_err(|source| TraceError::Listen { address: *address, source })?,
            ),
            TraceSource::Files(path) => {
                Place::Files { _followed: FollowedFiles::open(PathBuf::from(path), store.clone()) }
            }
            TraceSource::Langfuse(project) => Place::Langfuse(Box::new(LangfuseClient::new(project)?)),
            TraceSource::Inspect(path) => Place::Inspect(InspectLog::read(&PathBuf::from(path))?),
        };
        Ok(RunTraces { settings: settings.clone(), nonce, store, place })
    }

    /// Returns the address of the receiver; `None` if the source is another one.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Receiver(receiver) => Some(receiver.address),
            Place::Files { .. } | Place::Langfuse(_) | Place::Inspect(_) => None,
        }
    }

    /// Returns the log with the recorded tasks; `None` if the target is asked.
    pub(super) fn log(&self) -> Option<&InspectLog> {
        match &self.place {
            Place::Inspect(log) => Some(log),
            Place::Receiver(_) | Place::Files { .. } | Place::Langfuse(_) => None,
        }
    }

    /// Returns the traces of one request: that of a turn, from 0, of a case.
    pub(super) fn of_request<'a>(&'a self, key: &'a ObservationKey, turn: usize) -> RequestTraces<'a> {
        RequestTraces { of: self, key, turn, ids: Mutex::default() }
    }

    /// Returns the requests whose calls came in part after they had been read, and forgets them.
    pub(super) fn take_late(&self) -> BTreeSet<ObservationKey> {
        self.store.take_late()
    }

    /// Returns the place that traces must come to, in a sentence.
    fn words(&self) -> String {
        match &self.place {
            Place::Receiver(receiver) => format!("http://{}/v1/traces", receiver.address),
            Place::Files { .. } => "the files of `traces.files`".to_owned(),
            Place::Langfuse(_) => "the project of `traces.langfuse`".to_owned(),
            Place::Inspect(_) => "the log of `traces.inspect`".to_owned(),
        }
    }
}

impl RequestTraces<'_> {
    /// Begins the trace of a further attempt. Returns the value of its header `traceparent`.
    pub(super) fn next(&self) -> String {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let ObservationKey { gate, case, repeat, arm } = self.key;
        let arm = if *arm == GateArm::Candidate { "candidate" } else { "stable" };
        let numbers = [*repeat as usize, self.turn, ids.len()].map(|number| number.to_string());
        let [repeat, turn, attempt] = numbers.each_ref().map(String::as_str);
        let hash = digest(&[&self.of.nonce, gate, case, arm, repeat, turn, attempt]);
        // Ids of zeros alone are not valid; a hash has none.
        let (trace, request) = (&hash[..32], &hash[32..48]);
        self.of.store.begin(trace, request.to_owned());
        ids.push(trace.to_owned());
        format!("00-{trace}-{request}-01")
    }

    /// Returns the calls that the attempts so far have made, without waiting for more.
    pub(super) fn so_far(&self) -> Vec<Call> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter().flat_map(|id| calls(&self.of.store.so_far(id)).calls).collect()
    }

    /// Waits for the trace of the last attempt, the one that was answered, and returns its calls.
    ///
    /// # Errors
    /// The reason why there is no whole trace, with the remedy.
    pub(super) async fn answered(&self) -> Result<TracedCalls, String> {
        let last = self.ids.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().unwrap_or_default();
        let (wait, quiet) = (self.of.settings.wait.to_std(), self.of.settings.quiet.to_std());
        let deadline = Instant::now() + wait;
        loop {
            let (mut until, mut problem) = (deadline, None);
            if let Place::Langfuse(client) = &self.of.place {
                until = deadline.min(Instant::now() + POLL);
                match client.spans(&last).await {
                    Ok(spans) => self.of.store.add(spans),
                    Err(error) => problem = Some(error),
                }
            }
            match self.of.store.whole(&last, quiet, until, wait).await {
                Ok(spans) => return Ok(calls(&spans)),
                Err(_) if Instant::now() < deadline => {}
                Err(lack) => {
                    return Err(problem.unwrap_or_else(|| {
                        format!(
                            "{lack}; let the agent continue the traceparent of its requests and export its spans to {}, or \
                             raise traces.wait",
                            self.of.words()
                        )
                    }));
                }
            }
        }
    }
}

impl Drop for RequestTraces<'_> {
    fn drop(&mut self) {
        for id in self.ids.get_mut().unwrap_or_else(PoisonError::into_inner) {
            self.of.store.end(id, self.key);
        }
    }
}
