//! The data that the request handlers share.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::engine::view::StatusView;
use bellwether_core::policy::Policy;
use bellwether_core::time::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::dead_letters::Letters;
use super::options::Options;
use super::readers::Readers;
use super::senders::{Rates, Senders};
use super::sessions::Sessions;
use crate::clock::{Clock, Stopwatch};
use crate::ports::{ArmsReader, DeadLetters, Delivery, ModelDirectory};
use crate::show::ViewAges;
use crate::show::course::Courses;

/// The conditions of `/readyz`, by name: `Ok` if the condition holds, else the reason why it does not.
pub type Conditions = Vec<(String, Result<(), String>)>;

/// The effective configuration, as the console shows it.
#[derive(Debug, Clone)]
pub struct ShownConfig {
    /// The text of `bellwether config show --origin`, which has no secrets.
    pub text: Arc<str>,
    /// The time at which it was read.
    pub read: Timestamp,
}

/// The channels through which the daemon and the server exchange data, at the server's end.
#[derive(Clone)]
pub struct Shown {
    /// The name of the cluster that the daemon acts in.
    pub cluster: Arc<str>,
    /// The status of all rollouts.
    pub view: watch::Receiver<StatusView>,
    /// The ages of the views.
    pub ages: ViewAges,
    /// The courses of the rollouts.
    pub courses: Courses,
    /// The clock of the daemon.
    pub clock: Arc<dyn Clock>,
    /// The effective configuration; `None` if there is none to show.
    pub config: watch::Receiver<Option<ShownConfig>>,
    /// The policies for rollouts that begin from now on.
    pub policies: watch::Receiver<Vec<Policy>>,
    /// The models of the registry; `None` if there is no registry to show.
    pub models: Option<Arc<dyn ModelDirectory>>,
    /// The dead letters; `None` if there are none to show.
    pub dead_letters: Option<Arc<dyn DeadLetters>>,
    /// The counts of arms that other tools move; `None` without a metrics store.
    pub arms: Option<Arc<dyn ArmsReader>>,
    /// The conditions that hold when this process is ready.
    pub conditions: watch::Receiver<Conditions>,
    /// The heartbeat of the event loop: a stopwatch that is started anew in each turn.
    pub heartbeat: watch::Receiver<Stopwatch>,
    /// The exporter of this process's own metrics.
    pub metrics: PrometheusHandle,
    /// The queue of posted events to the daemon.
    pub intake: mpsc::Sender<Delivery>,
    /// The check of the senders of posted events; `None` if they need no token.
    pub senders: Option<Arc<Senders>>,
}

/// The state of all handlers.
#[derive(Clone)]
pub(super) struct App {
    pub(super) options: Options,
    pub(super) shown: Shown,
    pub(super) rates: Rates,
    /// The readers that were admitted lately.
    pub(super) readers: Readers,
    /// The people who are signed in to the console.
    pub(super) sessions: Sessions,
    /// The dead letters, for one reader at a time.
    pub(super) letters: Letters,
    /// A permit for each stream to a live page.
    pub(super) streams: Arc<Semaphore>,
    /// A permit for each stream of a rollout to a program.
    pub(super) watches: Arc<Semaphore>,
    /// A permit for each call that is judged.
    pub(super) judges: Arc<Semaphore>,
    /// The stop of the server, which ends the streams.
    pub(super) stop: CancellationToken,
}

impl App {
    /// Returns the time for work that a request waits for, so that it is answered before the server's own deadline.
    pub(super) fn patience(&self) -> Duration {
        self.options.timeout.to_std().mul_f64(0.9)
    }
}
