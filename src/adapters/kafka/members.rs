//! The members of the consumer group.

use std::time::Duration;

use rdkafka::consumer::Consumer;

use super::connections;
use super::error::KafkaClientError;
use super::options::Options;

/// The time for the brokers to list the group.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Returns the number of members of the group; 0 if there is no such group.
pub(super) fn count(options: &Options) -> Result<usize, KafkaClientError> {
    let consumer = connections::connect(&options.reader()?)?;
    let groups = consumer.fetch_group_list(Some(&options.group), TIMEOUT).map_err(|error| {
        let problem = connections::cause(&consumer).unwrap_or_else(|| error.to_string());
        KafkaClientError::Unreachable { brokers: options.brokers.clone(), problem }
    })?;
    Ok(groups.groups().iter().filter(|group| group.name() == options.group).map(|group| group.members().len()).sum())
}
