//! The settings of existing topics: the ones that would lose or mix up state are refused, and others are warned of.

use bellwether_core::time::Span;

use super::error::KafkaClientError;
use super::options::{MAX_ENTRY_BYTES, Options};
use super::topics::Role;

/// The smallest `max.message.bytes` that every entry and every decision fits in.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_ENTRY_BYTES + (128 << 10);

/// A setting of a topic that should have another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SettingProblem {
    /// Whether the daemon must not start with it.
    pub(super) is_refused: bool,
    pub(super) setting: &'static str,
    pub(super) value: String,
    pub(super) remedy: String,
}

impl SettingProblem {
    /// Returns the error for the topic `topic`.
    pub(super) fn error(&self, topic: &str) -> KafkaClientError {
        KafkaClientError::Topic {
            topic: topic.to_owned(),
            setting: self.setting.to_owned(),
            value: self.value.clone(),
            remedy: self.remedy.clone(),
        }
    }
}

/// Returns the problems of a topic, given the values of its settings by name. A value that is not known is no problem, but
/// for `cleanup.policy`.
pub(super) fn problems(
    role: Role,
    options: &Options,
    value_of: impl Fn(&str) -> Option<String>,
) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    let mut add = |is_refused, setting, value: &str, remedy: String| {
        problems.push(SettingProblem { is_refused, setting, value: value.to_owned(), remedy });
    };
    let number = |name: &str| value_of(name).and_then(|value| value.parse::<i64>().ok());

    let policy = value_of("cleanup.policy").unwrap_or_default();
    let policies: Vec<&str> = policy.split(',').map(str::trim).collect();
    if role == Role::Journal && policies != ["compact"] {
        let remedy =
            "state would be deleted after the retention; set it to compact (kafka-configs.sh --alter --add-config)";
        add(true, "cleanup.policy", &policy, remedy.to_owned());
    }
    if role != Role::Journal && policies.contains(&"compact") {
        let remedy =
            "records would replace each other by key; set it to delete (kafka-configs.sh --alter --add-config)";
        add(true, "cleanup.policy", &policy, remedy.to_owned());
    }
    let needed = i64::try_from(MAX_MESSAGE_BYTES).unwrap_or(i64::MAX);
    if let Some(bytes) = number("max.message.bytes").filter(|bytes| role != Role::Events && *bytes < needed) {
        let remedy =
            format!("longer records could not be written; set it to {needed} (kafka-configs.sh --alter --add-config)");
        // A dead letter that does not fit leaves its value behind only if that is longer than 2 MiB.
        add(role != Role::Dead, "max.message.bytes", &bytes.to_string(), remedy);
    }
    if options.replication > 1 && number("min.insync.replicas").is_some_and(|replicas| replicas < 2) {
        let remedy = "a write is acknowledged by one broker, and lost with it; set it to 2".to_owned();
        add(false, "min.insync.replicas", "1", remedy);
    }
    if value_of("unclean.leader.election.enable").as_deref() == Some("true") {
        let remedy = "acknowledged writes can be lost; set it to false".to_owned();
        add(false, "unclean.leader.election.enable", "true", remedy);
    }
    let remembered = i64::try_from(options.events_retention.as_millis()).unwrap_or(i64::MAX);
    if let Some(kept) = number("retention.ms").filter(|kept| role == Role::Events && !(0..=remembered).contains(kept)) {
        let kept_for = match u64::try_from(kept / 1000) {
            Ok(seconds) => Span::from_secs(seconds).to_string(),
            Err(_) => "ever".to_owned(),
        };
        let remedy = format!(
            "an event that is read again is known for {} only and the topic keeps it for {kept_for}; set \
             kafka.events-retention to the topic's",
            options.events_retention
        );
        add(false, "retention.ms", &kept.to_string(), remedy);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_loses_state_is_refused_and_a_doubtful_one_warned_of() {
        type Row<'a> = (Role, &'a [(&'a str, &'a str)], &'a [(bool, &'a str)]);
        let large = "4325376";
        let rows: [Row<'_>; 12] = [
            (Role::Journal, &[("cleanup.policy", "compact"), ("max.message.bytes", large)], &[]),
            (Role::Journal, &[("cleanup.policy", "delete")], &[(true, "cleanup.policy")]),
            (Role::Journal, &[("cleanup.policy", "compact,delete")], &[(true, "cleanup.policy")]),
            (
                Role::Journal,
                &[("cleanup.policy", "compact"), ("max.message.bytes", "1048588")],
                &[(true, "max.message.bytes")],
            ),
            (Role::Decisions, &[("max.message.bytes", "1048588")], &[(true, "max.message.bytes")]),
            (Role::Dead, &[("max.message.bytes", "1048588")], &[(false, "max.message.bytes")]),
            (Role::Events, &[("max.message.bytes", "1048588")], &[]),
            (Role::Decisions, &[("cleanup.policy", "compact")], &[(true, "cleanup.policy")]),
            (Role::Events, &[("min.insync.replicas", "1")], &[(false, "min.insync.replicas")]),
            (Role::Events, &[("unclean.leader.election.enable", "true")], &[(false, "unclean.leader.election.enable")]),
            (Role::Events, &[("retention.ms", "604800000"), ("min.insync.replicas", "2")], &[]),
            (Role::Events, &[("retention.ms", "-1")], &[(false, "retention.ms")]),
        ];
        for (role, settings, expected) in rows {
            let value_of = |name: &str| {
                settings.iter().find(|(setting, _)| *setting == name).map(|(_, value)| (*value).to_owned())
            };
            let found = problems(role, &Options::default(), value_of);
            let names: Vec<(bool, &str)> = found.iter().map(|problem| (problem.is_refused, problem.setting)).collect();
            assert_eq!(names, expected, "{role:?} {settings:?}");
        }
        let one_broker = Options { replication: 1, ..Options::default() };
        assert_eq!(
            problems(Role::Events, &one_broker, |name| (name == "min.insync.replicas").then(|| "1".to_owned())),
            []
        );
    }
}
