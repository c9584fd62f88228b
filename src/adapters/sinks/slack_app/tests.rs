//! The app against a stand-in for Slack's Web API, which keeps messages as its documentation describes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::effect::{Act, Notify};
use bellwether_core::input::notification::{Mood, NotificationFacts};
use proptest::prelude::*;

use super::*;

const TOKEN: &str = "xoxb-MARKED5ECRET";
const CHANNEL: &str = "C0123456789";

/// A message in the channel.
#[derive(Debug, Clone, PartialEq)]
struct Posted {
    text: String,
    blocks: Value,
    thread: Option<String>,
    in_channel: bool,
}

#[derive(Default)]
struct Slack {
    /// The messages by their timestamps.
    messages: BTreeMap<String, Posted>,
    /// The names of errors and statuses with which the next calls are answered.
    failures: VecDeque<&'static str>,
    calls: usize,
}

type Shared = Arc<Mutex<Slack>>;

async fn serve(
    State(slack): State<Shared>,
    Path(method): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut slack = slack.lock().unwrap();
    slack.calls += 1;
    let refused = |name: &str| Json(json!({ "ok": false, "error": name })).into_response();
    if headers.get("authorization").is_none_or(|bearer| bearer != &format!("Bearer {TOKEN}")) {
        return refused("invalid_auth");
    }
    match slack.failures.pop_front() {
        Some("429") => return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], TOKEN).into_response(),
        Some("cut") => return "<html>".into_response(),
        Some(name) => return refused(name),
        None => {}
    }
    if method == "auth.test" {
        return Json(json!({ "ok": true, "user": "bellwether" })).into_response();
    }
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let posted = Posted {
        text: text("text").unwrap(),
        blocks: body["blocks"].clone(),
        thread: text("thread_ts"),
        in_channel: body.get("thread_ts").is_none() || body["reply_broadcast"] == true,
    };
    if !is_within_limits(&posted) {
        return refused("invalid_blocks");
    }
    let ts = match (method.as_str(), text("ts")) {
        ("chat.postMessage", None)
            if text("channel").is_some_and(|channel| ["#deploys", CHANNEL].contains(&&*channel)) =>
        {
            format!("1700000000.{:06}", slack.messages.len())
        }
        // An edit takes the id of the channel alone.
        ("chat.update", Some(ts))
            if text("channel").as_deref() == Some(CHANNEL) && slack.messages.contains_key(&ts) =>
        {
            ts
        }
        ("chat.update", Some(_)) => return refused("message_not_found"),
        _ => return refused("channel_not_found"),
    };
    slack.messages.insert(ts.clone(), posted);
    Json(json!({ "ok": true, "channel": CHANNEL, "ts": ts, "message": body })).into_response()
}

/// Returns whether a message is within the limits of Block Kit: 50 blocks, 150 characters of a header, 3000 of a section.
fn is_within_limits(posted: &Posted) -> bool {
    let length = |text: &Value| text["text"].as_str().map_or(0, |text| text.encode_utf16().count());
    let blocks = posted.blocks.as_array().unwrap();
    let fits = |block: &Value| match block["type"].as_str() {
        Some("header") => (1..=150).contains(&length(&block["text"])),
        Some("section") => (1..=3000).contains(&length(&block["text"])),
        Some("context") => block["elements"].as_array().unwrap().iter().all(|text| (1..=3000).contains(&length(text))),
        _ => false,
    };
    !posted.text.is_empty() && blocks.len() <= 50 && blocks.iter().all(fits)
}

/// Starts a stand-in and returns it with an app at it.
async fn slack() -> (Shared, SlackApp) {
    let shared = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let router = Router::new().route("/api/{method}", post(serve)).with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let app = app(&url);
    (shared, app)
}

fn app(url: &str) -> SlackApp {
    let text = format!("channel = \"#deploys\"\ntoken = \"{TOKEN}\"\nurl = \"{url}\"");
    let options: Options = toml::from_str(&text).unwrap();
    assert_eq!(options.problems(), []);
    options.sink("deploys", NonZeroU32::new(1000).unwrap()).unwrap()
}

/// Returns the notification about the decision `n` of the rollout.
fn told(n: u32, kind: MessageKind, text: &str) -> (Effect, Notification) {
    let message = Message {
        kind,
        mood: Mood::Underway,
        title: format!("prod: web {text}"),
        why: text.to_owned(),
        now: text.to_owned(),
        command: None,
        footer: "web-0123456789 · policy shop".to_owned(),
    };
    let key = RolloutId("web-0123456789".to_owned());
    let at = Timestamp::from_second(1_700_000_000 + i64::from(n)).unwrap();
    let facts = NotificationFacts { at, ..NotificationFacts::default() };
    let notification =
        Notification { key: key.clone(), facts, incident: None, note: None, message: Some(message), trace: None };
    let sink = Sink { name: "deploys".to_owned(), subscription: Subscription::Thread };
    let effect = Effect {
        id: EffectId(format!("{key}.d{n}.deploys")),
        rollout: key,
        workload: "prod/shop/Deployment/web".parse::<Workload>().unwrap(),
        act: Act::People(Notify { sink, notification: Box::new(notification.clone()), receipt: None }),
    };
    (effect, notification)
}

/// Returns each message in the order of its posting: its text, whether it is in a thread, and whether the channel has it.
fn shown(slack: &Shared) -> Vec<(String, bool, bool)> {
    let slack = slack.lock().unwrap();
    let line = |posted: &Posted| (posted.text.clone(), posted.thread.is_some(), posted.in_channel);
    slack.messages.values().map(line).collect()
}

