//! Tests of all sinks: their bodies against the limits of the services, and the meaning of answers.

use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::effect::{Act, Notify};
use bellwether_core::input::notification::{
    IncidentChange, Message, MessageKind, Note, NotificationFacts, RolloutTrace, Sink, Subscription,
};
use serde_json::Value;

use super::*;

mod answers;
mod bodies;

/// The part that every secret of the tests has.
const MARK: &str = "MARKED5ECRET";

/// The providers that are reached over HTTP.
const PROVIDERS: [&str; 8] = ["alertmanager", "discord", "http", "opsgenie", "otlp", "pagerduty", "slack", "teams"];

/// Returns the sinks of all providers at a server, by the provider's name.
fn sinks_at(server: &str, timeout: &str) -> Vec<(&'static str, HttpSink)> {
    let hook = format!("{server}/api/webhooks/1/{MARK}");
    let text = format!(
        r#"
        [alertmanager.am]
        url = "{server}/prefix"
        bearer-token = "{MARK}"
        timeout = "{timeout}"
        labels = {{ severity = "page" }}
        [discord.chat]
        webhook = "{hook}"
        timeout = "{timeout}"
        [http.hook]
        url = "{hook}"
        secret = "{MARK}{MARK}"
        headers = {{ X-Team = "shop" }}
        receives = "incidents"
        timeout = "{timeout}"
        [opsgenie.ops]
        url = "{server}"
        api-key = "{MARK}"
        timeout = "{timeout}"
        [otlp.traces]
        url = "{server}"
        timeout = "{timeout}"
        [pagerduty.duty]
        url = "{server}"
        routing-key = "{MARK}"
        timeout = "{timeout}"
        [slack.team]
        webhook = "{hook}"
        timeout = "{timeout}"
        messages-per-second = 1000
        [teams.work]
        webhook = "{hook}"
        timeout = "{timeout}"
        "#
    );
    let options: Options = toml::from_str(&text).unwrap();
    assert_eq!(options.problems(), []);
    let mut all = Vec::new();
    opened("alertmanager", &options.alertmanager, &mut all);
    opened("discord", &options.discord, &mut all);
    opened("http", &options.http, &mut all);
    opened("opsgenie", &options.opsgenie, &mut all);
    opened("otlp", &options.otlp, &mut all);
    opened("pagerduty", &options.pagerduty, &mut all);
    opened("slack", &options.slack, &mut all);
    opened("teams", &options.teams, &mut all);
    assert_eq!(all.iter().map(|(provider, _)| *provider).collect::<Vec<_>>(), PROVIDERS);
    all
}

fn opened<T: HttpSinkOptions>(
    provider: &'static str,
    sinks: &BTreeMap<String, T>,
    all: &mut Vec<(&'static str, HttpSink)>,
) {
    all.extend(sinks.iter().map(|(name, options)| (provider, options.http_sink(name).unwrap())));
}

fn message(text: &str) -> Message {
    Message {
        kind: MessageKind::NeedsAPerson,
        mood: Mood::Bad,
        title: format!("prod: web {text}"),
        why: text.to_owned(),
        now: text.to_owned(),
        command: Some(format!("bellwether why {text}")),
        footer: format!("web-0123456789 · policy {text}"),
    }
}

/// Returns a notification that each provider has something to say about.
fn notification(change: IncidentChange, text: &str) -> Notification {
    Notification {
        key: RolloutId("web-0123456789".to_owned()),
        facts: NotificationFacts {
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            decision: "hold".to_owned(),
            ending: None,
            weight: "25%".parse().unwrap(),
            policy: "shop".to_owned(),
            image: Some("registry.example/shop/web:2".to_owned()),
        },
        incident: Some(change),
        note: Some(Note { warning: true, reason: "RolloutHeld".to_owned(), text: text.to_owned() }),
        message: Some(message(text)),
        trace: Some(Box::new(RolloutTrace {
            traceparent: None,
            started: "2026-01-01T00:00:00Z".parse().unwrap(),
            phases: Vec::new(),
            why: text.to_owned(),
        })),
    }
}

fn effect(workload: &str, notification: &Notification) -> Effect {
    let sink = Sink { name: "x".to_owned(), subscription: Subscription::Messages };
    Effect {
        id: EffectId(format!("{}.d7.x", notification.key)),
        rollout: notification.key.clone(),
        workload: workload.parse::<Workload>().unwrap(),
        act: Act::People(Notify { sink, notification: Box::new(notification.clone()), receipt: None }),
    }
}

/// Returns the body that a provider sends at the first second of 2026.
fn body_of(sink: &HttpSink, effect: &Effect, notification: &Notification) -> (Value, usize) {
    let letter = sink.letter(effect, notification, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    (serde_json::from_slice(&letter.body).unwrap(), letter.body.len())
}
