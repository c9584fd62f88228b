//! Kafka: the brokers, the credentials, the topics with their settings, and the members of the group.

use super::CheckFinding;
use crate::adapters::kafka::{Kafka, KafkaClientError, Options};

/// Returns the findings about the brokers and the topics.
pub async fn findings(options: &Options) -> Vec<CheckFinding> {
    match Kafka::inspect(options).await {
        Ok(missing) => {
            // A broker that does not list groups is no reason for a finding.
            let members = Kafka::members(options).await.unwrap_or_default();
            [topics_finding(options, &missing)].into_iter().chain(members_finding(options, members)).collect()
        }
        Err(error) => vec![error_finding(options, &error)],
    }
}

fn topics_finding(options: &Options, missing: &[String]) -> CheckFinding {
    let brokers = &options.brokers;
    if missing.is_empty() {
        return CheckFinding::fine("kafka", format!("{brokers}: all four topics are as they must be"));
    }
    let remedy = format!(
        "none needed if the daemon may create topics; it creates them at its start. Otherwise, for each: `kafka-topics.sh \
         --bootstrap-server {brokers} --create --partitions {} --replication-factor {} --topic NAME`, with `--config \
         cleanup.policy=compact` for the journal",
        options.partitions, options.replication
    );
    CheckFinding::warning("kafka", format!("{brokers}: missing {}", missing.join(", ")), remedy)
        .because("the events and the state of the rollouts are kept in these topics")
}

/// Returns a warning if several replicas share the group and this configuration names no member.
fn members_finding(options: &Options, members: usize) -> Option<CheckFinding> {
    if members < 2 || options.instance_id.is_some() {
        return None;
    }
    let text = format!("group {} has {members} members, and kafka.instance-id is not set", options.group);
    let remedy =
        "set kafka.instance-id to the pod's name: the variable BELLWETHER_KAFKA__INSTANCE_ID from metadata.name";
    let why = "every restart of a replica moves partitions, and their rollouts wait while they are restored";
    Some(CheckFinding::warning("kafka", text, remedy).because(why))
}

/// Returns the finding about an error, with the remedy of its kind.
fn error_finding(options: &Options, error: &KafkaClientError) -> CheckFinding {
    let why = if error.is_temporary() {
        "the daemon waits for it at its start, and gets no events"
    } else {
        "the daemon does not start with it, and gets no events"
    };
    let brokers = &options.brokers;
    let remedy = match error {
        KafkaClientError::Unreachable { problem, .. } if is_about_credentials(problem) => format!(
            "compare [kafka.security] with the brokers' listener: protocol, mechanism, username (now {}) and the content of password-file",
            options.security.username.as_deref().unwrap_or("none")
        ),
        KafkaClientError::Unreachable { problem, .. } if is_about_tls(problem) => {
            "set protocol to \"ssl\" or \"sasl-ssl\" in [kafka.security], and ca-file to the CA of the brokers' certificates".to_owned()
        }
        KafkaClientError::Unreachable { .. } => {
            "set kafka.brokers to host:port of the brokers' listener, and let the network lead there".to_owned()
        }
        KafkaClientError::Topic { topic, setting, .. } if setting == "partitions" => {
            format!("name a new topic in place of {topic} in [kafka]; it needs as many partitions as {}", options.topic)
        }
        KafkaClientError::Topic { topic, setting, remedy, .. } => match wanted(options, topic, setting) {
            Some(value) => format!(
                "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} --add-config \
                 {setting}={value}"
            ),
            None => remedy.clone(),
        },
        KafkaClientError::Secret { setting, .. } => {
            format!("name a file in kafka.{setting} that the daemon's user can read")
        }
        KafkaClientError::Lines { setting, .. } => format!("name a file in kafka.{setting} with the secret alone, in one line"),
        KafkaClientError::Property { .. }
        | KafkaClientError::Setting { .. }
        | KafkaClientError::Client(_)
        | KafkaClientError::Create { .. }
        | KafkaClientError::MissingJournal { .. }
        | KafkaClientError::ForeignGroup { .. }
        | KafkaClientError::Read { .. }
        | KafkaClientError::Hanging { .. }
        | KafkaClientError::Send { .. }
        | KafkaClientError::Consumer(_) => "see [kafka] in the configuration".to_owned(),
    };
    CheckFinding::problem("kafka", error.to_string(), remedy).because(why)
}

/// Returns the value that a setting of a topic must have; `None` if the error's own remedy has it.
fn wanted(options: &Options, topic: &str, setting: &str) -> Option<&'static str> {
    let is_journal = topic == options.journal_topic;
    (setting == "cleanup.policy").then_some(if is_journal { "compact" } else { "delete" })
}

fn is_about_credentials(problem: &str) -> bool {
    ["uthentication", "SASL", "credentials"].iter().any(|word| problem.contains(word))
}

fn is_about_tls(problem: &str) -> bool {
    ["SSL", "TLS", "certificate"].iter().any(|word| problem.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Level;

    fn options() -> Options {
        let (brokers, journal_topic) = ("kafka:9092".to_owned(), "journal".to_owned());
        Options { brokers, journal_topic, ..Options::default() }
    }

    #[test]
    fn each_error_of_kafka_has_its_own_fix() {
        let unreachable = |problem: &str| KafkaClientError::Unreachable {
            brokers: "kafka:9092".to_owned(),
            problem: problem.to_owned(),
        };
        let setting = |setting: &str, value: &str| KafkaClientError::Topic {
            topic: "journal".to_owned(),
            setting: setting.to_owned(),
            value: value.to_owned(),
            remedy: "set it to 2".to_owned(),
        };
        for (error, fix) in [
            (unreachable("Connect to ipv4#127.0.0.1:1 failed: Connection refused"), "set kafka.brokers"),
            (unreachable("SASL authentication error: Authentication failed"), "password-file"),
            (unreachable("SSL handshake failed: certificate verify failed"), "ca-file"),
            (setting("cleanup.policy", "delete"), "--entity-name journal --add-config cleanup.policy=compact"),
            (setting("min.insync.replicas", "1"), "set it to 2"),
            (setting("partitions", "3"), "as many partitions as bellwether.events"),
        ] {
            let finding = error_finding(&options(), &error);
            assert!(finding.level == Level::Problem && finding.text == error.to_string(), "{finding:?}");
            assert!(finding.remedy.as_deref().unwrap_or_default().contains(fix), "{finding:?}");
        }
    }

    #[test]
    fn a_missing_topic_and_members_without_names_are_warnings() {
        let finding = topics_finding(&options(), &["journal".to_owned()]);
        assert!(finding.text.contains("missing journal"), "{finding:?}");
        assert!(finding.remedy.unwrap_or_default().contains("kafka-topics.sh --bootstrap-server kafka:9092 --create"));
        assert_eq!(topics_finding(&options(), &[]).level, Level::Fine);
        assert_eq!(members_finding(&options(), 1), None);
        let finding = members_finding(&options(), 3).unwrap();
        assert!(finding.text.contains("3 members") && finding.remedy.unwrap_or_default().contains("INSTANCE_ID"));
        let named = Options { instance_id: Some("bellwether-0".to_owned()), ..options() };
        assert_eq!(members_finding(&named, 3), None);
    }
}
