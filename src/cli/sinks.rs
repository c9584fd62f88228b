//! `bellwether sinks`: the configured notification sinks, and a test notification for each.
//!
//! [`open`] is also the way in which the daemon gets its sinks. A further provider needs no line here.

use std::sync::Arc;

use anyhow::{Context, bail};
use bellwether_core::ids::{EffectId, RolloutId, Weight, Workload, digest};
use bellwether_core::input::effect::{Act, Effect, Notify};
use bellwether_core::input::notification::{
    IncidentChange, Message, MessageKind, Mood, Note, Notification, NotificationFacts, RolloutTrace, Subscription,
};
use bellwether_core::time::Timestamp;
use clap::Args;
use serde::Serialize;

use super::check::{self, CheckFinding};
use super::{Common, Output, print, table, with_causes};
use crate::adapters::sinks::{Connections, SinkOptions};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::exit;
use crate::ports::{NotificationError, NotificationSink};
use crate::telemetry;

/// The remedy for a sink that can't be opened or refuses.
pub(super) const REMEDY: &str = "see the section of the sink in the configuration";

/// A sink as the executor takes it.
type DynSink = Arc<dyn NotificationSink>;

/// The arguments of `sinks`.
#[derive(Debug, Args)]
pub struct SinksArgs {
    /// Name of a sink; all sinks if none is named.
    names: Vec<String>,
    /// Send a test notification to each of these sinks; an on-call tool gets an incident that is resolved at once.
    #[arg(long)]
    test: bool,
}

/// A configured sink, and the sink itself if it could be opened.
pub(super) struct OpenedSink {
    /// The provider, as in `[sink.PROVIDER.NAME]`.
    pub(super) provider: &'static str,
    /// The sink's name.
    pub(super) name: String,
    /// The section of the configuration that it comes from.
    pub(super) section: String,
    /// The sink, or the reason for which it can't be opened.
    pub(super) sink: anyhow::Result<DynSink>,
}

/// Opens the sinks that the configuration names, without a call to any of them.
///
/// # Errors
/// A sink's secret can't be read or used, or its client can't be created.
pub(super) fn open(config: &Config) -> anyhow::Result<Vec<DynSink>> {
    opened(config).into_iter().map(|opened| opened.sink).collect()
}

/// Opens each sink that the configuration names, without a call to any of them.
pub(super) fn opened(config: &Config) -> Vec<OpenedSink> {
    let connections = Connections { topics: &config.kafka };
    let open = |provider: &'static str, name: &str, section: String, options: &dyn SinkOptions| {
        let sink =
            options.open(name, &connections).with_context(|| format!("section [{section}] of the configuration"));
        OpenedSink { provider, name: name.to_owned(), section, sink: sink.map(DynSink::from) }
    };
    let slack = config.slack.is_set().then(|| open("slack", "slack", "slack".to_owned(), &config.slack));
    let others = config.sink.each().into_iter().map(|entry| {
        open(entry.provider, entry.name, format!("sink.{}.{}", entry.provider, entry.name), entry.options)
    });
    slack.into_iter().chain(others).collect()
}

/// Lists the sinks, with `--test` with the results of a test notification. Returns the exit code: an error if a sink did not
/// take it.
///
/// # Errors
/// The configuration has a problem, or a name is none of a sink.
pub async fn run(args: &SinksArgs, common: &Common) -> anyhow::Result<u8> {
    let config = config::load(&common.sources())?;
    telemetry::install_tls();
    let mut sinks = opened(&config);
    for name in &args.names {
        if !sinks.iter().any(|sink| sink.name == *name) {
            bail!("there is no sink {name:?}; `bellwether sinks` lists those of [slack] and [sink]");
        }
    }
    if args.test && sinks.is_empty() {
        bail!("no sink is configured, so none was tested; [sink] of config/default.toml has examples");
    }
    sinks.retain(|sink| args.names.is_empty() || args.names.contains(&sink.name));
    if !args.test {
        return list(&config, sinks, common.output);
    }
    let mut findings = Vec::new();
    for OpenedSink { name, sink, .. } in sinks {
        findings.push(test(&config, &name, sink).await);
    }
    match common.output {
        Output::Json => print(&(serde_json::to_string_pretty(&findings)? + "\n")),
        Output::Table => print(&check::render(&findings, table::colours())),
    }
    Ok(check::code(&findings))
}

