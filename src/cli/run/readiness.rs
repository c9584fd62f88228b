//! The conditions of `/readyz`: this process owns partitions that are restored and whose journals answer, sees every change of
//! the cluster, its consumer polls and has a broker, and its embedded journal can be written. Each is at most some seconds old.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::adapters::kafka::Pulse;
use crate::adapters::kubernetes::Kubernetes;
use crate::health::Health;
use crate::http::Conditions;
use crate::journal::embedded::Embedded;

/// The interval at which the conditions are refreshed.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time without a poll after which the Kafka consumer is reported as not ready.
const MAX_SILENCE: Duration = Duration::from_secs(8);

/// Returns the conditions before the first refresh: not ready.
pub(super) fn at_start() -> Conditions {
    vec![("partitions".to_owned(), Err("none assigned yet".to_owned()))]
}

/// Refreshes the conditions until the server has ended. `consumer` is `None` with the embedded journal, and `journal` with Kafka.
pub(super) async fn follow(
    cluster: Kubernetes,
    health: Health,
    consumer: Option<Arc<Pulse>>,
    journal: Option<Embedded>,
    conditions: watch::Sender<Conditions>,
) {
    loop {
        let seen = cluster.readiness().problem().map_or(Ok(()), Err);
        let mut current = vec![("partitions".to_owned(), health.check()), ("kubernetes".to_owned(), seen)];
        current.extend(consumer.as_deref().map(|pulse| ("kafka".to_owned(), of_consumer(pulse))));
        current.extend(journal.as_ref().map(|journal| ("journal".to_owned(), journal.condition())));
        if conditions.send(current).is_err() {
            return;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn of_consumer(pulse: &Pulse) -> Result<(), String> {
    let silent = pulse.silent_for();
    if silent > MAX_SILENCE {
        return Err(format!("the consumer has not polled for {} s", silent.as_secs()));
    }
    if pulse.has_no_broker() {
        return Err("no broker is connected; see kafka.brokers and the log".to_owned());
    }
    Ok(())
}
