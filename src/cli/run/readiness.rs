//! The conditions of `/readyz`: this process owns partitions, knows the cluster's objects, its consumer polls, and its embedded
//! journal can be written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::adapters::kafka::Pulse;
use crate::adapters::kubernetes::Kubernetes;
use crate::http::Conditions;
use crate::journal::embedded::Embedded;
use crate::ports::Partition;

/// The interval at which the conditions are refreshed.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time without a poll after which the Kafka consumer is reported as not ready.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Returns the conditions before the first refresh: not ready.
pub(super) fn at_start() -> Conditions {
    vec![("partitions".to_owned(), Err("none assigned yet".to_owned()))]
}

/// Refreshes the conditions until the server has ended. `consumer` is `None` with the embedded journal, and `journal` with Kafka.
pub(super) async fn follow(
    cluster: Kubernetes,
    owned: watch::Receiver<Vec<Partition>>,
    consumer: Option<Arc<Pulse>>,
    journal: Option<Embedded>,
    conditions: watch::Sender<Conditions>,
) {
    loop {
        let partitions = match owned.borrow().len() {
            0 => Err("none assigned; another replica may have them all".to_owned()),
            _ => Ok(()),
        };
        let listed = if cluster.readiness().is_ready() {
            Ok(())
        } else {
            Err("the cluster's objects are not listed yet".to_owned())
        };
        let mut current = vec![("partitions".to_owned(), partitions), ("kubernetes".to_owned(), listed)];
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
    if silent <= MAX_SILENCE { Ok(()) } else { Err(format!("the consumer has not polled for {} s", silent.as_secs())) }
}