/// A line of the list.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SinkLine {
    name: String,
    provider: &'static str,
    receives: Subscription,
    /// The policies whose rollouts it learns of.
    policies: Vec<String>,
}

fn list(config: &Config, sinks: Vec<OpenedSink>, output: Output) -> anyhow::Result<u8> {
    let mut lines = Vec::new();
    for OpenedSink { provider, name, sink, .. } in sinks {
        let receives = sink?.sink().subscription;
        let told = config.policies.iter().filter(|policy| receives.is_log() || policy.notifies(&name));
        let policies = told.map(|policy| policy.name.clone()).collect();
        lines.push(SinkLine { name, provider, receives, policies });
    }
    match output {
        Output::Json => print(&(serde_json::to_string_pretty(&lines)? + "\n")),
        Output::Table if lines.is_empty() => {
            print("No sinks are configured; [sink] of config/default.toml has examples.\n")
        }
        Output::Table => {
            let row = |line: SinkLine| {
                let receives = serde_json::to_value(line.receives).ok();
                let receives = receives.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned();
                vec![line.name, line.provider.to_owned(), receives, line.policies.join(", ")]
            };
            let rows: Vec<Vec<String>> = lines.into_iter().map(row).collect();
            print(&table::table(&["SINK", "PROVIDER", "RECEIVES", "POLICIES"], &rows));
        }
    }
    Ok(exit::OK)
}

/// Sends a test notification to a sink, and an on-call tool its end as well.
async fn test(config: &Config, name: &str, sink: anyhow::Result<DynSink>) -> CheckFinding {
    let sink = match sink {
        Ok(sink) => sink,
        Err(error) => return CheckFinding::problem(name, with_causes(&error), REMEDY),
    };
    match send_test(&config.cluster, &sink, SystemClock.now()).await {
        Ok(()) => CheckFinding::fine(name, "it took the test notification"),
        Err(error) => CheckFinding::problem(name, error.to_string(), REMEDY),
    }
}

async fn send_test(cluster: &str, sink: &DynSink, now: Timestamp) -> Result<(), NotificationError> {
    let of = sink.sink();
    let changes = match of.subscription {
        Subscription::Incidents | Subscription::Changes => {
            vec![Some(IncidentChange::Open), Some(IncidentChange::Resolve)]
        }
        Subscription::Decisions
        | Subscription::Traces
        | Subscription::Messages
        | Subscription::NeedsAPerson
        | Subscription::Final
        | Subscription::Thread => vec![None],
    };
    let id = &digest(&[&now.to_string()])[..10];
    let refused = |error| NotificationError::Refused(format!("the name of the cluster can't be used: {error}"));
    let workload: Workload = format!("{cluster}/bellwether/Deployment/test").parse().map_err(refused)?;
    for (n, incident) in changes.into_iter().enumerate() {
        let notification = test_notification(cluster, id, incident, now);
        let rollout = notification.key.clone();
        let id = EffectId(format!("{rollout}.d{n}.{}", of.name));
        let act = Act::People(Notify { sink: of.clone(), notification: Box::new(notification.clone()), receipt: None });
        let effect = Effect { id, rollout, workload: workload.clone(), act };
        sink.send(&effect, &notification, None).await?;
    }
    Ok(())
}