async fn send(
    app: &SlackApp,
    n: u32,
    kind: MessageKind,
    receipt: Option<&str>,
) -> Result<Option<String>, NotificationError> {
    let (effect, notification) = told(n, kind, &format!("d{n}"));
    app.send(&effect, &notification, receipt).await
}

#[tokio::test]
async fn a_rollout_is_one_message_that_follows_it_and_what_wakes_a_person_is_posted_in_the_channel_too() {
    let (slack, app) = slack().await;
    for (n, kind) in [
        MessageKind::Progress,
        MessageKind::Progress,
        MessageKind::NeedsAPerson,
        MessageKind::RollingBack,
        MessageKind::Final,
    ]
    .into_iter()
    .enumerate()
    {
        send(&app, n as u32, kind, None).await.unwrap();
    }
    let line = |text: &str, is_in_thread, in_channel| (format!("🔵 prod: web {text}"), is_in_thread, in_channel);
    let expected = [
        line("d4", false, true),
        line("d1", true, false),
        line("d2", true, true),
        line("d3", true, false),
        line("d4", true, true),
    ];
    assert_eq!(shown(&slack), expected);
    assert_eq!(app.check().await.unwrap(), "Slack accepts its token");
}

#[tokio::test]
async fn the_message_is_found_again_after_a_restart_by_its_receipt() {
    let (slack, app) = slack().await;
    let receipt = send(&app, 0, MessageKind::Progress, None).await.unwrap().unwrap();
    assert_eq!(receipt, format!("{CHANNEL}/1700000000.000000/1700000000000"));
    let next = self::app(app.api.expose_secret());
    let newer = send(&next, 2, MessageKind::Progress, Some(&receipt)).await.unwrap().unwrap();
    // An older notification that comes late has its line, and does not take the message back.
    send(&next, 1, MessageKind::Progress, Some(&receipt)).await.unwrap();
    assert_eq!(newer, format!("{CHANNEL}/1700000000.000000/1700000002000"));
    let texts: Vec<String> = shown(&slack).into_iter().map(|(text, ..)| text).collect();
    assert_eq!(texts, ["🔵 prod: web d2", "🔵 prod: web d2", "🔵 prod: web d1"]);
    // A receipt that is not this sink's is none.
    for foreign in ["", "C1/1", "C1/1/x", "/1/1", "C1/1/1/1"] {
        assert_eq!(Thread::of(foreign), None, "{foreign}");
    }
}

#[tokio::test]
async fn a_message_that_was_deleted_is_posted_anew_and_another_rollout_has_its_own() {
    let (slack, app) = slack().await;
    send(&app, 0, MessageKind::Progress, None).await.unwrap();
    slack.lock().unwrap().messages.clear();
    send(&app, 1, MessageKind::Progress, None).await.unwrap();
    assert_eq!(shown(&slack), [("🔵 prod: web d1".to_owned(), false, true)]);
    let (effect, notification) = told(2, MessageKind::Progress, "other");
    let notification = Notification { key: RolloutId("other-1".to_owned()), ..notification };
    app.send(&effect, &notification, None).await.unwrap();
    assert_eq!(shown(&slack)[1], ("🔵 prod: web other".to_owned(), false, true));
}

#[tokio::test]
async fn a_mistake_is_refused_with_its_remedy_and_a_passing_error_is_tried_again() {
    let (slack, app) = slack().await;
    for (failure, is_passing, says) in [
        ("not_in_channel", false, "deploys refused chat.postMessage: not_in_channel; invite the app to the channel"),
        ("msg_too_long", false, "deploys refused chat.postMessage: msg_too_long"),
        ("cut", false, "deploys gave no answer of Slack's Web API to chat.postMessage"),
        ("internal_error", true, "deploys refused chat.postMessage: internal_error"),
        ("429", true, "deploys answered 429 Too Many Requests: (not shown)"),
    ] {
        slack.lock().unwrap().failures.push_back(failure);
        let error = send(&app, 0, MessageKind::Progress, None).await.unwrap_err();
        assert_eq!(matches!(error, NotificationError::Later { .. }), is_passing, "{error:?}");
        assert_eq!(error.to_string(), says);
    }
    assert_eq!(shown(&slack), []);
    // The edit is repeated, and the line that failed is there once.
    send(&app, 0, MessageKind::Progress, None).await.unwrap();
    slack.lock().unwrap().failures.extend(["service_unavailable"]);
    send(&app, 1, MessageKind::Final, None).await.unwrap_err();
    send(&app, 1, MessageKind::Final, None).await.unwrap();
    assert_eq!(shown(&slack).len(), 2);
}

#[test]
fn a_sink_without_a_token_or_a_channel_is_a_problem() {
    let problems = |text: &str| -> Vec<&'static str> {
        toml::from_str::<Options>(text).unwrap().problems().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(problems(""), ["token-file", "channel"]);
    assert_eq!(problems("token-file = \"t\"\nchannel = \"C1\"\nurl = \"slack\""), ["url"]);
    assert_eq!(problems("token-file = \"t\"\nchannel = \"C1\""), Vec::<&str>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_text_is_within_the_limits(text in "(?s).{0,4000}", long in 0..40_usize, kind in 0..5_usize) {
        let kinds = [
            MessageKind::NeedsAPerson,
            MessageKind::Warning,
            MessageKind::RollingBack,
            MessageKind::Final,
            MessageKind::Progress,
        ];
        let (effect, notification) = told(1, kinds[kind], &text.repeat(long));
        let message = notification.message.unwrap();
        for made in [card(&effect, &message), line(&effect, &message)] {
            let posted = Posted {
                text: made["text"].as_str().unwrap().to_owned(),
                blocks: made["blocks"].clone(),
                thread: None,
                in_channel: true,
            };
            prop_assert!(is_within_limits(&posted), "{posted:?}");
        }
    }
}
