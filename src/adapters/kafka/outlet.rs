//! Topics for other tools, which the daemon writes and never reads.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use super::emitter::Emitter;
use super::error::KafkaClientError;
use super::options::Options;
use super::topics::events_partitions;
use crate::ports::{EventRecord, OutgoingTopic, OutgoingTopics};

/// The time between two looks at the client's messages while no record is written.
const REST: Duration = Duration::from_secs(60);

impl OutgoingTopics for Options {
    fn topic(&self, name: &str) -> Result<Box<dyn OutgoingTopic>, String> {
        let own = [&self.topic, &self.journal_topic, &self.decisions_topic, &self.dlq()];
        if own.into_iter().any(|own| own == name) {
            return Err(format!("topic {name:?} is one of [kafka]; name another one"));
        }
        let options = Options { topic: name.to_owned(), ..self.clone() };
        options.validate().map_err(|error| error.to_string())?;
        Ok(Box::new(Outlet { options, producer: OnceCell::new() }))
    }
}

/// A topic for other tools.
struct Outlet {
    /// The settings of `[kafka]` with this topic.
    options: Options,
    /// The producer, since the first record.
    producer: OnceCell<Producer>,
}

/// A producer, with the task that takes its messages while it has nothing to write.
struct Producer {
    emitter: Emitter,
    _rest: AbortOnDropHandle<()>,
}

impl Outlet {
    async fn producer(&self) -> Result<&Emitter, KafkaClientError> {
        let connect = || async {
            let emitter = Emitter::connect(&self.options)?;
            let resting = emitter.clone();
            let rest = async move {
                loop {
                    tokio::time::sleep(REST).await;
                    resting.rest();
                }
            };
            Ok(Producer { emitter, _rest: AbortOnDropHandle::new(tokio::spawn(rest)) })
        };
        Ok(&self.producer.get_or_try_init(connect).await?.emitter)
    }
}

#[async_trait]
impl OutgoingTopic for Outlet {
    async fn write(&self, record: &EventRecord) -> Result<(), String> {
        let producer = self.producer().await.map_err(|error| error.to_string())?;
        producer.send(record).await.map(drop).map_err(|error| error.to_string())
    }

    async fn partitions(&self) -> Result<i32, String> {
        events_partitions(&self.options).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_the_daemon_is_refused() {
        let options = Options { brokers: "kafka:9092".to_owned(), ..Options::default() };
        assert!(options.topic("cdevents").is_ok());
        for topic in [&options.topic, &options.journal_topic, &options.decisions_topic, &options.dlq()] {
            let error = options.topic(topic).err().unwrap();
            assert_eq!(error, format!("topic {topic:?} is one of [kafka]; name another one"));
        }
        let without = Options { brokers: String::new(), ..Options::default() };
        let error = without.topic("cdevents").err().unwrap();
        assert_eq!(error, "kafka.brokers is empty; write host:port, several with commas between");
    }
}