fn test_notification(cluster: &str, id: &str, incident: Option<IncidentChange>, now: Timestamp) -> Notification {
    let message = Message {
        kind: MessageKind::Warning,
        mood: Mood::Good,
        title: format!("{cluster}: a test of this sink"),
        why: "A person has called `bellwether sinks --test`.".to_owned(),
        now: "No rollout is concerned. Nothing to do.".to_owned(),
        command: Some("bellwether sinks".to_owned()),
        footer: "test".to_owned(),
    };
    Notification {
        key: RolloutId(format!("test-{id}")),
        facts: NotificationFacts {
            at: now,
            decision: "test".to_owned(),
            ending: None,
            weight: Weight::ZERO,
            policy: "test".to_owned(),
            image: None,
        },
        incident,
        note: Some(Note { warning: false, reason: "Test".to_owned(), text: message.title.clone() }),
        message: Some(message),
        trace: Some(Box::new(RolloutTrace {
            traceparent: None,
            started: now,
            phases: Vec::new(),
            why: "A person has called `bellwether sinks --test`.".to_owned(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bellwether_core::input::notification::Sink;

    use super::*;
    use crate::config::of_text;

    /// A sink that records its notifications.
    struct Recorder(Subscription, Mutex<Vec<Notification>>);

    #[async_trait]
    impl NotificationSink for Recorder {
        fn sink(&self) -> Sink {
            Sink { name: "recorder".to_owned(), subscription: self.0 }
        }

        async fn send(
            &self,
            _: &Effect,
            notification: &Notification,
            _: Option<&str>,
        ) -> Result<Option<String>, NotificationError> {
            self.1.lock().unwrap().push(notification.clone());
            Ok(None)
        }
    }

    #[tokio::test]
    async fn a_test_tells_people_once_and_leaves_no_incident_open() {
        for (subscription, expected) in [
            (Subscription::Messages, vec![None]),
            (Subscription::Incidents, vec![Some(IncidentChange::Open), Some(IncidentChange::Resolve)]),
        ] {
            let recorder = Arc::new(Recorder(subscription, Mutex::default()));
            let sink: DynSink = recorder.clone();
            send_test("prod", &sink, SystemClock.now()).await.unwrap();
            let sent = recorder.1.lock().unwrap();
            assert_eq!(sent.iter().map(|notification| notification.incident).collect::<Vec<_>>(), expected);
            assert!(sent.iter().all(|notification| notification.key == sent[0].key), "one incident");
        }
    }

    #[test]
    fn each_section_opens_a_sink_of_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, "https://host.example/api/webhooks/1/token-of-32-bytes-00000000\n").unwrap();
        let file = file.display();
        let config = of_text(&format!(
            "slack.webhook-file = \"{file}\"\n[sink]\nalertmanager.am = {{}}\ndiscord.chat = {{ webhook-file = \"{file}\" }}\n\
             http.hook = {{ url-file = \"{file}\", secret-file = \"{file}\", header-files = {{ X-Token = \"{file}\" }} }}\n\
             opsgenie.ops = {{ api-key-file = \"{file}\" }}\npagerduty.duty = {{ routing-key-file = \"{file}\" }}\n\
             slack.team = {{ webhook-file = \"{file}\", receives = \"final\" }}\n\
             teams.work = {{ webhook-file = \"{file}\", receives = \"needs-a-person\" }}\n"
        ));
        let sinks = open(&config).unwrap();
        let of: Vec<_> = sinks.iter().map(|sink| (sink.sink().name, sink.sink().subscription)).collect();
        let named = |name: &str, subscription| (name.to_owned(), subscription);
        assert_eq!(
            of,
            [
                named("slack", Subscription::Messages),
                named("am", Subscription::Incidents),
                named("chat", Subscription::Messages),
                named("hook", Subscription::Messages),
                named("ops", Subscription::Incidents),
                named("duty", Subscription::Incidents),
                named("team", Subscription::Final),
                named("work", Subscription::NeedsAPerson),
            ]
        );
    }
}
