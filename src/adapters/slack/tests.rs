//! Tests against a webhook in this process.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;

use bellwether_core::ids::RolloutId;
use bellwether_core::input::effect::{Act, Notify};

use super::*;

fn message(why: &str) -> Message {
    Message {
        mood: Mood::Bad,
        title: "prod: web 1.8.0 rolled back to 1.7.3".to_owned(),
        why: why.to_owned(),
        now: "100 % on 1.7.3".to_owned(),
        command: Some("bellwether why shop/web".to_owned()),
        footer: "policy web".to_owned(),
    }
}

fn notification(why: &str) -> Notification {
    Notification { key: RolloutId("web-1".to_owned()), incident: None, note: None, message: Some(message(why)) }
}

fn effect(id: &str) -> Effect {
    let sink = Sink { name: "slack".to_owned(), subscription: Subscription::Messages };
    Effect {
        id: EffectId(id.to_owned()),
        rollout: RolloutId("web-1".to_owned()),
        workload: workload(),
        act: Act::People(Notify { sink, notification: notification("") }),
    }
}

fn workload() -> Workload {
    "prod/shop/Deployment/web".parse().unwrap()
}

/// Sends a message to a webhook that answers with this status and these headers. Returns the result and the body sent.
async fn send_answered(
    status: StatusCode,
    headers: &[(&'static str, &'static str)],
) -> (Result<(), NotificationError>, Value) {
    let seen = Arc::new(Mutex::new(Value::Null));
    let (inside, headers) = (Arc::clone(&seen), headers.to_vec());
    let handler = move |axum::Json(body): axum::Json<Value>| async move {
        *inside.lock().unwrap() = body;
        let mut response = (status, "the body").into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/T0/SECRET", post(handler))).await });
    let sent = slack(&format!("http://{address}/T0/SECRET"))
        .send(&effect("web-1.d7.slack"), &notification("x < 1 % & more"))
        .await;
    let body = seen.lock().unwrap().clone();
    (sent, body)
}

fn slack(url: &str) -> Slack {
    let webhook = Some(Secret(SecretString::from(url)));
    Slack::open(&Options { webhook, timeout: Span::from_millis(500), ..Options::default() }).unwrap().unwrap()
}

#[tokio::test]
async fn a_message_has_its_text_escaped_and_the_effects_id() {
    let (sent, body) = send_answered(StatusCode::OK, &[]).await;
    assert_eq!(sent, Ok(()));
    assert_eq!(body["text"], "🔴 prod: web 1.8.0 rolled back to 1.7.3");
    assert_eq!(body["blocks"][1]["text"]["text"], "*Why*  x &lt; 1 % &amp; more");
    assert!(
        body["blocks"][4]["elements"][0]["text"].as_str().unwrap().ends_with("web-1.d7.slack"),
        "the effect's id is missing: {body}"
    );
}

#[tokio::test]
async fn slacks_answer_decides_whether_a_message_is_retried() {
    let later = |after| Some((true, after));
    let rows = [
        (StatusCode::TOO_MANY_REQUESTS, vec![("retry-after", "30")], later(Some(Span::from_secs(30)))),
        (StatusCode::INTERNAL_SERVER_ERROR, vec![], later(None)),
        (StatusCode::BAD_GATEWAY, vec![], later(None)),
        (StatusCode::NOT_FOUND, vec![], Some((false, None))),
        (StatusCode::FORBIDDEN, vec![], Some((false, None))),
        (StatusCode::OK, vec![], None),
    ];
    for (status, headers, expected) in rows {
        let (sent, _) = send_answered(status, &headers).await;
        let got = sent.err().map(|error| match error {
            NotificationError::Later { after, .. } => (true, after),
            NotificationError::Refused(_) => (false, None),
        });
        assert_eq!(got, expected, "{status}");
    }
}

#[tokio::test]
async fn no_error_contains_the_webhooks_url() {
    let unreachable = slack("http://127.0.0.1:1/T0/SECRET").send(&effect("e"), &notification("x")).await;
    let (refused, _) = send_answered(StatusCode::FORBIDDEN, &[]).await;
    let bad = Slack::open(&Options { webhook: Some(Secret(SecretString::from("SECRET"))), ..Options::default() })
        .err()
        .unwrap();
    for text in [format!("{unreachable:?}"), format!("{refused:?}"), format!("{bad} {bad:?}")] {
        assert!(!text.contains("SECRET"), "{text}");
    }
    assert!(matches!(unreachable, Err(NotificationError::Later { .. })));
}

#[test]
fn texts_longer_than_slack_accepts_are_cut() {
    let body = render(
        &EffectId("e".to_owned()),
        &workload(),
        &Message { title: "t".repeat(400), ..message(&"<".repeat(4000)) },
    );
    assert_eq!(body["blocks"][0]["text"]["text"].as_str().unwrap().chars().count(), MAX_HEADER_CHARS);
    let why = body["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(why.chars().count() <= MAX_SECTION_CHARS && why.ends_with("&lt;…"), "{why}");
}
