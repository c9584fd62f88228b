//! The start, until the journal is open. Kafka may be unavailable for a while, as when a whole cluster is started again: the daemon
//! waits for it, and its HTTP server says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapters::kafka::{self, Kafka, KafkaClientError};
use crate::http::{self, Conditions, Starting};

/// The pause between two attempts to reach Kafka. An attempt itself waits for a broker for some seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves the health of the starting daemon while `opening` is under way. Returns the result of `opening`; `None` if the process was
/// asked to stop first.
///
/// # Errors
/// That of `opening`, or the certificate of the HTTP server can't be used.
pub(super) async fn serve_while<T>(
    opening: impl Future<Output = anyhow::Result<T>>,
    listener: &Arc<TcpListener>,
    options: &http::Options,
    starting: Starting,
    stop: &CancellationToken,
) -> anyhow::Result<Option<T>> {
    let is_open = CancellationToken::new();
    let serving = async { Ok(http::serve_starting(Arc::clone(listener), options, starting, is_open.clone()).await?) };
    let opening = async {
        let opened = stop.run_until_cancelled(opening).await.transpose();
        is_open.cancel();
        opened
    };
    let ((), opened) = tokio::try_join!(serving, opening)?;
    Ok(opened)
}

/// Connects to Kafka. While it is unavailable, tries again, and says why in the conditions and, once for each reason, in the log.
///
/// # Errors
/// An error that time does not cure: a wrong option, or a topic that can't be used.
pub(super) async fn connect(
    options: &kafka::Options,
    conditions: &watch::Sender<Conditions>,
) -> Result<Kafka, KafkaClientError> {
    let waits = |problem: String| conditions.send_replace(vec![("kafka".to_owned(), Err(problem))]);
    waits(format!("kafka.brokers = {:?} are asked for the topics", options.brokers));
    let mut told = String::new();
    loop {
        match Kafka::connect(options.clone()).await {
            Err(error) if error.is_temporary() => {
                let problem = error.to_string();
                if problem != told {
                    tracing::warn!(%error, "the daemon waits for Kafka");
                    waits(problem.clone());
                    told = problem;
                }
                tokio::time::sleep(PAUSE).await;
            }
            connected => return connected,
        }
    }
}
